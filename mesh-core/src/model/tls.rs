//! TLS termination and the secrets it needs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Key, is_default};
use crate::object::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TlsTermination {
    /// Where the certificates come from, most preferred first. A missing one silences this server only.
    pub certificates: Vec<CertificateSource>,
    /// None: clients are not asked for a certificate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clients: Option<Arc<ClientDemand>>,
    /// Certificate and CAs are those of the mesh (`ISTIO_MUTUAL`); then there is nothing else in here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mesh: Option<MeshClients>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// Suites of TLS 1.2, most preferred first, as OpenSSL calls them; empty: the usual ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cipher_suites: Vec<String>,
    /// Key exchange groups, the same way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub groups: Vec<String>,
}

/// What a server asks of its clients. All of it must hold for a certificate, or there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientDemand {
    /// Whose certificates are believed. None: nobody's, and the server is silent unless it believes everybody.
    pub authorities: Option<AuthoritySource>,
    /// Who shows no certificate is served (`OPTIONAL_MUTUAL`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
    /// The certificate must have one of these names, of whatever kind (`subjectAltNames`); empty: any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub names: Vec<String>,
    /// SHA-256 of certificates, hexadecimal in lower case. The certificate must be one of them or have one of `key_hashes`;
    /// both empty: any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub certificate_hashes: Vec<String>,
    /// SHA-256 of public keys (SubjectPublicKeyInfo), hexadecimal in lower case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub key_hashes: Vec<String>,
    /// Everybody is let in, whatever the certificate is (`insecureSkipVerify`). Nobody is believed to be who it says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unverified: bool,
}

/// Which clients of the mesh a server lets in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MeshClients {
    /// URIs of which the client must have one (`subjectAltNames`); empty: any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub names: Vec<String>,
}

impl MeshClients {
    pub fn admits(&self, uri: Option<&str>) -> bool {
        uri.is_some_and(|uri| self.names.is_empty() || self.names.iter().any(|name| name == uri))
    }
}

/// Where the CA certificates come from that the other side is verified with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AuthoritySource {
    /// Key of a [`Secret`] of the same set (`namespace/name`).
    Secret(Key),
    /// Files at the proxy, PEM (`tls.caCertificates`, `tls.caCrl`).
    Files {
        certificates: String,
        #[serde(default, skip_serializing_if = "is_default")]
        revoked: Option<String>,
    },
}

impl Default for TlsTermination {
    /// Without certificates.
    fn default() -> Self {
        TlsTermination {
            certificates: Vec::new(),
            clients: None,
            mesh: None,
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl TlsTermination {
    /// Keys of the secrets that it names, each as often as it does.
    pub fn secrets(&self) -> impl Iterator<Item = &Key> {
        let own = self.certificates.iter().filter_map(CertificateSource::secret);
        let authorities = self.clients.as_ref().and_then(|clients| clients.authorities.as_ref());
        own.chain(authorities.and_then(|source| match source {
            AuthoritySource::Secret(key) => Some(key),
            AuthoritySource::Files { .. } => None,
        }))
    }

    /// What is asked of clients.
    pub fn asks(&self) -> (Option<&ClientDemand>, Option<&MeshClients>) {
        (self.clients.as_deref(), self.mesh.as_ref())
    }

    /// Whether there is more to it than certificates and versions.
    pub fn is_plain(&self) -> bool {
        self.clients.is_none() && self.cipher_suites.is_empty() && self.groups.is_empty()
    }

    /// Whether its certificates are ordered, by whomever.
    pub fn orders(&self) -> bool {
        self.certificates.iter().any(|source| source.ordered_for().is_some())
    }

    /// Whether some of it is in files.
    pub fn names_files(&self) -> bool {
        let authorities = self.clients.as_ref().and_then(|clients| clients.authorities.as_ref());
        matches!(authorities, Some(AuthoritySource::Files { .. }))
            || self.certificates.iter().any(|source| matches!(source, CertificateSource::Files { .. }))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CertificateSource {
    /// Key of a [`Secret`] of the same set (`namespace/name`).
    Secret(Key),
    /// Files at the proxy, PEM (`tls.serverCertificate`, `tls.privateKey`).
    Files { certificate: String, private_key: String },
    /// What the proxy orders for this host, in lower case, and keeps itself (ACME).
    Ordered(Arc<str>),
    /// What the controller orders for this host, in lower case, and keeps in a [`Secret`] of the same set.
    Issued { host: Arc<str>, secret: Key },
}

impl CertificateSource {
    /// The host, in lower case, if it is ordered for one (ACME).
    pub fn ordered_for(&self) -> Option<&Arc<str>> {
        match self {
            CertificateSource::Ordered(host) | CertificateSource::Issued { host, .. } => Some(host),
            CertificateSource::Secret(_) | CertificateSource::Files { .. } => None,
        }
    }

    /// Key of the [`Secret`] that it is in.
    pub fn secret(&self) -> Option<&Key> {
        match self {
            CertificateSource::Secret(key) | CertificateSource::Issued { secret: key, .. } => Some(key),
            CertificateSource::Ordered(_) | CertificateSource::Files { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// Certificate chain and private key, or CA certificates, PEM: what of it the proxy's servers name. Its key never reaches a log or
/// a dump: `Debug` hides it, and dumps use [`Secret::redacted`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// `namespace/name` for servers; with `/simple` or `/mutual` behind it what destinations need of it.
    pub key: Key,
    /// Leaf first. Empty: it is for CA certificates only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub certificate_pem: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub private_key_pem: String,
    /// CA certificates that clients are verified with. Empty: nobody wants them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub authorities_pem: String,
    /// Revocation lists of those CAs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revoked_pem: String,
    pub origin: ObjectRef,
}

impl Secret {
    /// With nothing in it.
    pub fn new(key: Key, origin: ObjectRef) -> Secret {
        Secret {
            key,
            certificate_pem: String::new(),
            private_key_pem: String::new(),
            authorities_pem: String::new(),
            revoked_pem: String::new(),
            origin,
        }
    }

    /// Whether it is for a server to show, and not for CA certificates only.
    pub fn has_pair(&self) -> bool {
        !(self.certificate_pem.is_empty() && self.private_key_pem.is_empty())
    }

    /// The same without the private key, for dumps.
    #[must_use]
    pub fn redacted(&self) -> Secret {
        let hidden = if self.private_key_pem.is_empty() { "" } else { "[redacted]" };
        Secret { private_key_pem: hidden.to_owned(), ..self.clone() }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("key", &self.key).finish_non_exhaustive()
    }
}
