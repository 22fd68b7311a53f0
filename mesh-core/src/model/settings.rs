//! What a proxy must know beside its resources.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::is_default;

/// Settings of the mesh that every proxy follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySettings {
    /// None: off.
    pub access_log: Option<AccessLog>,
    /// Proxies in front of the gateway whose headers are believed (`defaultConfig.gatewayTopology.numTrustedProxies`).
    pub trusted_proxies: u32,
    /// Trust domains whose identities are believed (`trustDomain`, `trustDomainAliases`), the mesh's own first. Empty: that of
    /// the proxy's own certificate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trust_domains: Vec<Arc<str>>,
}

/// `accessLogFile`, `accessLogEncoding` and `accessLogFormat` of the MeshConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    pub file: String,
    pub json: bool,
    /// None: Istio's default format.
    pub format: Option<String>,
}
