use super::super::fixture::{docs, http_server, to};
use crate::diag;

const NONE: [&str; 0] = [];

fn vs(hosts: &str, gateways: &str, http: &str) -> String {
    format!("spec: {{hosts: [{hosts}], gateways: [{gateways}], http: [{http}]}}")
}

fn prefix(prefix: &str, host: &str) -> String {
    format!("{{match: [{{uri: {{prefix: {prefix}}}}}], route: [{{destination: {{host: {host}}}}}]}}")
}

#[test]
fn the_narrower_host_is_served_both_ways() {
    let t = docs()
        .http("'*.shop.com', a.net")
        .vs("default/exact", "x.shop.com", &to("x"))
        .vs("default/wide", "'*.net'", &to("x"))
        .vs("default/wider", "'*.com'", &to("x"))
        .service("default/x", 80)
        .translate();
    assert_eq!(t.hosts("http.80"), ["a.net", "x.shop.com", "*.shop.com"]);
    assert_eq!(t.order("x.shop.com"), ["default/exact[0]"], "no fall-through from exact to wildcard");
    assert_eq!(t.order("a.net"), ["default/wide[0]"]);
}

#[test]
fn a_host_for_everything_serves_the_servers_hosts() {
    let t = docs().http("a.com, '*.b.com'").vs("default/all", "'*'", &to("x")).service("default/x", 80).translate();
    assert_eq!(t.hosts("http.80"), ["a.com", "*.b.com"]);
    let t = docs().http("'*'").vs("default/a", "A.com", &to("x")).service("default/x", 80).translate();
    assert_eq!(t.hosts("http.80"), ["a.com"]);
}

#[test]
fn server_hosts_can_be_for_one_namespace() {
    let t = docs()
        .http("shop/a.com, ./b.com, '*/c.com'")
        .vs("shop/one", "a.com, b.com, c.com", &to("x.default.svc.cluster.local"))
        .vs("istio-system/two", "a.com, b.com", &to("x.default.svc.cluster.local"))
        .service("default/x", 80)
        .translate();
    assert_eq!(t.hosts("http.80"), ["a.com", "b.com", "c.com"]);
    assert_eq!(t.order("a.com"), ["shop/one[0]"]);
    assert_eq!(t.order("b.com"), ["istio-system/two[0]"]);
    let said = t.said(diag::HOST_NOT_IN_GATEWAY);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().any(|line| line.contains("VirtualService/shop/one spec.hosts[1]")), "{said:?}");
}

#[test]
fn short_hosts_grow_in_the_namespace_of_the_virtual_service() {
    let t = docs().http("'*'").vs("shop/a", "web", &to("web")).service("shop/web", 80).translate();
    assert_eq!(t.hosts("http.80"), ["web.shop.svc.cluster.local"]);
}

#[test]
fn the_gateway_of_another_namespace_is_named_with_it() {
    let t = docs()
        .http("'*'")
        .add("VirtualService", "default/a", &vs("a.com", "gw", &to("x")))
        .add("VirtualService", "istio-system/b", &vs("b.com", "gw", &to("x.default.svc.cluster.local")))
        .service("default/x", 80)
        .translate();
    assert_eq!(t.hosts("http.80"), ["b.com"]);
    let said = t.said(diag::GATEWAY_UNKNOWN);
    assert!(said[0].contains("`istio-system/gw`"), "{said:?}");
}

#[test]
fn a_virtual_service_without_gateways_is_for_the_mesh_only() {
    let t = docs()
        .http("'*'")
        .add(
            "VirtualService",
            "istio-system/a",
            &format!("spec: {{hosts: [a.com], http: [{}]}}", to("x.default.svc.cluster.local")),
        )
        .service("default/x", 80)
        .translate();
    assert_eq!(t.hosts("http.80"), NONE);
    assert_eq!(t.codes(), NONE);
}

#[test]
fn rules_of_a_host_follow_age_then_name_then_namespace_and_catch_alls_come_last() {
    let body = |path: &str| vs("a.com", "istio-system/gw", &format!("{}, {}", prefix(path, "x"), to("x")));
    let t = docs()
        .http("'*'")
        .service("alpha/x", 80)
        .service("beta/x", 80)
        .add_on(1, "VirtualService", "beta/z", &body("/1"))
        .add_on(2, "VirtualService", "beta/a", &body("/2"))
        .add_on(2, "VirtualService", "alpha/a", &body("/2"))
        .add_on(2, "VirtualService", "alpha/b", &body("/2"))
        .translate();
    assert_eq!(t.order("a.com"), ["beta/z[0]", "alpha/a[0]", "beta/a[0]", "alpha/b[0]", "beta/z[1]"]);
    assert_eq!(t.said(diag::RULE_UNREACHABLE).len(), 3 + 2, "later catch-alls lose, and /2 is taken twice");
    assert_eq!(t.said(diag::HOST_SHARED).len(), 3);
}

#[test]
fn there_is_no_specificity_sort() {
    let t = docs()
        .http("'*'")
        .service("default/x", 80)
        .vs("default/a", "a.com", &prefix("/api", "x"))
        .vs("default/b", "a.com", &prefix("/api/v1", "x"))
        .translate();
    assert_eq!(t.order("a.com"), ["default/a[0]", "default/b[0]"]);
    let said = t.said(diag::RULE_UNREACHABLE);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("VirtualService/default/b spec.http[0].match[0]: for host `a.com`, rule default/a[0]"),
        "{said:?}"
    );
}

#[test]
fn private_rules_come_before_public_ones() {
    let body = |export: &str| {
        format!(
            "spec: {{hosts: [a.com], gateways: [istio-system/gw], exportTo: [{export}], http: [{}]}}",
            prefix("/x", "x.default.svc.cluster.local")
        )
    };
    let t = docs()
        .http("'*'")
        .service("default/x", 80)
        .add_on(1, "VirtualService", "default/public", &body("'*'"))
        .add_on(2, "VirtualService", "default/named", &body("istio-system"))
        .add_on(3, "VirtualService", "istio-system/private", &body("."))
        .add_on(1, "VirtualService", "default/hidden", &body("."))
        .translate();
    assert_eq!(t.order("a.com"), ["istio-system/private[0]", "default/named[0]", "default/public[0]"]);
    assert_eq!(t.said(diag::NOT_EXPORTED).len(), 1);
}

#[test]
fn https_redirect_holds_without_a_virtual_service_and_wins_when_mixed() {
    let redirect = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['shop/r.com', '*.w.com'], tls: {httpsRedirect: true}}";
    let t = docs()
        .gateway("istio-system/gw", redirect)
        .gateway("istio-system/plain", &http_server(80, "r.com, p.com"))
        .vs("default/narrow", "x.w.com", &to("x"))
        .add("VirtualService", "default/p", &vs("r.com, p.com", "istio-system/plain", &to("x")))
        .service("default/x", 80)
        .translate();
    let redirects: Vec<(String, bool)> =
        t.set.routes["http.80"].virtual_hosts.iter().map(|host| (host.host.to_string(), host.https_redirect)).collect();
    let expected = [("p.com", false), ("r.com", true), ("x.w.com", true), ("*.w.com", true)];
    assert_eq!(redirects, expected.map(|(host, redirect)| (host.to_owned(), redirect)));
}

#[test]
fn https_redirect_on_tls_changes_nothing() {
    let server =
        super::super::fixture::https_server(443, "s", "a.com", "mode: SIMPLE, credentialName: c, httpsRedirect: true");
    let t = docs().gateway("istio-system/gw", &server).translate_anyway();
    assert_eq!(t.hosts("https.443.s.gw.istio-system"), NONE);
}

#[test]
fn the_same_rules_through_two_gateways_count_once() {
    let t = docs()
        .gateway("istio-system/a", &http_server(80, "a.com"))
        .gateway("istio-system/b", &http_server(80, "'*.com', a.com"))
        .add(
            "VirtualService",
            "default/v",
            &vs("a.com", "istio-system/a, istio-system/b", &format!("{}, {}", prefix("/x", "x"), to("x"))),
        )
        .service("default/x", 80)
        .translate();
    assert_eq!(t.order("a.com"), ["default/v[0]", "default/v[1]"]);
    assert_eq!(t.codes(), NONE);
}

#[test]
fn hosts_without_a_server() {
    let t = docs()
        .http("a.com")
        .service("default/x", 80)
        .vs("default/v", "a.com, b.com", &to("x"))
        .add("VirtualService", "default/both", &vs("x", "istio-system/gw, mesh", &to("x")))
        .translate();
    let said = t.said(diag::HOST_NOT_IN_GATEWAY);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("opens `b.com`") && said[0].contains("it has a.com"), "{said:?}");
}

#[test]
fn a_path_is_not_taken_by_a_rule_with_another_condition_or_a_narrower_path() {
    let first = "{match: [{uri: {prefix: /api}, method: {exact: GET}}, {uri: {exact: /api}}], route: [{destination: {host: x}}]}";
    let http = format!("{first}, {}, {}", prefix("/api", "x"), prefix("/ap", "x"));
    let t = docs().http("'*'").service("default/x", 80).vs("default/a", "a.com", &http).translate();
    assert_eq!(t.codes(), NONE);
}
