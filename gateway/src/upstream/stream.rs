//! A connection to an upstream, in clear or in TLS. What is in clear costs nothing more than the socket. What a proxy of the mesh
//! says of itself before its first bytes is taken out of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mesh_core::model::Workload;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::posted::Posted;
use crate::listen::{BufferedTcp, Replay};
use crate::peer_metadata::preamble::{PROTOCOL, Preamble};
use crate::tls::peer_verify::Identity;

/// Writes under TLS are gathered until a flush.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
    /// What is behind a proxy.
    Posted(Box<Posted>),
}

/// See [`Stream`].
pub struct Tls {
    io: TlsStream<BufferedTcp>,
    /// None: it is no workload of the mesh.
    peer: Option<Arc<Identity>>,
    /// What comes before the first bytes, or came with them.
    greeting: Option<Box<Greeting>>,
    /// Where the peer runs, as it said.
    workload: Option<Arc<Workload>>,
}

enum Greeting {
    Awaited(Preamble),
    /// Bytes that came behind it.
    Rest(Replay),
}

impl Tls {
    fn poll_greeted(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.greeting.as_deref_mut() {
                None => return Pin::new(&mut self.io).poll_read(cx, buffer),
                Some(Greeting::Rest(rest)) => {
                    if rest.read(buffer) {
                        return Poll::Ready(Ok(()));
                    }
                    self.greeting = None;
                }
                Some(Greeting::Awaited(preamble)) => {
                    let mut landing = [0; 2048];
                    let mut landed = ReadBuf::new(&mut landing);
                    ready!(Pin::new(&mut self.io).poll_read(cx, &mut landed))?;
                    if landed.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let heard = preamble.add(landed.filled(), self.peer.as_deref());
                    let heard = heard.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    if let Some(heard) = heard {
                        self.workload = heard.workload;
                        let mut rest = Replay::default();
                        rest.push_front(&heard.rest);
                        self.greeting = Some(Box::new(Greeting::Rest(rest)));
                    }
                }
            }
        }
    }
}

impl Stream {
    pub(super) fn tls(io: TlsStream<BufferedTcp>, peer: Option<Arc<Identity>>) -> Self {
        Stream::Tls(Box::new(Tls { io, peer, greeting: None, workload: None }))
    }

    /// The socket under it.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(io) => io,
            Stream::Tls(tls) => tls.io.get_ref().0.get_ref(),
            Stream::Posted(posted) => posted.stream().tcp(),
        }
    }

    /// Whether both sides say who they are before anything else.
    pub fn exchanges_metadata(&self) -> bool {
        matches!(self, Stream::Tls(tls) if tls.io.get_ref().1.alpn_protocol() == Some(PROTOCOL))
    }

    /// Says who we are; what the peer says of itself is no part of what is read from now on.
    pub async fn tell(&mut self, preamble: &[u8]) -> io::Result<()> {
        if let Stream::Tls(tls) = self {
            tls.greeting = Some(Box::new(Greeting::Awaited(Preamble::default())));
        }
        self.write_all(preamble).await?;
        self.flush().await
    }

    /// The peer has yet to say who it is.
    pub fn awaits_metadata(&self) -> bool {
        matches!(self, Stream::Tls(tls) if matches!(tls.greeting.as_deref(), Some(Greeting::Awaited(_))))
    }

    /// Where the peer runs, as it said.
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        match self {
            Stream::Plain(_) | Stream::Posted(_) => None,
            Stream::Tls(tls) => tls.workload.as_ref(),
        }
    }

    /// Which workload of the mesh is at the other end, if it is one.
    pub fn peer(&self) -> Option<&Arc<Identity>> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.peer.as_ref(),
            Stream::Posted(posted) => posted.stream().peer(),
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
            Stream::Posted(posted) => {
                let $io = Pin::new(&mut **posted);
                $do
            }
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Stream::Tls(tls) if tls.greeting.is_some() => tls.poll_greeted(cx, buffer),
            Stream::Tls(tls) => Pin::new(&mut tls.io).poll_read(cx, buffer),
            Stream::Posted(posted) => Pin::new(&mut **posted).poll_read(cx, buffer),
        }
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
