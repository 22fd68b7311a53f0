//! HTTP over TLS for the API server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::review::{Request as Asked, Review, answer};
use super::{Injector, Judge, Verdict};

/// Largest review: an object, the one before, and what surrounds them.
const LONGEST: usize = 8 << 20;
const HANDSHAKE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(10);
/// The API server keeps a handful of connections.
const CONNECTIONS: usize = 256;

/// Who answers for which path.
pub struct Webhooks {
    /// `/validate`
    pub judge: Judge,
    /// `/inject`
    pub injector: Injector,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, webhooks: Arc<Webhooks>) {
    let acceptor = TlsAcceptor::from(tls);
    let permits = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let (acceptor, webhooks) = (acceptor.clone(), webhooks.clone());
        tokio::spawn(async move {
            connection(stream, acceptor, webhooks).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, webhooks: Arc<Webhooks>) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return tracing::debug!("webhook: no handshake");
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let webhooks = webhooks.clone();
        async move { Ok::<_, Infallible>(reply(request, &webhooks).await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(IDLE * 3)).max_concurrent_streams(64);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "webhook");
    }
}

async fn reply(request: Request<Incoming>, webhooks: &Webhooks) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if !matches!(&*path, "/validate" | "/inject") {
        return plain(StatusCode::NOT_FOUND, "POST /validate or /inject\n");
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
    }
    let Ok(Ok(body)) = tokio::time::timeout(IDLE, Limited::new(request.into_body(), LONGEST).collect()).await else {
        return plain(StatusCode::BAD_REQUEST, "the body is too long, or does not come\n");
    };
    let review: Review = match serde_json::from_slice(&body.to_bytes()) {
        Ok(review) => review,
        Err(error) => return plain(StatusCode::BAD_REQUEST, format!("not an AdmissionReview: {error}\n")),
    };
    let answer = match &*path {
        "/inject" => webhooks.injector.review(&review.request).await,
        _ => judged(&webhooks.judge, review.request).await,
    };
    let mut response = Response::new(Full::from(answer.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

async fn judged(judge: &Judge, request: Asked) -> serde_json::Value {
    let begun = std::time::Instant::now();
    let verdict = if request.is_judged() {
        judge.judge(&request.kind.kind, &request.namespace, request.object).await
    } else {
        Verdict::default()
    };
    tracing::debug!(
        kind = request.kind.kind,
        namespace = request.namespace,
        denied = verdict.denied.len(),
        warnings = verdict.warnings.len(),
        took = ?begun.elapsed(),
        "reviewed"
    );
    answer(&request.uid, &verdict)
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
