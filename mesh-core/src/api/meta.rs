//! `metadata` of an object.

use std::collections::BTreeMap;

/// Annotation of Services and ServiceEntries that says which endpoints are preferred; of a namespace, for all in it.
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// Annotation of Gateways: `true` has certificates ordered (ACME) for servers whose credential does not exist.
pub const ACME: &str = "meshgate.io/acme";

/// Name, namespace and what else of `metadata` has a meaning here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    /// Those of Istio, and ours.
    pub annotations: BTreeMap<String, String>,
    /// As written: RFC 3339 in UTC sorts as text. Absent in most files.
    pub creation_timestamp: Option<String>,
}
