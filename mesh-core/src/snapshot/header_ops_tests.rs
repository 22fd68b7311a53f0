use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};

use super::super::{CompiledHeaderOps, Decision, FormatContext};
use crate::compile::sample_tests::*;
use crate::compile::{Compiled, compile};
use crate::model::*;

#[derive(Default)]
struct Context {
    request: HeaderMap,
    path: String,
}

impl FormatContext for Context {
    fn request_header(&self, name: &str) -> Option<&str> {
        match name {
            ":path" => Some(&self.path),
            ":authority" => Some("a.example:80"),
            name => self.request.get(name)?.to_str().ok(),
        }
    }
    fn response_header(&self, _: &str) -> Option<&str> {
        None
    }
    fn response_code(&self) -> Option<u16> {
        Some(200)
    }
    fn downstream_remote_address(&self) -> Option<SocketAddr> {
        "[2001:db8::1]:4711".parse().ok()
    }
    fn downstream_direct_address(&self) -> Option<SocketAddr> {
        "192.0.2.1:80".parse().ok()
    }
    fn downstream_local_address(&self) -> Option<SocketAddr> {
        "10.0.0.1:8080".parse().ok()
    }
    fn protocol(&self) -> &str {
        "HTTP/1.1"
    }
    fn start_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::new(1_709_210_096, 7_654_321)
    }
    fn hostname(&self) -> &str {
        "pod-1"
    }
    fn upstream_host(&self) -> Option<SocketAddr> {
        None
    }
    fn upstream_cluster(&self) -> Option<&str> {
        Some("outbound|80||d")
    }
    fn route_name(&self) -> Option<&str> {
        Some("r")
    }
    fn requested_server_name(&self) -> Option<&str> {
        None
    }
}

fn pairs(entries: &[(&str, &str)]) -> Vec<(String, String)> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn op(remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]) -> HeaderOp {
    HeaderOp { remove: remove.iter().map(|name| (*name).to_owned()).collect(), set: pairs(set), add: pairs(add) }
}

fn request_ops(request: HeaderOp) -> HeaderOps {
    HeaderOps { request, response: HeaderOp::default() }
}

/// A rule with these operations and one destination, or two, with those.
fn compiled(rule_ops: HeaderOps, split_ops: HeaderOps, several: bool) -> Compiled {
    let mut splits = vec![Split { headers: Arc::new(split_ops), ..split("d", 1) }];
    if several {
        splits.push(split("e", 1));
    }
    let rule = Rule { headers: Arc::new(rule_ops), ..rule(0, Predicate::default(), forward(splits)) };
    compile(&set(vec![virtual_host("*", vec![rule])], &["d", "e"]), None, 1)
}

fn ops(compiled: &Compiled) -> Arc<CompiledHeaderOps> {
    let headers = HeaderMap::new();
    match http_table(&compiled.snapshot).route(&get("a", "/", &headers), &mut |_| 0) {
        Decision::Forward { split, .. } => split.headers.clone(),
        other => panic!("{other:?}"),
    }
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
    lines.sort();
    lines
}

fn edited(compiled: &Compiled, before: &[(&'static str, &'static str)]) -> (Vec<String>, Option<String>) {
    let mut headers: HeaderMap = HeaderMap::new();
    for (name, value) in before {
        headers.append(*name, HeaderValue::from_static(value));
    }
    let authority = ops(compiled).request.apply(&mut headers, &Context::default());
    (lines(&headers), authority)
}

#[test]
fn remove_then_set_then_add() {
    let rule = request_ops(op(&["a", "b"], &[("a", "1"), ("c", "2")], &[("c", "3"), ("d", "4")]));
    let compiled = compiled(rule, HeaderOps::default(), false);
    let (lines, authority) = edited(&compiled, &[("a", "x"), ("b", "x"), ("c", "x"), ("c", "y"), ("d", "x")]);
    assert_eq!(lines, ["a: 1", "c: 2", "c: 3", "d: 4", "d: x"]);
    assert_eq!(authority, None);
}

#[test]
fn one_destination_wins_over_its_rule() {
    let rule = request_ops(op(&["r"], &[("a", "rule"), ("host", "rule.example")], &[("n", "rule")]));
    let split = request_ops(op(&["n"], &[("a", "split"), (":authority", "split.example"), ("r", "split")], &[]));
    let (lines, authority) = edited(&compiled(rule, split, false), &[("n", "client"), ("r", "client")]);
    assert_eq!(lines, ["a: split", "n: rule", "r: split"]);
    assert_eq!(authority.as_deref(), Some("rule.example"));
}

#[test]
fn a_rule_wins_over_its_destinations() {
    let rule = request_ops(op(&["r"], &[("a", "rule")], &[("n", "rule")]));
    let split =
        request_ops(op(&["n"], &[("a", "split"), ("host", "split.example"), ("r", "split")], &[("n", "split")]));
    let (lines, authority) = edited(&compiled(rule, split, true), &[("n", "client"), ("r", "client")]);
    assert_eq!(lines, ["a: rule", "n: rule", "n: split"]);
    assert_eq!(authority.as_deref(), Some("split.example"));
}

#[test]
fn templates_are_filled_in() {
    let value = |template: &str| {
        let compiled = compiled(request_ops(op(&[], &[("x", template)], &[])), HeaderOps::default(), false);
        assert!(compiled.diagnostics.is_empty(), "{template}: {:?}", compiled.diagnostics);
        let mut headers = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("text/plain"))]);
        let context = Context { path: "/p?q".to_owned(), ..Context::default() };
        ops(&compiled).request.apply(&mut headers, &context);
        headers.get("x").map(|value| value.to_str().unwrap().to_owned())
    };
    for (template, wanted) in [
        ("%REQ(accept)%", "text/plain"),
        ("%REQ(Accept)%", "text/plain"),
        ("%REQ(none?accept)%", "text/plain"),
        ("%REQ(accept):4%", "text"),
        ("%REQ(:path)% %REQ(:authority)%", "/p?q a.example:80"),
        ("p%REQ(none)%s", "ps"),
        ("100%%", "100%"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "2001:db8::1"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "[2001:db8::1]:4711"),
        ("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.1:8080 8080"),
        ("%PROTOCOL% %HOSTNAME% %RESPONSE_CODE%", "HTTP/1.1 pod-1 200"),
        ("%UPSTREAM_CLUSTER% %ROUTE_NAME%", "outbound|80||d r"),
        ("%START_TIME%", "2024-02-29T12:34:56.007Z"),
        ("%START_TIME(%Y/%m/%d %H:%M:%S.%3f %s %a %b %j)%", "2024/02/29 12:34:56.007 1709210096 Thu Feb 060"),
    ] {
        assert_eq!(value(template).as_deref(), Some(wanted), "{template}");
    }
    for nothing in ["%REQ(none)%", "%UPSTREAM_HOST%%REQUESTED_SERVER_NAME%", ""] {
        assert_eq!(value(nothing), None, "{nothing}");
    }
}

/// Values are computed before anything is set, but after the removals.
#[test]
fn values_see_the_headers_before_the_pass() {
    let rule = request_ops(op(&["b"], &[("a", "new"), ("c", "%REQ(a)%%REQ(b)%")], &[]));
    let (lines, _) = edited(&compiled(rule, HeaderOps::default(), false), &[("a", "old"), ("b", "gone")]);
    assert_eq!(lines, ["a: new", "c: old"]);
}

#[test]
fn responses_read_their_own_headers_and_those_of_the_request() {
    let response = op(&["x-secret"], &[("x-both", "%RESP(x-old)%-%REQ(x-id)%"), ("content-type", "a/b")], &[]);
    let compiled = compiled(HeaderOps { response, request: HeaderOp::default() }, HeaderOps::default(), false);
    let mut headers = HeaderMap::from_iter([
        (http::HeaderName::from_static("x-old"), HeaderValue::from_bytes(b"\xffv").unwrap()),
        (http::HeaderName::from_static("x-secret"), HeaderValue::from_static("s")),
    ]);
    let mut context = Context::default();
    context.request.insert("x-id", HeaderValue::from_static("7"));
    ops(&compiled).response.apply(&mut headers, &context);
    assert_eq!(headers["x-both"].as_bytes(), b"\xffv-7");
    assert_eq!(headers["content-type"], "a/b");
    assert!(!headers.contains_key("x-secret"));
}

#[test]
fn what_is_not_legal_is_left_out_alone() {
    let request =
        op(&["host", "ok"], &[(":path", "/x"), ("b c", "1"), ("n", "a\nb"), ("v", "%NOPE%")], &[("l", "50%")]);
    let response = op(&["date"], &[("server", "x"), ("fine", "1")], &[("y", "%REQ%")]);
    let compiled = compiled(HeaderOps { request, response }, HeaderOps::default(), false);
    let told: Vec<_> = compiled.diagnostics.iter().map(|told| (told.code, told.field.as_str())).collect();
    assert_eq!(
        told,
        [
            ("MESH0202", "spec.http[0].headers.request.remove[host]"),
            ("MESH0202", "spec.http[0].headers.request.set[:path]"),
            ("MESH0202", "spec.http[0].headers.request.set[b c]"),
            ("MESH0202", "spec.http[0].headers.request.set[n]"),
            ("MESH0202", "spec.http[0].headers.request.set[v]"),
            ("MESH0202", "spec.http[0].headers.request.add[l]"),
            ("MESH0202", "spec.http[0].headers.response.remove[date]"),
            ("MESH0202", "spec.http[0].headers.response.set[server]"),
            ("MESH0202", "spec.http[0].headers.response.add[y]"),
        ]
    );
    let mut headers = HeaderMap::new();
    ops(&compiled).response.apply(&mut headers, &Context::default());
    assert_eq!(lines(&headers), ["fine: 1"]);
    let (lines, _) = edited(&compiled, &[("ok", "1"), ("z", "1")]);
    assert_eq!(lines, ["z: 1"]);
}
