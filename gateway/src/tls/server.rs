//! The server's side of a handshake: versions, suites, protocols, and which certificate to show.
//!
//! A configuration is put together for each handshake from a template and the certificates of that moment, so that a
//! new certificate needs no new configuration and none can be stale. What must survive outlives them: session tickets are
//! made and read by one ticketer for the whole process. Servers that ask for client certificates have a template of their
//! own, and a ticketer that lasts as long as whom they believe: a session that is resumed is not asked again.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_core::certificate::ClientTrust;
use mesh_core::model::{TlsTermination, TlsVersion};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SignatureAlgorithm, SupportedProtocolVersion};

use super::certs::CertificateTable;
use super::client_verify::verifier;
use super::peer_verify::{ClientVerifier, Trust};
use super::provider::{narrowed, provider};
use super::workload::Workload;
use crate::peer_metadata::preamble::PROTOCOL;

/// Makes configurations for handshakes.
pub struct ServerConfigs {
    tls12: ServerConfig,
    tls13: ServerConfig,
    both: ServerConfig,
}

impl ServerConfigs {
    pub fn new() -> Result<Self, rustls::Error> {
        let tickets = Ticketer::new()?;
        let template = |versions: &[&'static SupportedProtocolVersion]| -> Result<ServerConfig, rustls::Error> {
            let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(Choice(Vec::new())));
            config.ticketer = Arc::clone(&tickets);
            config.alpn_protocols = http_alpn();
            config.max_early_data_size = 0;
            Ok(config)
        };
        Ok(Self { tls12: template(&[&TLS12])?, tls13: template(&[&TLS13])?, both: template(&[&TLS13, &TLS12])? })
    }

    /// The configuration for one handshake with a client that asks for this name. None if no certificate of the server is usable, or clients cannot be verified.
    pub fn for_handshake(
        &self,
        tls: &TlsTermination,
        certificates: &CertificateTable,
        workload: &Workload,
        hello: &ClientHello<'_>,
        name: Option<&str>,
    ) -> Option<ServerConfig> {
        if tls.mesh.is_some() {
            let mut config = ServerConfig::clone(workload.server_config()?);
            // A gateway's clients are told nothing before its servers speak.
            config.alpn_protocols.retain(|name| name != PROTOCOL);
            without_common(&mut config, hello);
            return Some(config);
        }
        let keys = certificates.keys(&tls.certificates, name);
        if keys.is_empty() {
            return None;
        }
        let template = match (tls.min_version, tls.max_version) {
            _ if !tls.is_plain() => certificates.template(tls)?,
            (_, TlsVersion::V1_2) => &self.tls12,
            (TlsVersion::V1_3, _) => &self.tls13,
            _ => &self.both,
        };
        let mut config = template.clone();
        config.cert_resolver = Arc::new(Choice(keys));
        without_common(&mut config, hello);
        // The cheapest suite for us, unless the client has no hardware for AES, which it shows by its own order.
        config.ignore_client_order = !hello.cipher_suites().first().is_some_and(is_chacha);
        Some(config)
    }
}

/// A client that offers none of our protocols is not refused: its first bytes show what it speaks.
fn without_common(config: &mut ServerConfig, hello: &ClientHello<'_>) {
    let ours = &config.alpn_protocols;
    let common = hello.alpn().is_some_and(|mut offered| offered.any(|offer| ours.iter().any(|our| our == offer)));
    if !common {
        config.alpn_protocols.clear();
    }
}

fn http_alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// The template of a server that is not plain. Without `trust` clients are not asked for a certificate.
pub(super) fn template(tls: &TlsTermination, trust: Option<&Arc<ClientTrust>>) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match (tls.min_version, tls.max_version) {
        (_, TlsVersion::V1_2) => &[&TLS12],
        (TlsVersion::V1_3, _) => &[&TLS13],
        _ => &[&TLS13, &TLS12],
    };
    let builder = ServerConfig::builder_with_provider(narrowed(&tls.cipher_suites, &tls.groups))
        .with_protocol_versions(versions)?;
    let builder = match trust {
        Some(trust) => builder.with_client_cert_verifier(verifier(trust)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Choice(Vec::new())));
    config.ticketer = DatedTickets::new()?;
    // Sessions that are kept here would outlive what tickets say.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = http_alpn();
    config.max_early_data_size = 0;
    Ok(config)
}

/// Protocols of the mesh, most preferred first: HTTP/2 and HTTP/1.1 between proxies, bytes between proxies, with
/// metadata of both and without; and the names
/// under which a proxy of Istio offers them besides.
pub const MESH_ALPN: [&[u8]; 6] = [b"istio-h2", b"istio-http/1.1", PROTOCOL, b"istio", b"h2", b"http/1.1"];

/// For clients of the mesh, which must show a certificate that `trust` believes.
pub fn mesh_config(
    key: &Arc<CertifiedKey>,
    trust: &Arc<Trust>,
    ticketer: Option<&Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(ClientVerifier::new(Arc::clone(trust)))
        .with_cert_resolver(Arc::new(Choice(vec![Arc::clone(key)])));
    match ticketer {
        Some(ticketer) => config.ticketer = Arc::clone(ticketer),
        None => config.session_storage = Arc::new(NoServerSessionStorage {}),
    }
    config.alpn_protocols = MESH_ALPN.iter().map(|name| name.to_vec()).collect();
    config.max_early_data_size = 0;
    config.ignore_client_order = true;
    Ok(config)
}

/// How long a session of a client that showed a certificate may be resumed, in seconds: it is not looked at again then, and may
/// end meanwhile.
const SESSION: u32 = 3600;

/// Tickets that say themselves how old they are.
#[derive(Debug)]
pub struct DatedTickets(Arc<dyn ProducesTickets>);

impl DatedTickets {
    pub fn new() -> Result<Arc<DatedTickets>, rustls::Error> {
        Ok(Arc::new(DatedTickets(Ticketer::new()?)))
    }

    fn now() -> Option<u64> {
        SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
    }
}

impl ProducesTickets for DatedTickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        SESSION.min(self.0.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut dated = Self::now()?.to_be_bytes().to_vec();
        dated.extend_from_slice(plain);
        self.0.encrypt(&dated)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let dated = self.0.decrypt(cipher)?;
        let (issued, plain) = dated.split_first_chunk::<8>()?;
        let age = Self::now()?.checked_sub(u64::from_be_bytes(*issued))?;
        (age <= u64::from(SESSION)).then(|| plain.to_vec())
    }
}

fn is_chacha(suite: &CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// The certificates of one server, most preferred first.
pub(super) struct Choice(pub(super) Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Choice {
    /// The first ECDSA certificate that the client can verify, as it costs a tenth of an RSA signature; else the first of
    /// any kind; else, so that the alert says what is missing, the first.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let mut usable = self.0.iter().filter(|key| key.key.choose_scheme(schemes).is_some());
        let first = usable.clone().next();
        let cheap = usable.find(|key| key.key.algorithm() != SignatureAlgorithm::RSA);
        cheap.or(first).or(self.0.first()).cloned()
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice").field("certificates", &self.0.len()).finish()
    }
}
