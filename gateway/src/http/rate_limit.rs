//! Rate limits: whether there is room for a request, and what its client is told of it. Which limits count it, and what they have
//! counted: `mesh-core`.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::snapshot::{Quota, RateRuling};

use super::authorize::facts;
use super::exchange::Exchange;
use super::failure::{Failure, RateLimited};
use crate::listen::Direction;
use crate::live::Live;

// Words of the third draft of "RateLimit Header Fields for HTTP", as Envoy has them.
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The moment from which the limits count time.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds, for the limits.
pub(crate) fn now() -> u64 {
    u64::try_from(BEGUN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Counts the request. An error: a limit has no room for it.
pub(super) fn count(live: &Live, exchange: &mut Exchange) -> Result<(), Failure> {
    // Limits of a workload are about what arrives there.
    if live.limits.is_empty() || exchange.peer.info.direction() == Some(Direction::Outbound) {
        return Ok(());
    }
    let (quota, limited) = match live.snapshot.rate_limiter.take(&live.limits, &facts(exchange), now()) {
        RateRuling::Passed(quota) => (quota, None),
        RateRuling::Exhausted { limit, retry_in, quota } => {
            let limited = RateLimited { limit: Arc::clone(&limit.name), retry_after: seconds(retry_in).max(1) };
            (quota, Some(limited))
        }
    };
    exchange.quota = quota;
    limited.map_or(Ok(()), |limited| Err(Failure::RateLimited(Box::new(limited))))
}

/// Tells the client what is left, unless whoever answered knows of less: a proxy behind this one, or the application.
pub(super) fn tell(quota: &Quota, headers: &mut HeaderMap) {
    let theirs = headers.get(REMAINING).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u32>().ok());
    if theirs.is_some_and(|theirs| theirs < quota.remaining) {
        return;
    }
    headers.insert(LIMIT, HeaderValue::from(quota.limit));
    headers.insert(REMAINING, HeaderValue::from(quota.remaining));
    headers.insert(RESET, HeaderValue::from(seconds(quota.reset)));
}

/// Rounded up: who waits for so long is not too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::hop_by_hop::tests::map;

    #[test]
    fn whoever_leaves_less_is_told_of() {
        let quota = Quota { limit: 10, remaining: 4, reset: Duration::from_millis(1001) };
        for (theirs, told) in [(None, "10 4 2"), (Some("3"), "7 3 1"), (Some("4"), "10 4 2"), (Some("many"), "10 4 2")]
        {
            let lines = [
                ("x-ratelimit-limit", "7"),
                ("x-ratelimit-reset", "1"),
                ("x-ratelimit-remaining", theirs.unwrap_or("")),
            ];
            let mut headers = map(if theirs.is_some() { &lines } else { &[] });
            tell(&quota, &mut headers);
            let value = |name: &HeaderName| headers.get(name).unwrap().to_str().unwrap().to_owned();
            assert_eq!([value(&LIMIT), value(&REMAINING), value(&RESET)].join(" "), told, "{theirs:?}");
        }
    }
}
