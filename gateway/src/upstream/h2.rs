//! Shared HTTP/2 connections (prior knowledge). A connection is handed out while it is open and has room for a stream;
//! its driver is a task of the worker's runtime.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::h2::client::{self, SendRequest};
use bytes::Bytes;
use mesh_core::lb::Permit;
use mesh_core::model::{ConnectionRules, PingRule};
use tokio::time::timeout;

use super::Stream;
use super::dial::{self, ConnectError};
use super::host::{Freed, Host};
use super::ping::{self, Heard, Listening};
use crate::peer_metadata::Said;
use crate::tls::client::Inside;
use crate::tls::peer_verify::Identity;

/// What one response may have in flight towards us, and all of a connection: the flow control that slows an upstream
/// down when its client does not read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Request bytes of one stream that the connection buffers.
const SEND_BUFFER: usize = 256 << 10;
const MAX_HEADER_LIST: u32 = 128 << 10;
/// Streams at a time before the upstream's SETTINGS are known (RFC 9113 section 6.5.2 recommends no less than 100).
const INITIAL_STREAMS: usize = 100;

/// Counts the streams of a connection; the driver marks the end.
#[derive(Debug, Default)]
pub(super) struct Use {
    streams: AtomicUsize,
    closed: AtomicBool,
    /// Of the host.
    freed: Arc<Freed>,
    said: Arc<Said>,
}

/// One stream's place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Use>);

impl Place {
    fn take(usage: &Arc<Use>) -> Self {
        usage.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(usage))
    }

    pub(super) fn said(&self) -> &Arc<Said> {
        &self.0.said
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.wake();
    }
}

/// A connection in the pool. Closes when it is dropped and its last stream is over.
pub(super) struct Shared {
    /// Never sends itself, so that it never waits for a place: `poll_ready` then only tells whether the connection lives.
    send: SendRequest<Bytes>,
    usage: Arc<Use>,
    local: Option<SocketAddr>,
    peer: Option<Arc<Identity>>,
    /// So many streams were handed out.
    used: u32,
    born: Instant,
    last_use: Instant,
}

/// What an acquired stream needs.
pub(super) struct Handle {
    pub send: SendRequest<Bytes>,
    pub place: Place,
    pub local: Option<SocketAddr>,
    pub peer: Option<Arc<Identity>>,
    pub reused: bool,
}

impl Shared {
    pub(super) fn streams(&self) -> usize {
        self.usage.streams.load(Ordering::Relaxed)
    }

    /// Neither closed nor told to go away.
    pub(super) fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.usage.closed.load(Ordering::Relaxed) && !matches!(self.send.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Whether another stream may begin on it; those that have begun go on.
    pub(super) fn goes_on(&self, rules: &ConnectionRules, now: Instant) -> bool {
        rules.requests.is_none_or(|most| self.used < most)
            && rules.lifetime.is_none_or(|lifetime| now.saturating_duration_since(self.born) < lifetime)
    }

    /// A place, if there is one. The first one is always there, also where an upstream allows no stream at all: the
    /// request then waits for it within its own time.
    pub(super) fn handle(&mut self, rules: &ConnectionRules, now: Instant) -> Option<Handle> {
        let own = rules.streams.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        if self.streams() >= self.send.current_max_send_streams().min(own).max(1) {
            return None;
        }
        self.last_use = now;
        let reused = self.used > 0;
        self.used = self.used.saturating_add(1);
        let (send, peer) = (self.send.clone(), self.peer.clone());
        Some(Handle { send, place: Place::take(&self.usage), local: self.local, peer, reused })
    }

    /// No stream for that long.
    pub(super) fn is_idle(&mut self, now: Instant, idle_timeout: Duration) -> bool {
        if self.streams() > 0 {
            self.last_use = now;
            return false;
        }
        now.saturating_duration_since(self.last_use) >= idle_timeout
    }
}

/// Connects and says hello. The upstream's SETTINGS are not waited for (RFC 9113 section 3.4). `permit`: the connection's place
/// among those that the destination may have.
pub(super) async fn connect(
    host: &Host,
    limit: Duration,
    now: Instant,
    permit: Option<Permit>,
) -> Result<Shared, ConnectError> {
    let (start, address) = (Instant::now(), host.key.address);
    let stream = dial::connect(host, Inside::Http2, limit).await?;
    let (local, peer) = (stream.tcp().local_addr().ok(), stream.peer().cloned());
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_max_send_streams(INITIAL_STREAMS)
        .enable_push(false);
    let hello = shake_hands(&builder, stream, host.rules.ping, address);
    let (send, driver) = timeout(limit.saturating_sub(start.elapsed()), hello)
        .await
        .map_err(|_| ConnectError::Timeout)?
        .map_err(|error| ConnectError::Other(error.to_string().into()))?;
    let usage = Arc::new(Use { freed: Arc::clone(&host.freed), said: Arc::clone(&host.said), ..Use::default() });
    let ended = Arc::clone(&usage);
    tokio::spawn(async move {
        driver.await;
        ended.closed.store(true, Ordering::Relaxed);
        drop(permit);
        ended.freed.wake();
    });
    Ok(Shared { send, usage, local, peer, used: 0, born: now, last_use: now })
}

/// Runs until the connection has ended.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn shake_hands(
    builder: &client::Builder,
    stream: Stream,
    rule: Option<PingRule>,
    address: SocketAddr,
) -> Result<(SendRequest<Bytes>, Driver), ::h2::Error> {
    let log = move |ended: Result<(), ::h2::Error>| {
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "upstream HTTP/2 connection ended");
        }
    };
    let Some(rule) = rule else {
        let (send, connection) = builder.handshake(stream).await?;
        return Ok((send, Box::pin(async move { log(connection.await) })));
    };
    let heard = Heard::default();
    let (send, mut connection) = builder.handshake(Listening::new(stream, heard.clone())).await?;
    // There is one; nobody has taken it.
    let pings = connection.ping_pong();
    let driver = async move {
        let silent = async {
            match pings {
                Some(pings) => ping::until_silent(pings, rule, heard).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut connection => log(ended),
            // The connection is dropped: streams on it break off.
            () = silent => tracing::debug!(%address, "upstream HTTP/2 connection does not answer a PING"),
        }
    };
    Ok((send, Box::pin(driver)))
}
