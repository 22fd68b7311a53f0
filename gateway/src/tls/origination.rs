//! TLS to servers that are no part of the mesh (`SIMPLE`, `MUTUAL`): whose certificates are believed, which name they must have,
//! and what is shown to them. Made for one way to speak TLS and one state of its certificates: with other certificates everything is
//! agreed anew.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use mesh_core::certificate::{Certificate, CertificateInfo, describe};
use mesh_core::model::Origination;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, Error, OtherError, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::client::{Inside, Own, TlsError, words};
use super::provider::{proves_key, provider};
use crate::listen::BufferedTcp;

/// TLS sessions that are remembered: one per name that is asked for.
const SESSIONS: usize = 64;

/// Each state is another one, for pools.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// CAs, and what they revoked, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorityPem {
    pub certificates: Vec<u8>,
    /// Empty: nothing is revoked.
    pub revoked: Vec<u8>,
}

/// What an origination needs, read.
#[derive(Default)]
pub struct Materials {
    /// None: those of the system.
    pub authorities: Option<AuthorityPem>,
    /// Shown to the server.
    pub certificate: Option<Arc<Certificate>>,
}

impl Materials {
    /// Whether the same client would come of them.
    pub fn is(&self, other: &Materials) -> bool {
        let same = match (&self.certificate, &other.certificate) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same && self.authorities == other.authorities
    }
}

/// The client of an origination, which changes with its certificates; or what is in the way, in words.
pub struct OriginationCell {
    model: Arc<Origination>,
    client: ArcSwap<Result<Arc<OriginationClient>, Arc<str>>>,
}

impl OriginationCell {
    #[must_use]
    pub fn new(model: Arc<Origination>, client: Result<Arc<OriginationClient>, Arc<str>>) -> OriginationCell {
        OriginationCell { model, client: ArcSwap::from_pointee(client) }
    }

    pub fn set(&self, client: Result<Arc<OriginationClient>, Arc<str>>) {
        self.client.store(Arc::new(client));
    }

    pub fn model(&self) -> &Origination {
        &self.model
    }

    pub fn client(&self) -> Result<Arc<OriginationClient>, TlsError> {
        self.client.load().as_ref().clone().map_err(TlsError::NotReady)
    }

    /// The name that a server is asked for. `authority`: of the request; `host`: of the destination.
    pub fn name(&self, authority: Option<&str>, host: &Arc<str>) -> Arc<str> {
        if let Some(sni) = &self.model.sni {
            return Arc::clone(sni);
        }
        let asked = authority.map(host_of).filter(|name| !name.is_empty());
        asked.map_or_else(|| Arc::clone(host), |name| name.to_ascii_lowercase().into())
    }
}

/// An authority without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Speaks to the servers of one origination.
pub struct OriginationClient {
    /// Never the same for two of them.
    pub id: u64,
    /// What the server is shown.
    pub shown: Option<Arc<Certificate>>,
    /// CAs that are believed, but for those of the system.
    pub authorities: Vec<CertificateInfo>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    tcp: Arc<ClientConfig>,
}

/// Why a server is not who it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate has none of the names {0}")]
struct OtherName(String);

impl OriginationClient {
    /// `system`: the CAs of the system. The error is for users: what is wrong, in words.
    pub fn new(
        origination: &Origination,
        materials: &Materials,
        system: &Arc<RootCertStore>,
    ) -> Result<OriginationClient, String> {
        let verifier: Arc<dyn ServerCertVerifier> =
            if origination.unverified { Arc::new(Anybody) } else { verifier(origination, materials, system)? };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &materials.certificate {
            Some(own) => builder.with_client_cert_resolver(Arc::new(Own(Arc::clone(own.certified_key())))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let with = |names: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let pem = materials.authorities.as_ref().map_or(&[][..], |pem| &pem.certificates);
        let authorities = CertificateDer::pem_slice_iter(pem).flatten().filter_map(|one| describe(&[one]).ok());
        Ok(OriginationClient {
            id,
            shown: materials.certificate.clone(),
            authorities: authorities.collect(),
            http1: with(&[b"http/1.1"]),
            http2: with(&[b"h2"]),
            tcp: with(&[]),
        })
    }

    /// The handshake with the server of this name. The caller limits its time.
    pub async fn connect(&self, io: TcpStream, inside: Inside, name: &str) -> Result<TlsStream<BufferedTcp>, TlsError> {
        let config = match inside {
            Inside::Http1 => &self.http1,
            Inside::Http2 => &self.http2,
            Inside::Tcp => &self.tcp,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let server = ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::BadName(name.into()))?;
        let connector = TlsConnector::from(Arc::clone(config));
        let connecting = connector.connect(server, BufferedTcp::under_tls(io));
        connecting.await.map_err(|error| TlsError::Handshake(words(&error).into_owned()))
    }
}

impl fmt::Debug for OriginationClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginationClient").field("id", &self.id).finish_non_exhaustive()
    }
}

fn verifier(
    origination: &Origination,
    materials: &Materials,
    system: &Arc<RootCertStore>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let (roots, revoked) = match &materials.authorities {
        None => (Arc::clone(system), Vec::new()),
        Some(pem) => (Arc::new(roots(&pem.certificates)?), lists(&pem.revoked)?),
    };
    if roots.is_empty() {
        let whose = if materials.authorities.is_some() { "the file" } else { "the system" };
        return Err(format!("{whose} has no CA certificates in PEM form"));
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider()));
    if !revoked.is_empty() {
        builder = builder.with_crls(revoked).enforce_revocation_expiration();
    }
    let chains = builder.build().map_err(|error| format!("the revocation list cannot be used: {error}"))?;
    if origination.names.is_empty() {
        return Ok(chains);
    }
    Ok(Arc::new(Named { chains, names: origination.names.clone() }))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("the CA certificates are not valid PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("a CA certificate cannot be used: {error}"))?;
    }
    Ok(roots)
}

fn lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|error| format!("the revocation list is not valid PEM: {error}"))?;
    if lists.is_empty() && !pem.is_empty() {
        return Err("no revocation list found in PEM form".to_owned());
    }
    Ok(lists)
}

/// Whether a certificate has one of these names, of whatever kind.
fn has_name(certificate: &CertificateDer<'_>, names: &[String]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(own) = parsed.subject_alternative_name() else { return false };
    let mut own = own.iter().flat_map(|own| &own.value.general_names);
    own.any(|own| names.iter().any(|name| is(own, name)))
}

/// A wildcard stands for one label.
fn is(own: &GeneralName<'_>, name: &str) -> bool {
    match own {
        GeneralName::DNSName(own) => {
            let below = own.strip_prefix("*.").zip(name.split_once('.'));
            own.eq_ignore_ascii_case(name) || below.is_some_and(|(own, (_, rest))| own.eq_ignore_ascii_case(rest))
        }
        GeneralName::URI(own) | GeneralName::RFC822Name(own) => *own == name,
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let own = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            own.is_ok_and(|own| name.parse() == Ok(own))
        }
        _ => false,
    }
}

/// The name that is asked for does not count, but one of these.
#[derive(Debug)]
struct Named {
    chains: Arc<WebPkiServerVerifier>,
    names: Vec<String>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last: whoever fails by it alone is who a CA says it is.
        match self.chains.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        if has_name(end_entity, &self.names) {
            return Ok(ServerCertVerified::assertion());
        }
        let error = OtherName(self.names.join(", "));
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error)))))
    }

    proves_key!();
}

/// Believes everybody (`insecureSkipVerify`), but for who has not even the key of his certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    proves_key!();
}

#[cfg(test)]
#[path = "origination_tests.rs"]
mod tests;
