use super::super::fixture::*;
use crate::model::{RouteSet, Serves, UpstreamTls};

const KEY: &str = "https.15443.tls.gw.istio-system";

fn between(hosts: &str) -> Docs {
    let server = format!(
        "{{port: {{number: 15443, name: tls, protocol: TLS}}, hosts: [{hosts}], tls: {{mode: AUTO_PASSTHROUGH}}}}"
    );
    docs().gateway("istio-system/gw", &server)
}

/// With an endpoint that speaks mutual TLS, and one that does not.
fn entry(docs: Docs, name: &str, host: &str, more: &str) -> Docs {
    let labels = |text: &str| format!("labels: {{{text}}}");
    let spec = format!(
        "spec: {{hosts: [{host}], location: MESH_INTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], \
         endpoints: [{{address: 10.0.0.1, {}}}, {{address: 10.0.0.2, {}}}]{more}}}",
        labels("version: v1, security.istio.io/tlsMode: istio"),
        labels("version: v1")
    );
    docs.add("ServiceEntry", name, &spec)
}

fn names(routes: &RouteSet) -> Vec<String> {
    routes.tcp.iter().map(|route| route.sni[0].to_string()).collect()
}

#[test]
fn server_names_are_those_of_ports_and_subsets_of_services_that_the_server_opens() {
    let docs = entry(between("'*.local'"), "default/a", "a.mesh.local", "");
    let docs = entry(docs, "default/b", "b.mesh.org", "");
    let subsets = "spec: {host: a.mesh.local, subsets: [{name: v1, labels: {version: v1}}], trafficPolicy: {proxyProtocol: {version: V1}}}";
    let t = docs.add("DestinationRule", "default/a", subsets).translate();
    assert_eq!(names(&t.set.routes[KEY]), ["outbound_.80_._.a.mesh.local", "outbound_.80_.v1_.a.mesh.local"]);
    let keys: Vec<&str> = t.set.destinations.keys().map(|key| &**key).collect();
    assert_eq!(keys, ["outbound_.80_._.a.mesh.local", "outbound_.80_.v1_.a.mesh.local"]);
    assert!(t.set.destinations.values().all(|destination| {
        destination.tls == UpstreamTls::Disable && destination.connections.proxy_header.is_none()
    }));
    let listener = t.set.listeners.values().next().unwrap();
    let crate::model::ListenerProtocol::Tls { servers } = &listener.protocol else { panic!("{listener:?}") };
    assert_eq!(servers[0].serves, Serves::MeshPassthrough);
    assert!(t.codes().is_empty());
}

#[test]
fn endpoints_that_do_not_speak_mutual_tls_are_left_out() {
    let t = entry(between("'*'"), "default/a", "a.mesh.local", "").translate();
    let endpoints = &t.set.endpoints["outbound_.80_._.a.mesh.local"].endpoints;
    let addresses: Vec<String> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1:80"]);
}

#[test]
fn what_is_not_exported_to_the_gateway_has_no_name() {
    let t = entry(between("'*'"), "default/a", "a.mesh.local", ", exportTo: ['.']").translate();
    assert_eq!(names(&t.set.routes[KEY]), Vec::<String>::new());
}

#[test]
fn what_virtual_services_say_does_not_count() {
    let docs = entry(between("'*.local'"), "default/a", "a.mesh.local", "");
    let body = "spec: {hosts: [x.mesh.local], gateways: [istio-system/gw], tls: [{match: [{sniHosts: [x.mesh.local]}], \
                route: [{destination: {host: a.mesh.local}}]}]}";
    let t = docs.add("VirtualService", "default/x", body).translate();
    assert_eq!(names(&t.set.routes[KEY]), ["outbound_.80_._.a.mesh.local"]);
}
