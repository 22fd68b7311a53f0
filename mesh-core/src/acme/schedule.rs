//! When a certificate is renewed, and when an order is tried again that failed.

use std::time::{Duration, SystemTime};

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Lifetime {
    fn length(self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }
}

/// When the CA wants a certificate to be renewed (ARI, RFC 9773 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: SystemTime,
    pub end: SystemTime,
}

/// This part of its life is over when a certificate is renewed, if the CA says nothing else.
const RENEWED: f64 = 2.0 / 3.0;
/// So much of its life earlier, by chance: what was ordered together need not be renewed together.
const SPREAD: f64 = 1.0 / 24.0;
/// And at the latest then, whatever the CA says: there must be time for failures.
const LATEST: f64 = 0.9;

/// When a certificate is to be renewed. `chance`, of 0 to 1, is the certificate's own and stays, so that the time does, too.
#[must_use]
pub fn renewal(lifetime: Lifetime, window: Option<Window>, chance: f64) -> SystemTime {
    let chance = chance.clamp(0.0, 1.0);
    let after = |part: f64| lifetime.not_before + lifetime.length().mul_f64(part);
    // A window that ends before it begins is none (RFC 9773 section 4.2).
    let asked = window.and_then(|window| {
        let length = window.end.duration_since(window.start).ok().filter(|length| !length.is_zero())?;
        Some(window.start + length.mul_f64(chance))
    });
    match asked {
        Some(asked) => asked.min(after(LATEST)),
        None => after(RENEWED - SPREAD * chance),
    }
}

/// Why an order came to nothing, by what is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The CA cannot be reached, or is out of order. Concerns every order.
    Unreachable,
    /// It has been asked too often (`rateLimited`).
    Limited,
    /// It could not see that the name is served here.
    Challenge,
    /// It says no to something else: the account, the name, the request.
    Refused,
    /// What it gave cannot be used.
    Unproven,
    /// It cannot be kept: the directory for it is of no use.
    Storage,
}

impl Trouble {
    /// Label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Unreachable => "ca_unreachable",
            Trouble::Limited => "rate_limited",
            Trouble::Challenge => "challenge_failed",
            Trouble::Refused => "refused",
            Trouble::Unproven => "unusable_certificate",
            Trouble::Storage => "storage",
        }
    }

    /// First pause and longest one. Let's Encrypt takes five failed validations of a name in an hour: pauses of at least 2, 4, 8 and
    /// 16 minutes and then 32 never come to more.
    fn pauses(self) -> (Duration, Duration) {
        const MINUTE: u64 = 60;
        let seconds = match self {
            Trouble::Unreachable => (2, 10 * MINUTE),
            Trouble::Limited => (60 * MINUTE, 24 * 60 * MINUTE),
            Trouble::Challenge | Trouble::Refused | Trouble::Unproven => (2 * MINUTE, 6 * 60 * MINUTE),
            Trouble::Storage => (10, 10 * MINUTE),
        };
        (Duration::from_secs(seconds.0), Duration::from_secs(seconds.1))
    }
}

/// So much longer than it must be, by chance, a pause may be.
const JITTER: f64 = 0.25;
/// A CA that wants to hear nothing for longer is not believed: Let's Encrypt's longest limit is a week.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// When an order is tried again that has failed so often in a row, this time included. Not before what the CA asked for.
#[must_use]
pub fn retry(now: SystemTime, trouble: Trouble, failures: u32, asked: Option<SystemTime>, chance: f64) -> SystemTime {
    let (first, longest) = trouble.pauses();
    let pause = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(longest);
    let own = now + pause.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0));
    own.max(asked.map_or(own, |asked| asked.min(now + LONGEST)))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
