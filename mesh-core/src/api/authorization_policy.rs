//! `AuthorizationPolicy` (security.istio.io): who may do what.
//!
//! Lists whose elements narrow or widen what is allowed keep the place of an element that could not be read (none): to leave
//! it out would open what it closes.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;
use super::{MatchLabels, TargetReference, scope};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::ONE_TARGET))))]
pub struct AuthorizationPolicy {
    /// Workloads that the policy is for; absent: all of the namespace, or of the mesh in the root namespace.
    pub selector: Option<MatchLabels>,
    /// Deprecated: one of `targetRefs`.
    pub target_ref: Option<TargetReference>,
    /// What the policy is attached to.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub target_refs: Vec<TargetReference>,
    /// Any of them; none at all: nothing matches.
    #[serde(default, deserialize_with = "scope::places")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<AuthorizationRule>", length(max = 512)))]
    pub rules: Vec<Option<AuthorizationRule>>,
    /// Absent: `ALLOW`.
    pub action: Option<AuthorizationAction>,
    /// Who decides, for `CUSTOM`.
    pub provider: Option<ExtensionProviderName>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthorizationAction {
    #[default]
    Allow,
    Deny,
    Audit,
    Custom,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExtensionProviderName {
    /// Name of an extension provider of the MeshConfig.
    #[serde(default)]
    pub name: String,
}

/// `Rule`: one of each list that is given must hold, and all of `when`. `{}` holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationRule {
    /// Where the request comes from; empty: wherever.
    #[serde(default, deserialize_with = "scope::places")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<RuleFrom>", length(max = 512)))]
    pub from: Vec<Option<RuleFrom>>,
    /// What it asks for; empty: whatever.
    #[serde(default, deserialize_with = "scope::places")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<RuleTo>"))]
    pub to: Vec<Option<RuleTo>>,
    /// Further conditions.
    #[serde(default, deserialize_with = "scope::places")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<RuleCondition>"))]
    pub when: Vec<Option<RuleCondition>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RuleFrom {
    /// The source of a request.
    pub source: Option<RequestSource>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RuleTo {
    /// What a request asks for.
    pub operation: Option<RequestOperation>,
}

/// `Source`: all fields that are given must hold, each with one of its values. Texts may begin or end with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::REQUEST_SOURCE))))]
pub struct RequestSource {
    /// Identity of the peer's certificate, `cluster.local/ns/default/sa/a`.
    #[serde(default)]
    pub principals: Vec<String>,
    #[serde(default)]
    pub not_principals: Vec<String>,
    /// Issuer and subject of a token, `issuer/subject`.
    #[serde(default)]
    pub request_principals: Vec<String>,
    #[serde(default)]
    pub not_request_principals: Vec<String>,
    /// Namespace of the peer's identity.
    #[serde(default)]
    pub namespaces: Vec<String>,
    #[serde(default)]
    pub not_namespaces: Vec<String>,
    /// Service account of the peer's identity, `namespace/name` or a name of the policy's namespace.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 16), inner(length(max = 320))))]
    pub service_accounts: Vec<String>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 16), inner(length(max = 320))))]
    pub not_service_accounts: Vec<String>,
    /// Trust domain of the peer's identity.
    #[serde(default)]
    pub trust_domains: Vec<String>,
    #[serde(default)]
    pub not_trust_domains: Vec<String>,
    /// Address of the peer, or blocks of addresses.
    #[serde(default)]
    pub ip_blocks: Vec<String>,
    #[serde(default)]
    pub not_ip_blocks: Vec<String>,
    /// Address of the client as far as proxies in front can be believed, or blocks of addresses.
    #[serde(default)]
    pub remote_ip_blocks: Vec<String>,
    #[serde(default)]
    pub not_remote_ip_blocks: Vec<String>,
}

/// `Operation`: all fields that are given must hold, each with one of its values. Texts may begin or end with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RequestOperation {
    /// Hosts, in any case; with the port if the client sends one.
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub not_hosts: Vec<String>,
    /// Ports on which the proxy, or the workload behind it, listens.
    #[serde(default)]
    pub ports: Vec<String>,
    #[serde(default)]
    pub not_ports: Vec<String>,
    /// Methods.
    #[serde(default)]
    pub methods: Vec<String>,
    #[serde(default)]
    pub not_methods: Vec<String>,
    /// Paths without query; `{*}` stands for one segment, `{**}` for all that follow.
    #[serde(default)]
    pub paths: Vec<String>,
    #[serde(default)]
    pub not_paths: Vec<String>,
}

/// `Condition` on an attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RuleCondition {
    /// Name of the attribute, `request.headers[x-a]`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub key: String,
    /// One of these.
    #[serde(default)]
    pub values: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_values: Vec<String>,
}

impl AuthorizationPolicy {
    /// `targetRef` and `targetRefs`.
    pub fn targets(&self) -> impl Iterator<Item = &TargetReference> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

impl RequestSource {
    /// Field, its values, and those that must not be.
    pub fn fields(&self) -> [(&'static str, &[String], &[String]); 7] {
        [
            ("principals", &self.principals, &self.not_principals),
            ("requestPrincipals", &self.request_principals, &self.not_request_principals),
            ("namespaces", &self.namespaces, &self.not_namespaces),
            ("serviceAccounts", &self.service_accounts, &self.not_service_accounts),
            ("trustDomains", &self.trust_domains, &self.not_trust_domains),
            ("ipBlocks", &self.ip_blocks, &self.not_ip_blocks),
            ("remoteIpBlocks", &self.remote_ip_blocks, &self.not_remote_ip_blocks),
        ]
    }
}

impl RequestOperation {
    /// Field, its values, and those that must not be.
    pub fn fields(&self) -> [(&'static str, &[String], &[String]); 4] {
        [
            ("hosts", &self.hosts, &self.not_hosts),
            ("ports", &self.ports, &self.not_ports),
            ("methods", &self.methods, &self.not_methods),
            ("paths", &self.paths, &self.not_paths),
        ]
    }
}

/// `notHosts` of `hosts`.
pub fn negated(field: &str) -> String {
    let mut letters = field.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    "not".chars().chain(first).chain(letters).collect()
}
