//! Certificates that are being served: one immutable table, replaced as a whole when a secret or a file changes. Entries
//! that did not change keep their parsed key; one that became bad keeps the last good one.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_core::model::CertificateSource;
use rustls::sign::CertifiedKey;

/// What can be served, by where it comes from.
#[derive(Clone, Default)]
pub struct CertificateTable {
    entries: HashMap<CertificateSource, Arc<Certificate>>,
}

/// One certificate chain with its key, ready to sign.
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub info: CertificateInfo,
}

/// What dumps say of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CertificateInfo {
    pub subject: String,
    pub issuer: String,
    /// Names and addresses that it is valid for.
    pub san: Vec<String>,
    /// Hexadecimal.
    pub serial: String,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    /// `ECDSA`, `RSA`, `Ed25519`
    pub key_type: &'static str,
}

impl CertificateTable {
    pub fn get(&self, source: &CertificateSource) -> Option<&Arc<Certificate>> {
        self.entries.get(source)
    }

    /// For dumps: every certificate that is served.
    pub fn iter(&self) -> impl Iterator<Item = (&CertificateSource, &Arc<Certificate>)> {
        self.entries.iter()
    }
}

impl Certificate {
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}
