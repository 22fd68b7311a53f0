use std::hash::RandomState;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::*;
use crate::lb::RateCount;
use crate::model::{Attribute, Clause, LimitAmount};
use crate::object::ObjectRef;
use crate::snapshot::{Facts, RateRuling, Request, Token};

fn limit(name: &str, burst: u32, by: Vec<LimitKey>) -> RequestLimit {
    let amount =
        LimitAmount { requests: burst, per: Duration::from_secs(60), burst, by, max_buckets: 1024, global: false };
    let (from, to, when) = (Vec::new(), Vec::new(), Vec::new());
    RequestLimit { index: 0, name: name.into(), from, to, when, amount, silent: false }
}

fn of(limits: Vec<RequestLimit>) -> Resources<RateLimits> {
    let origin = ObjectRef::new("RateLimit", "default", "a");
    let limits = RateLimits { key: "default/a".into(), limits, origin };
    [(limits.key.clone(), Arc::new(limits))].into_iter().collect()
}

/// Limits that count.
struct Counted {
    limiter: Arc<RateLimiter>,
    counts: Vec<Arc<RateCount>>,
}

impl Counted {
    fn new(limits: Vec<RequestLimit>) -> Counted {
        let mut diagnostics = Vec::new();
        let limiter = limiter(&of(limits), None, &mut diagnostics);
        assert_eq!(diagnostics, []);
        Counted { counts: limiter.counts(&[], RandomState::new, None), limiter }
    }

    /// `passed`, or the limit without room.
    fn take(&self, facts: &Facts<'_>) -> String {
        match self.limiter.take(&self.counts, facts, 1) {
            RateRuling::Passed(_) => "passed".to_owned(),
            RateRuling::Exhausted { limit, .. } => limit.name.to_string(),
        }
    }
}

fn ask<R>(change: impl FnOnce(&mut Request<'_>, &mut HeaderMap), with: impl FnOnce(&Facts<'_>) -> R) -> R {
    ask_from([192, 0, 2, 1].into(), change, with)
}

fn ask_from<R>(
    remote: IpAddr,
    change: impl FnOnce(&mut Request<'_>, &mut HeaderMap),
    with: impl FnOnce(&Facts<'_>) -> R,
) -> R {
    let (none, mut headers) = (HeaderMap::new(), HeaderMap::new());
    let mut request = Request {
        method: "GET",
        scheme: "http",
        authority: "a.example",
        path: "/",
        query: None,
        headers: &none,
        token: None,
    };
    change(&mut request, &mut headers);
    with(&Facts { request: Some(Request { headers: &headers, ..request }), remote: Some(remote), ..Facts::default() })
}

#[test]
fn all_limits_that_match_count_and_one_without_room_costs_the_others_nothing() {
    let mut narrow = limit("narrow", 1, Vec::new());
    let attribute = Attribute::Path;
    let values = vec![attribute.value("/x*").unwrap()];
    narrow.to = vec![vec![Clause { attribute, values, negated: false }]];
    let counted = Counted::new(vec![limit("wide", 3, Vec::new()), narrow]);
    let path = |path: &'static str| ask(|request, _| request.path = path, |facts| counted.take(facts));
    assert_eq!(path("/x"), "passed");
    for _ in 0..5 {
        assert_eq!(path("/x/y"), "default/a/narrow");
    }
    assert_eq!([path("/"), path("/"), path("/")], ["passed", "passed", "default/a/wide"]);
    assert_eq!(path("/x"), "default/a/wide");
    let refused: Vec<u64> = counted.counts.iter().map(|count| count.refused()).collect();
    assert_eq!(refused, [2, 5]);
}

#[test]
fn the_tightest_limit_that_tells_is_told() {
    let silent = RequestLimit { silent: true, ..limit("silent", 2, Vec::new()) };
    let counted = Counted::new(vec![limit("wide", 9, Vec::new()), silent, limit("tight", 4, Vec::new())]);
    let quota = ask(
        |_, _| {},
        |facts| match counted.limiter.take(&counted.counts, facts, 1) {
            RateRuling::Passed(quota) => quota.unwrap(),
            RateRuling::Exhausted { .. } => panic!(),
        },
    );
    assert_eq!((quota.limit, quota.remaining, quota.reset), (4, 3, Duration::from_secs(15)));
}

#[test]
fn each_client_has_a_bucket() {
    let counted = Counted::new(vec![limit("client", 1, vec![LimitKey::ClientAddress { ipv4: 24, ipv6: 64 }])]);
    let from = |address: &str| ask_from(address.parse().unwrap(), |_, _| {}, |facts| counted.take(facts));
    for (address, passes) in [
        ("192.0.2.1", true),
        ("192.0.2.200", false),
        ("192.0.3.1", true),
        ("::ffff:192.0.3.2", false),
        ("2001:db8::1", true),
        ("2001:db8::ffff:1", false),
        ("2001:db8:0:1::1", true),
    ] {
        assert_eq!(from(address) == "passed", passes, "{address}");
    }
}

#[test]
fn each_value_of_a_header_has_a_bucket_and_those_without_it_one() {
    let counted = Counted::new(vec![limit("key", 1, vec![LimitKey::Header("x-key".to_owned())])]);
    let with = |values: &[&'static str]| {
        let add = |headers: &mut HeaderMap| {
            for value in values {
                headers.append("x-key", HeaderValue::from_static(value));
            }
        };
        ask(|_, headers| add(headers), |facts| counted.take(facts)) == "passed"
    };
    assert!(with(&["a"]));
    // Several lines are one value, as if they were written in one.
    assert!(with(&["a", "b"]));
    assert!(!with(&["a,b"]));
    assert!(with(&["b", "a"]));
    assert!(with(&["b"]));
    assert!(with(&[]));
    assert!(!with(&[]));
    assert!(with(&[""]));
    let hosts = Counted::new(vec![limit("host", 1, vec![LimitKey::Header("host".to_owned())])]);
    let host = |host: &'static str| ask(|request, _| request.authority = host, |facts| hosts.take(facts)) == "passed";
    assert_eq!([host("a.example"), host("A.example"), host("b.example")], [true, false, true]);
}

#[test]
fn combinations_have_a_bucket_each() {
    let by = vec![LimitKey::Claim(vec!["sub".to_owned()]), LimitKey::Header(":method".to_owned())];
    let counted = Counted::new(vec![limit("both", 1, by)]);
    let claims = |sub: serde_json::Value| Token::new(json!({ "sub": sub }).as_object().unwrap().clone(), &[]);
    let tokens = [claims(json!("a")), claims(json!("b")), claims(json!(7))];
    let take = |token: Option<usize>, method: &'static str| {
        let token = token.map(|index| &tokens[index]);
        let facts = |facts: &Facts<'_>| {
            let request = Request { method, token, ..facts.request.unwrap() };
            counted.take(&Facts { request: Some(request), ..*facts })
        };
        ask(|_, _| {}, facts) == "passed"
    };
    assert!(take(Some(0), "GET"));
    assert!(!take(Some(0), "GET"));
    assert!(take(Some(0), "POST"));
    assert!(take(Some(1), "GET"));
    assert!(take(Some(2), "GET"));
    assert!(take(None, "GET"));
    assert!(!take(None, "GET"));
}

#[test]
fn other_spellings_of_a_host_are_counted() {
    let mut one = limit("host", 1, Vec::new());
    let attribute = Attribute::Host;
    let values = vec![attribute.value("a.example").unwrap()];
    one.to = vec![vec![Clause { attribute, values, negated: false }]];
    let counted = Counted::new(vec![one]);
    let host = |host: &'static str| ask(|request, _| request.authority = host, |facts| counted.take(facts));
    assert_eq!(host("a.example"), "passed");
    for spelled in ["A.example", "a.example:8080", "a.example."] {
        assert_eq!(host(spelled), "default/a/host", "{spelled}");
    }
    assert_eq!(host("b.example"), "passed");
}

#[test]
fn counts_go_on_while_their_limit_stays_the_same() {
    let before = Counted::new(vec![limit("a", 1, Vec::new()), limit("b", 1, Vec::new())]);
    assert_eq!(ask(|_, _| {}, |facts| before.take(facts)), "passed");
    let more = of(vec![limit("b", 1, Vec::new()), limit("c", 1, Vec::new()), limit("a", 2, Vec::new())]);
    let limiter = limiter(&more, Some(&before.limiter), &mut Vec::new());
    let counts = limiter.counts(&before.counts, RandomState::new, None);
    let kept: Vec<bool> = counts.iter().map(|count| before.counts.iter().any(|old| Arc::ptr_eq(old, count))).collect();
    assert_eq!(kept, [true, false, false]);
    assert!(Arc::ptr_eq(&limiter, &super::limiter(&more, Some(&limiter), &mut Vec::new())));
}
