use http::HeaderMap;

use super::super::{CompiledAction, Decision, Request, https_location};
use crate::compile::compile;
use crate::compile::sample_tests::*;
use crate::model::*;

fn with_rewrite(path: PathMatch, rewrite: PathRewrite) -> ResourceSet {
    let Action::Forward(mut to) = forward(vec![split("d", 1)]) else { unreachable!() };
    to.rewrite.path = Some(rewrite);
    set(vec![virtual_host("*", vec![rule(0, on_path(path), Action::Forward(to))])], &["d"])
}

fn rewritten(path: PathMatch, rewrite: PathRewrite, request: &str) -> Option<String> {
    let compiled = compile(&with_rewrite(path, rewrite), None, 1);
    let headers = HeaderMap::new();
    match http_table(&compiled.snapshot).route(&get("a", request, &headers), &mut |_| 0) {
        Decision::Forward { rule, forward, .. } => rule.rewritten_path(forward, request),
        other => panic!("{other:?}"),
    }
}

fn any_case(value: &str) -> PathMatch {
    PathMatch::Prefix { value: value.into(), ignore_case: true }
}

#[test]
fn prefix_rewrites_are_raw() {
    let to = |text: &str| PathRewrite::Prefix(text.into());
    for (path, new, request, wanted) in [
        (prefix("/c"), "/", "/c/d", "//d"),
        (prefix("/c"), "/", "/cd", "/d"),
        (prefix("/foo/"), "/", "/foo/x", "/x"),
        (prefix("/a"), "noslash", "/a/x", "noslash/x"),
        (prefix("/a"), "/b?c", "/a/x", "/b?c/x"),
        (any_case("/Foo"), "/bar", "/fOO/x", "/bar/x"),
        (exact("/a/b"), "/c", "/a/b", "/c"),
        (PathMatch::Exact { value: "/A".into(), ignore_case: true }, "/c", "/a", "/c"),
        (PathMatch::Any, "/base", "/zz", "/basezz"),
        (PathMatch::Any, "/base/", "/zz", "/base/zz"),
        (PathMatch::Regex("/r/(.*)".into()), r"/x\1", "/r/1", r"/x\1"),
        (PathMatch::Regex("/r/.*".into()), "/x", "/r/1/2", "/x"),
    ] {
        assert_eq!(rewritten(path.clone(), to(new), request).as_deref(), Some(wanted), "{path:?} {new} {request}");
    }
}

#[test]
fn regex_rewrites_replace_every_match() {
    let to = |pattern: &str, substitution: &str| PathRewrite::Regex {
        pattern: pattern.into(),
        substitution: substitution.into(),
    };
    for (pattern, substitution, request, wanted) in [
        ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
        ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
        ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
        ("nothing", "x", "/a", "/a"),
        ("a*", "x", "/aab", "x/xbx"),
        ("b", r"[\0]", "/abc", "/a[b]c"),
        ("b", r"\\1", "/abc", r"/a\1c"),
        ("(b)|z", r"<\1>", "/bz", "/<b><>"),
        ("é", "e", "/éa", "/ea"),
    ] {
        let found = rewritten(PathMatch::Any, to(pattern, substitution), request);
        assert_eq!(found.as_deref(), Some(wanted), "{pattern} {substitution}");
    }
}

#[test]
fn a_refused_rewrite_leaves_the_path() {
    let rewrite = PathRewrite::Regex { pattern: "(".into(), substitution: "x".into() };
    let compiled = compile(&with_rewrite(PathMatch::Any, rewrite), None, 1);
    let told = &compiled.diagnostics[0];
    assert_eq!((told.code, &*told.field), ("MESH0201", "spec.http[0].rewrite.uriRegexRewrite.match"));
}

fn plain() -> Redirect {
    Redirect { status: 301, scheme: None, authority: None, port: RedirectPort::Keep, path: None }
}

fn location(path: PathMatch, redirect: Redirect, request: &Request<'_>) -> String {
    let set = set(vec![virtual_host("*", vec![rule(0, on_path(path), Action::Redirect(redirect))])], &[]);
    let compiled = compile(&set, None, 1);
    match http_table(&compiled.snapshot).route(request, &mut |_| 0) {
        Decision::Redirect { rule, redirect } => {
            assert!(matches!(*rule.action, CompiledAction::Redirect(_)));
            rule.location(redirect, request, 8080)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn locations_keep_or_change_the_authority() {
    let https = || Redirect { scheme: Some("https".into()), ..plain() };
    let http = || Redirect { scheme: Some("http".into()), ..plain() };
    let port = |number| RedirectPort::Number(number);
    for (redirect, scheme, authority, wanted) in [
        (plain(), "http", "x.com:20080", "http://x.com:20080/p"),
        (https(), "http", "x.com", "https://x.com/p"),
        (https(), "http", "x.com:80", "https://x.com/p"),
        (https(), "http", "x.com:443", "https://x.com:443/p"),
        (https(), "http", "x.com:20080", "https://x.com:20080/p"),
        (http(), "https", "x.com:443", "http://x.com/p"),
        (http(), "https", "x.com:80", "http://x.com:80/p"),
        (http(), "http", "x.com:80", "http://x.com:80/p"),
        (Redirect { port: port(443), ..https() }, "http", "x.com:20080", "https://x.com:20080/p"),
        (Redirect { port: port(8443), ..https() }, "http", "x.com:20080", "https://x.com:8443/p"),
        (Redirect { port: port(8443), ..https() }, "http", "x.com", "https://x.com:8443/p"),
        (Redirect { port: port(80), ..plain() }, "http", "x.com:20080", "http://x.com:20080/p"),
        (Redirect { port: port(80), ..plain() }, "https", "x.com", "https://x.com:80/p"),
        (Redirect { port: RedirectPort::ProtocolDefault, ..https() }, "http", "x.com:20080", "https://x.com:20080/p"),
        (Redirect { port: RedirectPort::Request, ..plain() }, "http", "x.com", "http://x.com:8080/p"),
        (Redirect { port: RedirectPort::Request, ..plain() }, "http", "x.com:1", "http://x.com:8080/p"),
        (Redirect { authority: Some("n.com:9".into()), ..plain() }, "http", "x.com:1", "http://n.com:9/p"),
        (Redirect { authority: Some("n.com".into()), ..plain() }, "http", "x.com:1", "http://n.com/p"),
        (Redirect { authority: Some("n.com".into()), port: port(81), ..plain() }, "http", "x:1", "http://n.com:81/p"),
        (plain(), "http", "[::1]:80", "http://[::1]:80/p"),
        (https(), "http", "[::1]:80", "https://[::1]/p"),
        (Redirect { port: port(81), ..plain() }, "http", "[::1]", "http://[::1]:81/p"),
    ] {
        let headers = HeaderMap::new();
        let request = Request { scheme, ..get(authority, "/p", &headers) };
        assert_eq!(location(PathMatch::Any, redirect.clone(), &request), wanted, "{redirect:?} {authority}");
    }
}

#[test]
fn locations_change_the_path_and_keep_the_query() {
    let full = |path: &str| Redirect { path: Some(RedirectPath::Full(path.into())), ..plain() };
    let cut = |path: &str| Redirect { path: Some(RedirectPath::Prefix(path.into())), ..plain() };
    for (path, redirect, request, query, wanted) in [
        (PathMatch::Any, full("/new"), "/old", None, "http://x/new"),
        (PathMatch::Any, full("/new"), "/old", Some("a=1"), "http://x/new?a=1"),
        (PathMatch::Any, full("/new"), "/old", Some(""), "http://x/new?"),
        (PathMatch::Any, full("/new?b"), "/old", Some("a=1"), "http://x/new?b"),
        (PathMatch::Any, full("new"), "/old", None, "http://x/new"),
        (prefix("/a"), cut("/new"), "/ab", Some("q"), "http://x/newb?q"),
        (any_case("/A"), cut("/new"), "/a/b", None, "http://x/new/b"),
        (exact("/a"), plain(), "/a", Some("q"), "http://x/a?q"),
    ] {
        let headers = HeaderMap::new();
        let request = Request { query, ..get("x", request, &headers) };
        assert_eq!(location(path, redirect, &request), wanted);
    }
}

#[test]
fn https_redirects_keep_the_host_verbatim() {
    let headers = HeaderMap::new();
    assert_eq!(https_location(&get("R.com:80", "/a", &headers)), "https://R.com:80/a");
    assert_eq!(https_location(&Request { query: Some("q=1"), ..get("r", "/", &headers) }), "https://r/?q=1");
    let mut hosts = vec![virtual_host("r", vec![])];
    std::sync::Arc::make_mut(&mut hosts[0]).https_redirect = true;
    let compiled = compile(&set(hosts, &[]), None, 1);
    let decision = http_table(&compiled.snapshot).route(&get("R:80", "/", &headers), &mut |_| 0);
    assert!(matches!(decision, Decision::HttpsRedirect));
}
