//! Shared HTTP/2 connections (prior knowledge). A connection is handed out while it is open and has room for a stream;
//! its driver is a task of the worker's runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::h2::client::{self, SendRequest};
use bytes::Bytes;
use tokio::time::timeout;

use super::dial::{self, ConnectError};
use super::host::Host;
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
}

/// One stream's place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Use>);

impl Place {
    fn take(usage: &Arc<Use>) -> Self {
        usage.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(usage))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in the pool. Closes when it is dropped and its last stream is over.
pub(super) struct Shared {
    /// Never sends itself, so that it never waits for a place: `poll_ready` then only tells whether the connection lives.
    send: SendRequest<Bytes>,
    usage: Arc<Use>,
    local: Option<SocketAddr>,
    peer: Option<Arc<Identity>>,
    /// A stream was handed out before.
    used: bool,
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

    /// A place, if there is one. The first one is always there, also where an upstream allows no stream at all: the
    /// request then waits for it within its own time.
    pub(super) fn handle(&mut self, now: Instant) -> Option<Handle> {
        if self.streams() >= self.send.current_max_send_streams().max(1) {
            return None;
        }
        self.last_use = now;
        let reused = std::mem::replace(&mut self.used, true);
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

/// Connects and says hello. The upstream's SETTINGS are not waited for (RFC 9113 section 3.4).
pub(super) async fn connect(host: &Host, limit: Duration, now: Instant) -> Result<Shared, ConnectError> {
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
    let (send, connection) = timeout(limit.saturating_sub(start.elapsed()), builder.handshake(stream))
        .await
        .map_err(|_| ConnectError::Timeout)?
        .map_err(|error| ConnectError::Other(error.to_string().into()))?;
    let usage = Arc::new(Use::default());
    let ended = Arc::clone(&usage);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%address, %error, "upstream HTTP/2 connection ended");
        }
        ended.closed.store(true, Ordering::Relaxed);
    });
    Ok(Shared { send, usage, local, peer, used: false, last_use: now })
}
