//! What follows a 101: bytes both ways until both sides are done, or one breaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use mesh_core::lb::{ActiveGuard, Permit};
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
    /// Counts as a request in flight at its endpoint, and of its destination.
    active: Option<(ActiveGuard, Option<Permit>)>,
}

/// How many bytes came, also if it broke.
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

    /// Keeps these counts up for as long as the tunnel is open.
    pub fn count(&mut self, active: ActiveGuard, permit: Option<Permit>) {
        self.active = Some((active, permit));
    }

    /// Runs until both directions are closed.
    pub async fn run(self, client: Stream, leftover: impl Into<Bytes>) -> Moved {
        let mut client = Replayed { io: client, first: leftover.into(), read: 0 };
        let Tunnel { io, leftover, open: _open, active: _active } = self;
        let mut upstream = Replayed { io, first: leftover, read: 0 };
        let end = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
        Moved { received: client.read, sent: upstream.read, error: end.err() }
    }
}

/// A stream some of whose bytes were read already.
struct Replayed<S> {
    io: S,
    first: Bytes,
    /// Bytes that were read from it here.
    read: u64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
            self.read += (buffer.filled().len() - before) as u64;
            return Poll::Ready(Ok(()));
        }
        let take = self.first.len().min(buffer.remaining());
        buffer.put_slice(self.first.get(..take).unwrap_or_default());
        self.first.advance(take);
        self.read += take as u64;
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::listen::Connection;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn what_went_through_a_broken_tunnel_is_counted() {
        let ((mut client, near), (io, mut backend)) = (pair().await, pair().await);
        let tunnel = Tunnel::new(upstream::Stream::Plain(io), &b"hi"[..], Box::new(()));
        let stream = Connection::plain(near).into_stream();
        let run = tokio::spawn(tunnel.run(stream, &b"early"[..]));
        let mut buffer = [0; 5];
        backend.read_exact(&mut buffer).await.unwrap();
        client.read_exact(&mut buffer[..2]).await.unwrap();
        backend.write_all(b"abc").await.unwrap();
        client.read_exact(&mut buffer[..3]).await.unwrap();
        // Closing with unread bytes is a reset.
        client.write_all(b"late").await.unwrap();
        while backend.peek(&mut buffer).await.unwrap() < 4 {}
        socket2::SockRef::from(&backend).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(backend);
        let moved = run.await.unwrap();
        assert!(moved.error.is_some());
        assert_eq!((moved.received, moved.sent), (9, 5));
    }
}
