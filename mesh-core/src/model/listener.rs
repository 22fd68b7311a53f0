//! Listeners: an address, and what is served there.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{HostPattern, Inbound, Key, Outbound, TlsTermination, is_default};
use crate::object::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `0.0.0.0:8080`
    pub key: Key,
    pub address: ListenAddress,
    /// Port that the user wrote (`servers[].port.number`): `match.port` and FROM_REQUEST_PORT speak of it. It differs from
    /// the port of `address` where a Service maps it to a target port.
    pub port: u16,
    pub protocol: ListenerProtocol,
    pub path_normalization: PathNormalization,
    /// The first Gateway that asked for this listener; of a sidecar's, the settings of the mesh.
    pub origin: ObjectRef,
    /// Index in `spec.servers` of that Gateway.
    #[serde(default, skip_serializing_if = "is_default")]
    pub server: Option<u32>,
}

impl Listener {
    /// Whether connections come here because they were redirected.
    pub fn is_redirected(&self) -> bool {
        match &self.protocol {
            ListenerProtocol::Outbound(outbound) => !outbound.direct,
            ListenerProtocol::Inbound(inbound) => !inbound.direct,
            ListenerProtocol::Http { .. } | ListenerProtocol::Tls { .. } | ListenerProtocol::Tcp { .. } => false,
        }
    }
}

/// Where to listen, written `0.0.0.0:8080`, `unix:///run/x.sock` or `unix://@abstract`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ListenAddress {
    /// The unspecified IPv6 address means both families.
    Socket(SocketAddr),
    /// A Unix socket: the path of a file, or behind `@` a name of the network namespace.
    Unix(Arc<str>),
}

impl ListenAddress {
    /// None: it is a Unix socket.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Socket(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }

    /// 0 for a Unix socket, as in a Sidecar.
    pub fn port(&self) -> u16 {
        self.socket().map_or(0, |address| address.port())
    }

    /// Without a port.
    pub fn host(&self) -> String {
        self.socket().map_or_else(|| self.to_string(), |address| address.ip().to_string())
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        ListenAddress::Socket(address)
    }
}

impl PartialEq<SocketAddr> for ListenAddress {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.socket() == Some(*other)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Socket(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix://") {
            Some(path) => Ok(ListenAddress::Unix(path.into())),
            None => text.parse().map(ListenAddress::Socket),
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    /// Clear text HTTP/1.1 and, by its preface, HTTP/2.
    Http {
        /// Key of the [`RouteSet`](super::RouteSet).
        routes: Key,
    },
    /// TLS: the server is chosen by SNI (exact, longest suffix, `*`).
    Tls { servers: Vec<TlsServer> },
    /// Bytes, whatever they are.
    Tcp {
        /// Key of the [`RouteSet`](super::RouteSet).
        routes: Key,
    },
    /// Connections that leave the workload and were redirected here: what is done with one depends on where it was going.
    Outbound(Outbound),
    /// Connections to the workload that were redirected here.
    Inbound(Inbound),
}

/// One `servers[]` entry of a Gateway for TLS, or one of `ingress[]` of a Sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsServer {
    /// SNI names that it answers to. Where TLS is passed through, those of its routes count too, wherever they are the narrower.
    pub hosts: Vec<HostPattern>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub serves: Serves,
    /// Where TLS is passed through it means nothing.
    pub tls: TlsTermination,
    /// Key of the [`RouteSet`](super::RouteSet).
    pub routes: Key,
    pub origin: ObjectRef,
    /// Index in `spec.servers` of `origin`, or in `spec.ingress`.
    pub server_index: u32,
}

/// What a TLS server does with a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Serves {
    /// TLS ends here, and HTTP is inside.
    #[default]
    Http,
    /// TLS ends here, and bytes are inside.
    Bytes,
    /// TLS goes on as it came; the server name says where.
    Passthrough,
    /// The same, if the client offers a protocol of the mesh (ALPN `istio…`), so that only its mutual TLS gets through; other TLS is
    /// refused as if nobody had the name (`AUTO_PASSTHROUGH`).
    MeshPassthrough,
}

impl Serves {
    /// Whether TLS goes on as it came.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Serves::Passthrough | Serves::MeshPassthrough)
    }
}

impl TlsServer {
    /// Where the user wrote it.
    pub fn field(&self) -> String {
        let list = if &*self.origin.kind == "Sidecar" { "ingress" } else { "servers" };
        format!("spec.{list}[{}].tls", self.server_index)
    }
}

/// How a request's path is made canonical before anything looks at it (MeshConfig `pathNormalization.normalization`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathNormalization {
    None,
    /// RFC 3986 dot segments, unreserved characters decoded, `\` becomes `/`.
    #[default]
    Base,
    /// And `//` becomes `/`.
    MergeSlashes,
    /// And `%2f`, `%5c` are decoded first.
    DecodeAndMergeSlashes,
}
