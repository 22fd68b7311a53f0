//! Who is at the other end of a connection of the mesh. A certificate counts if it comes from a root of the mesh and has
//! exactly one URI name, the SPIFFE id of a workload in one of the mesh's trust domains; a client also knows whom it
//! expects. Nothing else of a certificate means anything: no DNS name, no common name.

use std::fmt;
use std::sync::Arc;

use mesh_core::identity::{InvalidId, SpiffeId};
use mesh_core::snapshot::PeerFacts;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DistinguishedName, Error, OtherError, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::provider::{proves_key, provider, sha256};

/// What a certificate says of its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of a workload, verified. None: of a client of a server that has a CA of its own, which calls its clients otherwise.
    pub id: Option<SpiffeId>,
    /// It comes from a CA that is believed. What others say of themselves can be told, and nothing else.
    pub is_verified: bool,
    /// SHA-256 of the certificate.
    pub hash: [u8; 32],
    /// As RFC 2253 writes it, most specific first; empty for workloads.
    pub subject: Box<str>,
    /// URI names.
    pub uris: Box<[Box<str>]>,
    /// DNS names.
    pub dns: Box<[Box<str>]>,
    /// The principal, without the scheme.
    principal: Box<str>,
    /// Of the principal: those who count by it need not look at all of it.
    fingerprint: u64,
    certificate: CertificateDer<'static>,
}

/// Why a peer is not who it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("expected a SPIFFE id, got a certificate without a URI name")]
    NoId,
    #[error("expected one SPIFFE id, got a certificate with {0} URI names")]
    SeveralIds(usize),
    #[error("expected a SPIFFE id, got `{got}`: {error}")]
    NotAnId { got: String, error: InvalidId },
    #[error("expected an identity of the trust domain {expected}, got {got}")]
    OtherDomain { expected: String, got: Box<SpiffeId> },
    #[error("expected {expected}, got {got}")]
    OtherIdentity { expected: Box<SpiffeId>, got: Box<SpiffeId> },
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

impl Identity {
    /// Of the leaf of a chain that was verified. Whether it has an id decides who verified it.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Identity, PeerError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Unreadable)?;
        let (mut uris, mut dns) = (Vec::new(), Vec::new());
        let names = parsed.subject_alternative_name().map_err(|_| PeerError::Unreadable)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push(Box::from(*uri)),
                GeneralName::DNSName(name) => dns.push(Box::from(*name)),
                _ => {}
            }
        }
        let id = only_id(&uris).ok();
        let principal: Option<Box<str>> = id.as_ref().map(|id| id.to_string().trim_start_matches("spiffe://").into());
        let principal = principal.unwrap_or_default();
        let [a, b, c, d, e, f, g, h, ..] = sha256(principal.as_bytes());
        Ok(Identity {
            id,
            is_verified: true,
            hash: sha256(certificate),
            subject: rfc2253(parsed.subject()).into(),
            uris: uris.into(),
            dns: dns.into(),
            principal,
            fingerprint: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            certificate: certificate.clone().into_owned(),
        })
    }

    /// The same of a certificate that nobody verified.
    #[must_use]
    pub fn unverified(self) -> Identity {
        Identity { id: None, is_verified: false, principal: Box::default(), fingerprint: 0, ..self }
    }

    /// `cluster.local/ns/default/sa/reviews`, as policies name it. None without an id.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        Some(&*self.principal).filter(|principal| !principal.is_empty())
    }

    /// The URI of the id, as metrics and headers name it. None without an id.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        self.id.as_ref().and(self.uris.first()).map(|uri| &**uri)
    }

    /// As policies see it, which is not at all if nobody verified it. Without a SPIFFE id, a certificate's first name stands for
    /// its owner, as with Envoy.
    #[must_use]
    pub fn facts(&self) -> Option<PeerFacts<'_>> {
        let other = || self.uris.first().or(self.dns.first()).map_or(&*self.subject, |name| &**name);
        let facts = || PeerFacts { principal: self.principal().unwrap_or_else(other), id: self.id.as_ref() };
        self.is_verified.then(facts)
    }

    /// The same for all certificates of a principal.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("uris", &self.uris)
            .field("dns", &self.dns)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

fn only_id(uris: &[Box<str>]) -> Result<SpiffeId, PeerError> {
    match uris {
        [] => Err(PeerError::NoId),
        [uri] => uri.parse().map_err(|error| PeerError::NotAnId { got: uri.to_string(), error }),
        several => Err(PeerError::SeveralIds(several.len())),
    }
}

/// Most specific first, `,` between, what would be taken for syntax escaped.
fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let name = oid2abbrev(attribute.attr_type(), oid_registry())
        .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
    let mut text = format!("{name}=");
    for letter in attribute.as_str().unwrap_or_default().chars() {
        if matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            text.push('\\');
        }
        if letter.is_control() {
            text.push_str(&format!("\\{:02X}", u32::from(letter)));
        } else {
            text.push(letter);
        }
    }
    text
}

/// Whose certificates are believed, at one moment.
pub struct Trust {
    roots: Arc<RootCertStore>,
    /// The mesh's own first.
    domains: Box<[Arc<str>]>,
    /// None: there is no root, so nobody is believed.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Trust {
    pub fn new(roots: RootCertStore, domains: Box<[Arc<str>]>) -> Trust {
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider())).build();
        Trust { clients: clients.ok(), roots, domains }
    }

    #[must_use]
    pub fn domains(&self) -> &[Arc<str>] {
        &self.domains
    }

    /// Whether its owner may call itself by the id that the certificate has.
    fn identify(&self, certificate: &CertificateDer<'_>) -> Result<SpiffeId, PeerError> {
        let identity = Identity::of(certificate)?;
        let id = only_id(&identity.uris)?;
        if self.domains.iter().any(|domain| **domain == *id.trust_domain()) {
            return Ok(id);
        }
        let expected = self.domains.iter().map(|domain| &**domain).collect::<Vec<_>>().join(", ");
        Err(PeerError::OtherDomain { expected, got: Box::new(id) })
    }

    /// The trust domains of the mesh are names of the same one.
    fn is(&self, got: &SpiffeId, expected: &SpiffeId) -> bool {
        let of_mesh = |id: &SpiffeId| self.domains.iter().any(|domain| **domain == *id.trust_domain());
        let same_domain = got.trust_domain() == expected.trust_domain() || (of_mesh(got) && of_mesh(expected));
        same_domain && got.namespace() == expected.namespace() && got.service_account() == expected.service_account()
    }

    /// A server of the mesh.
    pub fn verify_server(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        expected: Option<&SpiffeId>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let got = self.identify(certificate)?;
        match expected {
            Some(expected) if !self.is(&got, expected) => {
                Err(PeerError::OtherIdentity { expected: Box::new(expected.clone()), got: Box::new(got) }.into())
            }
            _ => Ok(()),
        }
    }

    fn verify_client(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chains = self.clients.as_ref().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        chains.verify_client_cert(certificate, intermediates, now)?;
        self.identify(certificate)?;
        Ok(())
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("roots", &self.roots.len()).field("domains", &self.domains).finish()
    }
}

/// Verifies servers for a client.
#[derive(Debug)]
pub struct ServerVerifier {
    trust: Arc<Trust>,
    expected: Option<SpiffeId>,
}

impl ServerVerifier {
    /// `expected`: who must be there; none: anybody of the mesh.
    pub fn new(trust: Arc<Trust>, expected: Option<SpiffeId>) -> Arc<ServerVerifier> {
        Arc::new(ServerVerifier { trust, expected })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.trust.verify_server(end_entity, intermediates, self.expected.as_ref(), now)?;
        Ok(ServerCertVerified::assertion())
    }

    proves_key!();
}

/// Verifies clients for a server, which must show a certificate.
#[derive(Debug)]
pub struct ClientVerifier {
    trust: Arc<Trust>,
}

impl ClientVerifier {
    pub fn new(trust: Arc<Trust>) -> Arc<ClientVerifier> {
        Arc::new(ClientVerifier { trust })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Workloads have one certificate: there is nothing to choose by it.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.verify_client(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    proves_key!();
}

#[cfg(test)]
#[path = "peer_verify_tests.rs"]
mod tests;
