//! What the access log says of the certificate that a client showed.

use super::log_value::Value;
use crate::tls::peer_verify::Identity;
use crate::tls::provider::hex;

/// `%DOWNSTREAM_PEER_…%`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerPart {
    /// URI names, `,` between.
    Uris,
    /// DNS names, `,` between.
    Names,
    Subject,
    /// SHA-256, hexadecimal.
    Fingerprint,
}

/// The value of a field. Names are the client's choice.
pub fn peer(client: &Identity, part: PeerPart) -> Value<'_> {
    let list = |names: &'_ [Box<str>]| match names {
        [] => Value::Missing,
        names => Value::Owned(names.join(",")),
    };
    match part {
        PeerPart::Uris => list(&client.uris),
        PeerPart::Names => list(&client.dns),
        PeerPart::Subject => Value::user(&client.subject),
        PeerPart::Fingerprint => Value::Owned(hex(&client.hash)),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;
    use crate::observe::log_value::write_text;
    use crate::tls::testing::{Ca, dns, uri};

    #[test]
    fn names_cannot_end_a_field() {
        let names = vec![uri("spiffe://a/b"), uri("https://x\"y"), dns("a.example")];
        let leaf = Ca::new("root").leaf(names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
        let client = Identity::of(&CertificateDer::from_pem_slice(leaf.chain[0].as_bytes()).unwrap()).unwrap();
        let said = |part| {
            let mut line = Vec::new();
            write_text(&peer(&client, part), None, &mut line);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(said(PeerPart::Uris), "spiffe://a/b,https://x\\\"y");
        assert_eq!(said(PeerPart::Names), "a.example");
        assert_eq!(said(PeerPart::Subject), "-");
        assert_eq!(said(PeerPart::Fingerprint).len(), 64);
    }
}
