//! The way to a CA's directory: HTTP/1.1 over our own TLS, with connections that are used again while an order runs.

use std::cell::Cell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

/// Largest answer, in bytes.
const LIMIT: usize = 1024 * 1024;
/// Longest that one request takes.
const PATIENCE: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// When the CA wants to be asked again, by the last answer of the task that was a refusal.
    pub static ASKED: Cell<Option<SystemTime>>;
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(String);

fn no_answer(error: impl std::fmt::Display) -> NoAnswer {
    NoAnswer(error.to_string())
}

type Sender = SendRequest<Full<Bytes>>;

/// See the module.
#[derive(Clone)]
pub struct Https(Arc<Inner>);

struct Inner {
    tls: Arc<ClientConfig>,
    /// Connections that nobody uses now, with where they lead.
    idle: Mutex<Vec<(http::uri::Authority, Sender)>>,
}

impl Https {
    /// Believes the certificates of this file (PEM), else those of the system.
    pub async fn new(ca: Option<PathBuf>, provider: Arc<CryptoProvider>) -> Result<Https, String> {
        let roots = tokio::task::spawn_blocking(move || roots(ca.as_deref()));
        let roots = roots.await.map_err(|error| error.to_string())??;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Https(Arc::new(Inner { tls: Arc::new(tls), idle: Mutex::default() })))
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, NoAnswer> {
        let authority = request.uri().authority().cloned().ok_or_else(|| no_answer("the URL names no host"))?;
        let request = in_origin_form(request, &authority)?;
        if let Some(mut sender) = self.idle(&authority)
            && let Ok(answer) = self.send(&mut sender, request.clone()).await
        {
            self.give_back(authority, sender);
            return Ok(answer);
        }
        // The other side had closed it meanwhile.
        let mut sender = self.dial(&authority, request.extensions().get::<Clear>().is_some()).await?;
        let answer = self.send(&mut sender, request).await?;
        self.give_back(authority, sender);
        Ok(answer)
    }

    async fn send(&self, sender: &mut Sender, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, NoAnswer> {
        sender.ready().await.map_err(no_answer)?;
        let (parts, body) = sender.send_request(request).await.map_err(no_answer)?.into_parts();
        let body = Limited::new(body, LIMIT).collect().await.map_err(no_answer)?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    async fn dial(&self, authority: &http::uri::Authority, clear: bool) -> Result<Sender, NoAnswer> {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if clear { 80 } else { 443 });
        let tcp = TcpStream::connect((host, port)).await;
        let tcp = tcp.map_err(|error| NoAnswer(format!("no connection to {host}:{port}: {error}")))?;
        let _ = tcp.set_nodelay(true);
        if clear {
            return begin(tcp).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(no_answer)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.0.tls));
        let tls = connector.connect(name, tcp).await;
        begin(tls.map_err(|error| NoAnswer(format!("no TLS with {host}:{port}: {error}")))?).await
    }

    fn idle(&self, authority: &http::uri::Authority) -> Option<Sender> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, sender)| !sender.is_closed());
        let place = idle.iter().position(|(known, _)| known == authority)?;
        Some(idle.swap_remove(place).1)
    }

    fn give_back(&self, authority: http::uri::Authority, sender: Sender) {
        if !sender.is_closed() {
            self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push((authority, sender));
        }
    }
}

/// Of a request in clear text, which only a CA for tests takes.
#[derive(Clone)]
struct Clear;

fn in_origin_form(
    request: Request<Full<Bytes>>,
    authority: &http::uri::Authority,
) -> Result<Request<Full<Bytes>>, NoAnswer> {
    let (mut parts, body) = request.into_parts();
    match parts.uri.scheme_str() {
        Some("https") => {}
        Some("http") => drop(parts.extensions.insert(Clear)),
        _ => return Err(no_answer("the URL is neither https nor http")),
    }
    parts.headers.insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(no_answer)?);
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    parts.uri = Uri::from_str(target).map_err(no_answer)?;
    Ok(Request::from_parts(parts, body))
}

async fn begin<S>(stream: S) -> Result<Sender, NoAnswer>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
    // It ends with the sender, or with its error, which the sender tells.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let broken = |error: &dyn std::fmt::Display| format!("--acme-ca {}: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| broken(&error))?;
            let certificates: Vec<_> =
                CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| broken(&error))?;
            for certificate in certificates {
                roots.add(certificate).map_err(|error| broken(&error))?;
            }
            if roots.is_empty() {
                return Err(broken(&"no certificate found in PEM form"));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
                return Err(format!("this machine has no roots of certificates; {why}"));
            }
        }
    }
    Ok(roots)
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let own = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let asking = own.ask(Request::from_parts(parts, Full::new(body)));
            let late = || NoAnswer(format!("no answer within {} s", PATIENCE.as_secs()));
            let answer = tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(late()));
            let (parts, body) = answer.map_err(|error| Error::Other(Box::new(error)))?.into_parts();
            if !parts.status.is_success() {
                let _ = ASKED.try_with(|asked| asked.set(retry_after(&parts.headers)));
            }
            // What stands before a CA says in HTML that it is away.
            if parts.status.is_server_error() && serde_json::from_slice::<serde_json::Value>(&body).is_err() {
                return Err(Error::Other(Box::new(NoAnswer(format!("the CA answers {}", parts.status)))));
            }
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// Seconds from now, or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &http::HeaderMap) -> Option<SystemTime> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => SystemTime::now().checked_add(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok(),
    }
}
