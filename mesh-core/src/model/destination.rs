//! Destinations: a port of a service, or a subset of it, and how to speak to it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Balancing, ConnectionRules, Key, Limits, OutlierDetection, is_default};
use crate::object::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// `outbound|9080|v1|reviews.default.svc.cluster.local`, as in Istio's logs and metrics.
    pub key: Key,
    /// `reviews.default.svc.cluster.local`
    pub host: Arc<str>,
    /// Short name and namespace of the service, for metrics.
    pub service_name: Arc<str>,
    pub service_namespace: Arc<str>,
    pub port: u16,
    #[serde(default, skip_serializing_if = "is_default")]
    pub subset: Option<Arc<str>>,
    pub protocol: UpstreamProtocol,
    #[serde(default, skip_serializing_if = "is_default")]
    pub balancing: Balancing,
    #[serde(default, skip_serializing_if = "is_default")]
    pub outlier: Option<OutlierDetection>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: UpstreamTls,
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    #[serde(default, skip_serializing_if = "is_default")]
    pub connections: ConnectionRules,
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    #[serde(default, skip_serializing_if = "is_default")]
    pub reach: Reach,
    pub origin: ObjectRef,
    /// The DestinationRule that shaped it, if any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rule: Option<ObjectRef>,
}

/// Where a connection to a destination goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reach {
    /// To an endpoint, by [`Balancing`].
    #[default]
    Discovered,
    /// To the endpoint at the address that the client was going to, whose name is that of a pod (a headless service); if it
    /// is none of the endpoints, or there was no such address, as `Discovered`.
    Addressed,
    /// Where the client was going. Its list of endpoints is empty.
    Original,
    /// To the workload itself, where the client was going, from the address 127.0.0.6 or ::6: the rules that redirect leave
    /// that alone. Its list of endpoints is empty.
    OwnWorkload,
    /// The same at another port than the client was going to.
    OwnPort(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamProtocol {
    Http1,
    /// Prior knowledge (h2c).
    Http2,
    /// The same by `h2UpgradePolicy`, on a port of HTTP/1: what HTTP/2 cannot carry, a WebSocket, still goes in HTTP/1.1.
    Http2Upgraded,
    /// What the client speaks: nobody says what is spoken there.
    AsClient,
}

/// Whether connections to the endpoints are the mesh's mutual TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamTls {
    /// To endpoints that speak it ([`Endpoint::mtls`](super::Endpoint::mtls)); in clear to the others.
    #[default]
    Auto,
    /// Never.
    Disable,
    /// Always (`ISTIO_MUTUAL`): an endpoint that does not speak it is not reached.
    Mutual,
}
