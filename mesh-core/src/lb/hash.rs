//! From keys to endpoints: tables that change little when endpoints come and go. They are made when the endpoints change, and
//! looked up in O(log n) (ring) or O(1) (Maglev). All proxies make the same table of the same endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::EndpointState;
use crate::model::HashTable;

/// Points or slots of one table at most: 8 MiB.
const MOST: usize = 1 << 20;
/// Points of an endpoint at least, where there are so many endpoints that not all get what they should.
const FEWEST_POINTS: u64 = 16;

/// The hash of a key. The same in all proxies and versions: what is said about a key must not change with an upgrade.
#[must_use]
pub fn hash_key(bytes: &[u8]) -> u64 {
    // FNV-1a, whose highest bits are not good enough by themselves.
    let hash = bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3));
    mix(hash)
}

/// The hash of a client's address. An IPv4 address in IPv6's form is the same client.
#[must_use]
pub fn hash_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => hash_key(&address.octets()),
        IpAddr::V6(address) => hash_key(&address.octets()),
    }
}

/// The finalizer of SplitMix64.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn hash_endpoint(address: SocketAddr) -> u64 {
    mix(hash_address(address.ip()) ^ u64::from(address.port()))
}

/// The table of one set of endpoints.
#[derive(Debug)]
pub(super) enum Table {
    /// Points in the order of the ring: the upper half is the place, the lower half the index of the endpoint.
    Ring(Box<[u64]>),
    /// Index of the endpoint of each slot.
    Maglev(Box<[u32]>),
}

impl Table {
    pub fn build(kind: HashTable, states: &[Arc<EndpointState>]) -> Table {
        match kind {
            HashTable::Ring { minimum } => Table::Ring(ring(states, minimum)),
            HashTable::Maglev { size } => Table::Maglev(maglev(states, size as usize)),
        }
    }

    /// Where a key leads. Places behind it lead to other endpoints, by and by.
    pub fn place(&self, key: u64) -> usize {
        match self {
            Table::Ring(points) => place_on_ring(points, key >> u32::BITS),
            Table::Maglev(slots) => {
                let slot = key.checked_rem(slots.len() as u64).unwrap_or(0);
                usize::try_from(slot).unwrap_or(0)
            }
        }
    }

    /// The index of the endpoint at a place; behind the last place is the first.
    pub fn at(&self, place: usize) -> Option<usize> {
        match self {
            Table::Ring(points) => {
                let point = points.get(place.checked_rem(points.len())?)?;
                usize::try_from(point & u64::from(u32::MAX)).ok()
            }
            Table::Maglev(slots) => slots.get(place.checked_rem(slots.len())?).map(|index| *index as usize),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        match self {
            Table::Ring(points) => points.len(),
            Table::Maglev(slots) => slots.len(),
        }
    }
}

/// The first point that is not before the place. Points are spread evenly, so that it is near where it would be if they were
/// equally far from one another: that costs few misses of the cache, however large the ring.
fn place_on_ring(points: &[u64], place: u64) -> usize {
    let is_before = |point: &u64| point >> u32::BITS < place;
    let guess = usize::try_from((place * points.len() as u64) >> u32::BITS).unwrap_or(0);
    let (mut from, mut to, mut step) = (guess, guess, 8);
    while from > 0 && !points.get(from.saturating_sub(1)).is_some_and(is_before) {
        from = from.saturating_sub(step);
        step *= 2;
    }
    step = 8;
    while points.get(to).is_some_and(is_before) {
        to = to.saturating_add(step);
        step *= 2;
    }
    let to = to.min(points.len());
    from + points.get(from..to).unwrap_or_default().partition_point(is_before)
}

fn weight(state: &EndpointState) -> u64 {
    u64::from(state.endpoint.weight.max(1))
}

/// The number of points of an endpoint does not depend on how many others there are, as long as the ring is below [`MOST`]: so
/// only keys move whose endpoint went, or that go to one that came.
fn ring(states: &[Arc<EndpointState>], minimum: u32) -> Box<[u64]> {
    let lightest = states.iter().map(|state| weight(state)).min().unwrap_or(1);
    // A power of two: a new lightest endpoint that is about as light as the one before changes nothing.
    let unit = 1_u64 << lightest.ilog2();
    // Two endpoints make the ring as large as it must be; where there is one only, its size is of no account.
    let mut per_unit = u64::from(minimum.div_ceil(2)).next_power_of_two();
    let points = |state: &EndpointState, per_unit: u64| (weight(state).saturating_mul(per_unit) / unit).max(1);
    let total = |per_unit| states.iter().map(|state| points(state, per_unit)).fold(0_u64, u64::saturating_add);
    while per_unit > FEWEST_POINTS && total(per_unit) > MOST as u64 {
        per_unit /= 2;
    }
    // Weights that are very different: the heaviest lose points, the lightest have few.
    let most = (MOST / states.len().max(1)).max(1) as u64;
    let capped = total(per_unit) > MOST as u64;
    let mut ring = Vec::new();
    for (index, state) in (0_u32..).zip(states) {
        let own = points(state, per_unit);
        let own = if capped { own.min(most) } else { own };
        let base = hash_endpoint(state.address);
        let places = (0..own).map(|number| mix(base.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
        ring.extend(places.map(|place| (place >> u32::BITS << u32::BITS) | u64::from(index)));
    }
    ring.sort_unstable();
    ring.into()
}

/// Maglev (Eisenbud et al., NSDI 2016, section 3.4): each endpoint in turn takes the next free slot of its own order of all
/// slots; a lighter one misses turns.
fn maglev(states: &[Arc<EndpointState>], size: usize) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    let mut endpoints: Vec<(u32, &Arc<EndpointState>)> = (0..FREE).zip(states).collect();
    // The turns must be the same in all proxies.
    endpoints.sort_by_key(|(_, state)| state.address);
    let heaviest = endpoints.iter().map(|(_, state)| weight(state)).max().unwrap_or(1);
    let mut slots = vec![FREE; size];
    let (mut left, mut turn) = (if endpoints.is_empty() { 0 } else { size }, 0_u64);
    let mut takers: Vec<Taker> = endpoints.iter().map(|(index, state)| Taker::new(*index, state, size)).collect();
    while left > 0 {
        turn = turn.saturating_add(1);
        for taker in &mut takers {
            if left == 0 {
                break;
            }
            if turn.saturating_mul(taker.weight) < taker.due {
                continue;
            }
            taker.due = taker.due.saturating_add(heaviest);
            if taker.take(&mut slots, FREE) {
                left -= 1;
            }
        }
    }
    slots.into()
}

/// An endpoint that takes slots.
struct Taker {
    index: u32,
    weight: u64,
    /// Its turn comes when the turns, times its weight, are so many.
    due: u64,
    place: usize,
    skip: usize,
}

impl Taker {
    fn new(index: u32, state: &EndpointState, size: usize) -> Taker {
        let base = hash_endpoint(state.address);
        let within = |hash: u64, size: usize| usize::try_from(hash % size.max(1) as u64).unwrap_or(0);
        Taker {
            index,
            weight: weight(state),
            due: 0,
            place: within(base, size),
            // The size is a prime: any step leads to all slots.
            skip: within(mix(base), size.saturating_sub(1)) + 1,
        }
    }

    /// False: no slot is free.
    fn take(&mut self, slots: &mut [u32], free: u32) -> bool {
        for _ in 0..slots.len() {
            let place = self.place;
            self.place = (place + self.skip) % slots.len().max(1);
            if let Some(slot) = slots.get_mut(place).filter(|slot| **slot == free) {
                *slot = self.index;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
