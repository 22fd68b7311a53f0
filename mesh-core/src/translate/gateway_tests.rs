use super::super::fixture::{docs, http_server, https_server, to};
use crate::api::Positions;
use crate::diag;
use crate::model::{CertificateSource, IpFamilies, ListenerProtocol, TlsServer};
use crate::world::World;

const SECRET: &str = "type: kubernetes.io/tls\nstringData: {tls.crt: CERT, tls.key: KEY}";

fn tls_servers(translation: &super::super::Translation, listener: &str) -> Vec<TlsServer> {
    match &translation.set.listeners[listener].protocol {
        ListenerProtocol::Tls { servers } => servers.clone(),
        _ => Vec::new(),
    }
}

#[test]
fn a_selector_for_another_proxy_opens_nothing_and_is_said() {
    let t = docs()
        .add(
            "Gateway",
            "default/other",
            &format!("spec: {{selector: {{istio: egress}}, servers: [{}]}}", http_server(80, "'*'")),
        )
        .translate();
    assert!(t.set.listeners.is_empty());
    assert_eq!(t.codes(), [diag::GATEWAY_NOT_SELECTED.id]);
    assert!(t.diagnostics[0].message.contains("istio=egress"), "{}", t.diagnostics[0]);
}

#[test]
fn an_empty_selector_is_for_every_gateway() {
    let t =
        docs().add("Gateway", "default/all", &format!("spec: {{servers: [{}]}}", http_server(80, "'*'"))).translate();
    assert_eq!(t.set.listeners.keys().map(|key| &**key).collect::<Vec<_>>(), ["0.0.0.0:80"]);
}

#[test]
fn the_number_is_the_services_port_and_the_target_port_is_listened_on() {
    let service = "spec: {selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}";
    let t = docs().http("'*'").add("Service", "istio-system/ingress", service).translate();
    let listener = &t.set.listeners["0.0.0.0:8080"];
    assert_eq!((listener.port, t.set.listeners.len()), (80, 1));
    assert!(t.set.routes.contains_key("http.8080"));
}

#[test]
fn services_of_other_namespaces_and_other_pods_do_not_count() {
    let spec = |selector: &str| {
        format!("spec: {{selector: {{{selector}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}")
    };
    let t = docs()
        .http("'*'")
        .add("Service", "default/ingress", &spec("istio: ingressgateway"))
        .add("Service", "istio-system/egress", &spec("istio: egressgateway"))
        .add("Service", "istio-system/none", "spec: {ports: [{name: http, port: 80, targetPort: 8081}]}")
        .translate();
    assert!(t.set.listeners.contains_key("0.0.0.0:80"));
}

#[test]
fn a_named_target_port_is_looked_up_in_the_slices() {
    let service = "spec: {selector: {istio: ingressgateway}, ports: [{name: web, port: 80, targetPort: http2}]}";
    let t = docs()
        .http("'*'")
        .add("Service", "istio-system/ingress", service)
        .slice("istio-system/a", "ingress", "ports: [{name: web, port: 8081}]\nendpoints: []")
        .translate();
    assert!(t.set.listeners.contains_key("0.0.0.0:8081"));
}

#[test]
fn plain_servers_of_a_port_share_one_table() {
    let t = docs()
        .gateway("default/a", &http_server(80, "a.com"))
        .gateway("default/b", "{port: {number: 80, name: h2, protocol: HTTP2}, hosts: [b.com]}")
        .add("VirtualService", "default/a", &format!("spec: {{hosts: [a.com], gateways: [a], http: [{}]}}", to("x")))
        .add("VirtualService", "default/b", &format!("spec: {{hosts: [b.com], gateways: [b], http: [{}]}}", to("x")))
        .service("default/x", 80)
        .translate();
    assert_eq!(t.set.listeners.len(), 1);
    assert_eq!(t.hosts("http.80"), ["a.com", "b.com"]);
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn tls_servers_of_a_port_have_tables_of_their_own() {
    let servers = [
        https_server(443, "one", "a.com", "mode: SIMPLE, credentialName: cert"),
        https_server(443, "two", "b.com", "mode: SIMPLE, credentialName: cert"),
    ];
    let t = docs()
        .gateway("istio-system/gw", &servers.join(", "))
        .add("Secret", "istio-system/cert", SECRET)
        .vs("default/x", "a.com, b.com", &to("x"))
        .service("default/x", 80)
        .translate();
    assert_eq!(t.hosts("https.443.one.gw.istio-system"), ["a.com"]);
    assert_eq!(t.hosts("https.443.two.gw.istio-system"), ["b.com"]);
    assert_eq!(t.set.secrets["istio-system/cert"].private_key_pem, "KEY");
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn on_a_conflict_the_older_gateway_keeps_the_port() {
    let tls = https_server(80, "tls", "b.com", "mode: SIMPLE, credentialName: cert");
    let body = |server: &str| format!("spec: {{servers: [{server}]}}");
    let t = docs()
        .add("Secret", "istio-system/cert", SECRET)
        .add_on(2, "Gateway", "default/a", &body(&http_server(80, "a.com")))
        .add_on(1, "Gateway", "default/b", &body(&tls))
        .translate();
    assert_eq!(tls_servers(&t, "0.0.0.0:80").len(), 1);
    assert_eq!(t.codes(), [diag::SERVER_CONFLICT.id]);
    assert_eq!(t.diagnostics[0].object.as_ref().unwrap().to_string(), "Gateway/default/a");
    assert!(t.diagnostics[0].position.is_some());
}

#[test]
fn equal_ages_are_settled_by_name_then_namespace() {
    let body = |server: &str| format!("spec: {{servers: [{server}]}}");
    let tcp = "{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*']}";
    let t = docs()
        .add("Gateway", "alpha/zeta", &body(tcp))
        .add("Gateway", "zeta/alpha", &body(&http_server(80, "a.com")))
        .translate_anyway();
    assert!(matches!(t.set.listeners["0.0.0.0:80"].protocol, ListenerProtocol::Http { .. }));
}

#[test]
fn another_bind_never_conflicts() {
    let tcp = "{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*'], bind: 10.0.0.1}";
    let t = docs().gateway("default/a", tcp).gateway("default/b", &http_server(80, "'*'")).translate_anyway();
    assert_eq!(t.set.listeners.keys().map(|key| &**key).collect::<Vec<_>>(), ["0.0.0.0:80", "10.0.0.1:80"]);
    assert_eq!(t.codes(), Vec::<&str>::new());
    let bound = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], bind: 127.0.0.1}";
    let t = docs().gateway("default/a", bound).translate_anyway();
    assert!(t.set.listeners.contains_key("127.0.0.1:80"));
    assert!(t.set.routes.contains_key("http.80.127.0.0.1"));
}

#[test]
fn a_tls_host_is_served_once_per_port() {
    let server = |name: &str, hosts: &str| https_server(443, name, hosts, "mode: SIMPLE, credentialName: cert");
    let t = docs()
        .add("Secret", "istio-system/cert", SECRET)
        .gateway("default/a", &server("one", "a.com"))
        .gateway("default/b", &server("two", "b.com, a.com"))
        .translate();
    assert_eq!(tls_servers(&t, "0.0.0.0:443").len(), 1);
    let said = t.said(diag::TLS_HOST_DUPLICATE);
    assert!(said[0].contains("Gateway/default/b spec.servers[0].hosts[1]"), "{said:?}");
    assert!(said[0].contains("Gateway default/a, server 0"), "{said:?}");
}

#[test]
fn a_missing_secret_silences_its_server_only() {
    let servers = [
        https_server(443, "one", "a.com", "mode: SIMPLE, credentialName: good"),
        https_server(443, "two", "b.com", "mode: SIMPLE, credentialName: goof"),
    ];
    let t = docs().gateway("default/gw", &servers.join(", ")).add("Secret", "istio-system/good", SECRET).translate();
    let servers = tls_servers(&t, "0.0.0.0:443");
    assert_eq!(servers[1].tls.certificates, [CertificateSource::Secret("istio-system/goof".into())]);
    assert!(!t.set.secrets.contains_key("istio-system/goof"));
    let said = t.said(diag::SECRET_MISSING);
    assert!(said[0].contains("spec.servers[1].tls.credentialName"), "{said:?}");
    assert!(said[0].contains("did you mean `good`?"), "{said:?}");
}

#[test]
fn the_secret_is_looked_up_where_the_gateway_runs() {
    let server = https_server(443, "one", "a.com", "mode: SIMPLE, credentialName: cert");
    let t = docs().gateway("default/gw", &server).add("Secret", "default/cert", SECRET).translate();
    let said = t.said(diag::SECRET_MISSING);
    assert!(said[0].contains("there is one in namespace `default`, but it must be in `istio-system`"), "{said:?}");
}

/// Of the objects of a cluster, which have no places in files.
#[test]
fn who_writes_a_gateway_learns_of_no_secrets_of_others() {
    let server = https_server(443, "one", "a.com", "mode: SIMPLE, credentialName: cert");
    let help = |secret: &str| {
        let text =
            docs().gateway("default/gw", &server).add("Secret", secret, SECRET).add("Secret", "aaa/cert", SECRET);
        let mut objects = text.objects();
        objects.iter_mut().for_each(|object| object.positions = Positions::default());
        let t = super::super::translate(&World::from_objects(objects), &super::super::fixture::proxy());
        t.said(diag::SECRET_MISSING).concat()
    };
    assert!(help("default/cert").contains("there is one in namespace `default`"), "{}", help("default/cert"));
    // Neither where there are such, nor what others are called that are where the gateway runs.
    for secret in ["other/cert", "istio-system/cert1"] {
        let said = help(secret);
        assert!(!said.contains("other") && !said.contains("aaa") && !said.contains("cert1"), "{said}");
        assert!(said.contains("create it in namespace `istio-system`"), "{said}");
    }
}

#[test]
fn secrets_without_keys_and_of_other_namespaces() {
    let server = |name: &str, secret: &str| {
        https_server(443, name, &format!("{name}.com"), &format!("mode: SIMPLE, credentialName: '{secret}'"))
    };
    let servers = [
        server("one", "empty"),
        server("two", "kubernetes-gateway://other/cert"),
        server("three", "kubernetes-gateway://istio-system/generic"),
        // Where the Gateway is, but not its pods.
        server("four", "default/cert"),
    ];
    let t = docs()
        .gateway("default/gw", &servers.join(", "))
        .add("Secret", "istio-system/empty", "stringData: {ca.crt: X}")
        .add("Secret", "istio-system/generic", "type: Opaque\nstringData: {cert: CERT, key: KEY}")
        .add("Secret", "other/cert", SECRET)
        .add("Secret", "default/cert", SECRET)
        .translate();
    assert!(t.said(diag::SECRET_WITHOUT_KEYS)[0].contains("has ca.crt"));
    assert_eq!(t.said(diag::SECRET_FORBIDDEN).len(), 2);
    assert_eq!(t.set.secrets.keys().map(|key| &**key).collect::<Vec<_>>(), ["istio-system/generic"]);
}

#[test]
fn certificates_from_files() {
    let server = https_server(443, "f", "a.com", "mode: SIMPLE, serverCertificate: /c.pem, privateKey: /k.pem");
    let t = docs().gateway("default/gw", &server).translate();
    let files = CertificateSource::Files { certificate: "/c.pem".into(), private_key: "/k.pem".into() };
    assert_eq!(tls_servers(&t, "0.0.0.0:443")[0].tls.certificates, [files]);
}

#[test]
fn two_certificates_by_name() {
    let server = https_server(443, "f", "a.com", "mode: SIMPLE, credentialNames: [rsa, ecdsa]");
    let t = docs()
        .gateway("default/gw", &server)
        .add("Secret", "istio-system/rsa", SECRET)
        .add("Secret", "istio-system/ecdsa", SECRET)
        .translate();
    assert_eq!(tls_servers(&t, "0.0.0.0:443")[0].tls.certificates.len(), 2);
    assert_eq!(t.set.secrets.len(), 2);
}

#[test]
fn servers_listen_on_the_families_that_the_proxy_has() {
    let world = docs().http("'*'").world();
    let mut proxy = super::super::fixture::proxy();
    for (families, address) in [
        (IpFamilies::Unknown, "0.0.0.0:80"),
        (IpFamilies::V4, "0.0.0.0:80"),
        (IpFamilies::V6, "[::]:80"),
        // The socket takes both.
        (IpFamilies::V4First, "[::]:80"),
    ] {
        proxy.families = families;
        let listeners = super::super::translate(&world, &proxy).set.listeners;
        assert_eq!(listeners.keys().map(|key| &**key).collect::<Vec<_>>(), [address], "{families:?}");
    }
}

#[test]
fn a_server_may_listen_on_a_unix_socket() {
    let servers = "{port: {number: 0, name: a, protocol: HTTP}, bind: 'unix:///run/a.sock', hosts: ['*']}, \
                   {port: {number: 0, name: b, protocol: TCP}, bind: 'unix://@b', hosts: ['*']}";
    let spec = format!("spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}");
    let t = docs().add("Gateway", "default/gw", &spec).translate();
    let keys: Vec<&str> = t.set.listeners.keys().map(|key| &**key).collect();
    assert_eq!(keys, ["unix:///run/a.sock", "unix://@b"]);
    let listener = &t.set.listeners["unix:///run/a.sock"];
    assert_eq!((listener.address.to_string().as_str(), listener.port), ("unix:///run/a.sock", 0));
    assert!(t.set.routes.contains_key("http.0.unix:///run/a.sock"));
}
