//! `WorkloadEntry` (networking.istio.io): one workload outside of Kubernetes; also the endpoints of a ServiceEntry.

use std::collections::BTreeMap;

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::WORKLOAD_ENTRY))))]
pub struct WorkloadEntry {
    /// Place in `spec.endpoints` of a ServiceEntry; 0 for an object of its own.
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// IP, DNS name or `unix://` path; may be empty if `network` is set.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 256), extend("x-kubernetes-validations" = schema::rules(schema::UNIX_ADDRESS))))]
    pub address: String,
    /// Port of the workload by name of the service's port.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(transform = schema::ports_by_name))]
    pub ports: BTreeMap<String, u32>,
    /// Labels of the workload.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub labels: BTreeMap<String, String>,
    /// Network in which the address is reachable.
    #[cfg_attr(feature = "schema", schemars(length(max = 2048)))]
    pub network: Option<String>,
    /// `region/zone/subzone`
    #[cfg_attr(feature = "schema", schemars(length(max = 2048)))]
    pub locality: Option<String>,
    /// Absent or 0 is 1.
    pub weight: Option<u32>,
    /// Service account that the workload runs as.
    #[cfg_attr(feature = "schema", schemars(length(max = 253)))]
    pub service_account: Option<String>,
}
