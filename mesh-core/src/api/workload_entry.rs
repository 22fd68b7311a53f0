//! `WorkloadEntry` (networking.istio.io): one workload outside of Kubernetes; also the endpoints of a ServiceEntry.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEntry {
    /// Place in `spec.endpoints` of a ServiceEntry; 0 for an object of its own.
    #[serde(default, rename = "$index")]
    pub index: usize,
    /// IP, DNS name or `unix://` path; may be empty if `network` is set.
    #[serde(default)]
    pub address: String,
    /// Port of the workload by name of the service's port.
    #[serde(default)]
    pub ports: BTreeMap<String, u32>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub network: Option<String>,
    /// `region/zone/subzone`
    pub locality: Option<String>,
    /// Absent or 0 is 1.
    pub weight: Option<u32>,
    pub service_account: Option<String>,
}
