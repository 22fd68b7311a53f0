//! `DestinationRule` (networking.istio.io): how traffic reaches a service, and its subsets.

use std::collections::BTreeMap;

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;
use super::{Duration, PortSelector, scope};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DestinationRule {
    /// Service name: short (of the namespace of the object), or in full; wildcards are allowed.
    pub host: String,
    /// How traffic reaches the service.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named parts of the service.
    #[serde(default, deserialize_with = "scope::list")]
    pub subsets: Vec<Subset>,
    /// Namespaces that see the rule: `.`, `*` or names; empty: all.
    #[serde(default)]
    pub export_to: Vec<String>,
    /// Clients that the rule is for; absent: all.
    pub workload_selector: Option<MatchLabels>,
}

/// `WorkloadSelector` of istio.io/api/type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MatchLabels {
    /// Labels that pods must have.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(transform = schema::selector_labels))]
    pub match_labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// `spec.subsets[index]`
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// Name, for the routes of VirtualServices.
    pub name: String,
    /// Labels that endpoints of the subset have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Overrides the policy of the rule.
    pub traffic_policy: Option<TrafficPolicy>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is picked.
    #[serde(default, deserialize_with = "scope::block")]
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts of connections.
    #[serde(default, deserialize_with = "scope::block")]
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are ejected.
    #[serde(default, deserialize_with = "scope::block")]
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service.
    pub tls: Option<ClientTls>,
    /// Overrides for single ports.
    #[serde(default, deserialize_with = "scope::list")]
    #[cfg_attr(feature = "schema", schemars(length(max = 4096)))]
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Tunnel TCP through HTTP CONNECT.
    #[serde(default, deserialize_with = "scope::block")]
    pub tunnel: Option<Tunnel>,
    /// Send a PROXY header.
    #[serde(default, deserialize_with = "scope::block")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Limit of concurrent retries.
    #[serde(default, deserialize_with = "scope::block")]
    pub retry_budget: Option<RetryBudget>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// Port of the Service.
    pub port: Option<PortSelector>,
    /// How an endpoint is picked.
    #[serde(default, deserialize_with = "scope::block")]
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts of connections.
    #[serde(default, deserialize_with = "scope::block")]
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are ejected.
    #[serde(default, deserialize_with = "scope::block")]
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the port.
    pub tls: Option<ClientTls>,
}

/// `LoadBalancerSettings`; one of `simple`, `consistent_hash`, `backend_utilization`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = schema::at_most_one(&["simple", "consistentHash", "backendUtilization"]))))]
pub struct LoadBalancer {
    /// An algorithm without settings.
    pub simple: Option<SimpleLoadBalancer>,
    /// The same endpoint for the same key.
    pub consistent_hash: Option<ConsistentHash>,
    /// By the load that endpoints report (ORCA).
    pub backend_utilization: Option<BackendUtilization>,
    /// Preference by locality.
    pub locality_lb_setting: Option<LocalityLbSetting>,
    /// Preference for the own zone, weighted by capacity.
    pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
    /// Deprecated: `warmup.duration`.
    pub warmup_duration_secs: Option<Duration>,
    /// Raise the share of new endpoints slowly.
    pub warmup: Option<Warmup>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLoadBalancer {
    #[default]
    Unspecified,
    /// Deprecated: the same as `LEAST_REQUEST`.
    LeastConn,
    Random,
    Passthrough,
    RoundRobin,
    LeastRequest,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("allOf" = schema::hash())))]
pub struct ConsistentHash {
    /// Key: a request header.
    pub http_header_name: Option<String>,
    /// Key: a cookie, set if absent.
    pub http_cookie: Option<HttpCookie>,
    /// Key: the address of the client.
    pub use_source_ip: Option<bool>,
    /// Key: a query parameter.
    pub http_query_parameter_name: Option<String>,
    /// Hash ring.
    pub ring_hash: Option<RingHash>,
    /// Maglev table.
    pub maglev: Option<Maglev>,
    /// Deprecated: `ringHash.minimumRingSize`.
    pub minimum_ring_size: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpCookie {
    /// Name of the cookie.
    pub name: String,
    /// Path of the cookie that is set.
    pub path: Option<String>,
    /// Life of the cookie that is set; absent: the cookie is never set.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub ttl: Option<Duration>,
    /// Further attributes of the cookie that is set.
    #[serde(default)]
    pub attributes: Vec<CookieAttribute>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CookieAttribute {
    /// Name.
    pub name: String,
    /// Value; absent: a flag.
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RingHash {
    /// Least number of places on the ring.
    pub minimum_ring_size: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Maglev {
    /// Size of the table, a prime.
    pub table_size: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BackendUtilization {
    /// Penalty for errors, in percent of the utilization.
    pub error_utilization_penalty_percent: Option<u32>,
    /// Metrics that make the utilization.
    #[serde(default)]
    pub metric_names_for_computing_utilization: Vec<String>,
    /// After which a weight without news is dropped.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub weight_expiration_period: Option<Duration>,
    /// After which a new weight is used.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub weight_stabilization_period: Option<Duration>,
    /// Between two computations of the weights.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub weight_update_period: Option<Duration>,
}

/// `LocalityLoadBalancerSetting`; one of `distribute`, `failover`, `failover_priority`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LocalityLbSetting {
    /// Shares of localities.
    #[serde(default)]
    pub distribute: Vec<Distribute>,
    /// Regions to fail over to.
    #[serde(default)]
    pub failover: Vec<Failover>,
    /// Labels that order endpoints, the most important first.
    #[serde(default)]
    pub failover_priority: Vec<String>,
    /// Whether localities are preferred.
    pub enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Distribute {
    /// Locality of the client: `region/zone/subzone`, each part may be `*`.
    pub from: Option<String>,
    /// Percent by locality, 100 in sum.
    #[serde(default)]
    pub to: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// Region.
    pub from: Option<String>,
    /// Region.
    pub to: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ZoneAwareLbSetting {
    /// Whether the own zone is preferred.
    pub enabled: Option<bool>,
    /// Regions to fail over to.
    #[serde(default)]
    pub failover: Vec<Failover>,
    /// Labels that order endpoints, the most important first.
    #[serde(default)]
    pub failover_priority: Vec<String>,
    /// Least number of endpoints.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub min_cluster_size: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Warmup {
    /// How long.
    pub duration: Duration,
    /// Share at the start, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 100.0)))]
    pub minimum_percent: Option<f64>,
    /// 1.0 is linear; greater is faster at the start.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0)))]
    pub aggression: Option<f64>,
}

/// `ConnectionPoolSettings`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectionPool {
    /// Of every connection.
    pub tcp: Option<TcpSettings>,
    /// Of HTTP.
    pub http: Option<HttpSettings>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TcpSettings {
    /// Connections to the host at a time.
    pub max_connections: Option<i32>,
    /// Absent: 10s.
    pub connect_timeout: Option<Duration>,
    /// Keep-alive probes.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Absent: 1h; `0s`: none.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub idle_timeout: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Probes without an answer before the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Between two probes.
    pub interval: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpSettings {
    /// Requests that wait for a connection.
    pub http1_max_pending_requests: Option<i32>,
    /// Requests at a time.
    pub http2_max_requests: Option<i32>,
    /// Requests before a connection is closed; 0: no limit.
    pub max_requests_per_connection: Option<i32>,
    /// Retries at a time.
    pub max_retries: Option<i32>,
    /// Absent: 1h.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/2 is spoken where the port says HTTP.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Speak what the client speaks.
    pub use_client_protocol: Option<bool>,
    /// Streams of one HTTP/2 connection.
    pub max_concurrent_streams: Option<i32>,
    /// PING frames.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    #[default]
    Default,
    DoNotUpgrade,
    Upgrade,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Http2KeepAlive {
    /// Between two PINGs.
    pub interval: Option<Duration>,
    /// Wait for an answer.
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Deprecated: `consecutiveGatewayErrors`.
    pub consecutive_errors: Option<i32>,
    /// Count failures to connect apart.
    pub split_external_local_origin_errors: Option<bool>,
    /// Failures to connect in a row that eject.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503, 504 in a row that eject.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx in a row that eject; absent: 5, 0: never.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Between two looks.
    pub interval: Option<Duration>,
    /// Ejection lasts this, times the number of ejections.
    pub base_ejection_time: Option<Duration>,
    /// Endpoints that may be ejected; absent: 10.
    pub max_ejection_percent: Option<i32>,
    /// Below this share of healthy endpoints nothing is ejected.
    pub min_health_percent: Option<i32>,
    /// Statuses that count as errors.
    #[serde(default)]
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// `ClientTLSSettings`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// Absent is `DISABLE`, the enum's zero value.
    pub mode: Option<ClientTlsMode>,
    /// File with the certificate chain.
    pub client_certificate: Option<String>,
    /// File with the private key.
    pub private_key: Option<String>,
    /// File with the CA certificates; absent: those of the system.
    pub ca_certificates: Option<String>,
    /// Secret with certificate, key and CA.
    pub credential_name: Option<String>,
    /// Names of which the certificate must have one.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
    /// Server name to send.
    pub sni: Option<String>,
    /// Do not verify the certificate.
    pub insecure_skip_verify: Option<bool>,
    /// File with the certificates that are revoked.
    pub ca_crl: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    #[default]
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// `CONNECT` or `POST`.
    pub protocol: Option<String>,
    /// Host to reach through the tunnel.
    pub target_host: String,
    /// Port to reach through the tunnel.
    pub target_port: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Absent: V1.
    pub version: Option<ProxyProtocolVersion>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ProxyProtocolVersion {
    #[default]
    V1,
    V2,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Percent of the active requests.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 100.0)))]
    pub percent: Option<f64>,
    /// Retries that are always allowed.
    pub min_retry_concurrency: Option<u32>,
    /// Time over which requests count.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub budget_interval: Option<Duration>,
}
