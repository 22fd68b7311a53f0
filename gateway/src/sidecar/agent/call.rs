//! One request to the application, from the address that the rules of the pod leave alone.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use mesh_core::model::{OWN_V4, OWN_V6};
use tokio::net::{TcpSocket, TcpStream};

/// A GET.
pub struct Call<'a> {
    pub to: SocketAddr,
    pub path: &'a str,
    pub headers: HeaderMap,
}

impl Call<'_> {
    /// Status and body, which may be this long.
    pub async fn get(self, limit: usize) -> io::Result<(StatusCode, Bytes)> {
        let stream = connect(self.to).await?;
        let (mut send, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let path = if self.path.starts_with('/') { self.path.to_owned() } else { format!("/{}", self.path) };
        let mut request = Request::get(path).body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        *request.headers_mut() = self.headers;
        if !request.headers().contains_key(header::HOST) {
            let host = http::HeaderValue::try_from(self.to.to_string()).map_err(io::Error::other)?;
            request.headers_mut().insert(header::HOST, host);
        }
        let response = send.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(io::Error::other)?;
        Ok((head.status, body.to_bytes()))
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
