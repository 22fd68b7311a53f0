//! Listeners: an address, and what is served there.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{HostPattern, Inbound, Key, Outbound, TlsTermination, is_default};
use crate::object::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `0.0.0.0:8080`
    pub key: Key,
    /// Where to listen. The unspecified IPv6 address means both families.
    pub address: SocketAddr,
    /// Port that the user wrote (`servers[].port.number`): `match.port` and FROM_REQUEST_PORT speak of it. It differs from
    /// the port of `address` where a Service maps it to a target port.
    pub port: u16,
    pub protocol: ListenerProtocol,
    pub path_normalization: PathNormalization,
    /// The first Gateway that asked for this listener; of a sidecar's, the settings of the mesh.
    pub origin: ObjectRef,
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
