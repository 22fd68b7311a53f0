//! The one crypto provider of the process.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// aws-lc-rs: the hybrid X25519MLKEM768 first, then X25519 and the NIST curves; for TLS 1.2 only ECDHE with AEAD suites.
/// Never rely on rustls' process default: it may be another crate's.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider()))
}
