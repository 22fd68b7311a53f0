use http::{HeaderMap, HeaderName, HeaderValue};

use super::{CompiledCors, CorsRuling};
use crate::compile::sample_tests::*;
use crate::model::{self, Cors, StringMatch};
use crate::snapshot::{Decision, Request};
use std::sync::Arc;

/// The policy, as the tables hold it.
fn compiled(cors: Cors) -> Arc<CompiledCors> {
    let model::Action::Forward(mut action) = forward(vec![split("d", 1)]) else { unreachable!() };
    action.cors = Some(Box::new(cors));
    let rules = vec![rule(0, model::Predicate::default(), model::Action::Forward(action))];
    let compiled = crate::compile::compile(&set(vec![virtual_host("*", rules)], &["d"]), None, 1);
    let headers = HeaderMap::new();
    match http_table(&compiled.snapshot).route(&get("a", "/", &headers), &mut |_| 0) {
        Decision::Forward { forward, .. } => forward.cors.clone().unwrap(),
        other => unreachable!("{other:?}"),
    }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| {
            format!("{}: {}", name.as_str().trim_start_matches("access-control-"), value.to_str().unwrap())
        })
        .collect();
    lines.sort();
    lines
}

const ORIGIN: (&str, &str) = ("origin", "https://a");
const METHOD: (&str, &str) = ("access-control-request-method", "PUT");

fn policy() -> Cors {
    Cors {
        origins: vec![StringMatch::Exact("https://a".into()), StringMatch::Regex("https://.*[.]b".into())],
        methods: "GET,POST".into(),
        headers: "x-a".into(),
        expose: "x-b".into(),
        max_age: Some(60),
        credentials: true,
        answer_unmatched: false,
    }
}

#[test]
fn origins() {
    let allowed = |origins: &[StringMatch], origin: &str| {
        let cors = compiled(Cors { origins: origins.to_vec(), ..Cors::default() });
        let headers = headers(&[("origin", origin)]);
        matches!(cors.rule(&get("a", "/", &headers)), CorsRuling::Allowed(_))
    };
    let exact = |text: &str| StringMatch::Exact(text.into());
    let prefix = |text: &str| StringMatch::Prefix(text.into());
    let regex = |text: &str| StringMatch::Regex(text.into());
    for (origins, origin, expected) in [
        (vec![], "https://a", false),
        (vec![exact("https://a")], "https://a", true),
        (vec![exact("https://a")], "https://A", false),
        (vec![exact("https://a")], "https://a.b", false),
        (vec![exact("https://b"), exact("https://a")], "https://a", true),
        (vec![exact("*")], "https://a", true),
        (vec![exact("*")], "null", true),
        (vec![prefix("https://a")], "https://a.b", true),
        (vec![prefix("*.b")], "https://a.b", false),
        (vec![regex("https://(a|b)")], "https://b", true),
        (vec![regex("https://a")], "https://a.b", false),
        (vec![regex(".*")], "null", true),
    ] {
        assert_eq!(allowed(&origins, origin), expected, "{origins:?} {origin}");
    }
}

#[test]
fn requests_that_are_none_of_its_business() {
    let cors = compiled(policy());
    let empty = HeaderMap::new();
    assert_eq!(cors.rule(&get("a", "/", &empty)), CorsRuling::NoOrigin);
    let blank = headers(&[("origin", ""), METHOD]);
    assert_eq!(cors.rule(&Request { method: "OPTIONS", ..get("a", "/", &blank) }), CorsRuling::NoOrigin);
    let other = headers(&[("origin", "https://c"), METHOD]);
    assert_eq!(cors.rule(&get("a", "/", &other)), CorsRuling::Unmatched);
    assert_eq!(cors.rule(&Request { method: "OPTIONS", ..get("a", "/", &other) }), CorsRuling::Unmatched);
}

#[test]
fn a_preflight_has_three_marks() {
    let cors = compiled(policy());
    for (method, lines, preflight) in [
        ("OPTIONS", vec![ORIGIN, METHOD], true),
        ("GET", vec![ORIGIN, METHOD], false),
        ("OPTIONS", vec![ORIGIN], false),
        ("OPTIONS", vec![ORIGIN, ("access-control-request-method", "")], false),
    ] {
        let headers = headers(&lines);
        let ruling = cors.rule(&Request { method, ..get("a", "/", &headers) });
        assert_eq!(matches!(ruling, CorsRuling::Answer(_)), preflight, "{method} {lines:?}: {ruling:?}");
    }
}

fn answer(cors: Cors, asked: &[(&'static str, &str)]) -> Vec<String> {
    let headers = headers(asked);
    match compiled(cors).rule(&Request { method: "OPTIONS", ..get("a", "/", &headers) }) {
        CorsRuling::Answer(headers) => lines(&headers),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn what_a_preflight_is_told() {
    assert_eq!(
        answer(policy(), &[ORIGIN, METHOD]),
        [
            "allow-credentials: true",
            "allow-headers: x-a",
            "allow-methods: GET,POST",
            "allow-origin: https://a",
            "expose-headers: x-b",
            "max-age: 60",
        ]
    );
    let bare = Cors { origins: policy().origins, ..Cors::default() };
    assert_eq!(answer(bare.clone(), &[ORIGIN, METHOD]), ["allow-origin: https://a"]);
    let all = Cors { methods: "*".into(), headers: "*".into(), max_age: Some(0), ..bare };
    assert_eq!(
        answer(all.clone(), &[ORIGIN, METHOD, ("access-control-request-headers", "x-q, x-r")]),
        ["allow-headers: x-q, x-r", "allow-methods: PUT", "allow-origin: https://a", "max-age: 0"]
    );
    assert_eq!(answer(all, &[ORIGIN, METHOD]), ["allow-methods: PUT", "allow-origin: https://a", "max-age: 0"]);
    // Nobody is told who may, but the rest.
    let ignored = Cors { answer_unmatched: true, ..policy() };
    assert_eq!(
        answer(ignored, &[("origin", "https://c"), METHOD]),
        ["allow-credentials: true", "allow-headers: x-a", "allow-methods: GET,POST", "max-age: 60"]
    );
}

#[test]
fn an_answer_says_what_the_policy_says_and_not_what_the_upstream_said() {
    let mut answer = headers(&[
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "TRACE"),
        ("access-control-expose-headers", "x-z"),
    ]);
    compiled(policy()).permit(&HeaderValue::from_static("https://a"), &mut answer);
    assert_eq!(
        lines(&answer),
        ["allow-credentials: true", "allow-methods: TRACE", "allow-origin: https://a", "expose-headers: x-b"]
    );
    let mut answer = headers(&[("access-control-expose-headers", "x-z")]);
    compiled(Cors { origins: policy().origins, ..Cors::default() })
        .permit(&HeaderValue::from_static("https://a"), &mut answer);
    assert_eq!(lines(&answer), ["allow-origin: https://a", "expose-headers: x-z"]);
}
