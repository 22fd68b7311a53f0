//! Endpoints of a destination. They change often and by themselves: they never cause a compile.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Key, is_default};
use crate::object::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Key of the destination.
    pub key: Key,
    /// Only those that may get requests.
    pub endpoints: Vec<Endpoint>,
    pub origin: ObjectRef,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// Relative, above zero.
    pub weight: u32,
    /// `region/zone/subzone`, empty when unknown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub locality: Arc<str>,
    /// Who runs there, for metrics.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workload: Option<Arc<Workload>>,
    /// Speaks the mesh's mutual TLS (label `security.istio.io/tlsMode: istio`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub mtls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EndpointAddress {
    Socket(SocketAddr),
    /// A name that the proxy resolves, and keeps resolving.
    Dns {
        host: Arc<str>,
        port: u16,
    },
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointAddress::Socket(address) => address.fmt(f),
            EndpointAddress::Dns { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Labels of Istio's metrics about the workload behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    /// Label `app`.
    pub app: Arc<str>,
    /// Label `version`.
    pub version: Arc<str>,
    /// `service.istio.io/canonical-name`, else `app.kubernetes.io/name`, else `app`, else the workload's name.
    pub canonical_service: Arc<str>,
    pub canonical_revision: Arc<str>,
    /// `spiffe://…`, empty when unknown.
    pub principal: Arc<str>,
    pub cluster: Arc<str>,
}
