//! How many requests are let through: token buckets, each kept as the one moment at which it will be full again (the generic cell rate
//! algorithm). A request moves that moment by one compare-and-swap.

use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Buckets, Moment, ShareCell};
use crate::model::{Lease, LimitAmount, Part};

/// A rate, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In which one token comes.
    interval: u64,
    /// In which an empty bucket is filled: `burst` times that.
    fill: u64,
    /// Tokens of a full bucket.
    burst: u32,
}

/// What is left after a request was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub remaining: u32,
    /// Until the bucket is full.
    pub full_in: Duration,
}

/// There is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Until there is one.
    pub retry_in: Duration,
    /// Until the bucket is full.
    pub full_in: Duration,
}

impl Rate {
    pub fn new(amount: &LimitAmount) -> Rate {
        let per = u64::try_from(amount.per.as_nanos()).unwrap_or(u64::MAX);
        // Far from the end of time, so that sums of two stay below it.
        let longest = u64::MAX / 8;
        let interval = (per / u64::from(amount.requests.max(1))).clamp(1, longest);
        Rate {
            interval,
            fill: interval.saturating_mul(u64::from(amount.burst.max(1))).min(longest),
            burst: amount.burst,
        }
    }

    /// Tokens of a full bucket.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Takes a token. The time of the moment: nanoseconds since any moment that stays the same.
    pub fn take(&self, bucket: &AtomicU64, moment: &Moment) -> Result<Level, Exhausted> {
        let mut full_at = bucket.load(Ordering::Relaxed);
        let of = |time| Duration::from_nanos(moment.really(time));
        loop {
            // Who would have to wait longer than an empty bucket takes has no token.
            let next = full_at.max(moment.full_at()).saturating_add(self.interval);
            let full_in = next.saturating_sub(moment.at);
            // As full as it gets here.
            let reset = |full_in: u64| of(full_in.saturating_sub(moment.lacking));
            if let Some(missing) = full_in.checked_sub(self.fill).filter(|missing| *missing > 0) {
                let full_in = full_in.saturating_sub(self.interval);
                return Err(Exhausted { retry_in: of(missing), full_in: reset(full_in) });
            }
            match bucket.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let left = self.fill.saturating_sub(full_in) / self.interval;
                    let remaining = u32::try_from(left).unwrap_or(u32::MAX);
                    return Ok(Level { remaining, full_in: reset(full_in) });
                }
                Err(seen) => full_at = seen,
            }
        }
    }

    /// The token of a request that was not let through after all.
    pub fn give_back(&self, bucket: &AtomicU64) {
        let less = |full_at: u64| Some(full_at.saturating_sub(self.interval));
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// What one limit has counted. It outlives the tables for as long as they say the same of it.
#[derive(Debug)]
pub struct RateCount {
    /// `namespace/name/limit`
    pub name: Arc<str>,
    amount: LimitAmount,
    pub rate: Rate,
    /// By which the values are hashed that requests are told apart by: whoever sees the hashes cannot guess them, and nobody can
    /// choose values that meet in one place.
    pub secret: RandomState,
    single: AtomicU64,
    /// None: one bucket for all.
    buckets: Option<Buckets>,
    refused: AtomicU64,
    /// None: it is all ours.
    share: Option<Arc<ShareCell>>,
}

impl RateCount {
    /// `share`: of a limit that others count, too.
    pub fn new(name: Arc<str>, amount: &LimitAmount, secret: RandomState, share: Option<Arc<ShareCell>>) -> RateCount {
        RateCount {
            name,
            rate: Rate::new(amount),
            secret,
            single: AtomicU64::default(),
            buckets: (!amount.by.is_empty()).then(|| Buckets::new(amount.max_buckets)),
            refused: AtomicU64::default(),
            share,
            amount: amount.clone(),
        }
    }

    /// Whether it is of this limit.
    pub fn is_of(&self, name: &str, amount: &LimitAmount) -> bool {
        *self.name == *name && self.amount == *amount
    }

    /// The time that its buckets go by. `now`: nanoseconds since any moment that stays the same.
    pub fn moment(&self, now: u64) -> Moment {
        match &self.share {
            Some(share) => share.moment(now, self.rate.fill, self.rate.interval),
            None => Moment::whole(now),
        }
    }

    /// The bucket of this hash of values.
    pub fn bucket(&self, hash: u64, moment: &Moment) -> &AtomicU64 {
        self.buckets.as_ref().map_or(&self.single, |buckets| buckets.get(hash, moment.full_at()))
    }

    /// Notes a request that it is about, for whoever shares it out.
    pub fn ask(&self) {
        if let Some(share) = &self.share {
            share.ask();
        }
    }

    /// What is ours of a limit that others count, too.
    pub fn share(&self) -> Option<&Arc<ShareCell>> {
        self.share.as_ref()
    }

    /// Takes over what is lent, and `filled` of a bucket with it; how much of one is given back. Where there are many, nothing is known of
    /// what is in them: they fill with the time, and nothing is given back.
    pub fn lend(&self, lease: Lease, filled: Part, now: u64) -> Part {
        let Some(share) = &self.share else { return Part(0) };
        let Rate { interval, fill, .. } = self.rate;
        let clock = share.moment(now, fill, interval).at;
        let (before, after, filled) = share.renew(lease, filled, now, fill, interval);
        if self.buckets.is_some() {
            return Part(0);
        }
        let more = |full_at: u64| Some(full_at.saturating_sub(filled));
        let full_at = self.single.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).unwrap_or(0);
        let level = fill.saturating_sub(full_at.saturating_sub(clock)).min(before);
        Part::from(level.saturating_sub(after), fill)
    }

    /// Notes a request that was not let through.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were not let through.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many buckets are not as full as they get.
    pub fn in_use(&self, now: u64) -> usize {
        self.buckets.as_ref().map_or(0, |buckets| buckets.in_use(self.moment(now).full_at()))
    }

    /// None: there is one for all requests.
    pub fn buckets(&self) -> Option<&Buckets> {
        self.buckets.as_ref()
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
