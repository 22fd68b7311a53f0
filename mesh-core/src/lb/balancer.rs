//! The policies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::hash::Table;
use super::{EndpointSet, EndpointState};
use crate::model::Balancing;

/// How often a pick that hits an avoided endpoint is thrown again before the set is searched.
const THROWS: usize = 4;
/// Places behind that of a key that are looked at for an endpoint that is not avoided.
const STEPS: usize = 64;
/// Steps of the round robin: a stride near the golden ratio of 2^32, so that weighted turns are spread evenly.
const STRIDE: u32 = 0x9E37_79B9;

/// Picks endpoints by one policy. Its only state is the turn of the round robin.
#[derive(Debug)]
pub struct Balancer {
    policy: Balancing,
    turn: AtomicU32,
}

impl Balancer {
    pub fn new(policy: Balancing) -> Balancer {
        Balancer { policy, turn: AtomicU32::new(0) }
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
        if let [only] = set.states.as_ref() {
            return Some(only.clone());
        }
        if let (Some(table), Some(key)) = (&set.table, key)
            && let Some(state) = Self::look_up(table, set, key, avoid)
        {
            return Some(state.clone());
        }
        for _ in 0..THROWS {
            let state = self.throw(set, random)?;
            if avoid.is_empty() || !avoid.contains(&state.address) {
                return Some(state.clone());
            }
        }
        Self::search(set, avoid, random).cloned()
    }

    fn throw<'a>(&self, set: &'a EndpointSet, random: &mut dyn FnMut(u32) -> u32) -> Option<&'a Arc<EndpointState>> {
        if set.total == 0 {
            return None;
        }
        match &self.policy {
            Balancing::Random | Balancing::Hash(_) => set.at(random(set.total)),
            Balancing::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                if set.sums.is_empty() {
                    return set.at(turn % set.total);
                }
                let spread = (u64::from(turn.wrapping_mul(STRIDE)) * u64::from(set.total)) >> u32::BITS;
                set.at(u32::try_from(spread).unwrap_or(0))
            }
            Balancing::LeastRequest => {
                let (first, second) = Self::two(set, random)?;
                Some(if second.load() < first.load() { second } else { first })
            }
        }
    }

    /// The endpoint that the key leads to, or the next one that is not avoided.
    fn look_up<'a>(
        table: &Table,
        set: &'a EndpointSet,
        key: u64,
        avoid: &[SocketAddr],
    ) -> Option<&'a Arc<EndpointState>> {
        let place = table.place(key);
        let along = (place..place.saturating_add(STEPS)).map_while(|place| set.states.get(table.at(place)?));
        along.into_iter().find(|state| avoid.is_empty() || !avoid.contains(&state.address))
    }

    /// Two endpoints by weight; different ones if the weights are equal.
    fn two<'a>(
        set: &'a EndpointSet,
        random: &mut dyn FnMut(u32) -> u32,
    ) -> Option<(&'a Arc<EndpointState>, &'a Arc<EndpointState>)> {
        let first = random(set.total);
        let second = if set.sums.is_empty() && set.total > 1 {
            let other = random(set.total - 1);
            if other >= first { other + 1 } else { other }
        } else {
            random(set.total)
        };
        Some((set.at(first)?, set.at(second)?))
    }

    /// Any endpoint that is not avoided, from a random place on; else any at all.
    fn search<'a>(
        set: &'a EndpointSet,
        avoid: &[SocketAddr],
        random: &mut dyn FnMut(u32) -> u32,
    ) -> Option<&'a Arc<EndpointState>> {
        let count = u32::try_from(set.states.len()).unwrap_or(u32::MAX);
        let start = if count == 0 { 0 } else { random(count) as usize };
        let from_start = set.states.iter().cycle().skip(start).take(set.states.len());
        from_start.clone().find(|state| !avoid.contains(&state.address)).or_else(|| from_start.clone().next())
    }
}
