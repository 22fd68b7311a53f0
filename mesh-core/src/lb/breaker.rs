//! Circuit breaking: what goes on with a destination at a time, counted by all workers together, without a lock. Counts
//! survive swaps, also those that change the limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::model::Limits;

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
        let Some(limit) = what.of(limits) else { return Ok(self.force(what)) };
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
