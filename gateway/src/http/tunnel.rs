//! What follows a 101: bytes both ways until both sides are done, or one breaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use mesh_core::lb::ActiveGuard;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use crate::upstream;

/// Bytes that one read takes.
const BUFFER: usize = 16 * 1024;

/// The upstream's side of a tunnel.
pub struct Tunnel {
    io: upstream::Stream,
    leftover: Bytes,
    /// Counts the connection as open for as long as it is.
    open: Box<dyn Send + Sync>,
    /// Counts as a request in flight at its endpoint.
    active: Option<ActiveGuard>,
}

/// How many bytes went through.
pub struct Moved {
    pub received: u64,
    pub sent: u64,
    /// What broke it, if it did not end by itself.
    pub error: Option<io::Error>,
}

impl Tunnel {
    /// `leftover`: what was read behind the head of the answer.
    pub fn new(io: upstream::Stream, leftover: impl Into<Bytes>, open: Box<dyn Send + Sync>) -> Self {
        Self { io, leftover: leftover.into(), open, active: None }
    }

    /// Keeps the endpoint's count up for as long as the tunnel is open.
    pub fn count(&mut self, active: ActiveGuard) {
        self.active = Some(active);
    }

    /// Runs until both directions are closed.
    pub async fn run(self, client: Stream, leftover: impl Into<Bytes>) -> Moved {
        let mut client = Replayed { io: client, first: leftover.into() };
        let Tunnel { io, leftover, open: _open, active: _active } = self;
        let mut upstream = Replayed { io, first: leftover };
        match copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await {
            Ok((received, sent)) => Moved { received, sent, error: None },
            Err(error) => Moved { received: 0, sent: 0, error: Some(error) },
        }
    }
}

/// A stream some of whose bytes were read already.
struct Replayed<S> {
    io: S,
    first: Bytes,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let take = self.first.len().min(buffer.remaining());
        buffer.put_slice(self.first.get(..take).unwrap_or_default());
        self.first.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
