//! Listens and turns bytes into calls: HTTP/1.1 with keep-alive and HTTP/2 with prior knowledge on one port. It knows no
//! service.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// Nobody sends a bookstore more than this.
const MAX_BODY: usize = 64 * 1024;

/// A request, read to its end.
pub struct Call {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// What a service answers.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into() }
    }

    pub fn html(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "text/html; charset=utf-8", body)
    }

    pub fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub fn redirect(location: &'static str) -> Self {
        let mut answer = Self::new(StatusCode::FOUND, "text/plain", "");
        answer.headers.insert(http::header::LOCATION, HeaderValue::from_static(location));
        answer
    }

    pub fn not_found() -> Self {
        Self::json(StatusCode::NOT_FOUND, &serde_json::json!({ "error": "not found" }))
    }

    pub fn method_not_allowed() -> Self {
        Self::json(StatusCode::METHOD_NOT_ALLOWED, &serde_json::json!({ "error": "method not allowed" }))
    }

    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// Serves until it is to close, and then until the last answer is given. Errors of one connection end that connection only.
pub async fn serve<H, F>(listener: TcpListener, handler: H, mut close: watch::Receiver<bool>)
where
    H: Fn(Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let builder = Arc::new(auto::Builder::new(TokioExecutor::new()));
    let (open, mut ended) = mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut close) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors, most likely: let some connections end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (builder, handler, mut close, open) = (builder.clone(), handler.clone(), close.clone(), open.clone());
        tokio::spawn(async move {
            let _open = open;
            let service = hyper::service::service_fn(move |request| respond(request, handler.clone()));
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = told(&mut close) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    drop(open);
    // Nobody sends anything: it yields when the last connection is gone.
    let _ = ended.recv().await;
}

/// Where nobody is left to tell, it never is.
async fn told(close: &mut watch::Receiver<bool>) {
    if close.wait_for(|close| *close).await.is_err() {
        std::future::pending().await
    }
}

async fn respond<H, F>(request: Request<Incoming>, handler: H) -> Result<Response<Full<Bytes>>, Infallible>
where
    H: Fn(Call) -> F,
    F: Future<Output = Answer>,
{
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => {
            let call = Call { method: head.method, uri: head.uri, headers: head.headers, body: body.to_bytes() };
            handler(call).await
        }
        Err(_) => Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "the body is too large\n"),
    };
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::sync::Notify;

    use super::*;
    use crate::client;

    #[tokio::test]
    async fn the_last_answer_is_given_before_it_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (asked, go) = (asked.clone(), go.clone());
            move |_| {
                let (asked, go) = (asked.clone(), go.clone());
                async move {
                    asked.notify_one();
                    go.notified().await;
                    Answer::new(StatusCode::OK, "text/plain", "late")
                }
            }
        };
        let close = watch::Sender::new(false);
        let server = tokio::spawn(serve(listener, handler, close.subscribe()));
        let request = tokio::spawn(async move { client::get(address, "app", "/").await });
        // One that nobody uses must not hold it up.
        let _idle = tokio::net::TcpStream::connect(address).await.unwrap();
        asked.notified().await;
        close.send_replace(true);
        go.notify_one();
        assert_eq!(request.await.unwrap().unwrap().text(), "late");
        tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
