//! What a server asks of its clients, but for where the CA comes from that verifies them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::api::{ServerTls, ServerTlsMode};
use crate::model::ClientDemand;

/// None: clients are not asked for a certificate.
pub(super) fn client_demand(tls: &ServerTls) -> Option<ClientDemand> {
    let mode = tls.mode.unwrap_or_default();
    let optional = match mode {
        ServerTlsMode::Mutual => false,
        ServerTlsMode::OptionalMutual => true,
        ServerTlsMode::Simple
        | ServerTlsMode::Passthrough
        | ServerTlsMode::AutoPassthrough
        | ServerTlsMode::IstioMutual => return None,
    };
    Some(ClientDemand {
        authorities: None,
        optional,
        names: tls.subject_alt_names.clone(),
        certificate_hashes: tls.verify_certificate_hash.iter().map(|text| hash(text)).collect(),
        key_hashes: tls.verify_certificate_spki.iter().map(|text| key_hash(text)).collect(),
        unverified: tls.insecure_skip_verify == Some(true),
    })
}

/// What is none stays what it is: the list must not be shorter, for an empty one means any certificate.
fn hash(text: &str) -> String {
    text.replace(':', "").to_ascii_lowercase()
}

fn key_hash(text: &str) -> String {
    let Ok(bytes) = BASE64.decode(text) else { return text.to_owned() };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_as_they_are_written_anywhere() {
        assert_eq!(hash("AB:cd:01"), "abcd01");
        assert_eq!(key_hash("q80B"), "abcd01");
        assert_eq!(key_hash("?"), "?", "it is still there, and fits nothing");
    }
}
