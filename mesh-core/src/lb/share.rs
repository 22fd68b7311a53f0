//! A proxy's share of a limit that several proxies count together. Shares are lent for a short time, and what
//! they say is a clock: time passes for a bucket as much slower as the share is smaller, so that buckets need not be touched when a
//! share changes. A lease that ends needs nobody to notice it, either: the clock just goes on at the speed of what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::model::{Lease, Part};

/// What the clock of buckets says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// On the clock of the buckets.
    pub at: u64,
    /// How much of a whole bucket there is none of here.
    pub lacking: u64,
    speed: Part,
}

impl Moment {
    /// Of a limit that is nobody else's.
    pub fn whole(now: u64) -> Moment {
        Moment { at: now, lacking: 0, speed: Part::WHOLE }
    }

    /// Buckets that are full by this clock are as full as they get.
    pub fn full_at(&self) -> u64 {
        self.at.saturating_add(self.lacking)
    }

    /// How long it really takes.
    pub(super) fn really(&self, time: u64) -> u64 {
        if self.speed == Part::WHOLE { time } else { self.speed.stretched(time) }
    }
}

/// A lease, and how far the clock was when it began.
#[derive(Clone, Copy, Debug)]
struct Share {
    lease: Lease,
    since: u64,
    clock: u64,
    /// How much fits into a bucket at `since`. It grows no faster than tokens come: what another proxy had of it may be spent.
    room: u64,
}

impl Share {
    fn begun(now: u64) -> Share {
        let lease = Lease { share: Part::START, until: 0, rest: Part::START };
        Share { lease, since: now, clock: now, room: 0 }
    }

    /// The clock, and how much fits into a bucket of which `whole` is the whole and `token` one request.
    fn at(&self, now: u64, whole: u64, token: u64) -> (u64, u64) {
        let now = now.max(self.since);
        let turn = self.lease.until.clamp(self.since, now);
        let first = self.lease.share.of(turn - self.since);
        let second = self.lease.rest.of(now - turn);
        let mut room = self.room;
        if turn > self.since {
            room = room.saturating_add(first).min(self.lease.share.of(whole));
        }
        if now >= self.lease.until {
            room = room.saturating_add(second).min(self.lease.rest.of(whole));
        }
        (self.clock.saturating_add(first).saturating_add(second), room.max(token).min(whole))
    }
}

/// The share of one limit, and how much it was asked for. Requests read it; who speaks with the controller writes it.
#[derive(Debug)]
pub struct ShareCell {
    share: ArcSwap<Share>,
    asked: AtomicU64,
    /// Whether it was ever lent.
    lent: AtomicU64,
}

impl ShareCell {
    pub fn new(now: u64) -> Arc<ShareCell> {
        let share = ArcSwap::from_pointee(Share::begun(now));
        Arc::new(ShareCell { share, asked: AtomicU64::default(), lent: AtomicU64::default() })
    }

    pub(super) fn moment(&self, now: u64, whole: u64, token: u64) -> Moment {
        let share = self.share.load();
        let (at, room) = share.at(now, whole, token);
        Moment { at, lacking: whole.saturating_sub(room), speed: share.lease.now(now) }
    }

    pub(super) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests so far, whether they were let through or not.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub fn lease(&self) -> Lease {
        self.share.load().lease
    }

    /// Whether it does with what is left of a lease that ended, or was never lent anything.
    pub fn is_alone(&self, now: u64) -> bool {
        now >= self.lease().until
    }

    /// What is lent; none: it was never lent anything.
    pub fn held(&self) -> Option<Lease> {
        (self.lent() > 0).then(|| self.lease())
    }

    /// Leases taken over so far.
    pub fn lent(&self) -> u64 {
        self.lent.load(Ordering::Relaxed)
    }

    /// Takes a lease over, and `filled` of a bucket with it. `whole`, `token`: of the limit. How much fitted into a bucket before, and fits
    /// now; and by how much it is fuller.
    pub(super) fn renew(&self, lease: Lease, filled: Part, now: u64, whole: u64, token: u64) -> (u64, u64, u64) {
        let (clock, before) = self.share.load().at(now, whole, token);
        let filled = filled.of(whole);
        let room = before.saturating_add(filled).min(lease.now(now).of(whole));
        self.share.store(Arc::new(Share { lease, since: now, clock, room }));
        self.lent.fetch_add(1, Ordering::Relaxed);
        (before, room.max(token).min(whole), filled)
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
