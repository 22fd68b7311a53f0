//! `PeerAuthentication` (security.istio.io): whether workloads take connections without mTLS.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::MatchLabels;
#[cfg(feature = "schema")]
use super::schema;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::PORT_LEVEL_MTLS))))]
pub struct PeerAuthentication {
    /// Workloads that the policy is for; absent: all of the namespace, or of the mesh in the root namespace.
    pub selector: Option<MatchLabels>,
    /// On all ports.
    pub mtls: Option<MutualTls>,
    /// By port of the workload.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(transform = schema::port_level_mtls))]
    pub port_level_mtls: BTreeMap<String, MutualTls>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MutualTls {
    /// Absent: `UNSET`.
    pub mode: Option<PeerTlsMode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PeerTlsMode {
    /// What the policy of the wider scope says; `PERMISSIVE` if none does.
    #[default]
    Unset,
    /// Without mTLS only.
    Disable,
    /// With and without mTLS.
    Permissive,
    /// With mTLS only.
    Strict,
}

impl PeerAuthentication {
    /// Whether it is for some workloads of its namespace, rather than for all.
    pub fn is_for_some(&self) -> bool {
        self.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty())
    }

    /// On all ports that are not named.
    pub fn mode(&self) -> PeerTlsMode {
        self.mtls.and_then(|mtls| mtls.mode).unwrap_or_default()
    }

    /// Ports that are named. Those that are no ports were refused by validation.
    pub fn ports(&self) -> impl Iterator<Item = (u16, PeerTlsMode)> {
        self.port_level_mtls.iter().filter_map(|(port, mtls)| Some((port.parse().ok()?, mtls.mode.unwrap_or_default())))
    }
}
