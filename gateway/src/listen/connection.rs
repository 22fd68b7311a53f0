//! The stream that everything above the sockets sees of a client: clear text or TLS, in one type that Pingora takes as its
//! [`Stream`].

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use mesh_core::model::ClientDemand;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server;

use super::TlsInfo;
use super::buffered::BufferedTcp;
use super::replay::Replay;
use crate::peer_metadata::preamble::{NAME, PROTOCOL};
use crate::tls::names;
use crate::tls::peer_verify::Identity;

enum Transport {
    Plain(BufferedTcp),
    Server(Box<server::TlsStream<BufferedTcp>>),
}

/// An established connection. Writes are gathered until `poll_flush`; dropping it without `shutdown` loses what was not
/// flushed.
pub struct Connection {
    transport: Transport,
    /// Application bytes that were read already.
    replay: Replay,
    fd: RawFd,
    alpn: Option<ALPN>,
    /// Only the connection's end says where what was said on it ends.
    bytes: bool,
}

impl Connection {
    /// Clear text. Sets TCP_NODELAY: gathering is done here, not by the kernel.
    pub fn plain(io: TcpStream) -> Self {
        let _ = io.set_nodelay(true);
        Self::accepted(io)
    }

    /// Clear text from a socket of ours, which hands on its options.
    pub(super) fn accepted(io: TcpStream) -> Self {
        let io = BufferedTcp::new(io);
        Self {
            fd: io.as_raw_fd(),
            transport: Transport::Plain(io),
            replay: Replay::default(),
            alpn: None,
            bytes: false,
        }
    }

    /// A client's TLS connection that we terminate, after its handshake.
    pub fn tls_server(stream: server::TlsStream<BufferedTcp>) -> Self {
        let alpn = negotiated(stream.get_ref().1.alpn_protocol());
        let fd = stream.get_ref().0.as_raw_fd();
        Self { fd, transport: Transport::Server(Box::new(stream)), replay: Replay::default(), alpn, bytes: false }
    }

    /// The bytes will be read again, before everything else.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.replay.push_front(bytes);
    }

    /// It is not HTTP: TLS that is cut is no end.
    pub fn set_bytes(&mut self) {
        self.bytes = true;
    }

    /// What is spoken on it, where the handshake did not say so.
    pub fn set_alpn(&mut self, alpn: ALPN) {
        self.alpn = Some(alpn);
    }

    pub fn is_tls(&self) -> bool {
        !matches!(self.transport, Transport::Plain(_))
    }

    /// The TCP socket under it.
    pub fn tcp(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(io) => io.get_ref(),
            Transport::Server(stream) => stream.get_ref().0.get_ref(),
        }
    }

    /// As the type that Pingora and the engine take.
    pub fn into_stream(self) -> Stream {
        Box::new(self)
    }

    /// What the handshake agreed on, at a server that asked this of its client.
    pub(super) fn tls_info(&self, sni: Option<Arc<str>>, clients: Option<&Arc<ClientDemand>>) -> TlsInfo {
        let (version, cipher) = self.tls_parameters().unwrap_or(("-", "-"));
        let session = match &self.transport {
            Transport::Plain(_) => None,
            Transport::Server(stream) => Some(stream.get_ref().1),
        };
        let alpn = match self.alpn {
            Some(ALPN::H2) => Some("h2"),
            Some(ALPN::H1) => Some("http/1.1"),
            _ => match session.and_then(|session| session.alpn_protocol()) {
                Some(b"istio") => Some("istio"),
                Some(PROTOCOL) => Some(NAME),
                _ => None,
            },
        };
        let leaf = session.and_then(|session| session.peer_certificates()).and_then(<[_]>::first);
        let peer = leaf.and_then(|leaf| Identity::of(leaf).ok());
        let is_verified = clients.is_none_or(|demand| !demand.unverified);
        let peer = peer.map(|peer| Arc::new(if is_verified { peer } else { peer.unverified() }));
        TlsInfo { sni, alpn, version, cipher, peer, workload: None, clients: clients.cloned() }
    }

    /// Version and cipher suite.
    fn tls_parameters(&self) -> Option<(&'static str, &'static str)> {
        let (version, suite) = match &self.transport {
            Transport::Plain(_) => return None,
            Transport::Server(stream) => {
                (stream.get_ref().1.protocol_version(), stream.get_ref().1.negotiated_cipher_suite())
            }
        };
        Some((names::version(version), names::cipher(suite)))
    }
}

fn negotiated(protocol: Option<&[u8]>) -> Option<ALPN> {
    match protocol {
        Some(b"h2" | b"istio-h2") => Some(ALPN::H2),
        Some(b"http/1.1" | b"istio-http/1.1") => Some(ALPN::H1),
        _ => None,
    }
}

macro_rules! each {
    ($self:ident, $io:ident => $do:expr) => {
        match &mut $self.get_mut().transport {
            Transport::Plain(io) => {
                let $io = Pin::new(io);
                $do
            }
            Transport::Server(stream) => {
                let $io = Pin::new(&mut **stream);
                $do
            }
        }
    };
}

impl AsyncRead for Connection {
    #[inline]
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.replay.read(buffer) {
            return Poll::Ready(Ok(()));
        }
        let Transport::Server(stream) = &mut self.transport else {
            return each!(self, io => io.poll_read(cx, buffer));
        };
        match Pin::new(&mut **stream).poll_read(cx, buffer) {
            // Many clients close without close_notify. Requests say where they end, so nothing can be cut unseen.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof && !self.bytes => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Connection {
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

    /// Everything that waits, then close_notify if it is TLS, then FIN.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Connection {
    /// The socket: Pingora's pools compare its peer address.
    fn id(&self) -> i32 {
        self.fd
    }
}

impl Ssl for Connection {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        let (version, cipher) = self.tls_parameters()?;
        Some(Arc::new(SslDigest::new(cipher, version, None, None, Vec::new())))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.alpn.clone()
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Connection {
    /// Made on demand: its addresses cost a system call each when asked for.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::new(SocketDigest::from_raw_fd(self.fd)))
    }
}

impl Peek for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("fd", &self.fd).field("tls", &self.is_tls()).finish_non_exhaustive()
    }
}
