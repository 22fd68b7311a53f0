use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::Request;
use crate::compile::compile;
use crate::compile::sample_tests::*;
use crate::model::*;

fn holds(predicate: Predicate, request: &Request<'_>) -> bool {
    let rules = vec![rule(0, predicate, forward(vec![split("d", 1)]))];
    let compiled = compile(&set(vec![virtual_host("*", rules)], &["d"]), None, 1);
    assert!(compiled.diagnostics.is_empty(), "{:?}", compiled.diagnostics);
    winner(http_table(&compiled.snapshot), request).is_some()
}

fn exactly(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn regex(text: &str) -> StringMatch {
    StringMatch::Regex(text.into())
}

#[test]
fn header_lines_are_tested_one_by_one() {
    let check = |value: &StringMatch, invert: bool, lines: &[&[u8]]| {
        let line = |value: &&[u8]| (HeaderName::from_static("x"), HeaderValue::from_bytes(value).unwrap());
        let headers: HeaderMap = lines.iter().map(line).collect();
        let header = HeaderMatch { name: "x".into(), value: value.clone(), invert };
        holds(Predicate { headers: vec![header], ..Predicate::default() }, &get("a", "/", &headers))
    };
    let v1: &[u8] = b"v1";
    for (value, lines, plain, inverted) in [
        (exactly("v1"), vec![v1], true, false),
        (exactly("v1"), vec![b"v0", v1], true, false),
        (exactly("v1,v2"), vec![v1, b"v2"], false, true),
        (exactly("v1,v2"), vec![b"v1,v2"], true, false),
        (exactly("v1"), vec![b"v1,v2"], false, true),
        (exactly("v1"), vec![], false, true),
        (exactly("v1"), vec![b"V1"], false, true),
        (exactly(""), vec![], false, false),
        (exactly(""), vec![b""], true, false),
        (exactly(""), vec![v1], false, true),
        (StringMatch::Present, vec![], false, true),
        (StringMatch::Present, vec![b""], true, false),
        (regex(".*"), vec![], false, false),
        (regex(".*"), vec![b""], true, false),
        (regex(".*"), vec![b"a\xff"], false, true),
        (regex("v.|w"), vec![v1], true, false),
        (regex("v"), vec![v1], false, true),
        (StringMatch::Prefix("v".into()), vec![v1], true, false),
        (StringMatch::Prefix("v".into()), vec![b"v\xff"], true, false),
    ] {
        assert_eq!(check(&value, false, &lines), plain, "{value:?} {lines:?}");
        assert_eq!(check(&value, true, &lines), inverted, "without {value:?} {lines:?}");
    }
}

#[test]
fn pseudo_headers_are_parts_of_the_head() {
    let headers = HeaderMap::new();
    let request = Request { query: Some("q=1"), ..get("A.example:80", "/p", &headers) };
    for (name, value, wanted) in [
        (":method", "GET", true),
        (":method", "get", false),
        (":path", "/p?q=1", true),
        (":path", "/p", false),
        (":authority", "A.example:80", true),
        ("host", "A.example:80", true),
        ("host", "a.example:80", false),
        ("host", "A.example", false),
        (":scheme", "http", true),
        ("method", "GET", false),
        (":unknown", "", false),
    ] {
        let header = HeaderMatch { name: name.into(), value: exactly(value), invert: false };
        let found = holds(Predicate { headers: vec![header], ..Predicate::default() }, &request);
        assert_eq!(found, wanted, "{name} {value}");
    }
    let long = "x".repeat(5000);
    let request = Request { query: Some(&long), ..request };
    let header = HeaderMatch { name: ":path".into(), value: regex(r"/p\?x+"), invert: false };
    assert!(holds(Predicate { headers: vec![header], ..Predicate::default() }, &request));
}

#[test]
fn scheme_method_and_authority_are_case_sensitive() {
    let headers = HeaderMap::new();
    let request = get("a.com:8080", "/", &headers);
    for (predicate, wanted) in [
        (Predicate { method: Some(exactly("GET")), ..Predicate::default() }, true),
        (Predicate { method: Some(regex("GET|PUT")), ..Predicate::default() }, true),
        (Predicate { method: Some(exactly("PUT")), ..Predicate::default() }, false),
        (Predicate { scheme: Some(exactly("http")), ..Predicate::default() }, true),
        (Predicate { scheme: Some(exactly("HTTP")), ..Predicate::default() }, false),
        (Predicate { authority: Some(exactly("a.com")), ..Predicate::default() }, false),
        (Predicate { authority: Some(exactly("a.com:8080")), ..Predicate::default() }, true),
        (Predicate { authority: Some(StringMatch::Prefix("a.com".into())), ..Predicate::default() }, true),
        (Predicate { authority: Some(StringMatch::Prefix("A".into())), ..Predicate::default() }, false),
    ] {
        assert_eq!(holds(predicate.clone(), &request), wanted, "{predicate:?}");
    }
}

#[test]
fn the_first_value_of_a_query_key_counts_as_it_stands() {
    let headers = HeaderMap::new();
    let check = |value: StringMatch, query: &str| {
        let wanted = QueryMatch { name: "k".into(), value };
        let request = Request { query: Some(query), ..get("a", "/", &headers) };
        holds(Predicate { query: vec![wanted], ..Predicate::default() }, &request)
    };
    for (value, query, wanted) in [
        (exactly("1"), "k=1", true),
        (exactly("1"), "a=2&k=1&k=2", true),
        (exactly("2"), "k=1&k=2", false),
        (exactly("1"), "k=%31", false),
        (exactly("a b"), "k=a+b", false),
        (exactly("1=2"), "k=1=2", true),
        (exactly(""), "k", true),
        (exactly(""), "k=", true),
        (exactly(""), "a", false),
        (exactly("1"), "K=1", false),
        (exactly("1"), "a;k=1", false),
        (StringMatch::Present, "k", true),
        (StringMatch::Present, "", false),
        (regex("[0-9]+"), "k=12", true),
        (regex("[0-9]"), "k=12", false),
    ] {
        assert_eq!(check(value.clone(), query), wanted, "{value:?} {query}");
    }
}
