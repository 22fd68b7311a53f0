//! `ServiceEntry` (networking.istio.io): a service that Kubernetes does not know.

use std::collections::BTreeMap;

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;
use super::{Protocol, WorkloadEntry, scope};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::SERVICE_ENTRY))))]
pub struct ServiceEntry {
    /// Names of the service.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required, length(min = 1, max = 256), transform = schema::not_wildcard))]
    pub hosts: Vec<String>,
    /// Virtual addresses of the service; CIDR for NONE and STATIC.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 256), inner(length(max = 64))))]
    pub addresses: Vec<String>,
    /// Ports of the service.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 256), extend("x-kubernetes-validations" = schema::rules(schema::UNIQUE_PORTS))))]
    pub ports: Vec<ServicePort>,
    /// Absent is `MESH_EXTERNAL`.
    pub location: Option<Location>,
    /// Absent is `NONE`.
    pub resolution: Option<Resolution>,
    /// Where the service is.
    #[serde(default, deserialize_with = "scope::list")]
    #[cfg_attr(feature = "schema", schemars(length(max = 4096)))]
    pub endpoints: Vec<WorkloadEntry>,
    /// Pods and WorkloadEntries that are the endpoints.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that see the service: `.`, `*` or names; empty: all.
    #[serde(default)]
    pub export_to: Vec<String>,
    /// Names of which the certificate of the service must have one.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Port number.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::PORT))))]
    pub number: u32,
    /// Name of the port.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub name: String,
    /// Absent: found out from the first bytes.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub protocol: Option<Protocol>,
    /// Port of the endpoints; absent: `number`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::PORT))))]
    pub target_port: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    #[default]
    MeshExternal,
    MeshInternal,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

/// `WorkloadSelector` of the networking API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that workloads must have.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub labels: BTreeMap<String, String>,
}
