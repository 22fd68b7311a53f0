//! Circuit breaking: what goes on with a destination at a time, counted by all workers together, without a lock. Counts
//! survive swaps, also those that change the limits.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::model::Limits;

/// Slots of the time over which requests are counted that began.
const SLOTS: usize = 10;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Connections,
    Pending,
    Requests,
    Retries,
}

impl Limit {
    pub const ALL: [Limit; 4] = [Limit::Connections, Limit::Pending, Limit::Requests, Limit::Retries];

    /// For metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::Pending => "pending_requests",
            Limit::Requests => "requests",
            Limit::Retries => "retries",
        }
    }

    /// How many there may be.
    #[must_use]
    pub fn of(self, limits: &Limits) -> Option<u32> {
        match self {
            Limit::Connections => limits.connections,
            Limit::Pending => limits.pending,
            Limit::Requests => limits.requests,
            Limit::Retries => limits.retries,
        }
    }
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// What goes on with one destination now.
#[derive(Debug, Default)]
pub struct Breaker {
    counts: [Count; 4],
    /// For budgets that ask for it.
    recent: Recent,
}

#[derive(Debug, Default)]
struct Count {
    now: AtomicU32,
    overflows: AtomicU64,
}

impl Breaker {
    fn count(&self, what: Limit) -> &Count {
        let [connections, pending, requests, retries] = &self.counts;
        match what {
            Limit::Connections => connections,
            Limit::Pending => pending,
            Limit::Requests => requests,
            Limit::Retries => retries,
        }
    }

    /// Room for one more, until the permit is dropped.
    pub fn enter(self: &Arc<Self>, what: Limit, limits: &Limits) -> Result<Permit, Overflow> {
        self.enter_up_to(what, what.of(limits))
    }

    /// Room for another try of a request.
    pub fn enter_retry(self: &Arc<Self>, limits: &Limits, now: Instant) -> Result<Permit, Overflow> {
        self.enter_up_to(Limit::Retries, self.most(Limit::Retries, limits, now))
    }

    /// A request began; counted where a budget looks back.
    pub fn began(&self, limits: &Limits, now: Instant) {
        if let Some(interval) = limits.retry_budget.as_ref().and_then(|budget| budget.interval) {
            self.recent.add(now, interval);
        }
    }

    /// How many there may be now.
    #[must_use]
    pub fn most(&self, what: Limit, limits: &Limits, now: Instant) -> Option<u32> {
        let Some(budget) = limits.retry_budget.as_ref().filter(|_| what == Limit::Retries) else {
            return what.of(limits);
        };
        let open = u64::from(self.now(Limit::Requests)) + u64::from(self.now(Limit::Pending));
        let recent = budget.interval.map_or(0, |interval| self.recent.count(now, interval));
        Some(budget.most(open.max(recent)))
    }

    fn enter_up_to(self: &Arc<Self>, what: Limit, limit: Option<u32>) -> Result<Permit, Overflow> {
        let Some(limit) = limit else { return Ok(self.force(what)) };
        let count = self.count(what);
        let one_more = |now: u32| (now < limit).then(|| now.saturating_add(1));
        match count.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Permit { breaker: Arc::clone(self), what }),
            Err(_) => {
                count.overflows.fetch_add(1, Ordering::Relaxed);
                Err(Overflow)
            }
        }
    }

    /// One more, whatever the limit.
    pub fn force(self: &Arc<Self>, what: Limit) -> Permit {
        self.count(what).now.fetch_add(1, Ordering::Relaxed);
        Permit { breaker: Arc::clone(self), what }
    }

    #[must_use]
    pub fn now(&self, what: Limit) -> u32 {
        self.count(what).now.load(Ordering::Relaxed)
    }

    /// How often there was no room.
    #[must_use]
    pub fn overflows(&self, what: Limit) -> u64 {
        self.count(what).overflows.load(Ordering::Relaxed)
    }
}

/// Events of the last while, in slots that are used again and again: the number of the slot since the first event in the upper half,
/// its events in the lower one.
#[derive(Debug, Default)]
struct Recent {
    start: OnceLock<Instant>,
    slots: [AtomicU64; SLOTS],
}

impl Recent {
    /// Which slot of all times it is.
    fn number(&self, now: Instant, interval: Duration) -> u32 {
        let start = *self.start.get_or_init(|| now);
        let width = (interval.as_millis() / SLOTS as u128).max(1);
        // Another turn begins after years.
        let number = now.saturating_duration_since(start).as_millis() / width;
        u32::try_from(number & u128::from(u32::MAX)).unwrap_or(0)
    }

    fn add(&self, now: Instant, interval: Duration) {
        let number = self.number(now, interval);
        let one_more = |slot: u64| match slot >> u32::BITS == u64::from(number) {
            true => Some(slot.saturating_add(1)),
            false => Some((u64::from(number) << u32::BITS) | 1),
        };
        if let Some(slot) = self.slots.get(number as usize % SLOTS) {
            let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        }
    }

    fn count(&self, now: Instant, interval: Duration) -> u64 {
        let number = self.number(now, interval);
        let slots = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let fresh = |slot: &u64| u64::from(number).checked_sub(slot >> u32::BITS).is_some_and(|age| age < SLOTS as u64);
        slots.filter(fresh).map(|slot| slot & u64::from(u32::MAX)).sum()
    }
}

/// Counts as one until it is dropped.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    what: Limit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breaker.count(self.what).now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RetryBudget, Share};

    #[test]
    fn there_is_room_up_to_the_limit() {
        let (breaker, limits) = (Arc::new(Breaker::default()), Limits { requests: Some(2), ..Limits::default() });
        let first = breaker.enter(Limit::Requests, &limits).unwrap();
        let _second = breaker.enter(Limit::Requests, &limits).unwrap();
        assert_eq!(breaker.enter(Limit::Requests, &limits).unwrap_err(), Overflow);
        assert_eq!((breaker.now(Limit::Requests), breaker.overflows(Limit::Requests)), (2, 1));
        drop(first);
        let _third = breaker.enter(Limit::Requests, &limits).unwrap();
        // The others have no limit.
        let many: Vec<_> = (0..100).map(|_| breaker.enter(Limit::Pending, &limits).unwrap()).collect();
        assert_eq!((breaker.now(Limit::Pending), breaker.overflows(Limit::Pending)), (100, 0));
        drop(many);
        assert_eq!(breaker.now(Limit::Pending), 0);
        let _forced = breaker.force(Limit::Requests);
        assert_eq!(breaker.now(Limit::Requests), 3);
        // A limit that was lowered lets nobody in until enough are gone.
        assert!(breaker.enter(Limit::Requests, &Limits { requests: Some(0), ..limits }).is_err());
    }

    #[test]
    fn a_budget_is_a_share_of_what_goes_on_or_went_on() {
        let (breaker, start) = (Arc::new(Breaker::default()), Instant::now());
        let budget = RetryBudget { share: Share::of_percent(20.0), at_least: 3, interval: None };
        // It counts in place of the fixed limit.
        let limits = Limits { retries: Some(1), retry_budget: Some(budget.clone()), ..Limits::default() };
        let most = |limits: &Limits, now| breaker.most(Limit::Retries, limits, now);
        assert_eq!(most(&limits, start), Some(3));
        let mut busy: Vec<_> = (0..24).map(|_| breaker.enter(Limit::Requests, &limits).unwrap()).collect();
        busy.extend((0..6).map(|_| breaker.enter(Limit::Pending, &limits).unwrap()));
        assert_eq!(most(&limits, start), Some(6));
        let retries: Vec<_> = (0..6).map(|_| breaker.enter_retry(&limits, start).unwrap()).collect();
        assert_eq!(breaker.enter_retry(&limits, start).unwrap_err(), Overflow);
        assert_eq!((breaker.now(Limit::Retries), breaker.overflows(Limit::Retries)), (6, 1));
        drop((retries, busy));
        assert_eq!(most(&limits, start), Some(3));
        // Those of the last ten seconds count, too.
        let interval = Some(Duration::from_secs(10));
        let limits = Limits { retry_budget: Some(RetryBudget { interval, ..budget }), ..Limits::default() };
        for second in 0..20 {
            (0..5).for_each(|_| breaker.began(&limits, start + Duration::from_secs(second)));
        }
        assert_eq!(most(&limits, start + Duration::from_secs(19)), Some(10));
        assert_eq!(most(&limits, start + Duration::from_secs(24)), Some(5));
        assert_eq!(most(&limits, start + Duration::from_secs(60)), Some(3));
        // Nothing but what is always allowed.
        let nothing = RetryBudget { share: Share::of_percent(0.0), at_least: 1, interval };
        let limits = Limits { retry_budget: Some(nothing), ..Limits::default() };
        assert_eq!(most(&limits, start + Duration::from_secs(19)), Some(1));
    }

    /// However they meet, never more are in than may be.
    #[test]
    fn threads_share_the_limit() {
        let (breaker, limits) = (Arc::new(Breaker::default()), Limits { retries: Some(3), ..Limits::default() });
        let let_in: u64 = std::thread::scope(|scope| {
            let one = || {
                let mut let_in = 0;
                for _ in 0..2000 {
                    if let Ok(_permit) = breaker.enter(Limit::Retries, &limits) {
                        assert!(breaker.now(Limit::Retries) <= 3);
                        let_in += 1;
                    }
                }
                let_in
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(let_in + breaker.overflows(Limit::Retries), 16_000);
        assert_eq!(breaker.now(Limit::Retries), 0);
    }
}
