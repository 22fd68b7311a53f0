//! A certificate for who somebody is. Of the request only the key counts: names, usages and lifetime are ours.

use std::time::Duration;

use mesh_core::identity::SpiffeId;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;

use super::Authority;
use super::authority::lasts;

/// How long a workload's certificate lasts if it does not ask for less; renewed at half of it.
pub const WORKLOAD: Duration = Duration::from_secs(24 * 3600);
/// It need not ask for less than this.
const SHORTEST: Duration = Duration::from_secs(60);
/// Largest request, in bytes: an RSA key of 8192 bits with room.
const LARGEST: usize = 16 * 1024;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the CSR is longer than {LARGEST} bytes")]
    Large,
    /// No PEM, another key than the one that signed it, or a kind of key that we do not sign.
    #[error("the CSR is refused: {0}")]
    Malformed(rcgen::Error),
    #[error("no certificate can be made now: {0:#}")]
    Failed(anyhow::Error),
}

impl Authority {
    /// A certificate for the key of the CSR (PEM, PKCS #10) and what goes with it, the leaf first, as PEM. `lifetime`: what
    /// is asked for; none, or more than [`WORKLOAD`]: that.
    pub fn sign(&self, csr: &str, id: &SpiffeId, lifetime: Option<Duration>) -> Result<Vec<String>, Refusal> {
        if csr.len() > LARGEST {
            return Err(Refusal::Large);
        }
        // It checks the signature: who asks has the private key.
        let request = CertificateSigningRequestParams::from_pem(csr).map_err(Refusal::Malformed)?;
        let params = leaf(id, lifetime.unwrap_or(WORKLOAD).clamp(SHORTEST, WORKLOAD));
        let params = params.map_err(|error| Refusal::Failed(error.into()))?;
        let issuer = self.issuer().map_err(Refusal::Failed)?;
        let signed = params.signed_by(&request.public_key, &issuer);
        let leaf = signed.map_err(|error| Refusal::Failed(error.into()))?;
        Ok(std::iter::once(leaf.pem()).chain(self.chain().iter().chain(self.others()).map(pem)).collect())
    }
}

/// For both sides of a connection, and no name but the id, which is critical because there is no subject (RFC 5280, section
/// 4.2.1.6).
fn leaf(id: &SpiffeId, lifetime: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id.to_string())?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    lasts(&mut params, lifetime);
    Ok(params)
}

fn pem(certificate: &CertificateDer<'static>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", certificate.to_vec()), config)
}

#[cfg(test)]
#[path = "csr_tests.rs"]
mod tests;
