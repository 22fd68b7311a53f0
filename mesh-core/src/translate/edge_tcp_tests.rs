use super::super::fixture::*;
use crate::diag;
use crate::model::{DestinationRef, RouteSet};

fn tls_server(name: &str, hosts: &str, tls: &str) -> String {
    format!("{{port: {{number: 443, name: {name}, protocol: TLS}}, hosts: [{hosts}], tls: {{{tls}}}}}")
}

fn tcp_server(port: u16, hosts: &str) -> String {
    format!("{{port: {{number: {port}, name: tcp-{port}, protocol: TCP}}, hosts: [{hosts}]}}")
}

/// `namespace/name`, hosts, and `tcp` or `tls` (flow style).
fn rules(docs: Docs, name: &str, hosts: &str, rules: &str) -> Docs {
    let body = format!("spec: {{hosts: [{hosts}], gateways: [istio-system/gw], {rules}}}");
    docs.add("VirtualService", name, &body)
}

fn route(host: &str) -> String {
    format!("route: [{{destination: {{host: {host}}}}}]")
}

/// `a.com,*.b.com: x 2, !y 1`
fn shown(routes: &RouteSet) -> Vec<String> {
    let route = |route: &crate::model::TcpRoute| {
        let names: Vec<String> = route.sni.iter().map(ToString::to_string).collect();
        let to: Vec<String> = route
            .destinations
            .iter()
            .map(|one| match &one.destination {
                DestinationRef::Known(key) => format!("{} {}", key.split('|').nth(3).unwrap(), one.weight),
                DestinationRef::Unknown(key) => format!("!{} {}", key.split('|').nth(3).unwrap(), one.weight),
            })
            .collect();
        format!("{}: {}", names.join(","), to.join(", "))
    };
    routes.tcp.iter().map(route).collect()
}

#[test]
fn bytes_go_by_the_first_rule_for_their_port() {
    let docs = docs().gateway("istio-system/gw", &[tcp_server(9000, "'*'"), tcp_server(9001, "'*'")].join(", "));
    let tcp = format!(
        "tcp: [{{match: [{{port: 9001}}], {}}}, {{match: [{{gateways: [other/gw]}}], {}}}, {{{}}}, {{{}}}]",
        route("a"),
        route("b"),
        "route: [{destination: {host: c}, weight: 3}, {destination: {host: d}, weight: 1}]",
        route("a")
    );
    let docs = ["a", "b", "c"].iter().fold(docs, |docs, name| docs.service(&format!("default/{name}"), 80));
    let t = rules(docs, "default/x", "'*'", &tcp).translate();
    let name = |host: &str| format!("{host}.default.svc.cluster.local");
    assert_eq!(shown(&t.set.routes["tcp.9001"]), [format!(": {} 1", name("a"))]);
    assert_eq!(shown(&t.set.routes["tcp.9000"]), [format!(": {} 3, !{} 1", name("c"), name("d"))]);
    assert!(t.set.destinations.keys().all(|key| !key.contains("|b.")), "a rule of another gateway needs nothing here");
    assert_eq!(t.codes(), [diag::DESTINATION_HOST_UNKNOWN.id]);
}

#[test]
fn of_several_virtual_services_the_older_counts_first() {
    let body = |host: &str| format!("spec: {{hosts: ['*'], gateways: [istio-system/gw], tcp: [{{{}}}]}}", route(host));
    let t = docs()
        .gateway("istio-system/gw", &tcp_server(9000, "'*'"))
        .service("default/a", 80)
        .service("default/b", 80)
        .add_on(2, "VirtualService", "default/x", &body("a"))
        .add_on(1, "VirtualService", "default/y", &body("b"))
        .translate();
    assert_eq!(
        shown(&t.set.routes["tcp.9000"]),
        [": b.default.svc.cluster.local 1", ": a.default.svc.cluster.local 1"]
    );
}

#[test]
fn names_are_those_that_the_server_opens() {
    let servers = tls_server("pass", "'*.com', other/x.org, y.org", "mode: PASSTHROUGH");
    let tls = format!(
        "tls: [{{match: [{{sniHosts: [a.com, '*.b.com']}}], {0}}}, {{match: [{{sniHosts: ['*.org', x.org]}}], {1}}}]",
        route("a"),
        route("b")
    );
    let docs = docs().gateway("istio-system/gw", &servers).service("default/a", 80).service("default/b", 80);
    let t = rules(docs, "default/x", "'*.com', '*.org'", &tls).translate();
    // Another namespace's name is not opened, and what is wider than the server is narrowed to it.
    assert_eq!(
        shown(&t.set.routes["https.443.pass.gw.istio-system"]),
        ["a.com,*.b.com: a.default.svc.cluster.local 1", "y.org: b.default.svc.cluster.local 1"]
    );
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn what_was_narrowed_counts_after_what_was_meant() {
    let servers = tls_server("pass", "a.com", "mode: PASSTHROUGH");
    let tls = format!(
        "tls: [{{match: [{{sniHosts: ['*']}}], {0}}}, {{match: [{{sniHosts: ['*.com']}}], {1}}}, {{match: [{{sniHosts: [a.com]}}], {2}}}]",
        route("a"),
        route("b"),
        route("c")
    );
    let docs = docs().gateway("istio-system/gw", &servers);
    let docs = ["a", "b", "c"].iter().fold(docs, |docs, name| docs.service(&format!("default/{name}"), 80));
    let t = rules(docs, "default/x", "'*'", &tls).translate_anyway();
    let order: Vec<String> = shown(&t.set.routes["https.443.pass.gw.istio-system"]);
    let order: Vec<&str> = order.iter().map(|line| &line[..8]).collect();
    assert_eq!(order, ["a.com: c", "a.com: b", "a.com: a"]);
}

#[test]
fn terminated_bytes_go_by_tcp_rules() {
    let t = rules(
        docs()
            .gateway("istio-system/gw", &tls_server("db", "db.com", "mode: SIMPLE, credentialName: cert"))
            .add("Secret", "istio-system/cert", "stringData: {tls.crt: CERT, tls.key: KEY}")
            .service("default/a", 80),
        "default/x",
        "db.com",
        &format!("tcp: [{{match: [{{destinationSubnets: [10.0.0.0/8]}}], {}}}]", route("a")),
    )
    .translate();
    assert_eq!(shown(&t.set.routes["https.443.db.gw.istio-system"]), [": a.default.svc.cluster.local 1"]);
    assert!(t.said(diag::FIELD_DOUBTFUL)[0].contains("spec.tcp[0].match[0].destinationSubnets"));
}
