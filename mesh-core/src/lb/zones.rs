//! How much a proxy leaves in its own locality, as Envoy's zone aware routing decides it: as much as endpoints can take there, if each of
//! the proxies of its workload gets as many requests as the others, and each endpoint is to. The rest goes to localities that have more of
//! the endpoints than of the proxies.

use std::sync::Arc;

use super::EndpointState;
use super::groups::{Level, Locality, by_locality, levels};
use crate::model::{Failover, Place, ZoneAware, parts_of};

/// Endpoints by priority; in the first one each locality has its part.
pub(super) fn zones(states: Vec<Arc<EndpointState>>, rule: &ZoneAware, place: &Place) -> Vec<Level> {
    let failover = Failover { weighted: false, by_locality: false, ..rule.failover.clone() };
    let mut levels = levels(states, &failover, place, true);
    if let Some(first) = levels.first_mut() {
        divide(first, rule, place);
    }
    levels
}

fn divide(level: &mut Level, rule: &ZoneAware, place: &Place) {
    let all = level.all();
    if all.len() < usize::try_from(rule.minimum).unwrap_or(usize::MAX) {
        return;
    }
    let mut localities = by_locality(all).localities;
    let healthy = |locality: &Locality| locality.states.iter().filter(|state| !state.is_ejected()).count() as f64;
    let upstream: Vec<(&str, f64)> = localities.iter().map(|one| (one.name(), healthy(one))).collect();
    let Some(parts) = parts(&upstream, &rule.proxies, &place.locality) else { return };
    for (locality, part) in localities.iter_mut().zip(parts) {
        locality.weight = part;
    }
    *level = Level { localities, settled: true };
}

/// The part of each locality in `upstream`, which are names and numbers of endpoints. None: localities do not count, for there is nobody in
/// the own one, or only one.
fn parts(upstream: &[(&str, f64)], proxies: &[(Arc<str>, u32)], own: &str) -> Option<Vec<f64>> {
    let own = parts_of(own);
    let all: f64 = upstream.iter().map(|(_, count)| count).sum();
    let callers: f64 = proxies.iter().map(|(_, count)| f64::from(*count)).sum();
    let with_endpoints = upstream.iter().filter(|(_, count)| *count > 0.0).count();
    let of_proxies = |name: &str| {
        let here = proxies.iter().filter(|(locality, _)| parts_of(locality) == parts_of(name));
        here.map(|(_, count)| f64::from(*count)).sum::<f64>() / callers
    };
    let (here, count) = upstream.iter().find(|(name, _)| parts_of(name) == own)?;
    let (own_upstream, own_proxies) = (count / all, of_proxies(here));
    if with_endpoints < 2 || *count <= 0.0 || callers <= 0.0 || own_proxies <= 0.0 {
        return None;
    }
    let stays = (own_upstream / own_proxies).min(1.0);
    let spare = |(name, count): &(&str, f64)| {
        if parts_of(name) == own { 0.0 } else { (count / all - of_proxies(name)).max(0.0) }
    };
    let spares: f64 = upstream.iter().map(spare).sum();
    let part = |one: &(&str, f64)| match parts_of(one.0) == own {
        true => stays,
        false if stays < 1.0 && spares > 0.0 => (1.0 - stays) * spare(one) / spares,
        false => 0.0,
    };
    Some(upstream.iter().map(part).collect())
}

#[cfg(test)]
#[path = "zones_tests.rs"]
mod tests;
