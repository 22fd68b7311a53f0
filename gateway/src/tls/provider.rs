//! The one crypto provider of the process.

use std::sync::{Arc, OnceLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};

/// Most preferred first. AES-128 comes before AES-256, as in Envoy: it costs less and is not the weak part of anything.
static SUITES: &[SupportedCipherSuite] = &[
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// aws-lc-rs: the hybrid X25519MLKEM768 first, then X25519 and the NIST curves; for TLS 1.2 only ECDHE with AEAD suites.
/// Never rely on rustls' process default: it may be another crate's.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(CryptoProvider { cipher_suites: SUITES.to_vec(), ..aws_lc_rs::default_provider() }))
}

/// A provider that offers no other suites of TLS 1.2 and groups than these; empty: the usual ones.
pub fn narrowed(cipher_suites: &[String], groups: &[String]) -> Arc<CryptoProvider> {
    let usual = provider();
    if cipher_suites.is_empty() && groups.is_empty() {
        return Arc::clone(usual);
    }
    let mut narrowed = CryptoProvider::clone(usual);
    if !cipher_suites.is_empty() {
        narrowed.cipher_suites.retain(|suite| suite.tls13().is_some());
        narrowed.cipher_suites.extend(cipher_suites.iter().filter_map(|name| suite(name)));
    }
    if !groups.is_empty() {
        narrowed.kx_groups = groups.iter().filter_map(|name| group(name)).collect();
    }
    Arc::new(narrowed)
}

fn suite(name: &str) -> Option<SupportedCipherSuite> {
    Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256" => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384" => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305" => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => return None,
    })
}

fn group(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    Some(match name {
        "X25519MLKEM768" => kx_group::X25519MLKEM768,
        "X25519" => kx_group::X25519,
        "P-256" => kx_group::SECP256R1,
        "P-384" => kx_group::SECP384R1,
        _ => return None,
    })
}

/// What is the same in all verifiers of rustls: whoever shows a certificate must have its key.
macro_rules! proves_key {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &$crate::tls::provider::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &$crate::tls::provider::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            $crate::tls::provider::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(super) use proves_key;

/// SHA-256, by which certificates are named.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    if let SupportedCipherSuite::Tls13(suite) = cipher_suite::TLS13_AES_128_GCM_SHA256 {
        let computed = suite.common.hash_provider.hash(bytes);
        hash.iter_mut().zip(computed.as_ref()).for_each(|(to, from)| *to = *from);
    }
    hash
}

/// Lower case, without anything between the bytes.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use mesh_core::api::tls_names::{CIPHER_SUITES, GROUPS};

    use super::*;

    #[test]
    fn what_is_said_to_be_offered_is() {
        assert!(CIPHER_SUITES.iter().all(|(name, offered)| suite(name).is_some() == *offered));
        assert!(GROUPS.iter().all(|(name, offered)| group(name).is_some() == *offered));
    }

    #[test]
    fn what_is_not_chosen_is_not_offered() {
        let only = narrowed(&["ECDHE-RSA-AES256-GCM-SHA384".to_owned()], &["P-256".to_owned()]);
        let old = only.cipher_suites.iter().filter(|suite| suite.tls13().is_none());
        let old: Vec<_> = old.map(|suite| suite.suite()).collect();
        assert_eq!(old, [rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]);
        assert_eq!(only.cipher_suites.len(), 4, "those of TLS 1.3 stay");
        assert_eq!(
            only.kx_groups.iter().map(|group| group.name()).collect::<Vec<_>>(),
            [rustls::NamedGroup::secp256r1]
        );
    }
}
