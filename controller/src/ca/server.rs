//! Certificates of the servers of this process.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;

use super::Current;
use super::authority::SERVER;

/// The certificate that servers of this process show; renewed while they serve.
#[derive(Debug, Default)]
pub struct ServerCertificate(ArcSwapOption<CertifiedKey>);

impl rustls::server::ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl ServerCertificate {
    /// Shows a certificate for `names`, and a new one before it ends, or when another CA signs.
    pub fn start(authority: impl Into<Current>, names: Vec<String>) -> anyhow::Result<Arc<ServerCertificate>> {
        let mut current = authority.into();
        let certificate = Arc::new(ServerCertificate::default());
        certificate.0.store(Some(Arc::new(current.get().issue(&names)?)));
        let renewed = certificate.clone();
        tokio::spawn(async move {
            loop {
                let _ = tokio::time::timeout(SERVER / 2, current.changed()).await;
                match current.get().issue(&names) {
                    Ok(issued) => renewed.0.store(Some(Arc::new(issued))),
                    Err(error) => tracing::error!("cannot renew the server certificate: {error:#}"),
                }
            }
        });
        Ok(certificate)
    }

    /// TLS for a server; `alpn` most preferred first.
    pub fn config(self: &Arc<Self>, alpn: &[&str]) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// Names under which proxies and the API server know the controller.
#[must_use]
pub fn server_names(service: &str, namespace: &str) -> Vec<String> {
    let mut names =
        vec![service.to_owned(), format!("{service}.{namespace}"), "localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend([".svc", ".svc.cluster.local"].map(|suffix| format!("{service}.{namespace}{suffix}")));
    names
}
