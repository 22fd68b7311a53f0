use crate::diag;
use crate::model::{
    DestinationRef, HostPattern, INBOUND_PASSTHROUGH, InboundProtocol, ListenerProtocol, MtlsMode, Outbound,
    PASSTHROUGH, Reach, UnknownDestination,
};
use crate::translate::fixture::{Docs, docs, forward, keys, to};
use crate::translate::{Translation, Translator};

fn outbound(t: &Translation) -> &Outbound {
    match &t.set.listeners["0.0.0.0:15001"].protocol {
        ListenerProtocol::Outbound(outbound) => outbound,
        other => unreachable!("{other:?}"),
    }
}

/// `network:port sni -> destinations | routes`
fn tcp(t: &Translation) -> Vec<String> {
    let show = |entry: &crate::model::OutboundTcp| {
        let networks: Vec<String> = entry.networks.iter().map(ToString::to_string).collect();
        let sni: Vec<String> = entry.sni.iter().map(ToString::to_string).collect();
        let name = |destination: &DestinationRef| match destination {
            DestinationRef::Known(key) => key.to_string(),
            DestinationRef::Unknown(key) => format!("!{key}"),
        };
        let to: Vec<String> =
            entry.destinations.iter().map(|to| format!("{}x{}", to.weight, name(&to.destination))).collect();
        let routes = entry.routes.as_deref().map_or_else(String::new, |routes| format!(" | {routes}"));
        format!("{}:{} {} -> {}{routes}", networks.join(","), entry.port, sni.join(","), to.join(" "))
    };
    outbound(t).tcp.iter().map(show).collect()
}

fn mesh(docs: Docs, name: &str, spec: &str) -> Docs {
    docs.add("VirtualService", name, &format!("spec: {{{spec}}}"))
}

#[test]
fn a_service_has_all_its_names_and_short_ones_only_at_home() {
    let ports = "ports: [{name: http, port: 80}]";
    let t = docs()
        .add("Service", "default/a", &format!("spec: {{clusterIP: 10.0.0.1, {ports}}}"))
        .add("Service", "other/b", &format!("spec: {{clusterIPs: ['fd00::1'], {ports}}}"))
        .add("Service", "default/h", &format!("spec: {{clusterIP: None, {ports}}}"))
        .to_sidecar();
    let names = |host: &str| t.host("80", host).aliases.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(names("a.default.svc.cluster.local"), "a.default.svc.cluster.local. a.default.svc a.default a 10.0.0.1");
    assert_eq!(names("b.other.svc.cluster.local"), "b.other.svc.cluster.local. b.other.svc b.other [fd00::1]");
    assert!(names("h.default.svc.cluster.local").ends_with("*.h.default.svc *.h.default *.h"));
    assert_eq!(
        keys(&t.host("80", "a.default.svc.cluster.local").rules[0]),
        ["outbound|80||a.default.svc.cluster.local"]
    );
    assert_eq!(t.set.destinations["outbound|80||h.default.svc.cluster.local"].reach, Reach::Addressed);
    assert_eq!(tcp(&t), Vec::<String>::new());
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn who_is_not_exported_to_the_workload_is_not_known() {
    let service = |export: &str| {
        docs()
            .add("ServiceEntry", "other/e", &format!("spec: {{hosts: [e.com], exportTo: ['{export}'], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}]}}"))
            .to_sidecar()
    };
    assert_eq!(service("default").hosts("80"), ["e.com", "*"]);
    assert!(!service(".").set.routes.contains_key("80"));
}

#[test]
fn unknown_hosts_pass_or_are_refused() {
    let base = || docs().service("default/a", 80);
    let open = base().to_sidecar();
    assert_eq!(keys(&open.host("80", "*").rules[0]), [PASSTHROUGH]);
    assert_eq!(forward(&open.host("80", "*").rules[0]).retry.attempts, 0);
    assert_eq!(outbound(&open).unknown, UnknownDestination::Passthrough);
    assert_eq!(open.set.destinations[PASSTHROUGH].reach, Reach::Original);
    let closed = base()
        .add("ConfigMap", "istio-system/istio", "data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}")
        .to_sidecar();
    assert_eq!(closed.host("80", "*").rules[0].name.as_deref(), Some("block_all"));
    assert_eq!(outbound(&closed).unknown, UnknownDestination::Refuse);
    assert!(!closed.set.destinations.contains_key(PASSTHROUGH));
}

#[test]
fn the_oldest_rules_of_a_host_count_and_those_for_narrower_hosts_before() {
    let rule = |host: &str, to_host: &str| format!("spec: {{hosts: ['{host}'], http: [{}]}}", to(to_host));
    let t = docs()
        .service("default/a", 80)
        .service("default/b", 80)
        .service("default/c", 81)
        .add_on(1, "VirtualService", "default/wide", &rule("*.default.svc.cluster.local", "c"))
        .add_on(2, "VirtualService", "default/old", &rule("a", "a"))
        .add_on(3, "VirtualService", "default/young", &rule("a", "b"))
        .to_sidecar();
    let chosen = |host: &str| t.host("80", &format!("{host}.default.svc.cluster.local")).rules[0].source.to_string();
    assert_eq!(chosen("a"), "default/old[0]");
    assert_eq!(chosen("b"), "default/wide[0]");
    assert_eq!(t.hosts("80").len(), 3, "the pattern itself is no host");
    assert_eq!(t.codes(), ["MESH0128"]);
    assert!(t.said(diag::HOST_TAKEN)[0].contains("VirtualService default/old has host"));
}

#[test]
fn rules_are_for_workloads_ports_and_the_mesh() {
    let docs = docs().service("default/a", 80).service("default/b", 80);
    let rules = "hosts: [a], gateways: [mesh, gw], http: [\
                 {match: [{sourceLabels: {app: other}}, {sourceNamespace: else}, {port: 81}, {gateways: [gw]}], route: [{destination: {host: b}}]}, \
                 {match: [{gateways: [mesh], uri: {prefix: /m}}, {sourceLabels: {app: client}, uri: {prefix: /c}}], route: [{destination: {host: b}}]}]";
    let t = mesh(docs, "default/v", rules).to_sidecar();
    let host = t.host("80", "a.default.svc.cluster.local");
    let matches: Vec<_> = host.rules.iter().map(|rule| (rule.source.http, rule.source.r#match)).collect();
    assert_eq!(matches, [(1, Some(0)), (1, Some(1))]);
    // Of a VirtualService of which nothing applies to the port, the service does not notice.
    let only = mesh(
        crate::translate::fixture::docs().service("default/a", 80),
        "default/v",
        "hosts: [a], http: [{match: [{port: 81}], route: [{destination: {host: a}}]}]",
    );
    assert_eq!(only.to_sidecar().host("80", "a.default.svc.cluster.local").rules[0].name.as_deref(), Some("default"));
}

#[test]
fn a_made_up_host_is_on_the_ports_of_its_companions() {
    let t = mesh(
        mesh(
            docs().service("default/a", 9080).service("default/b", 80),
            "default/v",
            &format!("hosts: [a, made.up], http: [{}]", to("a")),
        ),
        "default/w",
        &format!("hosts: [alone.example], http: [{}]", to("a.default.svc.cluster.local")),
    )
    .to_sidecar();
    assert_eq!(t.hosts("9080"), ["a.default.svc.cluster.local", "made.up", "*"]);
    assert_eq!(t.hosts("80"), ["alone.example", "b.default.svc.cluster.local", "*"]);
}

#[test]
fn what_is_not_http_goes_by_address() {
    let t = docs()
        .add("Service", "default/db", "spec: {clusterIP: 10.0.0.5, ports: [{name: mysql, port: 3306}]}")
        .add("Service", "default/any", "spec: {clusterIP: 10.0.0.6, ports: [{name: x, port: 80}]}")
        .add("Service", "default/set", "spec: {clusterIP: None, ports: [{name: tcp, port: 9000}]}")
        .slice("default/set-1", "set", "ports: [{name: tcp, port: 9000}]\nendpoints: [{addresses: [10.2.0.1]}, {addresses: [10.2.0.2]}]")
        .add("Service", "default/empty", "spec: {clusterIP: None, ports: [{name: tcp, port: 9001}]}")
        .add("ServiceEntry", "default/out", "spec: {hosts: ['*.out.com'], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]}")
        .add("ServiceEntry", "default/net", "spec: {hosts: [net.com], addresses: [10.9.0.0/16], resolution: NONE, ports: [{number: 443, name: tcp, protocol: TCP}]}")
        .to_sidecar();
    assert_eq!(
        tcp(&t),
        [
            ":443 *.out.com -> 1xoutbound|443||*.out.com",
            "10.0.0.6/32:80  -> 1xoutbound|80||any.default.svc.cluster.local | any.default.svc.cluster.local:80",
            "10.0.0.5/32:3306  -> 1xoutbound|3306||db.default.svc.cluster.local",
            "10.9.0.0/16:443  -> 1xoutbound|443||net.com",
            "10.2.0.1/32,10.2.0.2/32:9000  -> 1xoutbound|9000||set.default.svc.cluster.local",
        ]
    );
    assert_eq!(t.hosts("any.default.svc.cluster.local:80"), ["*"]);
    assert_eq!(t.set.destinations["outbound|443||net.com"].reach, Reach::Original);
    assert!(outbound(&t).http.is_empty());
}

#[test]
fn rules_of_tcp_and_tls() {
    let docs = docs()
        .add("Service", "default/db", "spec: {clusterIP: 10.0.0.5, ports: [{name: tcp, port: 3306}]}")
        .add("Service", "default/new", "spec: {clusterIP: 10.0.0.6, ports: [{name: tcp, port: 3306}]}")
        .add("Service", "default/web", "spec: {clusterIP: 10.0.0.7, ports: [{name: tls, port: 443}]}");
    let tcp_rules = "hosts: [db], tcp: [{match: [{destinationSubnets: [10.3.0.0/16]}], route: [{destination: {host: new}}]}, \
                     {match: [{port: 3306}], route: [{destination: {host: db}, weight: 9}, {destination: {host: new}, weight: 1}]}]";
    let tls_rules = "hosts: [web.default.svc.cluster.local, a.com], tls: [{match: [{sniHosts: [a.com]}], route: [{destination: {host: web}}]}]";
    let t = mesh(mesh(docs, "default/t", tcp_rules), "default/s", tls_rules).to_sidecar();
    let (db, new) = ("outbound|3306||db.default.svc.cluster.local", "outbound|3306||new.default.svc.cluster.local");
    assert_eq!(
        tcp(&t),
        [
            format!("10.3.0.0/16:3306  -> 1x{new}"),
            format!("10.0.0.5/32:3306  -> 9x{db} 1x{new}"),
            format!("10.0.0.6/32:3306  -> 1x{new}"),
            "10.0.0.7/32:443 a.com -> 1xoutbound|443||web.default.svc.cluster.local".to_owned(),
            "10.0.0.7/32:443  -> 1x!BlackHoleCluster".to_owned(),
        ]
    );
}

#[test]
fn what_arrives_has_the_ports_of_the_services_that_select_the_pod() {
    let t = docs()
        .add_on(2, "Service", "default/client", "spec: {selector: {app: client}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000}, {name: x, port: 9001}]}")
        .add_on(3, "Service", "default/late", "spec: {selector: {app: client}, ports: [{name: tcp, port: 8080}]}")
        .add("Service", "default/other", "spec: {selector: {app: other}, ports: [{name: http, port: 81}]}")
        .add("PeerAuthentication", "istio-system/mesh", "spec: {mtls: {mode: STRICT}}")
        .add("PeerAuthentication", "default/own", "spec: {selector: {matchLabels: {app: client}}, mtls: {mode: UNSET}, portLevelMtls: {9000: {mode: DISABLE}, 7000: {mode: PERMISSIVE}}}")
        .to_sidecar();
    let ListenerProtocol::Inbound(inbound) = &t.set.listeners["0.0.0.0:15006"].protocol else { unreachable!() };
    let shown: Vec<_> =
        inbound.ports.iter().map(|(number, port)| (*number, port.protocol, port.mtls, &*port.routes)).collect();
    assert_eq!(
        shown,
        [
            (7000, InboundProtocol::Detect, MtlsMode::Permissive, INBOUND_PASSTHROUGH),
            (8080, InboundProtocol::Http, MtlsMode::Strict, "inbound|8080||"),
            (9000, InboundProtocol::Tcp, MtlsMode::Disable, "inbound|9000||"),
            (9001, InboundProtocol::Detect, MtlsMode::Strict, "inbound|9001||"),
        ]
    );
    assert_eq!(inbound.others.mtls, MtlsMode::Strict);
    let destination = &t.set.destinations["inbound|8080||"];
    assert_eq!((&*destination.service_name, destination.reach), ("client", Reach::OwnWorkload));
    let host = t.host("inbound|8080||", "*");
    assert_eq!(host.host, HostPattern::Any);
    assert_eq!(keys(&host.rules[0]), ["inbound|8080||"]);
    assert!(t.set.endpoints["inbound|8080||"].endpoints.is_empty());
}

#[test]
fn mutual_tls_is_not_spoken_to_who_has_it_switched_off() {
    let with = |mode: &str| {
        let t = docs()
            .add("Service", "default/a", "spec: {selector: {app: a}, ports: [{name: http, port: 80}]}")
            .labelled(
                "default/a-1",
                "app: a, security.istio.io/tlsMode: istio",
                "spec: {containers: []}\nstatus: {podIP: 10.0.0.1}",
            )
            .add(
                "PeerAuthentication",
                "default/a",
                &format!("spec: {{selector: {{matchLabels: {{app: a}}}}, mtls: {{mode: {mode}}}}}"),
            )
            .to_sidecar();
        t.set.endpoints["outbound|80||a.default.svc.cluster.local"].endpoints[0].mtls
    };
    assert!(with("STRICT") && with("PERMISSIVE"));
    assert!(!with("DISABLE"));
}

/// What is wrong is found whoever may ask, and nothing that is right is called wrong because somebody does not see it.
#[test]
fn of_nobody_means_of_all() {
    let world = docs()
        .add("Sidecar", "istio-system/default", "spec: {egress: [{hosts: [./*]}]}")
        .add("Service", "shop/cart", "spec: {ports: [{name: http, port: 80}]}")
        .add("VirtualService", "shop/cart", &format!("spec: {{hosts: [cart], exportTo: [.], http: [{}]}}", to("crat")))
        .annotated(
            "Service",
            "shop/hidden",
            "networking.istio.io/exportTo: .",
            "spec: {ports: [{name: http, port: 80}]}",
        )
        .add("VirtualService", "shop/good", &format!("spec: {{hosts: [good.example], http: [{}]}}", to("hidden")))
        .world();
    let mut nobody = Translator::of_nobody("istio-system");
    nobody.update(&world);
    let said: Vec<String> = nobody
        .diagnostics()
        .iter()
        .map(|diagnostic| format!("{} {}", diagnostic.code, diagnostic.object.as_ref().unwrap()))
        .collect();
    assert_eq!(said, [format!("{} VirtualService/shop/cart", diag::DESTINATION_HOST_UNKNOWN.id)]);
    assert!(nobody.set().destinations.keys().all(|key| !key.starts_with("outbound")), "nobody is to have them");
}
