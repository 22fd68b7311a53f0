//! One new connection to an upstream, within a time limit: TCP, and TLS on it, the mesh's or that of a server outside.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::lb::Overflow;
use mesh_core::model::Keepalive;
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::Stream;
use super::connect::through;
use super::host::{Host, SocketKind, Tls};
use crate::tls::client::{Inside, TlsError};

/// A dead peer (no FIN, no RST) is noticed after about two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Why there is no connection. The request was not sent, so any of them may be retried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("connection refused")]
    Refused,
    #[error("connection timeout")]
    Timeout,
    /// The destination may have no more connections, and no more requests that wait for one.
    #[error("overflow")]
    Overflow,
    /// There is no TLS with the endpoint: nothing was sent to it in clear.
    #[error("TLS error: {0}")]
    Tls(TlsError),
    /// Reason in words, for example `No route to host`.
    #[error("{0}")]
    Other(Arc<str>),
}

impl ConnectError {
    /// As Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: `delayed_connect_error:_Connection_refused`. None for a timeout.
    #[must_use]
    pub fn transport_failure(&self) -> Option<Cow<'static, str>> {
        match self {
            ConnectError::Refused => Some(Cow::Borrowed("delayed_connect_error:_Connection_refused")),
            ConnectError::Timeout | ConnectError::Overflow => None,
            ConnectError::Tls(error) => {
                Some(Cow::Owned(format!("TLS_error:|{}:TLS_error_end", error.to_string().replace(' ', "_"))))
            }
            ConnectError::Other(reason) => {
                Some(Cow::Owned(format!("delayed_connect_error:_{}", reason.replace(' ', "_"))))
            }
        }
    }
}

impl From<Overflow> for ConnectError {
    fn from(_: Overflow) -> Self {
        ConnectError::Overflow
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused,
            io::ErrorKind::TimedOut => ConnectError::Timeout,
            _ => {
                let text = error.to_string();
                // "No route to host (os error 113)"
                let words = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
                ConnectError::Other(words.into())
            }
        }
    }
}

/// Connects. The kernel's own timeout would be two minutes; `limit` is the destination's, for TLS too.
pub(super) async fn connect(to: &Host, inside: Inside, limit: Duration) -> Result<Stream, ConnectError> {
    let connecting = async {
        let mut stream = match &to.socket {
            SocketKind::Unix(path) => open_unix(path)?,
            SocketKind::Tcp => tuned(to, TcpStream::connect(to.key.address).await?)?,
            SocketKind::TcpFrom(from) => tuned(to, open(to.key.address, *from).await?)?,
        };
        if let Some(says) = &to.says {
            stream.write_all(&says.header).await?;
        }
        match &to.tls {
            None => Ok(Stream::Plain(stream)),
            Some(Tls::Mesh(mesh)) => {
                let (stream, peer) = mesh.connect(stream, inside).await.map_err(ConnectError::Tls)?;
                Ok(Stream::tls(stream, Some(peer)))
            }
            Some(Tls::Origin(client, name)) => {
                let stream = client.connect(stream, inside, name).await.map_err(ConnectError::Tls)?;
                Ok(Stream::tls(stream, None))
            }
        }
    };
    timeout(limit, connecting).await.map_err(|_| ConnectError::Timeout)?
}

/// The same for bytes: where the endpoint is a proxy, to what is behind it.
pub(super) async fn connect_for_bytes(to: &Host, limit: Duration) -> Result<Stream, ConnectError> {
    let Some(tunnel) = &to.rules.tunnel else { return connect(to, Inside::Tcp, limit).await };
    // The proxy itself is spoken to in HTTP/1.1.
    let connecting = async { through(connect(to, Inside::Http1, limit).await?, tunnel).await };
    timeout(limit, connecting).await.map_err(|_| ConnectError::Timeout)?
}

/// The kernel counts in seconds, from one to 32767; more than 127 probes it does not take.
fn probes(rules: Keepalive) -> TcpKeepalive {
    let seconds = |given: Option<Duration>, usual: Duration| {
        Duration::from_secs(given.unwrap_or(usual).as_secs().clamp(1, 32_767))
    };
    TcpKeepalive::new()
        .with_time(seconds(rules.time, KEEPALIVE_IDLE))
        .with_interval(seconds(rules.interval, KEEPALIVE_INTERVAL))
        .with_retries(rules.probes.unwrap_or(KEEPALIVE_PROBES).clamp(1, 127))
}

async fn open(address: SocketAddr, from: IpAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.bind((from, 0).into())?;
    socket.connect(address).await
}

fn tuned(to: &Host, stream: TcpStream) -> io::Result<TcpStream> {
    // Requests are written in one piece; waiting for more would only delay the last segment.
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&probes(to.rules.keepalive))?;
    Ok(stream)
}

/// A stream of bytes is one like another to the runtime. There is no waiting: who listens takes the connection, or has no room.
fn open_unix(path: &str) -> io::Result<TcpStream> {
    let address = match path.strip_prefix('@') {
        Some(name) => SockAddr::unix(format!("\0{name}"))?,
        None => SockAddr::unix(path)?,
    };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&address)?;
    TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(socket)))
}
