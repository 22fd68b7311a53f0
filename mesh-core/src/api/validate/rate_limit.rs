//! `RateLimit`: what is wrong with a limit costs that limit. What is wrong with its conditions is reported and stays where it is:
//! `translate` makes them match nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::{AuthorizationAction, LimitBy, RateLimit, RequestLimit};
use super::{Checks, Wrong, authorization, policy_target};
use crate::attribute;

/// What is forgotten with the process means little over a longer time.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);
const SHORTEST: Duration = Duration::from_millis(1);
/// Above this, time is not counted finely enough.
const MOST_PER_SECOND: u128 = 1_000_000;
/// As Envoy's descriptors, more is a mistake.
const MOST_KEYS: usize = 8;

pub(super) fn check(policy: &mut RateLimit, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| policy_target::check(policy.selector.as_ref(), None, &policy.target_refs, checks))?;
    let mut names = BTreeSet::new();
    let before = policy.limits.len();
    policy.limits.retain(|limit| {
        let right = checks.part(|checks| check_limit(limit, &mut names, checks)).is_ok();
        if right {
            let parts = (&*limit.from, &*limit.to, &*limit.when);
            authorization::check_parts(&field(limit), parts, AuthorizationAction::Allow, checks);
        }
        right
    });
    if before == 0 {
        // What could not be read was reported.
        if checks.positions.has("spec.limits[0]") {
            return Err(Wrong);
        }
        checks.missing("spec.limits", "a RateLimit without limits never has an effect", "");
        return Err(Wrong);
    }
    Ok(())
}

fn field(limit: &RequestLimit) -> String {
    format!("spec.limits[{}]", limit.index)
}

fn check_limit(limit: &RequestLimit, names: &mut BTreeSet<String>, checks: &mut Checks<'_>) {
    let at = field(limit);
    let spelled = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if limit.name.is_empty() {
        checks.missing(format_args!("{at}.name"), "a limit needs a name", "it stands in metrics and logs");
    } else if limit.name.len() > 63 || !spelled(&limit.name) {
        let message = format!("`{}` is not a name of at most 63 letters, digits, `-`, `_` and `.`", limit.name);
        checks.error(format_args!("{at}.name"), message, "");
    } else if !names.insert(limit.name.clone()) {
        let message = format!("another limit of this object is called `{}`", limit.name);
        checks.error(format_args!("{at}.name"), message, "");
    }
    check_amount(&at, limit, checks);
    if limit.by.len() > MOST_KEYS {
        checks.error(format_args!("{at}.by"), format!("more than {MOST_KEYS} values cannot be told apart by"), "");
    }
    for (index, by) in limit.by.iter().enumerate() {
        check_by(&format!("{at}.by[{index}]"), by, checks);
    }
    if limit.max_buckets.is_some_and(|most| !(16..=1 << 20).contains(&most)) {
        checks.error(format_args!("{at}.maxBuckets"), "`maxBuckets` must be 16 to 1048576", "");
    }
}

fn check_amount(at: &str, limit: &RequestLimit, checks: &mut Checks<'_>) {
    if limit.requests == 0 {
        let help = "to let nothing through, use an AuthorizationPolicy with the action DENY";
        checks.missing(format_args!("{at}.requests"), "a limit needs a number of requests, at least 1", help);
    }
    if limit.burst == Some(0) {
        checks.error(format_args!("{at}.burst"), "`burst` must be at least 1", "leave it out to mean `requests`");
    }
    let Some(per) = limit.per.map(super::super::Duration::get) else {
        return checks.missing(
            format_args!("{at}.per"),
            "a limit needs the time that it is about",
            "for example `60s`",
        );
    };
    if !(SHORTEST..=LONGEST).contains(&per) {
        checks.error(format_args!("{at}.per"), "`per` must be 1ms to 744h (31 days)", "");
    } else if u128::from(limit.requests) * 1_000_000_000 > MOST_PER_SECOND * per.as_nanos() {
        let message = format!("more than {MOST_PER_SECOND} requests a second are not counted");
        checks.error(format_args!("{at}.requests"), message, "");
    }
}

fn check_by(at: &str, by: &LimitBy, checks: &mut Checks<'_>) {
    let given = [by.client_address.is_some(), by.header.is_some(), by.claim.is_some()];
    match given.iter().filter(|given| **given).count() {
        1 => {}
        0 => return checks.missing(at, "this needs one of `clientAddress`, `header` and `claim`", ""),
        _ => {
            let help = "several elements of `by` have a bucket for each combination of their values";
            return checks.error(at, "only one of `clientAddress`, `header` and `claim` can be set", help);
        }
    }
    if let Some(address) = &by.client_address {
        for (name, bits, most) in [("ipv4", address.ipv4, 32), ("ipv6", address.ipv6, 128)] {
            if bits.is_some_and(|bits| !(1..=most).contains(&bits)) {
                let message = format!("an address has 1 to {most} bits to count");
                checks.error(format_args!("{at}.clientAddress.{name}"), message, "");
            }
        }
    }
    if let Some(header) = &by.header {
        let field = format!("{at}.header.name");
        if header.name.is_empty() {
            checks.missing(field, "a header needs a name", "");
        } else if !header.name.starts_with(':') && http::HeaderName::from_bytes(header.name.as_bytes()).is_err() {
            checks.error(field, format!("`{}` is not the name of a header", header.name), "");
        }
    }
    if let Some(claim) = &by.claim
        && attribute::claim(claim).is_none()
    {
        let help = "`sub`, or `[a][b]` for a claim within another";
        checks.error(format_args!("{at}.claim"), format!("`{claim}` does not name a claim"), help);
    }
}

#[cfg(test)]
#[path = "rate_limit_tests.rs"]
mod tests;
