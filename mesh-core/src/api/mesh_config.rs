//! `MeshConfig`: settings of the whole mesh, from key `mesh` of the ConfigMap `istio`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::diag::{self, Diagnostic};
use crate::object::Position;

use super::decode::{Context, FindingKind, Strictness};
use super::yaml::{Mark, Node, documents};
use super::{ConnectionPool, Duration, ExtensionProvider, HttpRetry, LabelSelector, OutlierDetection, scope};

/// The subset that has a meaning here; other fields of it are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshConfig {
    /// `/dev/stdout`; absent or empty: no access log.
    #[serde(default, deserialize_with = "scope::block")]
    pub access_log_file: Option<String>,
    #[serde(default, deserialize_with = "scope::block")]
    pub access_log_format: Option<String>,
    #[serde(default, deserialize_with = "scope::block")]
    pub access_log_encoding: Option<AccessLogEncoding>,
    #[serde(default, deserialize_with = "scope::block")]
    pub path_normalization: Option<PathNormalization>,
    /// 10 s if absent.
    #[serde(default, deserialize_with = "scope::block")]
    pub connect_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "scope::block")]
    pub default_http_retry_policy: Option<HttpRetry>,
    #[serde(default, deserialize_with = "scope::block")]
    pub default_inbound_http_retry_policy: Option<HttpRetry>,
    #[serde(default, deserialize_with = "scope::block")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    #[serde(default, deserialize_with = "scope::block")]
    pub inbound_traffic_policy: Option<InboundTrafficPolicy>,
    /// `istio-system` if absent.
    #[serde(default, deserialize_with = "scope::block")]
    pub root_namespace: Option<String>,
    /// `cluster.local` if absent.
    #[serde(default, deserialize_with = "scope::block")]
    pub trust_domain: Option<String>,
    #[serde(default)]
    pub trust_domain_aliases: Vec<String>,
    #[serde(default, deserialize_with = "scope::block")]
    pub default_config: Option<ProxyConfig>,
    /// Only objects in namespaces that one of these selects are looked at; empty: in all. If one of them is wrong, none counts:
    /// rather too much is looked at than too little.
    #[serde(default, deserialize_with = "scope::block")]
    pub discovery_selectors: Option<Vec<LabelSelector>>,
    /// Who can be named by policies.
    #[serde(default, deserialize_with = "scope::list")]
    pub extension_providers: Vec<ExtensionProvider>,
    #[serde(default)]
    pub default_service_export_to: Vec<String>,
    #[serde(default)]
    pub default_virtual_service_export_to: Vec<String>,
    #[serde(default)]
    pub default_destination_rule_export_to: Vec<String>,
    #[serde(default, deserialize_with = "scope::block")]
    pub enable_auto_mtls: Option<bool>,
    #[serde(default, deserialize_with = "scope::block")]
    pub enable_tracing: Option<bool>,
    #[serde(default, deserialize_with = "scope::block")]
    pub protocol_detection_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "scope::block")]
    pub dns_refresh_rate: Option<Duration>,
    #[serde(default, deserialize_with = "scope::block")]
    pub tcp_keepalive: Option<super::TcpKeepalive>,
    #[serde(default, deserialize_with = "scope::block")]
    pub h2_upgrade_policy: Option<MeshH2UpgradePolicy>,
    #[serde(default, deserialize_with = "scope::block")]
    pub locality_lb_setting: Option<super::LocalityLbSetting>,
    #[serde(default, deserialize_with = "scope::block")]
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    #[serde(default, deserialize_with = "scope::block")]
    pub ingress_class: Option<String>,
    #[serde(default, deserialize_with = "scope::block")]
    pub ingress_service: Option<String>,
    #[serde(default, deserialize_with = "scope::block")]
    pub ingress_selector: Option<String>,
    #[serde(default, rename = "meshMTLS", deserialize_with = "scope::block")]
    pub mesh_mtls: Option<TlsConfig>,
    #[serde(default, deserialize_with = "scope::block")]
    pub tls_defaults: Option<TlsConfig>,
}

impl MeshConfig {
    /// Reads the text under the key `mesh`. A wrong field is reported and takes its default, the others count. The fields
    /// of the diagnostics begin with `data.mesh`; `place` is where the text begins, if it is a block (`mesh: |-`).
    pub fn read(text: &str, place: Option<&Position>) -> (MeshConfig, Vec<Diagnostic>) {
        let position = |at: Mark| place.map(|place| within(place, at));
        let document = match documents(text).into_iter().next() {
            None => return (MeshConfig::default(), Vec::new()),
            Some(Ok(document)) => document,
            Some(Err(error)) => {
                let diagnostic = Diagnostic::new(diag::MESH_CONFIG_INVALID, error.message)
                    .field("data.mesh")
                    .at(position(error.at))
                    .help("all defaults apply");
                return (MeshConfig::default(), vec![diagnostic]);
            }
        };
        let (mut config, mut diagnostics): (MeshConfig, _) = settings(&document, "data.mesh", place);
        if let Some(setting) = &config.locality_lb_setting {
            let wrong = super::validate::mesh_locality("data.mesh.localityLbSetting", setting);
            if !wrong.is_empty() {
                config.locality_lb_setting = None;
                let at = document.get("localityLbSetting").and_then(|node| position(node.at));
                diagnostics.extend(wrong.into_iter().map(|found| found.at(at.clone())));
            }
        }
        (config, diagnostics)
    }
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

/// What of the document has a meaning, and what is wrong with the rest.
fn settings<T: serde::de::DeserializeOwned + Default>(
    document: &Node,
    field: &str,
    place: Option<&Position>,
) -> (T, Vec<Diagnostic>) {
    let context = Context::new(Strictness::NearMiss, false);
    let read: T = context.read(document, document.at, field).unwrap_or_default();
    let diagnostics = context.into_findings().into_iter().map(|finding| {
        let code = match finding.kind {
            FindingKind::Invalid => diag::FIELD_INVALID,
            FindingKind::Missing => diag::FIELD_MISSING,
            FindingKind::Unknown => diag::FIELD_UNKNOWN,
        };
        let at = place.map(|place| within(place, finding.at));
        let mut diagnostic = Diagnostic::new(code, finding.message).field(finding.field).at(at);
        diagnostic.help = finding.help;
        diagnostic
    });
    (read, diagnostics.collect())
}

/// Where a mark is, of a text that begins at `place`.
fn within(place: &Position, at: Mark) -> Position {
    Position {
        file: place.file.clone(),
        line: place.line.saturating_add(at.line.saturating_sub(1)),
        column: place.column.saturating_add(at.column.saturating_sub(1)),
    }
}

/// Annotation of pods: a [`ProxyConfig`] on top of the mesh's.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";

impl ProxyConfig {
    /// Of the annotation. What is wrong is as the mesh has it.
    pub fn of_annotation(text: &str) -> (ProxyConfig, Vec<Diagnostic>) {
        let field = format!("metadata.annotations[{PROXY_CONFIG}]");
        match documents(text).into_iter().next() {
            None => (ProxyConfig::default(), Vec::new()),
            Some(Ok(document)) => settings(&document, &field, None),
            Some(Err(error)) => {
                let diagnostic = Diagnostic::new(diag::FIELD_INVALID, error.message).field(field);
                (ProxyConfig::default(), vec![diagnostic.help("the mesh's `defaultConfig` applies")])
            }
        }
    }
}

/// `ProxyConfig` in `MeshConfig.defaultConfig`, in the annotation `proxy.istio.io/config`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyConfig {
    #[serde(default, deserialize_with = "scope::block")]
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
    #[serde(default, deserialize_with = "scope::block")]
    pub num_trusted_proxies: Option<u32>,
    #[serde(default, deserialize_with = "scope::block")]
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

#[cfg(test)]
#[path = "mesh_config_tests.rs"]
mod tests;
