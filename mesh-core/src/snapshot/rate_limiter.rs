//! Which limits count a request, and by which bucket. What they have counted is not in here: it outlives the tables
//! ([`crate::lb::RateCount`]).

use std::hash::{BuildHasher, Hash as _, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::GetAll;
use serde_json::Value;
use smallvec::SmallVec;

use super::condition::HeaderKey;
use super::policy_test::Test;
use super::{Facts, Request, Token};
use crate::lb::{RateCount, ShareCell};
use crate::model::{LimitAmount, RateLimits, Resources};
use crate::object::ObjectRef;

/// The limits of a proxy, prepared.
#[derive(Debug, Default)]
pub struct RateLimiter {
    pub limits: Vec<CompiledLimit>,
    /// What it is made from.
    pub(crate) source: Resources<RateLimits>,
}

#[derive(Debug)]
pub struct CompiledLimit {
    /// `namespace/name/limit`
    pub name: Arc<str>,
    pub origin: ObjectRef,
    pub amount: LimitAmount,
    /// Answers do not tell of it.
    pub silent: bool,
    pub(crate) from: Vec<Vec<Test>>,
    pub(crate) to: Vec<Vec<Test>>,
    pub(crate) when: Vec<Test>,
    pub(crate) by: Vec<CompiledLimitKey>,
}

/// What requests are told apart by.
#[derive(Debug)]
pub(crate) enum CompiledLimitKey {
    /// Masks of addresses.
    ClientAddress {
        ipv4: u32,
        ipv6: u128,
    },
    Header(HeaderKey),
    Claim(Box<[String]>),
}

/// What is left of the limit that leaves the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests that are let through at once.
    pub limit: u32,
    pub remaining: u32,
    /// Until all of them are there again.
    pub reset: Duration,
}

/// What the limits say of a request.
#[derive(Clone, Copy, Debug)]
pub enum RateRuling<'l> {
    /// With what is left, if a limit counted it that tells.
    Passed(Option<Quota>),
    /// The first limit without room.
    Exhausted { limit: &'l CompiledLimit, retry_in: Duration, quota: Option<Quota> },
}

impl RateLimiter {
    /// What the limits have counted, in their order. Those of `previous` that are of the same limits go on; `secret` is of a new one.
    /// `shared_from`: now, where a controller lends shares of limits that several proxies count; else what this process counts is all.
    pub fn counts(
        &self,
        previous: &[Arc<RateCount>],
        secret: impl Fn() -> RandomState,
        shared_from: Option<u64>,
    ) -> Vec<Arc<RateCount>> {
        // A share is a part: it is the same of another amount.
        let lent = |name: &str| previous.iter().find(|count| *count.name == *name).and_then(|count| count.share());
        let share = |limit: &CompiledLimit| {
            let begun = shared_from.filter(|_| limit.amount.global)?;
            Some(lent(&limit.name).map_or_else(|| ShareCell::new(begun), Arc::clone))
        };
        let count = |limit: &CompiledLimit| {
            let same = previous.iter().find(|count| count.is_of(&limit.name, &limit.amount));
            let new = || Arc::new(RateCount::new(Arc::clone(&limit.name), &limit.amount, secret(), share(limit)));
            same.map_or_else(new, Arc::clone)
        };
        self.limits.iter().map(count).collect()
    }

    /// Counts a request by all limits that match; by none, if one of them has no room. `counts`: of [`RateLimiter::counts`]; `now`:
    /// nanoseconds since any moment that stays the same.
    pub fn take(&self, counts: &[Arc<RateCount>], facts: &Facts<'_>, now: u64) -> RateRuling<'_> {
        let mut taken: SmallVec<[(&RateCount, u64); 4]> = SmallVec::new();
        let mut tightest: Option<Quota> = None;
        for (limit, count) in self.limits.iter().zip(counts) {
            if !limit.matches(facts) {
                continue;
            }
            count.ask();
            let hash = limit.hash(facts, &count.secret);
            let moment = count.moment(now);
            let told =
                |remaining, reset| (!limit.silent).then(|| Quota { limit: count.rate.burst(), remaining, reset });
            match count.rate.take(count.bucket(hash, &moment), &moment) {
                Ok(level) => {
                    taken.push((count, hash));
                    let quota = told(level.remaining, level.full_in);
                    let order = |quota: &Quota| (quota.remaining, std::cmp::Reverse(quota.reset));
                    tightest = tightest.into_iter().chain(quota).min_by_key(order);
                }
                Err(exhausted) => {
                    for (count, hash) in taken {
                        count.rate.give_back(count.bucket(hash, &count.moment(now)));
                    }
                    count.refuse();
                    let quota = told(0, exhausted.full_in);
                    return RateRuling::Exhausted { limit, retry_in: exhausted.retry_in, quota };
                }
            }
        }
        RateRuling::Passed(tightest)
    }

    /// The limits that count a request.
    pub fn matching<'l>(&'l self, facts: &'l Facts<'l>) -> impl Iterator<Item = &'l CompiledLimit> {
        self.limits.iter().filter(move |limit| limit.matches(facts))
    }
}

impl CompiledLimit {
    /// What is not known of a request (who explains it knows little) may hold.
    fn matches(&self, facts: &Facts<'_>) -> bool {
        self.matches_where(facts, true)
    }

    /// Whatever that is which is not known.
    pub(super) fn surely_matches(&self, facts: &Facts<'_>) -> bool {
        self.matches_where(facts, false)
    }

    fn matches_where(&self, facts: &Facts<'_>, unknown: bool) -> bool {
        let all = |tests: &Vec<Test>| tests.iter().all(|test| test.holds(facts, unknown));
        let any = |lists: &[Vec<Test>]| lists.is_empty() || lists.iter().any(all);
        any(&self.from) && any(&self.to) && all(&self.when)
    }

    pub(super) fn tests(&self) -> impl Iterator<Item = &Test> {
        self.from.iter().chain(&self.to).flatten().chain(&self.when)
    }

    fn hash(&self, facts: &Facts<'_>, secret: &RandomState) -> u64 {
        if self.by.is_empty() {
            return 0;
        }
        let mut hasher = secret.build_hasher();
        for key in &self.by {
            key.hash(facts, &mut hasher);
        }
        hasher.finish()
    }
}

impl CompiledLimitKey {
    fn hash(&self, facts: &Facts<'_>, hasher: &mut impl Hasher) {
        match self {
            CompiledLimitKey::ClientAddress { ipv4, ipv6 } => match facts.remote.map(|remote| remote.to_canonical()) {
                Some(IpAddr::V4(address)) => Some(u128::from(address.to_bits() & ipv4)).hash(hasher),
                Some(IpAddr::V6(address)) => Some((1_u8, address.to_bits() & ipv6)).hash(hasher),
                None => None::<u128>.hash(hasher),
            },
            CompiledLimitKey::Header(name) => match facts.request {
                Some(request) => hash_header(name, &request, hasher),
                None => None::<&[u8]>.hash(hasher),
            },
            CompiledLimitKey::Claim(names) => {
                let claim =
                    facts.request.and_then(|request| request.token).and_then(|token: &Token| token.claim(names));
                match claim {
                    // Numbers are rare, and lists rarer.
                    Some(Value::String(text)) => Some(text.as_str()).hash(hasher),
                    Some(value) => Some(value.to_string().as_str()).hash(hasher),
                    None => None::<&str>.hash(hasher),
                }
            }
        }
    }
}

fn hash_header(name: &HeaderKey, request: &Request<'_>, hasher: &mut impl Hasher) {
    match name {
        HeaderKey::Line(name) => hash_lines(request.headers.get_all(name), hasher),
        HeaderKey::Method => request.method.hash(hasher),
        HeaderKey::Scheme => request.scheme.hash(hasher),
        HeaderKey::Path => (request.path, request.query).hash(hasher),
        // Whatever the case in which it is written.
        HeaderKey::Authority => {
            request.authority.bytes().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
            hasher.write_u8(b'/');
        }
        HeaderKey::Impossible(_) => None::<&[u8]>.hash(hasher),
    }
}

/// Several lines are one value (RFC 9110 section 5.3): written in one line or in many, it is the same bucket.
fn hash_lines(lines: GetAll<'_, HeaderValue>, hasher: &mut impl Hasher) {
    let mut lines = lines.iter();
    let Some(first) = lines.next() else { return hasher.write_u8(0) };
    hasher.write_u8(1);
    hash_bytes(first, hasher);
    for line in lines {
        hasher.write_u8(b',');
        hash_bytes(line, hasher);
    }
    // No byte of a value: where another key begins is told apart.
    hasher.write_u8(b'\n');
}

/// One by one, so that it does not count where a line begins.
fn hash_bytes(line: &HeaderValue, hasher: &mut impl Hasher) {
    line.as_bytes().iter().for_each(|byte| hasher.write_u8(*byte));
}
