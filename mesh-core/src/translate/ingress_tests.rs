use std::time::Duration;

use crate::model::{AuthoritySource, CertificateSource, Inbound, InboundProtocol, ListenerProtocol, MtlsMode, Reach};
use crate::translate::Translation;
use crate::translate::fixture::docs;

fn with(spec: &str) -> Translation {
    docs()
        .add(
            "Service",
            "default/client",
            "spec: {selector: {app: client}, ports: [{name: http, port: 80, targetPort: 8080}, {name: http-b, port: 81, targetPort: 8081}]}",
        )
        .add("PeerAuthentication", "default/all", "spec: {mtls: {mode: STRICT}}")
        .add("Sidecar", "default/default", &format!("spec: {spec}"))
        .to_sidecar()
}

fn inbound<'t>(t: &'t Translation, listener: &str) -> &'t Inbound {
    match &t.set.listeners[listener].protocol {
        ListenerProtocol::Inbound(inbound) => inbound,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn ports_are_those_that_the_sidecar_names() {
    let t = with(
        "{ingress: [{port: {number: 8080, protocol: HTTP}, defaultEndpoint: '127.0.0.1:9000'}, {port: {number: 7000, protocol: TCP}}, \
         {port: {number: 7001}, defaultEndpoint: '0.0.0.0:7002'}, {port: {number: 7003}, defaultEndpoint: ':7003'}, {port: {number: 7004}, defaultEndpoint: '[::]:7004'}]}",
    );
    let inbound = inbound(&t, "0.0.0.0:15006");
    let ports: Vec<_> = inbound.ports.iter().map(|(number, port)| (*number, port.protocol, port.mtls)).collect();
    let strict = |number, protocol| (number, protocol, MtlsMode::Strict);
    assert_eq!(
        ports,
        [
            strict(7000, InboundProtocol::Tcp),
            strict(7001, InboundProtocol::Detect),
            strict(7003, InboundProtocol::Detect),
            strict(7004, InboundProtocol::Detect),
            strict(8080, InboundProtocol::Http),
        ]
    );
    let reach = |port: u16| t.set.destinations[&*format!("inbound|{port}||")].reach;
    assert_eq!(reach(8080), Reach::Discovered);
    assert_eq!(t.addresses("inbound|8080||"), ["127.0.0.1:9000"]);
    assert_eq!(reach(7000), Reach::OwnWorkload);
    assert_eq!(reach(7001), Reach::OwnPort(7002));
    assert_eq!((reach(7003), reach(7004)), (Reach::OwnWorkload, Reach::OwnWorkload));
    // Metrics name the service that has the port, else the Sidecar.
    let host = |port: u16| t.set.destinations[&*format!("inbound|{port}||")].host.to_string();
    assert_eq!((host(8080), host(7000)), ("client.default.svc.cluster.local".to_owned(), "default.default".to_owned()));
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn without_ingress_the_services_say_it() {
    let t = with("{egress: [{hosts: ['~/*']}]}");
    assert_eq!(inbound(&t, "0.0.0.0:15006").ports.keys().copied().collect::<Vec<u16>>(), [8080, 8081]);
}

#[test]
fn pools_of_ports_count_before_that_of_all() {
    let t = with(
        "{ingress: [{port: {number: 8080, protocol: HTTP}, connectionPool: {tcp: {connectTimeout: 1s}}}, {port: {number: 8081, protocol: HTTP}}], \
         inboundConnectionPool: {tcp: {connectTimeout: 2s}, http: {idleTimeout: 3s}}}",
    );
    let of = |key: &str| (t.set.destinations[key].connect_timeout, t.set.destinations[key].idle_timeout);
    let seconds = Duration::from_secs;
    assert_eq!(of("inbound|8080||"), (seconds(1), seconds(3600)));
    assert_eq!(of("inbound|8081||"), (seconds(2), seconds(3)));
    assert_eq!(of("InboundPassthroughCluster"), (seconds(2), seconds(3)));
}

/// As Istio's inbound clusters: of the service whose port it is, by the port that callers name; what the Sidecar says comes first.
#[test]
fn pools_of_the_services_rule_hold_where_its_requests_arrive() {
    let rule = |spec: &str| format!("spec: {{host: client, {spec}}}");
    let pool = |seconds: u32| {
        format!(
            "connectionPool: {{tcp: {{connectTimeout: {seconds}s}}, http: {{h2UpgradePolicy: UPGRADE, http2MaxRequests: {seconds}}}}}"
        )
    };
    let written = rule(&format!(
        "trafficPolicy: {{{}, portLevelSettings: [{{port: {{number: 81}}, {}}}]}}, subsets: [{{name: v1, trafficPolicy: {{{}}}}}]",
        pool(5),
        pool(6),
        pool(7)
    ));
    let selecting =
        rule(&format!("workloadSelector: {{matchLabels: {{app: client}}}}, trafficPolicy: {{{}}}", pool(8)));
    let with = |sidecar: &str| {
        let docs = docs().add(
            "Service",
            "default/client",
            "spec: {selector: {app: client}, ports: [{name: http, port: 80, targetPort: 8080}, {name: http-b, port: 81, targetPort: 8081}]}",
        );
        let docs = docs.add("DestinationRule", "default/a", &selecting).add("DestinationRule", "default/b", &written);
        docs.add("Sidecar", "default/default", sidecar).to_sidecar()
    };
    let of = |t: &Translation, key: &str| {
        let found = &t.set.destinations[key];
        (found.connect_timeout.as_secs(), found.limits.requests, found.rule.as_ref().map(ToString::to_string))
    };
    let by = |name: &str| Some(name.to_owned());
    let t = with("spec: {egress: [{hosts: ['*/*']}]}");
    assert_eq!(of(&t, "inbound|8080||"), (5, Some(5), by("DestinationRule/default/b")));
    assert_eq!(of(&t, "inbound|8081||"), (6, Some(6), by("DestinationRule/default/b")));
    assert_eq!(of(&t, "InboundPassthroughCluster"), (10, None, None));
    assert_eq!(t.set.destinations["inbound|8080||"].protocol, crate::model::UpstreamProtocol::Http1);
    let t = with("spec: {inboundConnectionPool: {tcp: {connectTimeout: 3s}}}");
    assert_eq!(of(&t, "inbound|8080||"), (3, None, None));
    let t = with(
        "spec: {ingress: [{port: {number: 8080, protocol: HTTP}}, {port: {number: 8081, protocol: HTTP}, connectionPool: {tcp: {connectTimeout: 1s}}}]}",
    );
    assert_eq!(of(&t, "inbound|8080||"), (5, Some(5), by("DestinationRule/default/b")));
    assert_eq!(of(&t, "inbound|8081||"), (1, None, None));
}

#[test]
fn a_port_may_be_listened_on_by_itself() {
    let t = with(
        "{ingress: [{port: {number: 8080, protocol: HTTP}, bind: 127.0.0.1, captureMode: NONE, defaultEndpoint: '127.0.0.1:9000'}, \
         {port: {number: 8081, protocol: HTTP}, captureMode: NONE}]}",
    );
    let own = inbound(&t, "127.0.0.1:8080");
    assert!(own.direct && own.ports[&8080].mtls == MtlsMode::Strict);
    // The sidecar would call itself.
    assert!(!t.set.listeners.contains_key("0.0.0.0:8081"));
    assert_eq!(t.codes(), ["MESH0142"]);
    assert_eq!(t.diagnostics[0].field, "spec.ingress[1].defaultEndpoint");
    assert_eq!(t.set.destinations["inbound|8081||"].reach, Reach::OwnWorkload);
}

#[test]
fn a_workload_may_listen_on_a_unix_socket() {
    let t = with(
        "{ingress: [{port: {number: 8080, protocol: HTTP}, defaultEndpoint: 'unix:///run/a.sock'}, {port: {number: 8081, protocol: TCP}, defaultEndpoint: 'unix://@b'}]}",
    );
    assert_eq!(t.addresses("inbound|8080||"), ["unix:///run/a.sock"]);
    assert_eq!(t.addresses("inbound|8081||"), ["unix://@b"]);
    assert_eq!(t.set.destinations["inbound|8080||"].reach, Reach::Discovered);
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn tls_that_cannot_end_here_is_said() {
    let t = with(
        "{ingress: [{port: {number: 8080, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}]}",
    );
    let fields: Vec<&str> = t.diagnostics.iter().map(|said| said.field.as_str()).collect();
    assert_eq!((fields, t.codes()), (vec!["spec.ingress[0].tls"], vec!["MESH0009"]));
    assert_eq!(inbound(&t, "0.0.0.0:15006").ports[&8080].protocol, InboundProtocol::Tcp);
}

#[test]
fn tls_ends_where_the_port_takes_none_of_the_mesh() {
    let tls = |mode: &str| {
        format!(
            "spec: {{ingress: [{{port: {{number: 8080, protocol: HTTPS}}, tls: {{mode: {mode}, serverCertificate: a.pem, privateKey: b.pem, caCertificates: c.pem}}}}]}}"
        )
    };
    let open = "spec: {selector: {matchLabels: {app: client}}, portLevelMtls: {8080: {mode: DISABLE}}}";
    let with = |mode: &str| {
        docs()
            .add("PeerAuthentication", "default/open", open)
            .add("Sidecar", "default/default", &tls(mode))
            .to_sidecar()
    };
    let simple = with("SIMPLE");
    let port = &inbound(&simple, "0.0.0.0:15006").ports[&8080];
    assert_eq!(port.protocol, InboundProtocol::Http);
    let server = port.tls.as_ref().unwrap();
    let file = CertificateSource::Files { certificate: "a.pem".to_owned(), private_key: "b.pem".to_owned() };
    assert_eq!(
        (server.tls.certificates.as_slice(), server.field().as_str()),
        ([file].as_slice(), "spec.ingress[0].tls")
    );
    assert_eq!(simple.codes(), Vec::<&str>::new());
    let mutual = with("MUTUAL");
    let server = inbound(&mutual, "0.0.0.0:15006").ports[&8080].tls.as_ref().unwrap();
    let authorities = AuthoritySource::Files { certificates: "c.pem".to_owned(), revoked: None };
    assert_eq!(server.tls.clients.as_ref().unwrap().authorities, Some(authorities));
    assert_eq!(mutual.codes(), Vec::<&str>::new());
    let passed = docs()
        .add("PeerAuthentication", "default/open", open)
        .add(
            "Sidecar",
            "default/default",
            "spec: {ingress: [{port: {number: 8080, protocol: HTTPS}, tls: {mode: PASSTHROUGH}}]}",
        )
        .to_sidecar();
    let port = &inbound(&passed, "0.0.0.0:15006").ports[&8080];
    assert_eq!((port.protocol, port.tls.is_none()), (InboundProtocol::Tcp, true));
}
