//! TLS termination and the secrets it needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::object::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsTermination {
    /// Where the certificates come from, most preferred first. A missing one silences this server only.
    pub certificates: Vec<CertificateSource>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CertificateSource {
    /// Key of a [`Secret`] of the same set (`namespace/name`).
    Secret(Key),
    /// Files at the proxy, PEM (`tls.serverCertificate`, `tls.privateKey`).
    Files { certificate: String, private_key: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// Certificate chain and private key, PEM. Its key never reaches a log or a dump: `Debug` hides it, and dumps use
/// [`Secret::redacted`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// `namespace/name`
    pub key: Key,
    /// Leaf first.
    pub certificate_pem: String,
    pub private_key_pem: String,
    pub origin: ObjectRef,
}

impl Secret {
    /// The same without the private key, for dumps.
    #[must_use]
    pub fn redacted(&self) -> Secret {
        Secret { private_key_pem: "[redacted]".to_owned(), ..self.clone() }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("key", &self.key).finish_non_exhaustive()
    }
}
