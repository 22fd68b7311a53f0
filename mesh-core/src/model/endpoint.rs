//! Endpoints of a destination. They change often and by themselves: they never cause a compile.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Key, PriorityLabels, is_default};
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
    /// Where the destination's rule asks for more than the locality ([`Failover::criteria`](super::Failover::criteria)).
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority_labels: Option<Box<PriorityLabels>>,
}

impl Endpoint {
    /// What is known to run there. Without it, only the endpoint itself can tell.
    #[must_use]
    pub fn named_workload(&self) -> Option<&Arc<Workload>> {
        self.workload.as_ref().filter(|workload| !workload.name.is_empty())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EndpointAddress {
    Socket(SocketAddr),
    /// A name that the proxy resolves, and keeps resolving.
    Dns {
        host: Arc<str>,
        port: u16,
    },
    /// A socket of the workload's own machine: `/path`, or `@name` of an abstract one.
    Unix(Arc<str>),
}

impl EndpointAddress {
    /// What a Unix socket is told from others by where addresses of IP are looked at: one that nobody has (RFC 6666), another
    /// for each path.
    #[must_use]
    pub fn stand_in(path: &str) -> SocketAddr {
        // FNV-1a
        let hash = path
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let prefix = u128::from(0x0100_u16) << 112;
        SocketAddr::new(Ipv6Addr::from_bits(prefix | u128::from(hash)).into(), 0)
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointAddress::Socket(address) => address.fmt(f),
            EndpointAddress::Dns { host, port } => write!(f, "{host}:{port}"),
            EndpointAddress::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

/// Labels of Istio's metrics about the workload behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Empty when unknown.
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
