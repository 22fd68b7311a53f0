//! `Sidecar` (networking.istio.io): what the sidecars of workloads see of the mesh, and on which ports their workloads are called.

use serde::Deserialize;

use super::{ConnectionPool, Destination, Protocol, ServerTls, WorkloadSelector, scope};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Workloads of the namespace that it is for; absent: all of the namespace, or of the mesh in the root namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// Ports on which the workload is called; empty: those of the services that select it.
    #[serde(default, deserialize_with = "scope::list")]
    pub ingress: Vec<IngressListener>,
    /// What the workload can call, and on which ports; empty: all that is exported to its namespace.
    #[serde(default, deserialize_with = "scope::list")]
    pub egress: Vec<EgressListener>,
    /// Limits and timeouts of connections to the workload.
    #[serde(default, deserialize_with = "scope::block")]
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// What becomes of calls of hosts that are not known; absent: what the mesh's settings say.
    pub outbound_traffic_policy: Option<SidecarOutboundPolicy>,
}

/// `IstioIngressListener`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct IngressListener {
    /// `spec.ingress[index]`
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// Port of the workload that clients call.
    pub port: SidecarPort,
    /// Address to listen on with captureMode NONE.
    pub bind: Option<String>,
    /// Absent: `DEFAULT`.
    pub capture_mode: Option<CaptureMode>,
    /// Where the workload listens: `127.0.0.1:PORT`, `0.0.0.0:PORT` (the address of the pod) or a Unix socket; absent: where the
    /// client was going.
    pub default_endpoint: Option<String>,
    /// TLS of clients outside of the mesh.
    pub tls: Option<ServerTls>,
    /// Limits and timeouts of connections to the port.
    #[serde(default, deserialize_with = "scope::block")]
    pub connection_pool: Option<ConnectionPool>,
}

/// `IstioEgressListener`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EgressListener {
    /// `spec.egress[index]`
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// Absent: all ports that no other listener has.
    pub port: Option<SidecarPort>,
    /// Address to listen on, or a Unix socket; absent: the addresses of the services, and with captureMode NONE 127.0.0.1.
    pub bind: Option<String>,
    /// Absent: `DEFAULT`.
    pub capture_mode: Option<CaptureMode>,
    /// `namespace/host`: hosts that are seen, with `.` for the own namespace and `*` for any; those with `~` before the namespace
    /// are not seen.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub hosts: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SidecarPort {
    /// Label of the port.
    pub name: Option<String>,
    /// Port number; 0 for a Unix socket.
    pub number: Option<u32>,
    /// Absent: found out from the first bytes.
    pub protocol: Option<Protocol>,
    /// Refused by Istio in a Sidecar.
    pub target_port: Option<u32>,
}

impl SidecarPort {
    pub fn number(&self) -> u32 {
        self.number.unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMode {
    #[default]
    Default,
    /// Connections are redirected to the sidecar.
    Iptables,
    /// Clients come to the address of the listener.
    None,
}

/// `OutboundTrafficPolicy` of a Sidecar.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SidecarOutboundPolicy {
    /// Absent: `REGISTRY_ONLY`, the enum's zero value.
    pub mode: Option<SidecarOutboundMode>,
    /// Where calls of hosts that are not known go, instead of where the client was going.
    pub egress_proxy: Option<Destination>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SidecarOutboundMode {
    #[default]
    RegistryOnly,
    AllowAny,
}

impl Sidecar {
    /// Whether it is for some workloads of its namespace, rather than for all.
    pub fn is_for_some(&self) -> bool {
        self.workload_selector.as_ref().is_some_and(|selector| !selector.labels.is_empty())
    }
}
