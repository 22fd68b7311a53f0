//! `RateLimit` (meshgate.io): how many requests are let through. A kind of ours, for Istio has none but what patches Envoy; shaped as
//! AuthorizationPolicy, whose words for workloads, sources, operations and conditions it takes over.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;
use super::{Duration, MatchLabels, RuleCondition, RuleFrom, RuleTo, TargetReference, scope};

/// All limits that match a request count it; the first that has no room left has it answered with 429.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::TARGETS_OR_SELECTOR), "required" = ["limits"])))]
pub struct RateLimit {
    /// Workloads that the limits are for; absent: all of the namespace, or of the mesh in the root namespace.
    pub selector: Option<MatchLabels>,
    /// What the limits are attached to, in the place of `selector`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub target_refs: Vec<TargetReference>,
    /// Each counts by itself.
    #[serde(default, deserialize_with = "scope::list")]
    #[cfg_attr(feature = "schema", schemars(transform = schema::limits))]
    pub limits: Vec<RequestLimit>,
}

/// A token bucket: `burst` requests at once, and `requests` in every `per`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["name", "requests", "per"])))]
pub struct RequestLimit {
    /// `spec.limits[index]`
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// Name of the limit, for metrics and logs; another one for each limit of the object.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 63), regex(pattern = schema::LIMIT_NAME)))]
    pub name: String,
    /// Where requests come from that are counted; empty: wherever. As in an AuthorizationPolicy.
    #[serde(default, deserialize_with = "scope::places")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<RuleFrom>", length(max = 64)))]
    pub from: Vec<Option<RuleFrom>>,
    /// What they ask for; empty: whatever. As in an AuthorizationPolicy.
    #[serde(default, deserialize_with = "scope::places")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<RuleTo>", length(max = 64)))]
    pub to: Vec<Option<RuleTo>>,
    /// Further conditions. As in an AuthorizationPolicy.
    #[serde(default, deserialize_with = "scope::places")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<RuleCondition>", length(max = 64)))]
    pub when: Vec<Option<RuleCondition>>,
    /// What has a bucket of its own: one for each combination of these values. Empty: one bucket for all requests.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 8)))]
    pub by: Vec<LimitBy>,
    /// How many requests are let through in `per`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub requests: u32,
    /// The time that `requests` is about, 1ms to 744h (31 days).
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub per: Option<Duration>,
    /// How many requests are let through at once, by who has made none for long; absent: `requests`.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub burst: Option<u32>,
    /// Whether answers say how much is left (`x-ratelimit-limit`, `x-ratelimit-remaining`, `x-ratelimit-reset`); absent: true.
    pub headers: Option<bool>,
    /// How many buckets are kept at most, where there are several; absent: 65536. Full ones are forgotten first.
    #[cfg_attr(feature = "schema", schemars(range(min = 16, max = 1_048_576)))]
    pub max_buckets: Option<u32>,
    /// Who counts together; absent: `Local`.
    pub scope: Option<LimitScope>,
}

/// Who counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LimitScope {
    /// Each process for itself.
    #[default]
    Local,
    /// All proxies of the mesh together: the controller lends each of them a share, by what it is asked for. Without a controller the
    /// same as `Local`.
    Global,
}

/// One of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::LIMIT_BY))))]
pub struct LimitBy {
    /// Address of the client, as far as proxies in front can be believed.
    pub client_address: Option<ClientAddress>,
    /// A header of the request; those without it share one bucket.
    pub header: Option<LimitHeader>,
    /// A claim of the token that a RequestAuthentication found good: `sub`, or `[a][b]` for one within another; those without it
    /// share one bucket.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256)))]
    pub claim: Option<String>,
}

/// Clients whose addresses begin alike are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClientAddress {
    /// How many bits of an IPv4 address count; absent: 32.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 32)))]
    pub ipv4: Option<u32>,
    /// How many bits of an IPv6 address count; absent: 64.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 128)))]
    pub ipv6: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["name"])))]
pub struct LimitHeader {
    /// Name of the header, in any case; of several lines the first one counts.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256)))]
    pub name: String,
}
