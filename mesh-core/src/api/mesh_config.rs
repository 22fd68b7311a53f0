//! `MeshConfig`: settings of the whole mesh, from key `mesh` of the ConfigMap `istio`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ConnectionPool, Duration, HttpRetry, OutlierDetection};

/// The subset that has a meaning here; other fields of it are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshConfig {
    /// `/dev/stdout`; absent or empty: no access log.
    pub access_log_file: Option<String>,
    pub access_log_format: Option<String>,
    pub access_log_encoding: Option<AccessLogEncoding>,
    pub path_normalization: Option<PathNormalization>,
    /// 10 s if absent.
    pub connect_timeout: Option<Duration>,
    pub default_http_retry_policy: Option<HttpRetry>,
    pub default_inbound_http_retry_policy: Option<HttpRetry>,
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    pub inbound_traffic_policy: Option<InboundTrafficPolicy>,
    /// `istio-system` if absent.
    pub root_namespace: Option<String>,
    /// `cluster.local` if absent.
    pub trust_domain: Option<String>,
    #[serde(default)]
    pub trust_domain_aliases: Vec<String>,
    pub default_config: Option<ProxyConfig>,
    #[serde(default)]
    pub default_service_export_to: Vec<String>,
    #[serde(default)]
    pub default_virtual_service_export_to: Vec<String>,
    #[serde(default)]
    pub default_destination_rule_export_to: Vec<String>,
    pub enable_auto_mtls: Option<bool>,
    pub enable_tracing: Option<bool>,
    pub protocol_detection_timeout: Option<Duration>,
    pub dns_refresh_rate: Option<Duration>,
    pub tcp_keepalive: Option<super::TcpKeepalive>,
    pub h2_upgrade_policy: Option<MeshH2UpgradePolicy>,
    pub locality_lb_setting: Option<super::LocalityLbSetting>,
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    pub ingress_class: Option<String>,
    pub ingress_service: Option<String>,
    pub ingress_selector: Option<String>,
    pub mesh_mtls: Option<TlsConfig>,
    pub tls_defaults: Option<TlsConfig>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessLogEncoding {
    #[default]
    Text,
    Json,
}

/// `MeshConfig.ProxyPathNormalization`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathNormalization {
    pub normalization: Option<NormalizationType>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NormalizationType {
    /// `BASE`
    #[default]
    Default,
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundTrafficPolicy {
    pub mode: Option<OutboundMode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundMode {
    RegistryOnly,
    #[default]
    AllowAny,
    AllowAnyDynamicDns,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundTrafficPolicy {
    pub mode: Option<InboundMode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InboundMode {
    #[default]
    Passthrough,
    Localhost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MeshH2UpgradePolicy {
    #[default]
    DoNotUpgrade,
    Upgrade,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultTrafficPolicy {
    pub connection_pool: Option<ConnectionPool>,
    pub outlier_detection: Option<OutlierDetection>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsConfig {
    pub min_protocol_version: Option<super::TlsProtocol>,
    #[serde(default)]
    pub cipher_suites: Vec<String>,
    #[serde(default)]
    pub ecdh_curves: Vec<String>,
}

/// `ProxyConfig` in `MeshConfig.defaultConfig`, in the annotation `proxy.istio.io/config`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyConfig {
    pub gateway_topology: Option<Topology>,
    pub concurrency: Option<i32>,
    pub drain_duration: Option<Duration>,
    pub termination_drain_duration: Option<Duration>,
    pub hold_application_until_proxy_starts: Option<bool>,
    #[serde(default)]
    pub proxy_metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// Proxies in front of the gateway whose `x-forwarded-for` entries are believed; 0 if absent.
    pub num_trusted_proxies: Option<u32>,
    pub forward_client_cert_details: Option<ForwardClientCertDetails>,
    pub proxy_protocol: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCertDetails {
    #[default]
    Undefined,
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}
