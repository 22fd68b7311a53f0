//! The proxy's end: what it reports, and what it makes of a grant. What it holds is with what counts requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{LENT_FOR, LimitReport, MAX_SHARED, PERIOD, QUICK, QuotaGrant, QuotaReport};
use crate::model::{Lease, Part};

/// Reports of which the answer is waited for. An answer to an older one comes too late to be of use.
const UNANSWERED: usize = 16;

/// How it stands with one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `namespace/name/limit`
    pub name: Arc<str>,
    /// Requests that it was about so far, whether they were let through or not.
    pub asked: u64,
    /// None: it was never lent anything.
    pub lease: Option<Lease>,
}

/// What a proxy knows beside its shares. All times are nanoseconds of the clock that the counts go by.
#[derive(Debug, Default)]
pub struct Holder {
    sequence: u64,
    /// Reports of this stream, and when they were sent.
    sent: VecDeque<(u64, u64)>,
    /// The last report of this stream whose answer was taken over.
    answered: u64,
    limits: BTreeMap<Arc<str>, Seen>,
    next: u64,
}

/// Of one limit.
#[derive(Debug, Default)]
struct Seen {
    asked: u64,
    at: u64,
    /// Whose answer is in force.
    granted: u64,
    /// Of a bucket, and not reported yet.
    returned: u32,
}

impl Holder {
    /// On a new stream. Answers of one before count no more.
    pub fn begin(&mut self, now: u64) {
        self.sent.clear();
        self.answered = self.sequence;
        for seen in self.limits.values_mut() {
            seen.granted = 0;
        }
        self.next = now;
    }

    /// When the next report is due.
    pub fn due(&self) -> u64 {
        self.next
    }

    /// What to say now, of all limits of which shares are lent.
    pub fn report(&mut self, held: &[Held], now: u64) -> QuotaReport {
        let held = held.get(..MAX_SHARED).unwrap_or(held);
        self.limits.retain(|name, _| held.iter().any(|held| held.name == *name));
        let limits = held.iter().map(|held| {
            let fresh = Seen { asked: held.asked, at: now, granted: 0, returned: 0 };
            self.limits.entry(Arc::clone(&held.name)).or_insert(fresh).report(held, now)
        });
        let limits = limits.collect();
        self.sequence += 1;
        self.sent.push_back((self.sequence, now));
        if self.sent.len() > UNANSWERED {
            self.sent.pop_front();
        }
        self.next = now.saturating_add(nanos(PERIOD));
        QuotaReport { sequence: self.sequence, limits }
    }

    /// Takes over what is lent, by `lend`: the limit, the lease, and how much of a bucket is there with it; how much of one is given back, or
    /// none if there is no such limit. Whether it is an answer that counts.
    pub fn on_grant(
        &mut self,
        grant: &QuotaGrant,
        now: u64,
        mut lend: impl FnMut(&str, Lease, Part) -> Option<Part>,
    ) -> bool {
        let Some((_, sent)) = self.sent.iter().find(|(sequence, _)| *sequence == grant.sequence).copied() else {
            return false;
        };
        if grant.sequence <= self.answered {
            // A later one is in force.
            return false;
        }
        self.answered = grant.sequence;
        self.sent.retain(|(sequence, _)| *sequence > grant.sequence);
        for granted in &grant.limits {
            let Some(seen) = self.limits.get_mut(&*granted.name) else { continue };
            let share = Part(granted.share).min(Part::WHOLE);
            let lasts = Duration::from_millis(granted.lasts).min(LENT_FOR);
            let until = sent.saturating_add(nanos(lasts));
            let lease = Lease { share, until, rest: Part(granted.rest).min(share) };
            let Some(returned) = lend(&granted.name, lease, Part(granted.filled)) else { continue };
            seen.returned = seen.returned.saturating_add(returned.0).min(Part::WHOLE.0);
            seen.granted = grant.sequence;
        }
        let pause = Duration::from_millis(grant.next).clamp(QUICK, 10 * PERIOD);
        self.next = now.saturating_add(nanos(pause));
        true
    }
}

impl Seen {
    fn report(&mut self, held: &Held, now: u64) -> LimitReport {
        let asked = held.asked;
        let (more, time) = (asked.saturating_sub(self.asked), now.saturating_sub(self.at).max(nanos(QUICK)));
        // In a thousand seconds.
        let demand = u128::from(more) * 1_000_000_000_000 / u128::from(time);
        (self.asked, self.at) = (asked, now);
        let lease = held.lease.unwrap_or(Lease { share: Part(0), until: 0, rest: Part(0) });
        LimitReport {
            name: held.name.to_string(),
            demand: u64::try_from(demand).unwrap_or(u64::MAX),
            share: lease.share.0,
            rest: lease.rest.0,
            left: lease.until.saturating_sub(now) / 1_000_000,
            granted: self.granted,
            returned: std::mem::take(&mut self.returned),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
