//! Buckets of many clients, a bounded number of them. Neither locks nor waits: a bucket is found, or made, by a few compare-and-swaps
//! among the sixteen places that its hash allows. A bucket that is full again means as much as none, so its place is free; where all
//! sixteen are in use, the one that is nearest to full goes, which forgives its client a little.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const WAYS: usize = 16;

/// Sixteen places.
type Set = [Place; WAYS];

#[derive(Debug, Default)]
struct Place {
    /// Hash of what it is for; 0: nothing yet.
    hash: AtomicU64,
    full_at: AtomicU64,
}

#[derive(Debug)]
pub struct Buckets {
    /// How many sets there may be.
    most: usize,
    /// Where they are: made, as each of them, when it is first needed. A limit that nobody asks takes no room.
    sets: OnceLock<Box<[OnceLock<Box<Set>>]>>,
    /// In the place of a set, where there is none.
    common: AtomicU64,
    evicted: AtomicU64,
}

impl Buckets {
    /// At most so many, rounded up to a multiple of 16.
    pub fn new(most: u32) -> Buckets {
        let most = usize::try_from(most).unwrap_or(usize::MAX).div_ceil(WAYS).max(1);
        Buckets { most, sets: OnceLock::new(), common: AtomicU64::default(), evicted: AtomicU64::default() }
    }

    /// The bucket of a hash; a new one is full.
    pub fn get(&self, hash: u64, now: u64) -> &AtomicU64 {
        let Some(set) = self.set(hash) else { return &self.common };
        let hash = hash.max(1);
        loop {
            let mut spare: Option<(&Place, u64, u64)> = None;
            for place in set {
                let of = place.hash.load(Ordering::Relaxed);
                if of == hash {
                    return &place.full_at;
                }
                let full_at = place.full_at.load(Ordering::Relaxed);
                // The first that is full, so that all who look for one at a time agree; else the fullest.
                let better = spare.is_none_or(|(_, _, best)| best > now && full_at < best);
                if better {
                    spare = Some((place, of, full_at));
                }
            }
            let Some((place, of, full_at)) = spare else { return &self.common };
            if place.hash.compare_exchange(of, hash, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                if full_at > now {
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                    place.full_at.store(0, Ordering::Relaxed);
                }
                return &place.full_at;
            }
        }
    }

    fn set(&self, hash: u64) -> Option<&Set> {
        // The upper half says where, by multiplication: no remainder to be computed.
        let at = (u128::from(hash) * self.most as u128) >> 64;
        let sets = self.sets.get_or_init(|| (0..self.most).map(|_| OnceLock::new()).collect());
        let set = sets.get(usize::try_from(at).ok()?)?;
        Some(set.get_or_init(Box::default))
    }

    /// How many are not full.
    pub fn in_use(&self, now: u64) -> usize {
        let sets = self.sets.get().into_iter().flatten().filter_map(OnceLock::get);
        let in_use =
            |place: &&Place| place.hash.load(Ordering::Relaxed) != 0 && place.full_at.load(Ordering::Relaxed) > now;
        sets.flat_map(|set| set.iter()).filter(in_use).count()
    }

    /// How often one had to go that was not full.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asks_takes_no_room() {
        let buckets = Buckets::new(65_536);
        assert_eq!((buckets.in_use(0), buckets.sets.get().is_none()), (0, true));
        buckets.get(u64::MAX, 0).store(1, Ordering::Relaxed);
        let sets = buckets.sets.get().unwrap();
        assert_eq!((sets.len(), sets.iter().filter_map(OnceLock::get).count(), buckets.in_use(0)), (4_096, 1, 1));
    }
}
