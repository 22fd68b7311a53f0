//! `Pod` (v1): what tells where it is, who it is and whether it may get traffic.

use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub pod_ip: Option<String>,
    pub pod_ips: Vec<String>,
    /// Condition `Ready`; true for a pod in a file that has a `podIP`, but no conditions.
    pub ready: bool,
    pub phase: Option<String>,
    pub terminating: bool,
    pub service_account_name: Option<String>,
    pub node_name: Option<String>,
    pub host_network: bool,
    /// Of all containers: named `targetPort`s are looked up here.
    pub ports: Vec<ContainerPort>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    #[serde(default)]
    pub name: String,
    pub container_port: u16,
    pub protocol: Option<String>,
}
