//! `connectionPool`: how much may go on at a time, and how connections are. As with Istio, zero means that nothing is said.

use std::time::Duration;

use crate::api::{self, ConnectionPool, TcpKeepalive};
use crate::model::{ConnectionRules, Keepalive, Limits};

pub(super) fn limits(pool: &ConnectionPool) -> Limits {
    let (tcp, http) = (pool.tcp.as_ref(), pool.http.as_ref());
    Limits {
        connections: count(tcp.and_then(|tcp| tcp.max_connections)),
        pending: count(http.and_then(|http| http.http1_max_pending_requests)),
        requests: count(http.and_then(|http| http.http2_max_requests)),
        retries: count(http.and_then(|http| http.max_retries)),
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
    }
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
