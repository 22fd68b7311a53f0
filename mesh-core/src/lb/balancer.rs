//! The policies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use http::HeaderMap;

use super::groups::{Groups, WHOLE};
use super::hash::Table;
use super::pool::Pool;
use super::{EndpointSet, EndpointState, LoadReport};
use crate::model::{Balancing, Utilization};

/// How often a pick that hits an avoided endpoint is thrown again before the set is searched.
const THROWS: usize = 4;
/// Places behind that of a key that are looked at for an endpoint that is not avoided.
const STEPS: usize = 64;
/// Steps of the round robin: a stride near the golden ratio of 2^32, so that weighted turns are spread evenly.
const STRIDE: u32 = 0x9E37_79B9;

/// Picks endpoints by one policy. Its only states are the turn of the round robin, and counts.
#[derive(Debug)]
pub struct Balancer {
    policy: Balancing,
    turn: AtomicU32,
    /// Load reports that made a weight, and those that could not.
    heard: AtomicU64,
    unusable: AtomicU64,
}

impl Balancer {
    pub fn new(policy: Balancing) -> Balancer {
        Balancer { policy, turn: AtomicU32::new(0), heard: AtomicU64::new(0), unusable: AtomicU64::new(0) }
    }

    fn utilization(&self) -> Option<&Utilization> {
        match &self.policy {
            Balancing::BackendUtilization(rule) => Some(rule),
            _ => None,
        }
    }

    /// Whether it matters what endpoints say of their load.
    pub fn hears_load(&self) -> bool {
        self.utilization().is_some()
    }

    /// Takes note of what an endpoint says of its load, if it does.
    pub fn hear_load(&self, endpoint: &EndpointState, headers: &HeaderMap, now: Instant) {
        let Some(rule) = self.utilization() else { return };
        let Some(report) = LoadReport::read(headers) else { return };
        let heard = report.is_ok_and(|report| endpoint.note_load(rule, &report, now));
        let count = if heard { &self.heard } else { &self.unusable };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many reports made a weight, and how many could not, where they matter.
    #[must_use]
    pub fn load_reports(&self) -> Option<[u64; 2]> {
        self.utilization().map(|_| [self.heard.load(Ordering::Relaxed), self.unusable.load(Ordering::Relaxed)])
    }

    /// An endpoint, in proportion to the weights. Those in `avoid` get it only if there is no other.
    /// `key`: hash of what a destination that hashes looks at; `random` yields a number below its argument.
    pub fn pick(
        &self,
        set: &EndpointSet,
        key: Option<u64>,
        avoid: &[SocketAddr],
        random: &mut dyn FnMut(u32) -> u32,
    ) -> Option<Arc<EndpointState>> {
        if let [only] = set.pool.states.as_ref() {
            return Some(only.clone());
        }
        if let Some(groups) = &set.groups {
            return self.pick_grouped(groups, key, avoid, random);
        }
        self.pick_in(&set.pool, key, avoid, random)
    }

    /// An endpoint that is nearer or farther than those that got the tries in `past`, for a try that is to go elsewhere. None: there
    /// is none. What hashes does not count: whom a key leads to has had its try.
    pub fn pick_elsewhere(
        &self,
        set: &EndpointSet,
        past: &[SocketAddr],
        avoid: &[SocketAddr],
        random: &mut dyn FnMut(u32) -> u32,
    ) -> Option<Arc<EndpointState>> {
        let pool = set.tiers.as_ref()?.beyond(past, random)?;
        self.pick_in(pool, None, avoid, random)
    }

    /// An endpoint of a group; if all of it is avoided, of another one.
    #[cold]
    fn pick_grouped(
        &self,
        groups: &Groups,
        key: Option<u64>,
        avoid: &[SocketAddr],
        random: &mut dyn FnMut(u32) -> u32,
    ) -> Option<Arc<EndpointState>> {
        let ticket = key.map_or_else(|| random(WHOLE), Groups::ticket_of);
        let found = self.pick_in(groups.at(ticket)?, key, avoid, random)?;
        if !avoid.contains(&found.address) {
            return Some(found);
        }
        let is_new = |state: &Arc<EndpointState>| !avoid.contains(&state.address);
        for _ in 0..THROWS {
            let other = self.pick_in(groups.at(random(WHOLE))?, key, avoid, random)?;
            if is_new(&other) {
                return Some(other);
            }
        }
        // Those that the throws miss get little.
        let mut others = groups.pools.iter().filter_map(|pool| Self::search(pool, avoid, random));
        Some(others.find(|&other| is_new(other)).cloned().unwrap_or(found))
    }

    fn pick_in(
        &self,
        pool: &Pool,
        key: Option<u64>,
        avoid: &[SocketAddr],
        random: &mut dyn FnMut(u32) -> u32,
    ) -> Option<Arc<EndpointState>> {
        if let (Some(table), Some(key)) = (&pool.table, key)
            && let Some(state) = Self::look_up(table, pool, key, avoid)
        {
            return Some(state.clone());
        }
        for _ in 0..THROWS {
            let state = self.throw(pool, random)?;
            if avoid.is_empty() || !avoid.contains(&state.address) {
                return Some(state.clone());
            }
        }
        Self::search(pool, avoid, random).cloned()
    }

    fn throw<'a>(&self, pool: &'a Pool, random: &mut dyn FnMut(u32) -> u32) -> Option<&'a Arc<EndpointState>> {
        if pool.total == 0 {
            return None;
        }
        match &self.policy {
            Balancing::Random | Balancing::Hash(_) => pool.at(random(pool.total)),
            Balancing::RoundRobin | Balancing::BackendUtilization(_) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                if pool.sums.is_empty() {
                    return pool.at(turn % pool.total);
                }
                let spread = (u64::from(turn.wrapping_mul(STRIDE)) * u64::from(pool.total)) >> u32::BITS;
                pool.at(u32::try_from(spread).unwrap_or(0))
            }
            Balancing::LeastRequest => {
                let (first, second) = Self::two(pool, random);
                let (one, other) = (pool.states.get(first)?, pool.states.get(second)?);
                Some(if pool.load(second, other) < pool.load(first, one) { other } else { one })
            }
        }
    }

    /// The endpoint that the key leads to, or the next one that is not avoided.
    fn look_up<'a>(table: &Table, pool: &'a Pool, key: u64, avoid: &[SocketAddr]) -> Option<&'a Arc<EndpointState>> {
        let place = table.place(key);
        let along = (place..place.saturating_add(STEPS)).map_while(|place| pool.states.get(table.at(place)?));
        along.into_iter().find(|state| avoid.is_empty() || !avoid.contains(&state.address))
    }

    /// Places of two endpoints by weight; different ones if the weights are equal.
    fn two(pool: &Pool, random: &mut dyn FnMut(u32) -> u32) -> (usize, usize) {
        let first = random(pool.total);
        let second = if pool.sums.is_empty() && pool.total > 1 {
            let other = random(pool.total - 1);
            if other >= first { other + 1 } else { other }
        } else {
            random(pool.total)
        };
        (pool.place(first), pool.place(second))
    }

    /// Any endpoint that is not avoided, from a random place on; else any at all.
    fn search<'a>(
        pool: &'a Pool,
        avoid: &[SocketAddr],
        random: &mut dyn FnMut(u32) -> u32,
    ) -> Option<&'a Arc<EndpointState>> {
        let count = u32::try_from(pool.states.len()).unwrap_or(u32::MAX);
        let start = if count == 0 { 0 } else { random(count) as usize };
        let from_start = pool.states.iter().cycle().skip(start).take(pool.states.len());
        from_start.clone().find(|state| !avoid.contains(&state.address)).or_else(|| from_start.clone().next())
    }
}
