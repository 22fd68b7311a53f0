//! Clients of the gateway that take nothing for granted: HTTP/1.1 byte by byte, HTTP/2 over the h2 crate, both in clear
//! text and over TLS.

pub mod frames;
mod h1;
pub mod h2;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_core::model::ListenAddress;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

pub use self::h2::H2;
pub use h1::H1;
pub use tls::{TlsDetails, TlsOptions, handshake};

/// Nothing that a test waits for takes longer.
pub const DEADLINE: Duration = Duration::from_secs(15);

pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub type BoxIo = Box<dyn Io>;
pub type Lines = Vec<(String, String)>;

/// An answer, read to its end.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in order, repeats included.
    pub headers: Lines,
    pub body: Vec<u8>,
    pub trailers: Lines,
    /// 1xx answers before it.
    pub informational: Vec<(u16, Lines)>,
    /// `h1` or `h2`.
    pub protocol: &'static str,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_lines(name).first().copied()
    }

    pub fn header_lines(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        values(&self.trailers, name).first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub fn values<'a>(lines: &'a Lines, name: &str) -> Vec<&'a str> {
    lines.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
}

/// A request, with its body in one piece.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With query.
    pub path: String,
    pub host: String,
    pub headers: Lines,
    pub body: Option<Vec<u8>>,
    pub trailers: Lines,
}

impl Request {
    pub fn get(host: &str, path: &str) -> Request {
        Request {
            method: "GET".to_owned(),
            path: path.to_owned(),
            host: host.to_owned(),
            headers: Lines::new(),
            body: None,
            trailers: Lines::new(),
        }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A connection: bytes, and what TLS says of them.
pub async fn connect(address: SocketAddr, tls: Option<&TlsOptions>) -> anyhow::Result<(BoxIo, Option<TlsDetails>)> {
    connect_behind("", &address.into(), tls).await
}

/// As a load balancer makes it, which says its own first.
async fn connect_behind(
    preamble: &str,
    address: &ListenAddress,
    tls: Option<&TlsOptions>,
) -> anyhow::Result<(BoxIo, Option<TlsDetails>)> {
    let connecting = async {
        let address = match address {
            ListenAddress::Socket(address) => address,
            ListenAddress::Unix(path) => {
                ensure!(tls.is_none() && preamble.is_empty(), "a Unix socket is called in clear text");
                let path = path.strip_prefix('@').map_or_else(|| path.to_string(), |name| format!("\0{name}"));
                let stream = UnixStream::connect(path).await.with_context(|| format!("connecting to {address}"))?;
                return Ok((Box::new(stream) as BoxIo, None));
            }
        };
        let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.write_all(preamble.as_bytes()).await?;
        match tls {
            None => Ok((Box::new(stream) as BoxIo, None)),
            Some(options) => {
                let (stream, details) = handshake(stream, options).await.context("TLS handshake")?;
                Ok((Box::new(stream) as BoxIo, Some(details)))
            }
        }
    };
    tokio::time::timeout(DEADLINE, connecting).await.context("no connection in time")?
}

/// A client connection that speaks either protocol.
pub enum Client {
    H1(H1),
    H2(H2),
}

impl Client {
    /// `h2`: prior knowledge in clear text; over TLS the protocol that ALPN chose wins.
    pub async fn connect(
        address: SocketAddr,
        tls: Option<&TlsOptions>,
        h2: bool,
    ) -> anyhow::Result<(Client, Option<TlsDetails>)> {
        Client::connect_behind("", &address.into(), tls, h2).await
    }

    /// As a load balancer makes the connection, which says `preamble` first.
    pub async fn connect_behind(
        preamble: &str,
        address: &ListenAddress,
        tls: Option<&TlsOptions>,
        h2: bool,
    ) -> anyhow::Result<(Client, Option<TlsDetails>)> {
        let (io, details) = connect_behind(preamble, address, tls).await?;
        let alpn = details.as_ref().and_then(|details| details.alpn.as_deref());
        let h2 = alpn.map_or(h2, |alpn| alpn == "h2");
        let client = match (h2, tls) {
            (false, _) => Client::H1(H1::new(io)),
            (true, None) => Client::H2(H2::handshake(io).await?),
            (true, Some(_)) => Client::H2(H2::handshake(io).await?.over_tls()),
        };
        Ok((client, details))
    }

    pub async fn send(&mut self, request: &Request) -> anyhow::Result<Response> {
        let sending = async {
            match self {
                Client::H1(client) => client.send(request).await,
                Client::H2(client) => client.send(request).await,
            }
        };
        tokio::time::timeout(DEADLINE, sending).await.context("no answer in time")?
    }
}

/// GET over a new connection.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Response> {
    Client::connect(address, None, false).await?.0.send(&Request::get(host, path)).await
}
