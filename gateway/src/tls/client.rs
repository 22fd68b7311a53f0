//! Mutual TLS to an endpoint of the mesh: whom to expect there, what to show, and what was said the last time (sessions are
//! resumed). Made for one endpoint and one state of the workload: under another certificate, or other roots, everything is
//! agreed anew.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::identity::SpiffeId;
use mesh_core::model::server_name;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{DnsName, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, OtherError, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::peer_verify::{Identity, ServerVerifier};
use super::provider::provider;
use super::workload::{Workload, WorkloadCertificate};
use crate::listen::BufferedTcp;
use crate::peer_metadata::preamble::PROTOCOL;

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    Http1,
    Http2,
    /// Bytes.
    Tcp,
}

impl Inside {
    /// The name between proxies first; the others are for proxies of Istio.
    fn alpn(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Inside::Http1 => &[b"istio-http/1.1", b"istio", b"http/1.1"],
            Inside::Http2 => &[b"istio-h2", b"istio", b"h2"],
            Inside::Tcp => &[PROTOCOL, b"istio"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// Why there is no TLS with an endpoint. The texts go into access logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("this proxy has no workload certificate")]
    NoCertificate,
    #[error("the workload certificate of this proxy has expired")]
    Expired,
    #[error("the identity `{0}` of the endpoint is no SPIFFE id")]
    BadIdentity(Arc<str>),
    /// Of a server outside of the mesh.
    #[error("`{0}` is no name that a certificate can have")]
    BadName(Arc<str>),
    /// What it takes to speak to a server outside of the mesh is not there; in words.
    #[error("{0}")]
    NotReady(Arc<str>),
    /// In words.
    #[error("{0}")]
    Handshake(String),
}

/// Speaks to one endpoint.
pub struct MeshClient {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    tcp: Arc<ClientConfig>,
    name: ServerName<'static>,
    certificate: Arc<WorkloadCertificate>,
}

impl MeshClient {
    /// `expected`: the principal of the endpoint, `spiffe://…`; empty: anybody of the mesh. `sni`: see [`sni`].
    pub fn new(workload: &Workload, expected: &Arc<str>, sni: &str) -> Result<MeshClient, TlsError> {
        let certificate = match (workload.certificate(), workload.last_certificate()) {
            (Some(certificate), _) => certificate,
            (None, Some(_)) => return Err(TlsError::Expired),
            (None, None) => return Err(TlsError::NoCertificate),
        };
        let expected: Option<SpiffeId> = match &**expected {
            "" => None,
            text => Some(text.parse().map_err(|_| TlsError::BadIdentity(Arc::clone(expected)))?),
        };
        let verifier = ServerVerifier::new(Arc::clone(workload.trust()), expected);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| TlsError::Handshake(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(Own(Arc::clone(certificate.certified_key()))));
        // One server.
        config.resumption = Resumption::in_memory_sessions(1);
        let name = DnsName::try_from(sni.to_owned()).map(ServerName::DnsName);
        // A name that TLS cannot carry is not sent; who is there is told by its certificate anyway.
        config.enable_sni = name.is_ok();
        let name = name.unwrap_or(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()));
        let with = |inside: Inside| {
            let mut config = config.clone();
            config.alpn_protocols = inside.alpn();
            Arc::new(config)
        };
        Ok(MeshClient {
            http1: with(Inside::Http1),
            http2: with(Inside::Http2),
            tcp: with(Inside::Tcp),
            name,
            certificate: Arc::clone(certificate),
        })
    }

    /// The handshake. The caller limits its time.
    pub async fn connect(
        &self,
        io: TcpStream,
        inside: Inside,
    ) -> Result<(TlsStream<BufferedTcp>, Arc<Identity>), TlsError> {
        let config = match inside {
            Inside::Http1 => &self.http1,
            Inside::Http2 => &self.http2,
            Inside::Tcp => &self.tcp,
        };
        if self.certificate.seconds_left(SystemTime::now()) < 0 {
            return Err(TlsError::Expired);
        }
        let connector = TlsConnector::from(Arc::clone(config));
        let connecting = connector.connect(self.name.clone(), BufferedTcp::under_tls(io));
        let stream = connecting.await.map_err(|error| TlsError::Handshake(words(&error).into_owned()))?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = certificates.first().ok_or_else(|| TlsError::Handshake("the peer showed no certificate".into()))?;
        let identity = Identity::of(leaf).map_err(|error| TlsError::Handshake(error.to_string()))?;
        Ok((stream, Arc::new(identity)))
    }
}

/// `outbound_.9080_.v1_.reviews.default.svc.cluster.local`, by which a peer can tell what is wanted.
#[must_use]
pub fn sni(port: u16, subset: Option<&str>, host: &str) -> String {
    server_name(port, subset.unwrap_or_default(), host)
}

/// What went wrong, as the verifier said it if it was the one.
pub(super) fn words(error: &io::Error) -> Cow<'static, str> {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) => {
            Cow::Owned(format!("CERTIFICATE_VERIFY_FAILED: {cause}"))
        }
        Some(rustls::Error::InvalidCertificate(error)) => Cow::Owned(format!("CERTIFICATE_VERIFY_FAILED: {error}")),
        Some(error) => Cow::Owned(error.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Cow::Borrowed("the peer closed the connection during the handshake")
        }
        None => Cow::Owned(error.to_string()),
    }
}

/// The one certificate that there is, whatever the server hints at.
#[derive(Debug)]
pub(super) struct Own(pub(super) Arc<CertifiedKey>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).is_some().then(|| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
