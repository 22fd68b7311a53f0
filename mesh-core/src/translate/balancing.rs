//! `loadBalancer`: how endpoints are picked.

use std::time::Duration;

use crate::api::{BackendUtilization, ConsistentHash, HttpCookie, LoadBalancer, SimpleLoadBalancer};
use crate::model::{Balancing, HashCookie, HashKey, HashTable, Hashing, Utilization, Warmup};

/// Points of a hash ring (Istio's default).
const RING_SIZE: u64 = 1024;
/// Slots of a Maglev table (Envoy's default).
const MAGLEV_SIZE: u32 = 65_537;

pub(super) fn balancing(balancer: &LoadBalancer) -> Balancing {
    if let Some(hash) = &balancer.consistent_hash {
        return Balancing::Hash(Box::new(hashing(hash)));
    }
    if let Some(by_load) = &balancer.backend_utilization {
        return Balancing::BackendUtilization(Box::new(utilization(by_load)));
    }
    match balancer.simple.unwrap_or_default() {
        SimpleLoadBalancer::RoundRobin => Balancing::RoundRobin,
        SimpleLoadBalancer::Random => Balancing::Random,
        SimpleLoadBalancer::Unspecified
        | SimpleLoadBalancer::LeastConn
        | SimpleLoadBalancer::LeastRequest
        | SimpleLoadBalancer::Passthrough => Balancing::LeastRequest,
    }
}

/// Only where endpoints are taken by their weight in turn, or by their load; Envoy has it nowhere else.
pub(super) fn warmup(balancer: &LoadBalancer) -> Option<Warmup> {
    if !matches!(balancing(balancer), Balancing::LeastRequest | Balancing::RoundRobin) {
        return None;
    }
    let (window, minimum, aggression) = match (&balancer.warmup, balancer.warmup_duration_secs) {
        (Some(warmup), _) => (warmup.duration, warmup.minimum_percent, warmup.aggression),
        (None, Some(duration)) => (duration, None, None),
        (None, None) => return None,
    };
    // Both are in their bounds.
    Some(Warmup {
        window: window.get(),
        minimum: (minimum.unwrap_or(10.0) * 100.0).round() as u32,
        aggression: ((aggression.unwrap_or(1.0) * 1000.0).round() as u32).max(1),
    })
    .filter(|warmup| !warmup.window.is_zero())
}

/// Periods are Envoy's where the rule has none.
fn utilization(rule: &BackendUtilization) -> Utilization {
    let or =
        |period: Option<crate::api::Duration>, usual| period.map_or(Duration::from_secs(usual), |period| period.get());
    Utilization {
        error_penalty_percent: rule.error_utilization_penalty_percent.unwrap_or(0),
        metrics: rule.metric_names_for_computing_utilization.iter().map(|name| name.as_str().into()).collect(),
        stabilization: or(rule.weight_stabilization_period, 10),
        expiration: or(rule.weight_expiration_period, 180),
        update: or(rule.weight_update_period, 1),
    }
}

/// What is hashed, and the table that it leads through.
fn hashing(hash: &ConsistentHash) -> Hashing {
    let header = hash.http_header_name.as_deref().map(|name| HashKey::Header(name.to_ascii_lowercase().into()));
    let cookie = hash.http_cookie.as_ref().map(|cookie| HashKey::Cookie(hash_cookie(cookie)));
    let source = hash.use_source_ip.filter(|used| *used).map(|_| HashKey::SourceIp);
    let query = hash.http_query_parameter_name.as_deref().map(|name| HashKey::Query(name.into()));
    let table = match &hash.maglev {
        Some(maglev) => HashTable::Maglev {
            size: maglev.table_size.and_then(|size| u32::try_from(size).ok()).unwrap_or(MAGLEV_SIZE),
        },
        None => {
            let ring = hash.ring_hash.as_ref().and_then(|ring| ring.minimum_ring_size).or(hash.minimum_ring_size);
            let minimum = ring.filter(|size| *size > 0).unwrap_or(RING_SIZE);
            HashTable::Ring { minimum: u32::try_from(minimum).unwrap_or(u32::MAX) }
        }
    };
    Hashing { key: header.or(cookie).or(source).or(query), table }
}

/// As Envoy writes it: attributes behind the path, and always `HttpOnly`.
fn hash_cookie(cookie: &HttpCookie) -> HashCookie {
    let mut attributes = String::new();
    if let Some(path) = cookie.path.as_deref().filter(|path| !path.is_empty()) {
        attributes.push_str("; Path=");
        attributes.push_str(path);
    }
    for attribute in &cookie.attributes {
        attributes.push_str("; ");
        attributes.push_str(&attribute.name);
        if let Some(value) = attribute.value.as_deref().filter(|value| !value.is_empty()) {
            attributes.push('=');
            attributes.push_str(value);
        }
    }
    attributes.push_str("; HttpOnly");
    HashCookie {
        name: cookie.name.as_str().into(),
        ttl: cookie.ttl.map(|ttl| ttl.get()),
        attributes: attributes.into(),
    }
}
