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
    /// What is told upstreams of client certificates (`defaultConfig.gatewayTopology.forwardClientCertDetails`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub client_certificates: ForwardedCertificates,
    /// Every connection to a gateway begins with a PROXY header (`defaultConfig.gatewayTopology.proxyProtocol`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy_protocol: bool,
    /// Trust domains whose identities are believed (`trustDomain`, `trustDomainAliases`), the mesh's own first. Empty: that of
    /// the proxy's own certificate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trust_domains: Vec<Arc<str>>,
}

impl ProxySettings {
    pub fn topology(&self) -> Topology {
        let ProxySettings { trusted_proxies, client_certificates, proxy_protocol, .. } = *self;
        Topology { trusted_proxies, client_certificates, proxy_protocol }
    }
}

/// What stands in front of a gateway, and how far it is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// See [`ProxySettings::trusted_proxies`].
    pub trusted_proxies: u32,
    pub client_certificates: ForwardedCertificates,
    /// See [`ProxySettings::proxy_protocol`].
    pub proxy_protocol: bool,
}

/// What becomes of `x-forwarded-client-cert` at a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardedCertificates {
    /// Over a client certificate it says that one, else it is removed.
    #[default]
    Set,
    Remove,
    /// Over a client certificate what the client said stays, else it is removed.
    Forward,
    /// Over a client certificate that one is added, else it is removed.
    Append,
    /// What the client said stays.
    ForwardAlways,
}

/// `accessLogFile`, `accessLogEncoding` and `accessLogFormat` of the MeshConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    pub file: String,
    pub json: bool,
    /// None: Istio's default format.
    pub format: Option<String>,
}
