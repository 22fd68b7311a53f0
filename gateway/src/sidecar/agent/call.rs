//! One request to the application, from the address that the rules of the pod leave alone.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::model::{OWN_V4, OWN_V6};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::unverified;

/// A GET.
pub struct Call<'a> {
    pub to: SocketAddr,
    pub path: &'a str,
    pub headers: HeaderMap,
    /// Over TLS, whoever answers there. The name that it is asked by.
    pub tls: Option<ServerName<'static>>,
}

impl Call<'_> {
    /// Status and body, which may be this long.
    pub async fn get(mut self, limit: usize) -> io::Result<(StatusCode, Bytes)> {
        let stream = connect(self.to).await?;
        let Some(name) = self.tls.take() else { return self.exchange(stream, Version::HTTP_11, limit).await };
        let stream = unverified::connect(stream, name).await?;
        let version =
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Version::HTTP_2 } else { Version::HTTP_11 };
        self.exchange(stream, version, limit).await
    }

    async fn exchange<S>(self, stream: S, version: Version, limit: usize) -> io::Result<(StatusCode, Bytes)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let request = self.request(version)?;
        let stream = TokioIo::new(stream);
        let response = if version == Version::HTTP_2 {
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
            let (mut send, connection) = handshake.await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            send.send_request(request).await
        } else {
            let handshake = hyper::client::conn::http1::handshake(stream);
            let (mut send, connection) = handshake.await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            send.send_request(request).await
        };
        let (head, body) = response.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(io::Error::other)?;
        Ok((head.status, body.to_bytes()))
    }

    fn request(self, version: Version) -> io::Result<Request<Empty<Bytes>>> {
        let mut headers = self.headers;
        let host = match headers.remove(header::HOST) {
            Some(host) => host,
            None => http::HeaderValue::try_from(self.to.to_string()).map_err(io::Error::other)?,
        };
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let mut uri = format!("{slash}{}", self.path);
        if version == Version::HTTP_2 {
            uri = format!("https://{}{uri}", host.to_str().map_err(io::Error::other)?);
        } else {
            headers.insert(header::HOST, host);
        }
        let mut request = Request::get(uri).body(Empty::new()).map_err(io::Error::other)?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// To the loopback as it is; to the pod's own address from where the rules do not lead back to the sidecar.
pub async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    if to.ip().is_loopback() {
        return TcpStream::connect(to).await;
    }
    let (socket, own) = match to {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(OWN_V4)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::from(OWN_V6)),
    };
    socket.bind((own, 0).into())?;
    socket.connect(to).await
}
