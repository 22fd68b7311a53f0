//! `/clusters`: destinations, their endpoints, and what goes on there. Text in the manner of Envoy, or JSON.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::StatusCode;
use mesh_core::lb::Limit;
use serde::Serialize;

use super::page::{Answer, Ask, json, text};
use super::{Admin, PoolList};
use crate::live::Live;

#[derive(Serialize)]
struct Cluster {
    key: String,
    protocol: String,
    balancing: String,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// Version of the PROXY header that connections begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_header: Option<String>,
    /// Where bytes get through the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<String>,
    /// What goes on, where something is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<BTreeMap<&'static str, Limited>>,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
struct Limited {
    now: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    overflows: u64,
}

#[derive(Serialize)]
struct Endpoint {
    address: SocketAddr,
    /// The name that it was resolved from, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    weight: u32,
    /// `region/zone/subzone`, empty when unknown.
    locality: Arc<str>,
    /// Percent of the requests that it gets by weight and locality.
    share: f64,
    /// The weight that follows from what it says of its load, where that counts instead of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    /// Outlier detection leaves it out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ejected: bool,
    requests_active: u32,
    requests_total: u64,
    connections: Connections,
}

/// Of all workers together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Connections {
    pub connects: u64,
    pub connect_failures: u64,
    pub active: usize,
    pub idle: usize,
    pub streams: usize,
}

/// By id of the cluster and address.
pub fn connections(pools: &PoolList) -> HashMap<(u64, SocketAddr), Connections> {
    let mut sums: HashMap<(u64, SocketAddr), Connections> = HashMap::new();
    for stats in pools.all().iter().flat_map(|pools| pools.stats()) {
        let sum = sums.entry((stats.cluster, stats.address)).or_default();
        sum.connects = sum.connects.saturating_add(stats.connects);
        sum.connect_failures = sum.connect_failures.saturating_add(stats.connect_failures);
        sum.active = sum.active.saturating_add(stats.active);
        sum.idle = sum.idle.saturating_add(stats.idle);
        sum.streams = sum.streams.saturating_add(stats.streams);
    }
    sums
}

pub fn page(admin: &Admin, ask: &Ask) -> Answer {
    let clusters = clusters(&admin.cells.live.load(), &admin.pools);
    if ask.wants_json() {
        return json(&serde_json::json!({ "clusters": clusters }));
    }
    let mut out = String::new();
    for cluster in &clusters {
        let key = &cluster.key;
        let _ = writeln!(out, "{key}::protocol::{}", cluster.protocol);
        let _ = writeln!(out, "{key}::balancing::{}", cluster.balancing);
        let _ = writeln!(out, "{key}::origin::{}", cluster.origin);
        for (name, value) in [("proxy_header", &cluster.proxy_header), ("tunnel", &cluster.tunnel)] {
            if let Some(value) = value {
                let _ = writeln!(out, "{key}::{name}::{value}");
            }
        }
        for (name, limited) in cluster.limited.iter().flatten() {
            let limit = limited.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
            let _ = writeln!(out, "{key}::{name}::{} of {limit}, {} overflows", limited.now, limited.overflows);
        }
        for endpoint in &cluster.endpoints {
            let _ = writeln!(out, "{key}::{}::locality::{}", endpoint.address, endpoint.locality);
            let _ = writeln!(out, "{key}::{}::share::{}%", endpoint.address, endpoint.share);
            if let Some(weight) = endpoint.load_weight {
                let _ = writeln!(out, "{key}::{}::load_weight::{weight}", endpoint.address);
            }
            let health = if endpoint.ejected { "/failed_outlier_check" } else { "healthy" };
            let _ = writeln!(out, "{key}::{}::health_flags::{health}", endpoint.address);
            let rows = [
                ("weight", u64::from(endpoint.weight)),
                ("rq_active", u64::from(endpoint.requests_active)),
                ("rq_total", endpoint.requests_total),
                ("cx_active", endpoint.connections.active as u64),
                ("cx_idle", endpoint.connections.idle as u64),
                ("cx_total", endpoint.connections.connects),
                ("cx_connect_fail", endpoint.connections.connect_failures),
            ];
            for (name, value) in rows {
                let _ = writeln!(out, "{key}::{}::{name}::{value}", endpoint.address);
            }
        }
    }
    text(StatusCode::OK, out)
}

/// To three places.
fn round(weight: f64) -> f64 {
    (weight * 1000.0).round() / 1000.0
}

fn clusters(live: &Live, pools: &PoolList) -> Vec<Cluster> {
    let (connections, now) = (connections(pools), Instant::now());
    let clusters = live.clusters.iter().map(|cluster| {
        let destination = &cluster.destination;
        let endpoints = cluster.endpoints.load();
        let endpoints = endpoints.shares().map(|(state, share)| {
            let name = state.endpoint.address.to_string();
            Endpoint {
                address: state.address,
                name: (name != state.address.to_string()).then_some(name),
                weight: state.endpoint.weight,
                locality: Arc::clone(&state.endpoint.locality),
                load_weight: state.load_weight().filter(|_| cluster.balancer.hears_load()).map(round),
                share: (share * 1000.0).round() / 10.0,
                workload: state.endpoint.named_workload().map(|w| format!("{}/{}", w.namespace, w.name)),
                ejected: state.is_ejected(),
                requests_active: state.active(),
                requests_total: state.total.load(Ordering::Relaxed),
                connections: connections.get(&(cluster.id, state.address)).copied().unwrap_or_default(),
            }
        });
        Cluster {
            key: destination.key.to_string(),
            protocol: format!("{:?}", destination.protocol),
            balancing: destination.balancing.to_string(),
            origin: destination.origin.to_string(),
            rule: destination.rule.as_ref().map(ToString::to_string),
            proxy_header: destination.connections.proxy_header.map(|version| format!("{version:?}")),
            tunnel: destination.connections.tunnel.as_ref().map(ToString::to_string),
            limited: cluster.breaker.as_ref().map(|breaker| {
                let limited = |what: Limit| Limited {
                    now: breaker.now(what),
                    limit: breaker.most(what, &destination.limits, now),
                    overflows: breaker.overflows(what),
                };
                Limit::ALL.into_iter().map(|what| (what.as_str(), limited(what))).collect()
            }),
            endpoints: endpoints.collect(),
        }
    });
    // The tables have them in the order in which they came.
    let mut clusters: Vec<Cluster> = clusters.collect();
    clusters.sort_by(|a, b| a.key.cmp(&b.key));
    clusters
}
