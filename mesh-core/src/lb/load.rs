//! Weights of endpoints by the load that they report, as Envoy's `client_side_weighted_round_robin` has them: workers note what an answer
//! says, and weights are made of it now and then, when a set is. The clock is passed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{EndpointState, LoadReport};
use crate::model::Utilization;

/// Weights are not made oftener.
const SHORTEST: Duration = Duration::from_millis(100);
/// Weights count in steps of this part.
const FINE: f64 = 1024.0;
/// No report, or none since the last weight expired.
const NEVER: u64 = u64::MAX;

/// What an endpoint has said. It goes on as long as its address is among the destination's endpoints.
#[derive(Debug)]
pub struct Load {
    /// When it said something for the first time: times are counted from here.
    first: Instant,
    /// By the last report; bits of a number.
    weight: AtomicU64,
    /// Milliseconds: since when it has been saying something.
    since: AtomicU64,
    /// Milliseconds: when it said something the last time.
    last: AtomicU64,
    /// What counted when weights were made the last time; bits of a number, of zero if nothing did.
    in_force: AtomicU64,
}

impl Load {
    fn new(now: Instant) -> Load {
        let zero = AtomicU64::default;
        Load { first: now, weight: zero(), since: AtomicU64::new(NEVER), last: zero(), in_force: zero() }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.first).as_millis()).unwrap_or(NEVER - 1)
    }

    fn note(&self, weight: f64, now: Instant) {
        let at = self.millis(now);
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
        self.last.fetch_max(at, Ordering::Relaxed);
        let _ = self.since.compare_exchange(NEVER, at, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Its weight, if that counts: it has been saying something for long enough, and not too long ago. A weight that expired must
    /// settle anew.
    fn settle(&self, rule: &Utilization, now: Instant) -> Option<f64> {
        let (at, since) = (self.millis(now), self.since.load(Ordering::Relaxed));
        let millis = |period: Duration| u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        let silent = at.saturating_sub(self.last.load(Ordering::Relaxed));
        let weight = if since == NEVER {
            None
        } else if silent > millis(rule.expiration) {
            self.since.store(NEVER, Ordering::Relaxed);
            None
        } else {
            let has_settled = at.saturating_sub(since) >= millis(rule.stabilization);
            has_settled.then(|| f64::from_bits(self.weight.load(Ordering::Relaxed)))
        };
        self.in_force.store(weight.unwrap_or(0.0).to_bits(), Ordering::Relaxed);
        weight
    }
}

impl EndpointState {
    /// Takes note of what it says of its load. False: its weight cannot be told by that.
    pub fn note_load(&self, rule: &Utilization, report: &LoadReport, now: Instant) -> bool {
        let Some(weight) = report.weight(rule) else { return false };
        self.load.get_or_init(|| Arc::new(Load::new(now))).note(weight, now);
        true
    }

    /// The weight that counts by its reports, if one does.
    #[must_use]
    pub fn load_weight(&self) -> Option<f64> {
        let weight = f64::from_bits(self.load.get()?.in_force.load(Ordering::Relaxed));
        (weight > 0.0).then_some(weight)
    }
}

/// Decides which weights count, and yields the one of endpoints that have none: the median.
pub(super) fn settle(states: &[Arc<EndpointState>], rule: &Utilization, now: Instant) -> f64 {
    let mut weights: Vec<f64> = states.iter().filter_map(|state| state.load.get()?.settle(rule, now)).collect();
    let middle = weights.len() / 2;
    if weights.is_empty() {
        return 1.0;
    }
    *weights.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// In whole numbers.
pub(super) fn whole(weight: f64) -> u64 {
    // Saturates.
    ((weight * FINE) as u64).max(1)
}

impl Utilization {
    /// When weights are to be made anew.
    pub(super) fn next(&self, now: Instant) -> Instant {
        now + self.update.max(SHORTEST)
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
