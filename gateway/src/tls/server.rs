//! The server's side of a handshake: versions, suites, protocols, and which certificate to show.
//!
//! A configuration is put together for each handshake from a template and the certificates of that moment, so that a
//! new certificate needs no new configuration and none can be stale. What must survive outlives them: session tickets are
//! made and read by one ticketer for the whole process. (A server that asks for client certificates will need a ticketer of
//! its own: a session resumed from another server's ticket would not be asked.)

use std::fmt;
use std::sync::Arc;

use mesh_core::model::{TlsTermination, TlsVersion};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SignatureAlgorithm, SupportedProtocolVersion};

use super::certs::CertificateTable;
use super::provider::provider;

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
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            config.max_early_data_size = 0;
            Ok(config)
        };
        Ok(Self { tls12: template(&[&TLS12])?, tls13: template(&[&TLS13])?, both: template(&[&TLS13, &TLS12])? })
    }

    /// The configuration for one handshake. None if no certificate of the server is usable.
    pub fn for_handshake(
        &self,
        tls: &TlsTermination,
        certificates: &CertificateTable,
        hello: &ClientHello<'_>,
    ) -> Option<ServerConfig> {
        let keys = certificates.keys(&tls.certificates);
        if keys.is_empty() {
            return None;
        }
        let mut config = match (tls.min_version, tls.max_version) {
            (_, TlsVersion::V1_2) => &self.tls12,
            (TlsVersion::V1_3, _) => &self.tls13,
            _ => &self.both,
        }
        .clone();
        config.cert_resolver = Arc::new(Choice(keys));
        // A client that offers none of ours is not refused: its first bytes show what it speaks.
        let ours = &config.alpn_protocols;
        let common = hello.alpn().is_some_and(|mut offered| offered.any(|offer| ours.iter().any(|our| our == offer)));
        if !common {
            config.alpn_protocols.clear();
        }
        // The cheapest suite for us, unless the client has no hardware for AES, which it shows by its own order.
        config.ignore_client_order = !hello.cipher_suites().first().is_some_and(is_chacha);
        Some(config)
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
struct Choice(Vec<Arc<CertifiedKey>>);

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
