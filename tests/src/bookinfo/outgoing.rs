//! Calls to another service. The base URL gives the Host header; the bytes may go somewhere else (`via`): through a
//! gateway, which then decides by its rules which version answers. Unused connections are kept.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const MAX_BODY: usize = 1024 * 1024;
const MAX_IDLE: usize = 64;

/// One service that is called.
pub struct Upstream {
    host: HeaderValue,
    /// `host:port` to connect to; several are taken in turn, as a Kubernetes Service would.
    addresses: Vec<String>,
    next: AtomicUsize,
    idle: Mutex<Vec<(usize, SendRequest<Empty<Bytes>>)>>,
}

impl Upstream {
    /// `urls` like `http://reviews:9080`. With `via`, every connection goes there and only the Host header names the
    /// service.
    pub fn new(urls: &[String], via: Option<&str>) -> anyhow::Result<Self> {
        let mut addresses = Vec::new();
        let mut host = None;
        for url in urls {
            let uri: Uri = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
            if uri.scheme_str() != Some("http") {
                bail!("`{url}` does not start with http://");
            }
            let authority = uri.authority().with_context(|| format!("`{url}` has no host"))?;
            addresses.push(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)));
            host.get_or_insert(HeaderValue::from_str(authority.as_str())?);
        }
        if let Some(via) = via {
            addresses = vec![via.to_owned()];
        }
        let host = host.context("no URL given")?;
        Ok(Self { host, addresses, next: AtomicUsize::new(0), idle: Mutex::default() })
    }

    /// GET, with a limit for the whole exchange.
    pub async fn get(&self, path: &str, headers: HeaderMap, limit: Duration) -> anyhow::Result<(StatusCode, Bytes)> {
        let call = async {
            // A kept connection may have been closed meanwhile; what then was not sent is sent on a new one.
            while let Some((index, mut sender)) = self.take_idle() {
                if let Ok(answer) = self.exchange(index, &mut sender, path, &headers).await {
                    self.keep(index, sender);
                    return Ok(answer);
                }
            }
            let index = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
            let address = self.addresses.get(index).context("no address")?;
            let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
            let _ = stream.set_nodelay(true);
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let answer = self.exchange(index, &mut sender, path, &headers).await?;
            self.keep(index, sender);
            Ok(answer)
        };
        tokio::time::timeout(limit, call).await.context("no answer in time")?
    }

    async fn exchange(
        &self,
        index: usize,
        sender: &mut SendRequest<Empty<Bytes>>,
        path: &str,
        headers: &HeaderMap,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        sender.ready().await?;
        let mut request = Request::get(path).body(Empty::new())?;
        *request.headers_mut() = headers.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        let response =
            sender.send_request(request).await.with_context(|| format!("asking {:?}", self.addresses.get(index)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok((status, body.to_bytes()))
    }

    fn take_idle(&self) -> Option<(usize, SendRequest<Empty<Bytes>>)> {
        let mut idle = self.idle.lock().ok()?;
        // With several addresses in turn a kept connection would pin one of them: take one of the address that is due.
        let due = self.next.load(Ordering::Relaxed) % self.addresses.len();
        let position = idle.iter().rposition(|(index, sender)| *index == due && !sender.is_closed())?;
        self.next.fetch_add(1, Ordering::Relaxed);
        Some(idle.swap_remove(position))
    }

    fn keep(&self, index: usize, sender: SendRequest<Empty<Bytes>>) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.retain(|(_, sender)| !sender.is_closed());
            if idle.len() < MAX_IDLE {
                idle.push((index, sender));
            }
        }
    }
}
