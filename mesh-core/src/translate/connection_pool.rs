//! `connectionPool`: how much may go on at a time, and how connections are. As with Istio, zero means that nothing is said.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{self, ConnectionPool, Http2KeepAlive, ProxyProtocol, ProxyProtocolVersion, TcpKeepalive};
use crate::model::{
    ConnectionRules, Keepalive, Limits, PingRule, ProxyHeader, RetryBudget, Share, Tunnel, TunnelMethod,
};

/// Envoy's, of a retry budget.
const USUAL_PERCENT: f64 = 20.0;
const USUAL_RETRIES: u32 = 3;

pub(super) fn limits(pool: &ConnectionPool) -> Limits {
    let (tcp, http) = (pool.tcp.as_ref(), pool.http.as_ref());
    Limits {
        connections: count(tcp.and_then(|tcp| tcp.max_connections)),
        pending: count(http.and_then(|http| http.http1_max_pending_requests)),
        requests: count(http.and_then(|http| http.http2_max_requests)),
        retries: count(http.and_then(|http| http.max_retries)),
        retry_budget: None,
    }
}

/// What is not said, as of a number zero does not, is as usual with Envoy.
pub(super) fn retry_budget(budget: &api::RetryBudget) -> RetryBudget {
    RetryBudget {
        share: Share::of_percent(budget.percent.unwrap_or(USUAL_PERCENT)),
        at_least: budget.min_retry_concurrency.filter(|least| *least > 0).unwrap_or(USUAL_RETRIES),
        interval: time(budget.budget_interval),
    }
}

/// `of_mesh`: the mesh's probes, where the pool has none.
pub(super) fn connection_rules(pool: Option<&ConnectionPool>, of_mesh: Option<&TcpKeepalive>) -> ConnectionRules {
    let (tcp, http) = (pool.and_then(|pool| pool.tcp.as_ref()), pool.and_then(|pool| pool.http.as_ref()));
    let probes = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()).or(of_mesh);
    ConnectionRules {
        requests: count(http.and_then(|http| http.max_requests_per_connection)),
        streams: count(http.and_then(|http| http.max_concurrent_streams)),
        lifetime: time(tcp.and_then(|tcp| tcp.max_connection_duration)),
        keepalive: probes.map(keepalive).unwrap_or_default(),
        ping: http.and_then(|http| ping(http.http2_keep_alive.as_ref()?)),
        ..ConnectionRules::default()
    }
}

fn ping(rule: &Http2KeepAlive) -> Option<PingRule> {
    Some(PingRule { interval: time(rule.interval)?, timeout: time(rule.timeout)? })
}

pub(super) fn proxy_header(protocol: ProxyProtocol) -> ProxyHeader {
    match protocol.version.unwrap_or_default() {
        ProxyProtocolVersion::V1 => ProxyHeader::V1,
        ProxyProtocolVersion::V2 => ProxyHeader::V2,
    }
}

/// None: there is no such port.
pub(super) fn tunnel(tunnel: &api::Tunnel) -> Option<Arc<Tunnel>> {
    let method = if tunnel.protocol.as_deref() == Some("POST") { TunnelMethod::Post } else { TunnelMethod::Connect };
    let port = u16::try_from(tunnel.target_port).ok()?;
    Some(Arc::new(Tunnel { method, host: tunnel.target_host.as_str().into(), port }))
}

fn keepalive(probes: &TcpKeepalive) -> Keepalive {
    Keepalive {
        probes: probes.probes.filter(|probes| *probes > 0),
        time: time(probes.time),
        interval: time(probes.interval),
    }
}

fn count(given: Option<i32>) -> Option<u32> {
    given.and_then(|given| u32::try_from(given).ok()).filter(|given| *given > 0)
}

fn time(given: Option<api::Duration>) -> Option<Duration> {
    given.map(|given| given.get()).filter(|given| !given.is_zero())
}
