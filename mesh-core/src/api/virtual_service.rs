//! `VirtualService` (networking.istio.io): what happens to requests and connections for some hosts.

use std::collections::BTreeMap;

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;
use super::{Bytes, Duration, StringMatch, scope};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct VirtualService {
    /// Hosts of the requests that these rules are for.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Empty: `mesh`.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Rules for HTTP, in order: the first that matches wins.
    #[serde(default, deserialize_with = "scope::list")]
    pub http: Vec<HttpRoute>,
    /// Rules for TLS that is not terminated, by SNI.
    #[serde(default, deserialize_with = "scope::list")]
    pub tls: Vec<TlsRoute>,
    /// Rules for other TCP connections.
    #[serde(default, deserialize_with = "scope::list")]
    pub tcp: Vec<TcpRoute>,
    /// Empty: everywhere.
    #[serde(default)]
    pub export_to: Vec<String>,
}

// What few rules have is kept apart, for there are thousands of rules.
/// `HTTPRoute`: one rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(transform = schema::legacy_mirror_percent))]
pub struct HttpRoute {
    /// Place in the user's list, which stays when an invalid rule before it was dropped: `spec.http[index]`.
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// Name of the rule, for logs and metrics.
    pub name: Option<String>,
    /// Any of them; empty: every request.
    #[serde(default)]
    pub r#match: Vec<HttpMatch>,
    /// Where requests go, by weight.
    #[serde(default)]
    pub route: Vec<HttpRouteDestination>,
    /// Answer with a redirect.
    pub redirect: Option<Box<HttpRedirect>>,
    /// Answer with a fixed response.
    pub direct_response: Option<HttpDirectResponse>,
    /// Take the rules of another VirtualService.
    pub delegate: Option<Delegate>,
    /// Change path or authority before forwarding.
    pub rewrite: Option<HttpRewrite>,
    /// Limit for the whole exchange; absent: none.
    pub timeout: Option<Duration>,
    /// When and how often to try again.
    pub retries: Option<Box<HttpRetry>>,
    /// Faults to inject.
    pub fault: Option<Box<HttpFault>>,
    /// Send a copy of the requests there.
    pub mirror: Option<Box<Destination>>,
    /// Deprecated: whole percents.
    pub mirror_percent: Option<u32>,
    /// Share of requests that are mirrored; absent: all.
    pub mirror_percentage: Option<Percent>,
    /// Send copies to several destinations.
    #[serde(default)]
    pub mirrors: Vec<HttpMirror>,
    /// Cross-origin resource sharing.
    pub cors_policy: Option<Box<CorsPolicy>>,
    /// Changes of request and response headers.
    pub headers: Option<Box<Headers>>,
}

/// `HTTPMatchRequest`: all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// Name of the match, for logs.
    pub name: Option<String>,
    /// Path of the request.
    pub uri: Option<StringMatch>,
    /// Compare `uri` without regard to case (exact and prefix).
    pub ignore_uri_case: Option<bool>,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// Method of the request.
    pub method: Option<StringMatch>,
    /// Host of the request.
    pub authority: Option<StringMatch>,
    /// Request headers; `{}`: the header is there.
    #[serde(default)]
    pub headers: BTreeMap<String, StringMatch>,
    /// Request headers that must not match.
    #[serde(default)]
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Query parameters (exact, regex or `{}`).
    #[serde(default)]
    pub query_params: BTreeMap<String, StringMatch>,
    /// Port that the request came in on.
    pub port: Option<u32>,
    /// Gateways that the match is for; empty: those of the object.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Labels of the client workload.
    #[serde(default)]
    pub source_labels: BTreeMap<String, String>,
    /// Namespace of the client workload.
    pub source_namespace: Option<String>,
    /// Requests of this match are counted by it (`meshgate_route_requests_total`).
    pub stat_prefix: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteDestination {
    /// Service to forward to.
    pub destination: Destination,
    /// Share of the requests, relative to the other destinations.
    pub weight: Option<i32>,
    /// Changes of headers for this destination.
    pub headers: Option<Headers>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Service name: short (of the namespace of the object), or in full.
    pub host: String,
    /// Subset that a DestinationRule of the host defines.
    pub subset: Option<String>,
    /// Port of the Service; needed if it has several.
    pub port: Option<PortSelector>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PortSelector {
    /// Port number.
    #[serde(default)]
    pub number: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Headers {
    /// Before forwarding.
    pub request: Option<HeaderOperations>,
    /// Before answering.
    pub response: Option<HeaderOperations>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HeaderOperations {
    /// Replace headers.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Append headers.
    #[serde(default)]
    pub add: BTreeMap<String, String>,
    /// Remove headers.
    #[serde(default)]
    pub remove: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = schema::at_most_one(&["port", "derivePort"]))))]
pub struct HttpRedirect {
    /// Path of the new location.
    pub uri: Option<String>,
    /// Replaces the matched prefix in the new location.
    pub prefix_rewrite: Option<String>,
    /// Host of the new location.
    pub authority: Option<String>,
    /// Scheme of the new location.
    pub scheme: Option<String>,
    /// Port of the new location.
    pub port: Option<u32>,
    /// How the port of the new location is found.
    pub derive_port: Option<RedirectPortSelection>,
    /// Status; absent: 301.
    pub redirect_code: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RedirectPortSelection {
    #[default]
    #[serde(rename = "FROM_PROTOCOL_DEFAULT")]
    ProtocolDefault,
    #[serde(rename = "FROM_REQUEST_PORT")]
    RequestPort,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpDirectResponse {
    /// Status of the response.
    pub status: u32,
    /// Body of the response; absent: empty.
    pub body: Option<HttpBody>,
}

/// Body of a direct response (networking/v1 `HTTPBody`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "HttpBodyFields")]
pub enum HttpBody {
    String(String),
    /// Written in base64.
    Bytes(Vec<u8>),
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "HTTPBody")]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = schema::at_most_one(&["string", "bytes"]))))]
struct HttpBodyFields {
    /// Text.
    string: Option<String>,
    /// Bytes in base64.
    bytes: Option<Bytes>,
}

impl TryFrom<HttpBodyFields> for HttpBody {
    type Error = &'static str;

    fn try_from(fields: HttpBodyFields) -> Result<Self, Self::Error> {
        match fields {
            HttpBodyFields { string: Some(text), bytes: None } => Ok(Self::String(text)),
            HttpBodyFields { string: None, bytes: Some(bytes) } => Ok(Self::Bytes(bytes.0)),
            HttpBodyFields { string: None, bytes: None } => Ok(Self::String(String::new())),
            _ => Err("only one of `string` and `bytes` can be set"),
        }
    }
}

/// A share in percent, 0.0 to 100.0 (networking/v1 `Percent`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Percent {
    /// 0.0 to 100.0
    pub value: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Delegate {
    /// Name of the VirtualService.
    pub name: Option<String>,
    /// Namespace of the VirtualService; absent: that of the object.
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpRewrite {
    /// Replaces the path, or the prefix that matched.
    pub uri: Option<String>,
    /// Replaces the host.
    pub authority: Option<String>,
    /// Replaces what a regular expression matches in the path.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RegexRewrite {
    /// RE2.
    #[serde(default)]
    pub r#match: String,
    /// Replacement; `\\1` is the first group.
    #[serde(default)]
    pub rewrite: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpRetry {
    /// Absent is 0: no retries.
    pub attempts: Option<i32>,
    /// Limit for each attempt; absent: the timeout of the rule.
    pub per_try_timeout: Option<Duration>,
    /// Conditions, separated by commas.
    pub retry_on: Option<String>,
    /// Also try endpoints of other localities.
    pub retry_remote_localities: Option<bool>,
    /// Prefer endpoints that were not tried yet.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Least time between attempts.
    pub backoff: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpFault {
    /// Answer with an error.
    pub abort: Option<FaultAbort>,
    /// Wait before forwarding.
    pub delay: Option<FaultDelay>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = schema::at_most_one(&["httpStatus", "grpcStatus", "http2Error"]))))]
pub struct FaultAbort {
    /// HTTP status.
    pub http_status: Option<i32>,
    /// gRPC status by its name: `UNAVAILABLE`.
    pub grpc_status: Option<String>,
    /// Not supported.
    pub http2_error: Option<String>,
    /// Share of the requests; absent: none.
    pub percentage: Option<Percent>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = schema::at_most_one(&["fixedDelay", "exponentialDelay"]))))]
pub struct FaultDelay {
    /// How long.
    pub fixed_delay: Option<Duration>,
    /// Not supported.
    pub exponential_delay: Option<Duration>,
    /// Deprecated: whole percents.
    pub percent: Option<i32>,
    /// Share of the requests; absent: none.
    pub percentage: Option<Percent>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpMirror {
    /// Where copies go.
    pub destination: Destination,
    /// Share of the requests; absent: all.
    pub percentage: Option<Percent>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Deprecated: exact origins or `*`.
    #[serde(default)]
    pub allow_origin: Vec<String>,
    /// Origins that may read responses.
    #[serde(default)]
    pub allow_origins: Vec<StringMatch>,
    /// For `Access-Control-Allow-Methods`.
    #[serde(default)]
    pub allow_methods: Vec<String>,
    /// For `Access-Control-Allow-Headers`.
    #[serde(default)]
    pub allow_headers: Vec<String>,
    /// For `Access-Control-Expose-Headers`.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// How long a preflight may be cached.
    pub max_age: Option<Duration>,
    /// Whether requests may carry credentials.
    pub allow_credentials: Option<bool>,
    /// What becomes of preflights of other origins.
    pub unmatched_preflights: Option<UnmatchedPreflights>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    #[default]
    Unspecified,
    Forward,
    Ignore,
}

/// `TLSRoute`: connections whose TLS is not terminated here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TlsRoute {
    /// `spec.tls[index]`
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// Any of them.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub r#match: Vec<TlsMatch>,
    /// Where connections go, by weight.
    #[serde(default)]
    pub route: Vec<RouteDestination>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TlsMatch {
    /// Server names, with wildcards.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub sni_hosts: Vec<String>,
    /// Addresses (CIDR) that the client called.
    #[serde(default)]
    pub destination_subnets: Vec<String>,
    /// Port that the connection came in on.
    pub port: Option<u32>,
    /// Labels of the client workload.
    #[serde(default)]
    pub source_labels: BTreeMap<String, String>,
    /// Gateways that the match is for; empty: those of the object.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Namespace of the client workload.
    pub source_namespace: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TcpRoute {
    /// `spec.tcp[index]`
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// Any of them; empty: every connection.
    #[serde(default)]
    pub r#match: Vec<L4Match>,
    /// Where connections go, by weight.
    #[serde(default)]
    pub route: Vec<RouteDestination>,
}

/// `L4MatchAttributes`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct L4Match {
    /// Addresses (CIDR) that the client called.
    #[serde(default)]
    pub destination_subnets: Vec<String>,
    /// Port that the connection came in on.
    pub port: Option<u32>,
    /// Address (CIDR) of the client.
    pub source_subnet: Option<String>,
    /// Labels of the client workload.
    #[serde(default)]
    pub source_labels: BTreeMap<String, String>,
    /// Gateways that the match is for; empty: those of the object.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Namespace of the client workload.
    pub source_namespace: Option<String>,
}

/// Of a TCP or TLS route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouteDestination {
    /// Service to forward to.
    pub destination: Destination,
    /// Share of the connections, relative to the other destinations.
    pub weight: Option<i32>,
}
