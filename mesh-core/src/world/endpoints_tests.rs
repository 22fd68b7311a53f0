use super::*;
use crate::api::parse;

fn world(text: &str) -> World {
    let parsed = parse("test.yaml", text, "default");
    assert_eq!(parsed.diagnostics, [], "{text}");
    World::from_objects(parsed.objects)
}

/// Address and locality of the endpoints of `host`, port 80.
fn endpoints(world: &World, host: &str, families: IpFamilies) -> Vec<String> {
    let service = world.index().registry.find(host, "default", "default").unwrap();
    let found = world.instances(service, service.port(80).unwrap(), families, &mut Reads::default());
    found.iter().map(|instance| format!("{} {}", instance.address, instance.locality)).collect()
}

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: s}, ports: [{name: http, port: 80}]}\n";
const HOST: &str = "s.default.svc.cluster.local";

fn node(name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nstatus: {{conditions: []}}\n"
    )
}

fn pod(name: &str, labels: &str, spec: &str, ips: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: s{labels}}}}}\nspec: {{{spec}}}\nstatus: {{podIPs: [{ips}]}}\n"
    )
}

fn slice(name: &str, family: &str, endpoints: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: {{kubernetes.io/service-name: s}}}}\naddressType: {family}\nports: [{{name: http, port: 8080}}]\nendpoints: [{endpoints}]\n"
    )
}

#[test]
fn localities_of_slices() {
    let text = [
        SERVICE.to_owned(),
        node("n1", "topology.kubernetes.io/region: r, topology.kubernetes.io/zone: a, topology.istio.io/subzone: x"),
        node("n2", "topology.kubernetes.io/region: r, topology.kubernetes.io/zone: b"),
        node("old", "failure-domain.beta.kubernetes.io/region: r, failure-domain.beta.kubernetes.io/zone: c"),
        node("bare", "kubernetes.io/os: linux"),
        pod("labelled", ", istio-locality: own.zone", "nodeName: n1", ""),
        pod("placed", "", "nodeName: n2", ""),
        slice(
            "e",
            "IPv4",
            "{addresses: [10.0.0.1], nodeName: n1}, {addresses: [10.0.0.2], nodeName: n2, zone: ignored}, \
             {addresses: [10.0.0.3], nodeName: old}, {addresses: [10.0.0.4], nodeName: bare, zone: d}, \
             {addresses: [10.0.0.5], nodeName: gone}, {addresses: [10.0.0.6], zone: e}, \
             {addresses: [10.0.0.7], nodeName: n1, targetRef: {kind: Pod, name: labelled}}, \
             {addresses: [10.0.0.8], targetRef: {kind: Pod, name: placed}}",
        ),
    ];
    assert_eq!(
        endpoints(&world(&text.concat()), HOST, IpFamilies::V4),
        [
            "10.0.0.1:8080 r/a/x",
            "10.0.0.2:8080 r/b",
            "10.0.0.3:8080 r/c",
            "10.0.0.4:8080 /d",
            "10.0.0.5:8080 ",
            "10.0.0.6:8080 /e",
            "10.0.0.7:8080 own/zone",
            "10.0.0.8:8080 r/b",
        ]
    );
}

#[test]
fn localities_without_slices() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec:\n  hosts: [x.example]\n  resolution: STATIC\n  \
         ports: [{number: 80, name: http, protocol: HTTP}]\n  \
         endpoints: [{address: 10.1.0.1, locality: r/a/x}, {address: 10.1.0.2, labels: {istio-locality: r.b}}, {address: 10.1.0.3, locality: r/c, labels: {istio-locality: r.d}}]\n";
    let workload = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: 10.1.0.4, labels: {app: s}, locality: r/w}\n";
    let text = [
        SERVICE.to_owned(),
        node("n1", "topology.kubernetes.io/region: r"),
        pod("p", "", "nodeName: n1", "{ip: 10.0.0.1}"),
        entry.to_owned(),
        workload.to_owned(),
    ];
    let world = world(&text.concat());
    assert_eq!(endpoints(&world, HOST, IpFamilies::V4), ["10.0.0.1:80 r", "10.1.0.4:80 r/w"]);
    assert_eq!(
        endpoints(&world, "x.example", IpFamilies::V4),
        ["10.1.0.1:80 r/a/x", "10.1.0.2:80 r/b", "10.1.0.3:80 r/c"]
    );
}

#[test]
fn of_a_dual_stack_service_each_pod_counts_once() {
    let target =
        |address: &str, pod: &str| format!("{{addresses: ['{address}'], targetRef: {{kind: Pod, name: {pod}}}}}");
    let text = [
        SERVICE.to_owned(),
        // Names in the other order than the families.
        slice("a-six", "IPv6", &[target("fd00::1", "p1"), target("fd00::2", "p2"), target("fd00::3", "p3")].join(", ")),
        // p3 has no IPv4 address yet, p4 no IPv6 one.
        slice(
            "b-four",
            "IPv4",
            &[target("10.0.0.1", "p1"), target("10.0.0.2", "p2"), target("10.0.0.4", "p4")].join(", "),
        ),
    ];
    let world = world(&text.concat());
    let found = |families| endpoints(&world, HOST, families);
    assert_eq!(found(IpFamilies::V4), ["10.0.0.1:8080 ", "10.0.0.2:8080 ", "10.0.0.4:8080 "]);
    assert_eq!(found(IpFamilies::V6), ["[fd00::1]:8080 ", "[fd00::2]:8080 ", "[fd00::3]:8080 "]);
    let four = ["10.0.0.1:8080 ", "10.0.0.2:8080 ", "10.0.0.4:8080 ", "[fd00::3]:8080 "];
    assert_eq!(found(IpFamilies::V4First), four);
    assert_eq!(found(IpFamilies::Unknown), four);
    assert_eq!(found(IpFamilies::V6First), ["[fd00::1]:8080 ", "[fd00::2]:8080 ", "[fd00::3]:8080 ", "10.0.0.4:8080 "]);
}

/// The slices of a pod's families do not change at once.
#[test]
fn a_pod_that_is_ready_in_one_family_only_waits_for_the_first() {
    let endpoint = |address: &str, ready: bool| {
        format!("{{addresses: ['{address}'], conditions: {{ready: {ready}}}, targetRef: {{kind: Pod, name: p1}}}}")
    };
    let found = |four: bool, six: bool| {
        let text = [
            SERVICE.to_owned(),
            slice("four", "IPv4", &endpoint("10.0.0.1", four)),
            slice("six", "IPv6", &endpoint("fd00::1", six)),
        ];
        endpoints(&world(&text.concat()), HOST, IpFamilies::V4First)
    };
    assert_eq!(found(false, true), [""; 0]);
    assert_eq!(found(true, false), ["10.0.0.1:8080 "]);
    assert_eq!(found(true, true), ["10.0.0.1:8080 "]);
}

#[test]
fn slices_of_one_family() {
    let six = slice("e", "IPv6", "{addresses: ['fd00::1']}");
    let world = world(&[SERVICE.to_owned(), six].concat());
    assert_eq!(endpoints(&world, HOST, IpFamilies::V4), [""; 0]);
    for families in [IpFamilies::V6, IpFamilies::V4First, IpFamilies::Unknown] {
        assert_eq!(endpoints(&world, HOST, families), ["[fd00::1]:8080 "], "{families:?}");
    }
}

#[test]
fn of_a_pod_with_two_addresses_one_counts() {
    let text = [SERVICE.to_owned(), pod("p", "", "", "{ip: 10.0.0.1}, {ip: 'fd00::1'}")];
    let world = world(&text.concat());
    assert_eq!(endpoints(&world, HOST, IpFamilies::Unknown), ["10.0.0.1:80 "]);
    assert_eq!(endpoints(&world, HOST, IpFamilies::V6First), ["[fd00::1]:80 "]);
}
