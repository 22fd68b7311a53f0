//! `Pod` (v1): what tells where it is, who it is and whether it may get traffic.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Container of the sidecar, and what it is told if the rules of the pod lead queries for names to it.
const SIDECAR: &str = "istio-proxy";
const DNS_CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Of this pod and no other: names come again (StatefulSet). Absent in files.
    pub uid: Option<String>,
    pub pod_ip: Option<String>,
    pub pod_ips: Vec<String>,
    /// Condition `Ready`; a pod of a file that has an IP, but no conditions, is ready.
    pub ready: bool,
    pub phase: Option<String>,
    /// It has a deletion timestamp.
    pub terminating: bool,
    pub service_account_name: Option<String>,
    pub node_name: Option<String>,
    pub host_network: bool,
    /// Of all containers: named `targetPort`s are looked up here.
    pub ports: Vec<ContainerPort>,
    /// Queries for names go to its sidecar: `ISTIO_META_DNS_CAPTURE` of the container `istio-proxy`.
    pub dns_capture: bool,
}

impl Pod {
    /// The cluster's primary family comes first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = if self.pod_ips.is_empty() { self.pod_ip.as_slice() } else { self.pod_ips.as_slice() };
        all.iter().filter_map(|text| text.parse().ok())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    #[serde(default)]
    pub name: String,
    pub container_port: u16,
    /// `TCP` if absent.
    pub protocol: Option<String>,
}

/// The object as it is written.
#[derive(Deserialize)]
pub(in crate::api) struct PodObject {
    #[serde(default)]
    metadata: PodMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMeta {
    uid: Option<String>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    service_account_name: Option<String>,
    node_name: Option<String>,
    host_network: Option<bool>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    name: String,
    #[serde(default)]
    ports: Vec<ContainerPort>,
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    #[serde(default)]
    name: String,
    value: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(default, rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    phase: Option<String>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl From<PodObject> for Pod {
    fn from(object: PodObject) -> Self {
        let PodObject { metadata, spec, status } = object;
        let condition = status.conditions.iter().find(|condition| condition.r#type == "Ready");
        let ready = match condition {
            Some(condition) => condition.status == "True",
            None => status.conditions.is_empty() && (status.pod_ip.is_some() || !status.pod_ips.is_empty()),
        };
        let sidecar = spec.containers.iter().chain(&spec.init_containers).find(|container| container.name == SIDECAR);
        let dns_capture = sidecar.and_then(|sidecar| sidecar.env.iter().find(|variable| variable.name == DNS_CAPTURE));
        let pod_ips: Vec<String> = status.pod_ips.into_iter().map(|ip| ip.ip).collect();
        Self {
            uid: metadata.uid,
            pod_ip: status.pod_ip.or_else(|| pod_ips.first().cloned()),
            pod_ips,
            ready,
            phase: status.phase,
            terminating: metadata.deletion_timestamp.is_some(),
            service_account_name: spec.service_account_name,
            node_name: spec.node_name,
            host_network: spec.host_network.unwrap_or(false),
            dns_capture: dns_capture.is_some_and(|variable| variable.value.as_deref() == Some("true")),
            ports: spec.containers.into_iter().flat_map(|container| container.ports).collect(),
        }
    }
}
