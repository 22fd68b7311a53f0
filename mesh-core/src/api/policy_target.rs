//! Whom a policy of the security API is for, where it does not name labels: `PolicyTargetReference` of istio.io/api/type.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;

/// What a policy is attached to: a Gateway of the Gateway API, or a service behind a waypoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TargetReference {
    /// API group; absent: that of Kubernetes itself.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 253), regex(pattern = schema::API_GROUP)))]
    pub group: String,
    /// Kind of the target.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required, length(min = 1, max = 63), regex(pattern = schema::API_KIND)))]
    pub kind: String,
    /// Name of the target.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required, length(min = 1, max = 253)))]
    pub name: String,
    /// Must be empty: targets are in the namespace of the policy.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::SAME_NAMESPACE))))]
    pub namespace: Option<String>,
}

impl TargetReference {
    /// Whether it is a Gateway of the Gateway API.
    pub fn is_gateway(&self) -> bool {
        self.group == "gateway.networking.k8s.io" && self.kind == "Gateway"
    }
}
