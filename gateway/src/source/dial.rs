//! The connection to the controller: its name, TCP, TLS, HTTP/2.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::ControllerOptions;
use super::trouble::Trouble;
use crate::tls::provider;

/// Name look-up, TCP, TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Pings, so that a controller that vanished is noticed.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));

/// One connection: when it breaks, the channel is of no use any more.
pub(super) async fn connect(options: &ControllerOptions) -> Result<Channel, Trouble> {
    let address = &options.address;
    let bad_address = |_| Trouble::BadAddress(address.clone());
    // The authority is only a name here: the connection is there already.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(bad_address)?;
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(true)
        .http2_adaptive_window(true);
    let silent = |_| Trouble::Silent(address.clone());
    let stream = timeout(CONNECT, dial(options)).await.map_err(silent)??;
    let stream = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    let connecting = timeout(CONNECT, endpoint.connect_with_connector(connector)).await.map_err(silent)?;
    connecting.map_err(|error| Trouble::Broken(format!("{:#}", anyhow::Error::from(error))))
}

async fn dial(options: &ControllerOptions) -> Result<TlsStream<TcpStream>, Trouble> {
    let address = &options.address;
    let read = tokio::fs::read(&options.ca).await;
    let pem = read.map_err(|error| Trouble::NoCa { path: options.ca.clone(), error })?;
    let tls = tls_config(&pem).map_err(|why| Trouble::BadCa { path: options.ca.clone(), why })?;
    let name = ServerName::try_from(options.name.clone()).map_err(|_| Trouble::BadName(options.name.clone()))?;
    let found = lookup_host(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => Trouble::BadAddress(address.clone()),
        _ => Trouble::Unresolved { address: address.clone(), error },
    })?;
    let found: Vec<_> = found.collect();
    let unreachable = |error| Trouble::Unreachable { address: address.clone(), error };
    let tcp = TcpStream::connect(&*found).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let handshake = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await;
    handshake.map_err(|error| Trouble::of_handshake(error, address, &options.name, &options.ca))
}

fn tls_config(ca: &[u8]) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|error| format!("not a certificate in PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("not a CA's certificate: {error}"))?;
    }
    if roots.is_empty() {
        return Err("the file holds no certificate".to_owned());
    }
    let mut config = rustls::ClientConfig::builder_with_provider(provider::provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
