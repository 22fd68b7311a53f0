//! What a proxy must know beside its resources.

use serde::{Deserialize, Serialize};

/// Settings of the mesh that every proxy follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySettings {
    /// None: off.
    pub access_log: Option<AccessLog>,
    /// Proxies in front of the gateway whose headers are believed (`defaultConfig.gatewayTopology.numTrustedProxies`).
    pub trusted_proxies: u32,
}

/// `accessLogFile`, `accessLogEncoding` and `accessLogFormat` of the MeshConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    pub file: String,
    pub json: bool,
    /// None: Istio's default format.
    pub format: Option<String>,
}
