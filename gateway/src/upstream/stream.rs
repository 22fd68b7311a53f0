//! A connection to an upstream, in clear or in TLS. What is in clear costs nothing more than the socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::listen::BufferedTcp;
use crate::tls::peer_verify::Identity;

/// Writes under TLS are gathered until a flush.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

/// See [`Stream`].
pub struct Tls {
    io: TlsStream<BufferedTcp>,
    /// None: it is no workload of the mesh.
    peer: Option<Arc<Identity>>,
}

impl Stream {
    pub(super) fn tls(io: TlsStream<BufferedTcp>, peer: Option<Arc<Identity>>) -> Self {
        Stream::Tls(Box::new(Tls { io, peer }))
    }

    /// The socket under it.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(io) => io,
            Stream::Tls(tls) => tls.io.get_ref().0.get_ref(),
        }
    }

    /// Which workload of the mesh is at the other end, if it is one.
    pub fn peer(&self) -> Option<&Arc<Identity>> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.peer.as_ref(),
        }
    }
}

macro_rules! each {
    ($self:ident, $io:ident => $do:expr) => {
        match $self.get_mut() {
            Stream::Plain($io) => {
                let $io = Pin::new($io);
                $do
            }
            Stream::Tls(tls) => {
                let $io = Pin::new(&mut tls.io);
                $do
            }
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, bytes))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
}
