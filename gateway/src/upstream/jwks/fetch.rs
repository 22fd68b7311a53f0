//! One key set, over HTTP.

use std::sync::{Arc, OnceLock};

use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_core::model::KeySource;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Keys;
use crate::tls::provider;

/// Largest answer, in bytes.
const LIMIT: usize = 1024 * 1024;

/// Where an issuer has its configuration (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

pub(super) async fn keys(source: &KeySource) -> Result<Keys, String> {
    let url = match source {
        KeySource::Url(url) => url.to_string(),
        KeySource::Issuer(issuer) => discover(issuer).await?,
        KeySource::Inline(_) | KeySource::Nowhere => return Err("there is nothing to fetch".to_owned()),
    };
    let body = get(&url).await.map_err(|why| format!("{url}: {why}"))?;
    Keys::read(&body).map_err(|why| format!("{url}: {why}"))
}

async fn discover(issuer: &str) -> Result<String, String> {
    let url = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
    let body = get(&url).await.map_err(|why| format!("{url}: {why}"))?;
    let configuration: serde_json::Value =
        serde_json::from_slice(&body).map_err(|error| format!("{url}: it is not JSON: {error}"))?;
    let uri = configuration.get("jwks_uri").and_then(serde_json::Value::as_str);
    uri.map(str::to_owned).ok_or_else(|| format!("{url}: it has no `jwks_uri`"))
}

async fn get(url: &str) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|error| format!("it is no URL: {error}"))?;
    let authority = uri.authority().ok_or("it names no host")?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("it is neither http nor https".to_owned()),
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let tcp = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    if !tls {
        return ask(tcp, &uri).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` cannot be in a certificate"))?;
    let config = config().await?;
    let stream =
        tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.map_err(|error| error.to_string())?;
    ask(stream, &uri).await
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, uri: &Uri) -> Result<Bytes, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the sender, or with its error, which the sender tells.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = Request::get(target)
        .header(HOST, host)
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static("meshgate"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers {}", response.status()));
    }
    let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|error| error.to_string())?;
    Ok(body.to_bytes())
}

/// For servers with certificates of the system's roots, which are read once.
async fn config() -> Result<Arc<rustls::ClientConfig>, String> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    let found = found.await.map_err(|error| error.to_string())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(format!("this machine has no roots of certificates; {why}"));
    }
    let config = rustls::ClientConfig::builder_with_provider(provider::provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}
