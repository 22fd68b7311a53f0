//! Destinations: a port of a service, or a subset of it, and how to speak to it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Key, is_default};
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
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    pub origin: ObjectRef,
    /// The DestinationRule that shaped it, if any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rule: Option<ObjectRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamProtocol {
    Http1,
    /// Prior knowledge (h2c).
    Http2,
    /// The same by `h2UpgradePolicy`, on a port of HTTP/1: what HTTP/2 cannot carry, a WebSocket, still goes in HTTP/1.1.
    Http2Upgraded,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balancing {
    /// Power of two choices.
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
}
