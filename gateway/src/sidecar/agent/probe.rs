//! What the kubelet wants to know of the application.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use rustls::pki_types::ServerName;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::net::lookup_host;

use super::call::{Call, connect};

/// Kubernetes' default.
const TIMEOUT_SECONDS: u64 = 1;
/// Of an answer that nobody reads.
const MOST: usize = 64 << 10;

/// One probe, as it was before it was led here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prober {
    http_get: Option<HttpGet>,
    tcp_socket: Option<Port>,
    grpc: Option<Grpc>,
    timeout_seconds: Option<u64>,
    #[serde(skip)]
    limit: Limit,
}

/// How long the application may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// As the probe says, else as Kubernetes does.
    #[default]
    OfProbe,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    #[serde(deserialize_with = "port")]
    port: u16,
    #[serde(default)]
    scheme: String,
    host: Option<String>,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Debug, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
struct Port {
    #[serde(deserialize_with = "port")]
    port: u16,
    host: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: String,
}

/// Injection writes numbers; a name is one that no port of the container has.
fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let port = Value::deserialize(deserializer)?;
    let number = port.as_u64().and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| {
        D::Error::custom(format!("its port {port} is neither a number nor that of a port of the container"))
    })
}

impl Prober {
    /// What is wrong with it otherwise.
    pub fn read(probe: Value, limit: Limit) -> Result<Prober, String> {
        let prober = serde_json::from_value(probe);
        prober.map(|prober| Prober { limit, ..prober }).map_err(|error| format!("the probe cannot be asked: {error}"))
    }

    fn limit(&self) -> Duration {
        match self.limit {
            Limit::OfProbe => {
                Duration::from_secs(self.timeout_seconds.filter(|seconds| *seconds > 0).unwrap_or(TIMEOUT_SECONDS))
            }
            Limit::None => Duration::MAX,
        }
    }

    /// 200 to 399: all is well. Otherwise why not, if that was not the application's word.
    pub async fn ask(&self, pod: IpAddr, headers: &HeaderMap) -> (StatusCode, String) {
        let limit = self.limit();
        match tokio::time::timeout(limit, self.answer(pod, headers)).await {
            Ok(Ok(status)) => (status, String::new()),
            Ok(Err(error)) => {
                let (path, port) = self.target();
                tracing::debug!(%error, path, port, "the application does not answer");
                (StatusCode::INTERNAL_SERVER_ERROR, format!("the application does not answer: {error}"))
            }
            Err(_) => (StatusCode::GATEWAY_TIMEOUT, format!("the application does not answer within {limit:?}")),
        }
    }

    /// For the log, which is no place for headers: they may say who may ask.
    fn target(&self) -> (&str, Option<u16>) {
        let path = self.http_get.as_ref().map_or("", |get| &get.path);
        let ports = [
            self.http_get.as_ref().map(|get| get.port),
            self.tcp_socket.as_ref().map(|socket| socket.port),
            self.grpc.as_ref().map(|grpc| grpc.port),
        ];
        (path, ports.into_iter().flatten().next())
    }

    async fn answer(&self, pod: IpAddr, headers: &HeaderMap) -> io::Result<StatusCode> {
        if let Some(get) = &self.http_get {
            let to = address(get.host.as_deref(), get.port, pod).await?;
            let path = if get.path.is_empty() { "/" } else { &get.path };
            let tls = get.scheme.eq_ignore_ascii_case("https").then(|| get.server_name(to));
            let call = Call { to, path, headers: get.headers(headers), tls };
            return Ok(call.get(MOST).await?.0);
        }
        if let Some(socket) = &self.tcp_socket {
            let to = address(socket.host.as_deref(), socket.port, pod).await?;
            return connect(to).await.map(|_| StatusCode::OK);
        }
        match &self.grpc {
            Some(grpc) => grpc.check((pod, grpc.port).into()).await,
            None => Ok(StatusCode::NOT_FOUND),
        }
    }
}

/// The host may be a name. Of its addresses the application listens on those of the pod's family, if on any.
async fn address(host: Option<&str>, port: u16, pod: IpAddr) -> io::Result<SocketAddr> {
    let Some(host) = host.filter(|host| !host.is_empty()) else { return Ok((pod, port).into()) };
    let wrong = |why: &dyn std::fmt::Display| io::Error::other(format!("host `{host}` of the probe: {why}"));
    let found: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(|error| wrong(&error))?.collect();
    let like_pod = found.iter().find(|address| address.is_ipv4() == pod.is_ipv4());
    like_pod.or(found.first()).copied().ok_or_else(|| wrong(&"it has no address"))
}

impl HttpGet {
    /// An address is no name, and is not said.
    fn server_name(&self, to: SocketAddr) -> ServerName<'static> {
        let name = self.host.as_ref().and_then(|host| ServerName::try_from(host.clone()).ok());
        name.unwrap_or_else(|| ServerName::from(to.ip()))
    }

    /// The kubelet's own, and those that the probe says.
    fn headers(&self, asked: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in [header::USER_AGENT, header::ACCEPT] {
            if let Some(value) = asked.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        // The application is asked by the name that the kubelet would use.
        let name = self.host.as_ref().filter(|host| !host.is_empty() && host.parse::<IpAddr>().is_err());
        if let Some(Ok(host)) = name.map(|name| HeaderValue::try_from(format!("{name}:{}", self.port))) {
            headers.insert(header::HOST, host);
        }
        for Header { name, value } in &self.http_headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

impl Grpc {
    /// `grpc.health.v1.Health/Check`: SERVING is well.
    async fn check(&self, to: SocketAddr) -> io::Result<StatusCode> {
        let stream = connect(to).await?;
        let (send, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let mut send = send.ready().await.map_err(io::Error::other)?;
        let request = Request::post(format!("http://{to}/grpc.health.v1.Health/Check"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())
            .map_err(io::Error::other)?;
        let (response, mut body) = send.send_request(request, false).map_err(io::Error::other)?;
        body.send_data(self.message(), true).map_err(io::Error::other)?;
        let mut answer = response.await.map_err(io::Error::other)?.into_body();
        let mut message = BytesMut::new();
        while let Some(piece) = answer.data().await {
            let piece = piece.map_err(io::Error::other)?;
            let _ = answer.flow_control().release_capacity(piece.len());
            message.put(piece);
        }
        // `status`, the first field, is SERVING, the first of its values.
        let is_serving = message.get(5..) == Some(&[0x08, 0x01]);
        Ok(if is_serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
    }

    /// One message with the service's name as its first field.
    fn message(&self) -> Bytes {
        let name = self.service.as_bytes();
        let mut field = BytesMut::new();
        if !name.is_empty() {
            field.put_u8(0x0a);
            let mut length = name.len();
            while length >= 0x80 {
                field.put_u8(0x80 | u8::try_from(length & 0x7f).unwrap_or(0));
                length >>= 7;
            }
            field.put_u8(u8::try_from(length).unwrap_or(0));
            field.put(name);
        }
        let mut message = BytesMut::new();
        message.put_u8(0);
        message.put_u32(u32::try_from(field.len()).unwrap_or(0));
        message.put(field);
        message.freeze()
    }
}
