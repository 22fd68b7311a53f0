//! Outlier detection, as Envoy does it: workers count failures in a row of each endpoint and say when there are too many; who
//! keeps the endpoints then decides whether it is ejected, and when it comes back. The clock is passed in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::model::OutlierDetection;

/// No ejection lasts longer, unless the base time does (Envoy's `max_ejection_time`).
const LONGEST: Duration = Duration::from_secs(300);

/// What came of a try at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryResult {
    /// An HTTP status, or what a gRPC status means as one.
    Answered(u16),
    /// A connection for bytes was made.
    Connected,
    /// No connection, or none that lasted until an answer, or no answer in time.
    Failed,
}

/// Which count was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Consecutive5xx,
    ConsecutiveGatewayErrors,
    ConsecutiveLocalOriginFailures,
}

impl Cause {
    /// In the user's words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Consecutive5xx => "consecutive5xxErrors",
            Cause::ConsecutiveGatewayErrors => "consecutiveGatewayErrors",
            Cause::ConsecutiveLocalOriginFailures => "consecutiveLocalOriginFailures",
        }
    }
}

/// Failures of one endpoint in a row, counted by all workers together.
#[derive(Debug, Default)]
pub(super) struct Streaks {
    errors: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
    /// Somebody has been told, and has not decided yet.
    reported: AtomicBool,
}

impl Streaks {
    /// Some: a count is reached, and nobody has been told yet.
    pub fn note(&self, rule: &OutlierDetection, result: TryResult) -> Option<Cause> {
        let cause = self.count(rule, result)?;
        (!self.reported.swap(true, Ordering::Relaxed)).then_some(cause)
    }

    fn count(&self, rule: &OutlierDetection, result: TryResult) -> Option<Cause> {
        if rule.split {
            if result == TryResult::Failed {
                let reached = step(&self.local, rule.consecutive_local);
                return reached.then_some(Cause::ConsecutiveLocalOriginFailures);
            }
            clear(&self.local);
        }
        let status = match result {
            TryResult::Answered(status) => status,
            TryResult::Failed => 503,
            // With the split this is no news of the workload.
            TryResult::Connected if rule.split => return None,
            TryResult::Connected => 200,
        };
        let is_error = match result {
            TryResult::Answered(_) if !rule.errors.is_empty() => rule.errors.contains(&status),
            _ => (500..600).contains(&status),
        };
        if !is_error {
            clear(&self.errors);
            clear(&self.gateway);
            return None;
        }
        let gateway = if (502..=504).contains(&status) {
            step(&self.gateway, rule.consecutive_gateway)
        } else {
            clear(&self.gateway);
            false
        };
        let errors = step(&self.errors, rule.consecutive_5xx);
        match (errors, gateway) {
            (true, _) => Some(Cause::Consecutive5xx),
            (false, true) => Some(Cause::ConsecutiveGatewayErrors),
            (false, false) => None,
        }
    }

    /// It was decided about the endpoint: counting begins anew.
    fn restart(&self) {
        for count in [&self.errors, &self.gateway, &self.local] {
            count.store(0, Ordering::Relaxed);
        }
        self.reported.store(false, Ordering::Relaxed);
    }
}

/// One failure more; whether the count is reached.
fn step(count: &AtomicU32, threshold: u32) -> bool {
    threshold > 0 && count.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= threshold
}

/// Most of the time there is nothing to be cleared, and nothing is written that other workers read.
fn clear(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

/// The ejections of one destination.
#[derive(Debug, Default)]
pub struct Ejections {
    hosts: HashMap<SocketAddr, Host>,
    next_look: Option<Instant>,
}

#[derive(Debug, Default)]
struct Host {
    since: Option<Instant>,
    /// The base time counts so often.
    times: u32,
}

impl Ejections {
    /// When [`Self::look`] is to be called next; none: nobody was ejected lately.
    #[must_use]
    pub fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Of `count` endpoints one has reached a count. Whether it is ejected, and for how long.
    pub fn eject(
        &mut self,
        rule: &OutlierDetection,
        endpoint: &super::EndpointState,
        count: usize,
        now: Instant,
    ) -> Option<Duration> {
        endpoint.streaks.restart();
        let out = self.hosts.values().filter(|host| host.since.is_some()).count();
        let most = u64::from(rule.max_ejection_percent.min(100)).saturating_mul(count as u64);
        if (out as u64).saturating_add(1).saturating_mul(100) > most {
            return None;
        }
        let host = self.hosts.entry(endpoint.address).or_default();
        if host.since.is_some() {
            return None;
        }
        host.since = Some(now);
        let longest = LONGEST.max(rule.base_ejection);
        if rule.base_ejection.saturating_mul(host.times) < longest {
            host.times = host.times.saturating_add(1);
        }
        endpoint.ejected.store(true, Ordering::Relaxed);
        self.next_look.get_or_insert(now + rule.interval);
        Some(rule.base_ejection.saturating_mul(host.times).min(longest))
    }

    /// Once per interval: who has been out for long enough comes back; who is in and was not ejected since the last look has
    /// one ejection forgotten. Yields those that come back.
    pub fn look(&mut self, rule: &OutlierDetection, now: Instant) -> Vec<SocketAddr> {
        if self.next_look.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let longest = LONGEST.max(rule.base_ejection);
        let mut back = Vec::new();
        self.hosts.retain(|address, host| {
            match host.since {
                Some(since) => {
                    let lasts = rule.base_ejection.saturating_mul(host.times).min(longest);
                    if now.saturating_duration_since(since) >= lasts {
                        host.since = None;
                        back.push(*address);
                    }
                }
                None => host.times = host.times.saturating_sub(1),
            }
            host.since.is_some() || host.times > 0
        });
        self.next_look = (!self.hosts.is_empty()).then(|| now + rule.interval);
        back
    }

    /// Endpoints that are gone are forgotten.
    pub fn retain(&mut self, is_there: impl Fn(&SocketAddr) -> bool) {
        self.hosts.retain(|address, _| is_there(address));
        if self.hosts.is_empty() {
            self.next_look = None;
        }
    }
}

/// Puts an endpoint back in, with nothing counted.
pub(super) fn readmit(endpoint: &super::EndpointState) {
    endpoint.streaks.restart();
    endpoint.ejected.store(false, Ordering::Relaxed);
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
