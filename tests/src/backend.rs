//! A server behind the gateway, on a loopback address of its own: HTTP/1.1 and HTTP/2 with prior knowledge, and in TLS. An echo says
//! in JSON what it saw; other servers are made from a function.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use mesh_core::testing::{BackendKind, BackendSettings};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::client::{BoxIo, DEADLINE};
use crate::{certs, ports, proxy_header};

pub type Body = BoxBody<Bytes, Infallible>;

/// First byte of TLS.
pub const HANDSHAKE: u8 = 22;

/// Listens until it is dropped.
pub struct Backend {
    pub address: SocketAddr,
    requests: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    last: Arc<Mutex<Option<Saw>>>,
    task: JoinHandle<()>,
}

/// What an echo saw of a request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Saw {
    pub backend: String,
    pub method: String,
    /// With query.
    pub path: String,
    pub authority: String,
    pub protocol: String,
    /// Names in lower case, in order, repeats included.
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub body_length: u64,
    pub trailers: Vec<(String, String)>,
    /// What the connection began with, in the words of [`proxy_header`].
    pub proxy: Option<String>,
}

/// What the connection of a request began with.
#[derive(Clone)]
struct Told(String);

/// How a connection begins.
#[derive(Clone, Default)]
struct Opening {
    /// In this TLS alone.
    tls: Option<Arc<ServerConfig>>,
    /// With a PROXY header before it.
    proxy: bool,
}

impl Backend {
    /// Every request goes to `handler`.
    pub async fn start<H, F>(handler: H) -> anyhow::Result<Backend>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_at(SocketAddr::new(ports::loopback(), 0), handler).await
    }

    /// The same at a given address.
    pub async fn start_at<H, F>(address: SocketAddr, handler: H) -> anyhow::Result<Backend>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_in(address, Opening::default(), handler).await
    }

    /// The same on connections that begin so.
    async fn start_in<H, F>(address: SocketAddr, opening: Opening, handler: H) -> anyhow::Result<Backend>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let requests = Arc::new(AtomicU32::new(0));
        let counter = requests.clone();
        Self::accept(address, requests, move |stream| {
            let (handler, counter, opening) = (handler.clone(), counter.clone(), opening.clone());
            async move {
                let Some((stream, told)) = opened(stream, opening).await else { return };
                let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                    counter.fetch_add(1, Ordering::Relaxed);
                    if let Some(told) = &told {
                        request.extensions_mut().insert(told.clone());
                    }
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            }
        })
        .await
    }

    /// Every connection goes to `handler`.
    pub async fn start_raw<H, F>(handler: H) -> anyhow::Result<Backend>
    where
        H: Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_raw_at(SocketAddr::new(ports::loopback(), 0), handler).await
    }

    /// The same at a given address.
    pub async fn start_raw_at<H, F>(address: SocketAddr, handler: H) -> anyhow::Result<Backend>
    where
        H: Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::accept(address, Arc::default(), handler).await
    }

    async fn accept<H, F>(address: SocketAddr, requests: Arc<AtomicU32>, handler: H) -> anyhow::Result<Backend>
    where
        H: Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = bind(address).await.with_context(|| format!("listening on {address}"))?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicU32::new(0));
        let counter = connections.clone();
        let task = tokio::spawn(async move {
            // Its connections end with it.
            let mut running = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        let _ = stream.set_nodelay(true);
                        counter.fetch_add(1, Ordering::Relaxed);
                        running.spawn(handler(stream));
                    }
                    Some(_) = running.join_next() => {}
                }
            }
        });
        Ok(Backend { address, requests, connections, last: Arc::default(), task })
    }

    /// Ends it: its address is free afterwards.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub async fn echo(name: &str) -> anyhow::Result<Backend> {
        Self::with_settings(name, &BackendSettings::default()).await
    }

    /// As a case file describes it.
    pub async fn with_settings(name: &str, settings: &BackendSettings) -> anyhow::Result<Backend> {
        Self::with_settings_at(SocketAddr::new(ports::loopback(), 0), name, settings).await
    }

    pub async fn with_settings_at(
        address: SocketAddr,
        name: &str,
        settings: &BackendSettings,
    ) -> anyhow::Result<Backend> {
        if settings.kind == BackendKind::Deaf {
            return Self::deaf_at(address);
        }
        if settings.kind == BackendKind::Close {
            return Self::start_raw_at(address, |mut stream| async move {
                let mut some = [0; 4096];
                let _ = stream.read(&mut some).await;
            })
            .await;
        }
        if settings.kind == BackendKind::Mute {
            return Self::start_raw_at(address, |mut stream| async move {
                let mut some = [0; 4096];
                while stream.read(&mut some).await.is_ok_and(|count| count > 0) {}
            })
            .await;
        }
        let (name, settings) = (Arc::<str>::from(name), Arc::new(settings.clone()));
        let seen = Arc::new(AtomicU32::new(0));
        let last = Arc::new(Mutex::new(None));
        let keep = last.clone();
        let tls = settings.tls.as_ref();
        let tls = tls.map(|tls| certs::server_of(&tls.certificate, tls.clients.as_deref())).transpose()?;
        let opening = Opening { tls, proxy: settings.proxy_protocol };
        let mut backend = Self::start_in(address, opening, move |request| {
            let (name, settings, keep) = (name.clone(), settings.clone(), keep.clone());
            let index = seen.fetch_add(1, Ordering::Relaxed);
            async move {
                if request.headers().get("upgrade").is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
                    return tunnel(request, &name);
                }
                let keep = |saw: &Saw| drop(keep.lock().map(|mut last| *last = Some(saw.clone())));
                if settings.kind == BackendKind::Connect && request.method() == Method::CONNECT {
                    keep(&saw_head(&request, &name));
                    return connect(request, settings.status).await;
                }
                if settings.kind == BackendKind::Connect && request.method() == Method::POST {
                    keep(&saw_head(&request, &name));
                    return posted(request).await;
                }
                let saw = saw(request, &name).await;
                keep(&saw);
                answer(saw, &name, &settings, index).await
            }
        })
        .await?;
        backend.last = last;
        Ok(backend)
    }

    /// Its queue of connections is full, and stays so.
    fn deaf_at(address: SocketAddr) -> anyhow::Result<Backend> {
        let socket = || Socket::new(Domain::for_address(address), Type::STREAM, None);
        let listener = socket()?;
        listener.bind(&address.into())?;
        listener.listen(0)?;
        let address = listener.local_addr()?.as_socket().context("an address")?;
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let one = socket()?;
            one.set_nonblocking(true)?;
            // In progress, or for ever.
            let _ = one.connect(&address.into());
            waiting.push(one);
        }
        let task = tokio::spawn(async move {
            let _held = (listener, waiting);
            std::future::pending::<()>().await;
        });
        let count = Arc::<AtomicU32>::default;
        Ok(Backend { address, requests: count(), connections: count(), last: Arc::default(), task })
    }

    /// Sends the body of each request back as it comes, trailers included, and says how much came.
    pub async fn mirror() -> anyhow::Result<(Backend, Arc<AtomicU64>)> {
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        let backend = Self::start(move |request| {
            let counter = counter.clone();
            async move {
                let (sender, frames) = tokio::sync::mpsc::channel(1);
                let mut body = request.into_body();
                tokio::spawn(async move {
                    while let Some(Ok(frame)) = body.frame().await {
                        if let Some(data) = frame.data_ref() {
                            counter.fetch_add(data.len() as u64, Ordering::Relaxed);
                        }
                        if sender.send(frame).await.is_err() {
                            return;
                        }
                    }
                });
                Response::new(streamed(frames))
            }
        })
        .await?;
        Ok((backend, received))
    }

    /// Reads the body of each request to its end and answers with its length; a `GET /n` is answered with n MiB.
    pub async fn bulk() -> anyhow::Result<(Backend, Arc<AtomicU64>)> {
        let moved = Arc::new(AtomicU64::new(0));
        let counter = moved.clone();
        let backend = Self::start(move |request| {
            let counter = counter.clone();
            async move {
                let path = request.uri().path().trim_start_matches('/').to_owned();
                if let Ok(mebibytes) = path.parse::<u64>() {
                    return Response::new(streamed(zeros(mebibytes, counter)));
                }
                let mut body = request.into_body();
                let mut length = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    let data = frame.data_ref().map_or(0, Bytes::len) as u64;
                    counter.fetch_add(data, Ordering::Relaxed);
                    length += data;
                }
                Response::new(text(length.to_string(), &BTreeMap::new()))
            }
        })
        .await?;
        Ok((backend, moved))
    }

    /// Requests so far.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The last request that an echo saw.
    pub fn last(&self) -> Option<Saw> {
        self.last.lock().ok()?.clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A process that is being started holds copies of all sockets for a moment: one that was closed is not free before.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bound => return bound,
        }
    }
}

/// The connection; in TLS where the client begins so, as one does who does not let those between look into it.
async fn opened(mut stream: TcpStream, opening: Opening) -> Option<(BoxIo, Option<Told>)> {
    let told = if opening.proxy { Some(Told(proxy_header::read(&mut stream).await.ok()?)) } else { None };
    if let Some(config) = opening.tls {
        return Some((Box::new(TlsAcceptor::from(config).accept(stream).await.ok()?), told));
    }
    let mut first = [0];
    stream.peek(&mut first).await.ok()?;
    if first != [HANDSHAKE] {
        return Some((Box::new(stream), told));
    }
    let config = certs::server("backend.example").ok()?;
    Some((Box::new(TlsAcceptor::from(config).accept(stream).await.ok()?), told))
}

/// As an HTTP proxy: bytes go both ways, once it is there.
async fn connect(mut request: Request<Incoming>, status: u16) -> Response<Body> {
    let mut response = Response::new(text("", &BTreeMap::new()));
    let to = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    if status == 200 {
        match TcpStream::connect(to).await {
            Ok(mut there) => {
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    if let Ok(here) = upgraded.await {
                        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(here), &mut there).await;
                    }
                });
            }
            Err(_) => *response.status_mut() = StatusCode::BAD_GATEWAY,
        }
    }
    response
}

/// The same by POST: what the request's body says goes there, and what comes back is that of the answer.
async fn posted(request: Request<Incoming>) -> Response<Body> {
    let to = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let Ok(there) = TcpStream::connect(to).await else {
        let mut response = Response::new(text("", &BTreeMap::new()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        return response;
    };
    let (mut read, mut write) = there.into_split();
    let mut body = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && write.write_all(&data).await.is_err()
            {
                return;
            }
        }
    });
    let (sender, frames) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = read.read(&mut piece).await {
            if sender.send(Frame::data(Bytes::copy_from_slice(&piece[..count]))).await.is_err() {
                return;
            }
        }
    });
    Response::new(streamed(frames))
}

async fn answer(saw: Saw, name: &str, settings: &BackendSettings, index: u32) -> Response<Body> {
    if settings.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(settings.delay_ms)).await;
    }
    let failing = settings.fail_first.is_none_or(|first| index < first);
    let status = if failing { StatusCode::from_u16(settings.status).unwrap_or_default() } else { StatusCode::OK };
    let body = settings.body.clone().unwrap_or_else(|| serde_json::to_string(&saw).unwrap_or_default());
    let mut response = Response::new(text(body, &settings.trailers));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Ok(name) = HeaderValue::from_str(name) {
        headers.insert("x-backend", name);
    }
    for (name, value) in &settings.headers {
        if let Some((name, value)) = header(name, value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Agrees to an upgrade, and sends back every byte that comes then.
fn tunnel(mut request: Request<Incoming>, name: &str) -> Response<Body> {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgraded.await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    let mut response = Response::new(text("", &BTreeMap::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.extend(header("x-backend", name).map(|(name, value)| (Some(name), value)));
    response
}

/// A body of known length, or with trailers behind it.
pub fn text(body: impl Into<Bytes>, trailers: &BTreeMap<String, String>) -> Body {
    let body = body.into();
    if trailers.is_empty() {
        return Full::new(body).boxed();
    }
    let trailers: HeaderMap = trailers.iter().filter_map(|(name, value)| header(name, value)).collect();
    Full::new(body).with_trailers(async move { Some(Ok(trailers)) }).boxed()
}

/// A body that is sent frame by frame as they come.
pub fn streamed(frames: tokio::sync::mpsc::Receiver<Frame<Bytes>>) -> Body {
    Receiver(frames).boxed()
}

/// So many MiB; the counter grows as they are taken.
fn zeros(mebibytes: u64, counter: Arc<AtomicU64>) -> tokio::sync::mpsc::Receiver<Frame<Bytes>> {
    let (sender, frames) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let piece = Bytes::from(vec![0; 64 * 1024]);
        for _ in 0..mebibytes * 16 {
            if sender.send(Frame::data(piece.clone())).await.is_err() {
                return;
            }
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    frames
}

struct Receiver(tokio::sync::mpsc::Receiver<Frame<Bytes>>);

impl hyper::body::Body for Receiver {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}

fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(line).collect()
}

fn saw_head<B>(request: &Request<B>, name: &str) -> Saw {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str).or(host).unwrap_or_default();
    Saw {
        backend: name.to_owned(),
        method: request.method().to_string(),
        path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        authority: authority.to_owned(),
        protocol: format!("{:?}", request.version()),
        headers: lines(request.headers()),
        proxy: request.extensions().get::<Told>().map(|told| told.0.clone()),
        ..Saw::default()
    }
}

async fn saw(request: Request<Incoming>, name: &str) -> Saw {
    let mut saw = saw_head(&request, name);
    let body = request.into_body();
    // A body that breaks off is reported as far as it came.
    if let Ok(collected) = body.collect().await {
        saw.trailers = collected.trailers().map(lines).unwrap_or_default();
        let bytes = collected.to_bytes();
        saw.body_length = bytes.len() as u64;
        saw.body = String::from_utf8_lossy(bytes.get(..bytes.len().min(65_536)).unwrap_or_default()).into_owned();
    }
    saw
}
