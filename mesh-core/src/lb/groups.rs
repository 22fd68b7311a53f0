//! Endpoints that do not share requests by their weight alone: those that are near come first, and the next ones take over as
//! these fail (priorities), or localities have shares. All of it is decided when a set is made; a pick throws once for the group.
//!
//! Figures are those of Envoy: a priority that has 1/1.4 of its endpoints counts as whole, and below that the next ones get the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::endpoints::Shape;
use super::pool::Pool;
use super::tiers::Tiers;
use super::zones::zones;
use super::{EndpointState, hash};
use crate::model::{Criterion, Distribution, Failover, LocalityRule, Place, PriorityLabels, parts_of};

/// Percent: so much more than its share an endpoint can take (Envoy's `overprovisioning_factor`).
const OVERPROVISIONING: u64 = 140;
/// Shares of groups are parts of this.
pub(super) const WHOLE: u32 = 1 << 24;

/// Some of the endpoints, with the share of the requests that they get.
struct Share {
    states: Vec<Arc<EndpointState>>,
    part: f64,
}

/// See the module. Two or more.
#[derive(Debug)]
pub(super) struct Groups {
    /// Running sums of the shares; the last one is [`WHOLE`].
    bounds: Box<[u32]>,
    pub pools: Box<[Pool]>,
}

impl Groups {
    /// The group that holds the ticket, which is below [`WHOLE`].
    pub fn at(&self, ticket: u32) -> Option<&Pool> {
        self.pools.get(self.bounds.partition_point(|bound| *bound <= ticket))
    }

    /// Each pool with its part of all requests.
    pub fn shares(&self) -> impl Iterator<Item = (&Pool, f64)> {
        let before = std::iter::once(&0).chain(&self.bounds);
        let parts = self.bounds.iter().zip(before).map(|(bound, before)| f64::from(bound - before) / f64::from(WHOLE));
        self.pools.iter().zip(parts)
    }

    /// A key leads to the same group as long as the shares are the same.
    pub fn ticket_of(key: u64) -> u32 {
        let mixed = hash::mix(key) >> u32::BITS;
        u32::try_from((mixed * u64::from(WHOLE)) >> u32::BITS).unwrap_or(0)
    }
}

/// How endpoints are divided.
pub(super) struct Division {
    /// If there is one group only, it is nothing special.
    pub pool: Pool,
    pub groups: Option<Groups>,
    /// Get nothing now, but are counted: they fail, or nearer ones are well.
    pub rest: Vec<Arc<EndpointState>>,
    /// Are none of the destination's for this proxy.
    pub aside: Vec<Arc<EndpointState>>,
    /// All by nearness, where some are nearer than others.
    pub tiers: Option<Tiers>,
}

pub(super) fn divide(
    states: Vec<Arc<EndpointState>>,
    rule: &LocalityRule,
    shape: &Shape,
    pool: impl Fn(Vec<Arc<EndpointState>>) -> Pool,
) -> Division {
    let (levels, aside) = match rule {
        LocalityRule::Failover(failover) => (levels(states, failover, &shape.place, false), Vec::new()),
        LocalityRule::ZoneAware(rule) => (zones(states, rule, &shape.place), Vec::new()),
        LocalityRule::Distribute(distributions) => distribute(states, distributions, &shape.place),
    };
    let tiers = Tiers::new(levels.iter().map(Level::all).collect(), shape.min_health_percent);
    let counts: Vec<Count> = levels.iter().map(Level::count).collect();
    let (loads, panics) = loads(&counts, shape.min_health_percent);
    let (mut shares, mut rest) = (Vec::new(), Vec::new());
    for ((level, load), panics) in levels.into_iter().zip(loads).zip(panics) {
        level.share(load, panics, &mut shares, &mut rest);
    }
    let sum: f64 = shares.iter().map(|share| share.part).sum();
    if shares.len() < 2 || sum <= 0.0 {
        let states = shares.into_iter().flat_map(|share| share.states).collect();
        return Division { pool: pool(states), groups: None, rest, aside, tiers };
    }
    let mut running = 0.0;
    let last = shares.len() - 1;
    let bound = |(index, share): (usize, &Share)| {
        running += share.part;
        // Rounding must not leave a ticket without a group.
        if index == last { WHOLE } else { (running / sum * f64::from(WHOLE)).round() as u32 }
    };
    let bounds = shares.iter().enumerate().map(bound).collect();
    let pools = shares.into_iter().map(|share| pool(share.states)).collect();
    Division { pool: Pool::default(), groups: Some(Groups { bounds, pools }), rest, aside, tiers }
}

/// Endpoints of one priority.
#[derive(Default)]
pub(super) struct Level {
    /// By weight, where localities have shares; else one that stands for all.
    pub localities: Vec<Locality>,
    /// Weights are what the localities can take of those that are well.
    pub settled: bool,
}

pub(super) struct Locality {
    pub weight: f64,
    pub states: Vec<Arc<EndpointState>>,
}

impl Locality {
    pub fn name(&self) -> &str {
        self.states.first().map_or("", |state| &state.endpoint.locality)
    }
}

/// Endpoints of a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    healthy: u64,
    all: u64,
}

impl Count {
    pub fn of(states: &[Arc<EndpointState>]) -> Count {
        let healthy = states.iter().filter(|state| !state.is_ejected()).count();
        Count { healthy: healthy as u64, all: states.len() as u64 }
    }

    /// Percent of what the priority is to carry that it can.
    fn health(self) -> u64 {
        (OVERPROVISIONING * self.healthy).checked_div(self.all).unwrap_or(0).min(100)
    }
}

impl Level {
    pub fn all(&self) -> Vec<Arc<EndpointState>> {
        self.localities.iter().flat_map(|locality| locality.states.iter().cloned()).collect()
    }

    fn count(&self) -> Count {
        let counts = self.localities.iter().map(|locality| Count::of(&locality.states));
        counts.fold(Count { healthy: 0, all: 0 }, |sum, one| Count {
            healthy: sum.healthy + one.healthy,
            all: sum.all + one.all,
        })
    }

    /// `load`: percent; `panics`: endpoints that fail get requests, too, and localities do not count.
    fn share(self, load: u32, panics: bool, shares: &mut Vec<Share>, rest: &mut Vec<Arc<EndpointState>>) {
        if panics && load > 0 {
            let states = self.localities.into_iter().flat_map(|locality| locality.states).collect();
            return shares.push(Share { states, part: f64::from(load) });
        }
        let settled = self.settled;
        let effective = |locality: &Locality| {
            if settled {
                return locality.weight;
            }
            let Count { healthy, all } = Count::of(&locality.states);
            let available = (OVERPROVISIONING * healthy) as f64 / 100.0 / (all.max(1) as f64);
            locality.weight * available.min(1.0)
        };
        let sum: f64 = self.localities.iter().map(effective).sum();
        for locality in self.localities {
            let part = if sum > 0.0 { f64::from(load) * effective(&locality) / sum } else { 0.0 };
            let (healthy, out): (Vec<_>, Vec<_>) =
                locality.states.into_iter().partition(|state| part > 0.0 && !state.is_ejected());
            rest.extend(out);
            if !healthy.is_empty() {
                shares.push(Share { states: healthy, part });
            }
        }
    }
}

/// What each priority gets, in percent, and whether it panics.
pub(super) fn loads(counts: &[Count], min_health_percent: u32) -> (Vec<u32>, Vec<bool>) {
    let total = counts.iter().map(|count| count.health()).sum::<u64>().min(100);
    let panics: Vec<bool> = counts
        .iter()
        .map(|count| total < 100 && count.healthy * 100 < u64::from(min_health_percent) * count.all)
        .collect();
    let parts: Vec<u64> = if panics.iter().all(|panics| *panics) {
        // Nobody is well: by number.
        let all: u64 = counts.iter().map(|count| count.all).sum();
        counts.iter().map(|count| (100 * count.all).checked_div(all).unwrap_or(0)).collect()
    } else {
        let mut left = 100;
        let part = |count: &Count| {
            let part = (count.health() * 100).checked_div(total).unwrap_or(0).min(left);
            left -= part;
            part
        };
        counts.iter().map(part).collect()
    };
    let mut loads: Vec<u32> = parts.iter().map(|part| u32::try_from(*part).unwrap_or(0)).collect();
    // What rounding lost goes to the first that gets something.
    let lost = 100_u32.saturating_sub(loads.iter().sum());
    if let Some(first) = loads.iter_mut().find(|load| **load > 0) {
        *first += lost;
    }
    (loads, panics)
}

/// By nearness, the nearest first. `regions`: of localities only the region counts.
pub(super) fn levels(states: Vec<Arc<EndpointState>>, failover: &Failover, place: &Place, regions: bool) -> Vec<Level> {
    let mut levels: BTreeMap<(usize, u8), Vec<Arc<EndpointState>>> = BTreeMap::new();
    for state in states {
        levels.entry(distance(&state, failover, place, regions)).or_default().push(state);
    }
    levels
        .into_values()
        .map(|states| match failover.weighted {
            true => by_locality(states),
            false => Level { localities: vec![Locality { weight: 1.0, states }], settled: false },
        })
        .collect()
}

/// Each with the weight of its endpoints.
pub(super) fn by_locality(states: Vec<Arc<EndpointState>>) -> Level {
    let mut localities: BTreeMap<Arc<str>, Vec<Arc<EndpointState>>> = BTreeMap::new();
    for state in states {
        localities.entry(Arc::clone(&state.endpoint.locality)).or_default().push(state);
    }
    let localities = localities.into_values().map(|states| Locality { weight: weight(&states), states });
    Level { localities: localities.collect(), settled: false }
}

fn weight(states: &[Arc<EndpointState>]) -> f64 {
    states.iter().map(|state| f64::from(state.endpoint.weight.max(1))).sum()
}

/// Smaller is nearer: first by `failoverPriority`, then by locality.
fn distance(state: &EndpointState, failover: &Failover, place: &Place, regions: bool) -> (usize, u8) {
    let labels = by_criteria(state, &failover.criteria, place);
    if !failover.by_locality && !regions {
        return (labels, 0);
    }
    let ([region, zone, subzone], [own_region, own_zone, own_subzone]) =
        (parts_of(&state.endpoint.locality), parts_of(&place.locality));
    let next = || failover.regions.iter().find(|(from, _)| **from == *own_region).map(|(_, to)| &**to);
    let by_locality = if region != own_region {
        if next().is_none_or(|next| next == region) { 3 } else { 4 }
    } else if regions {
        0
    } else if zone != own_zone {
        2
    } else {
        u8::from(subzone != own_subzone)
    };
    (labels, by_locality)
}

/// How many criteria are left at the first that does not hold. Another network is farther than all of that.
fn by_criteria(state: &EndpointState, criteria: &[Criterion], place: &Place) -> usize {
    let nothing = PriorityLabels::default();
    let known = state.endpoint.priority_labels.as_deref().unwrap_or(&nothing);
    let ([region, zone, subzone], [own_region, own_zone, own_subzone]) =
        (parts_of(&state.endpoint.locality), parts_of(&place.locality));
    let mut elsewhere = 0;
    for (index, criterion) in criteria.iter().enumerate() {
        let holds = match criterion {
            Criterion::Region => region == own_region,
            Criterion::Zone => zone == own_zone,
            Criterion::Subzone => subzone == own_subzone,
            Criterion::Node => known.node == place.node,
            Criterion::Label { .. } => known.agreeing.checked_shr(index as u32).is_some_and(|bits| bits & 1 == 1),
        };
        if holds {
            continue;
        }
        if index == 0 && matches!(criterion, Criterion::Label { name, .. } if &**name == "topology.istio.io/network") {
            elsewhere = criteria.len();
            continue;
        }
        return criteria.len() - index + elsewhere;
    }
    elsewhere
}

/// The localities that get something, and what is in no such.
fn distribute(
    states: Vec<Arc<EndpointState>>,
    distributions: &[Distribution],
    place: &Place,
) -> (Vec<Level>, Vec<Arc<EndpointState>>) {
    let Some(shares) = distributions.iter().find(|one| one.from.matches(&place.locality)) else {
        return (vec![by_locality(states)], Vec::new());
    };
    let mut open: Vec<Option<Locality>> = by_locality(states).localities.into_iter().map(Some).collect();
    let mut localities = Vec::new();
    for (to, percent) in &shares.to {
        let fits =
            |locality: &mut Locality| locality.states.first().is_some_and(|state| to.matches(&state.endpoint.locality));
        let taken: Vec<Locality> = open.iter_mut().filter_map(|locality| locality.take_if(fits)).collect();
        // A share of several localities is divided by their weight, and rounded up.
        let sum: f64 = taken.iter().map(|locality| locality.weight).sum();
        localities.extend(taken.into_iter().map(|locality| Locality {
            weight: (f64::from(*percent) * locality.weight / sum).ceil(),
            states: locality.states,
        }));
    }
    let aside = open.into_iter().flatten().flat_map(|locality| locality.states).collect();
    (vec![Level { localities, settled: false }], aside)
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
