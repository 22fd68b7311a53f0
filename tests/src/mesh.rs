//! A workload of the mesh, as its proxy would let it look: HTTP in mutual TLS, with a certificate of the controller's CA. It
//! notes who came, and what came in clear.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use http::{Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use mesh_core::identity::SpiffeId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::backend::{Backend, HANDSHAKE, text};

/// Listens until it is dropped.
pub struct MeshBackend {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    /// Of connections from now on.
    config: Arc<Mutex<Arc<ServerConfig>>>,
    _backend: Backend,
}

#[derive(Default)]
struct Seen {
    requests: AtomicU32,
    handshakes: AtomicU32,
    resumed: AtomicU32,
    /// Connections that began with something else than TLS.
    clear: AtomicU32,
    /// URI names of the clients, each once.
    clients: Mutex<Vec<String>>,
}

impl MeshBackend {
    /// Answers with its name.
    pub async fn start(name: &str, config: ServerConfig) -> anyhow::Result<MeshBackend> {
        let (seen, config) = (Arc::<Seen>::default(), Arc::new(Mutex::new(Arc::new(config))));
        let (name, noted, current) = (name.to_owned(), seen.clone(), config.clone());
        let backend = Backend::start_raw(move |stream| {
            let config = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
            serve(stream, config, name.clone(), noted.clone())
        })
        .await?;
        Ok(MeshBackend { address: backend.address, seen, config, _backend: backend })
    }

    /// Another certificate, or other roots; what is connected stays.
    pub fn change(&self, config: ServerConfig) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    pub fn requests(&self) -> u32 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Handshakes that succeeded, and how many of them resumed a session.
    pub fn handshakes(&self) -> (u32, u32) {
        (self.seen.handshakes.load(Ordering::Relaxed), self.seen.resumed.load(Ordering::Relaxed))
    }

    pub fn clear(&self) -> u32 {
        self.seen.clear.load(Ordering::Relaxed)
    }

    pub fn clients(&self) -> Vec<String> {
        self.seen.clients.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(stream: TcpStream, config: Arc<ServerConfig>, name: String, seen: Arc<Seen>) {
    let mut first = [0];
    if stream.peek(&mut first).await.is_ok_and(|count| count > 0 && first != [HANDSHAKE]) {
        seen.clear.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
    seen.handshakes.fetch_add(1, Ordering::Relaxed);
    let tls = stream.get_ref().1;
    if tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        seen.resumed.fetch_add(1, Ordering::Relaxed);
    }
    let client = tls.peer_certificates().and_then(<[_]>::first).and_then(uri).unwrap_or_default();
    {
        let mut clients = seen.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if !clients.contains(&client) {
            clients.push(client);
        }
    }
    let service = hyper::service::service_fn(move |_: http::Request<hyper::body::Incoming>| {
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(text(name.clone(), &Default::default()));
        *response.status_mut() = StatusCode::OK;
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

fn uri(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
}

/// A certificate for this id from this CA, as chain and key in PEM.
pub fn leaf(authority: &controller::ca::Authority, id: &str) -> anyhow::Result<(Vec<String>, String)> {
    let id: SpiffeId = id.parse().context("id")?;
    let key = rcgen::KeyPair::generate()?;
    let csr = rcgen::CertificateParams::default().serialize_request(&key)?.pem()?;
    Ok((authority.sign(&csr, &id, None)?, key.serialize_pem()))
}

/// How a workload answers: with a certificate for this id from this CA, to clients of these roots (PEM).
pub fn server(authority: &controller::ca::Authority, id: &str, roots_pem: &str) -> anyhow::Result<ServerConfig> {
    let (chain, key) = leaf(authority, id)?;
    let chain: Result<Vec<_>, _> = chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes())).collect();
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(root?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain?, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
    config.alpn_protocols = [&b"istio-h2"[..], b"istio-http/1.1"].map(<[u8]>::to_vec).to_vec();
    Ok(config)
}
