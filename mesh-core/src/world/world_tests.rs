use super::*;
use crate::api::parse;
use crate::model::{IpFamilies, PathNormalization};

fn objects(text: &str) -> Vec<ApiObject> {
    parse("test.yaml", text, "default").objects
}

fn service(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}, name: http}}]}}\n"
    )
}

#[test]
fn of_two_objects_with_one_name_the_later_counts() {
    let world = World::from_objects(objects(&format!("{}{}", service("a", 1), service("a", 2))));
    let found = world.index().registry.find("a.default.svc.cluster.local", "default", "x").unwrap();
    assert_eq!(found.ports[0].number, 2);
    let said: Vec<&Diagnostic> = world.diagnostics().collect();
    assert_eq!(said[0].code, diag::DUPLICATE_OBJECT.id);
    let earlier = said[0].message.contains("already given at test.yaml:2:") || said[0].message.contains("test.yaml:1:");
    assert!(earlier, "{}", said[0]);
    assert!(said[0].position.as_ref().unwrap().line > 5, "{}", said[0]);
}

#[test]
fn an_update_is_no_duplicate_and_generations_grow() {
    let mut world = World::from_objects(objects(&service("a", 1)));
    let first = world.generation();
    world.apply(objects(&service("a", 2)));
    assert_eq!(world.diagnostics().count(), 0);
    assert!(world.generation() > first);
    world.remove(&[ObjectRef::new("Service", "default", "a")]);
    assert!(!world.index().registry.contains("a.default.svc.cluster.local"));
    let second = world.generation();
    world.replace(objects(&service("b", 1)));
    assert!(world.generation() > second);
    assert!(world.index().registry.contains("b.default.svc.cluster.local"));
}

#[test]
fn mesh_config() {
    let map = |mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {mesh}\n"
        )
    };
    let world = World::from_objects(objects(&map(
        "{rootNamespace: r, connectTimeout: 2s, pathNormalization: {normalization: MERGE_SLASHES}}",
    )));
    assert_eq!(world.mesh().root_namespace, "r");
    assert_eq!(world.mesh().connect_timeout, std::time::Duration::from_secs(2));
    assert_eq!(world.mesh().path_normalization, PathNormalization::MergeSlashes);
    let world = World::from_objects(objects(&map("{connectTimeout: [}")));
    assert_eq!(world.diagnostics().map(|d| d.code).collect::<Vec<_>>(), [diag::MESH_CONFIG_INVALID.id]);
    assert_eq!(World::default().mesh().root_namespace, "istio-system");
}

#[test]
fn protocols() {
    use Protocol::*;
    let rows = [
        (None, "http", 80, Http),
        (None, "HTTP-web", 80, Http),
        (None, "grpc-web", 80, GrpcWeb),
        (None, "grpc-web-x", 80, GrpcWeb),
        (None, "grpc-x", 80, Grpc),
        (None, "http2", 80, Http2),
        (None, "https-x", 443, Https),
        (None, "tls", 443, Tls),
        (None, "mongo", 80, Tcp),
        (None, "web", 80, Auto),
        (None, "", 3306, Tcp),
        (Some("kubernetes.io/h2c"), "http", 80, Http2),
        (Some("kubernetes.io/ws"), "tcp", 80, Http),
        (Some("kubernetes.io/wss"), "tcp", 80, Https),
        (Some("http"), "tcp", 80, Http),
        (Some("my.company/x"), "http", 80, Auto),
        (Some("grpc-x"), "http", 80, Grpc),
    ];
    for (app, name, port, expected) in rows {
        assert_eq!(Protocol::select(app, name, port), expected, "{app:?} {name} {port}");
    }
}

#[test]
fn names_of_gateways() {
    for (written, full) in
        [("g", "ns/g"), ("./g", "ns/g"), ("o/g", "o/g"), ("g.o.svc.cluster.local", "o/g"), ("g.o", "o/g")]
    {
        assert_eq!(gateway_name(written, "ns"), full);
    }
}

#[test]
fn a_service_entry_adds_to_a_service_of_the_same_name() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [a.default.svc.cluster.local], \
                 ports: [{number: 1, name: http, protocol: HTTP}, {number: 9, name: x, protocol: TCP}], resolution: STATIC, endpoints: [{address: 9.9.9.9}]}\n";
    let world = World::from_objects(objects(&format!("{}{entry}", service("a", 1))));
    let found = world.index().registry.find("a.default.svc.cluster.local", "default", "x").unwrap();
    assert_eq!(found.ports.iter().map(|port| port.number).collect::<Vec<_>>(), [1, 9]);
    assert_eq!(found.origin.kind, "Service".into());
    assert_eq!(world.instances(found, found.port(1).unwrap(), IpFamilies::Unknown, &mut Reads::default()).len(), 1);
}

#[test]
fn the_own_namespace_comes_first_among_equal_hosts() {
    let entry = |namespace: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: {namespace}}}\nspec: {{hosts: [x.com], ports: [{{number: 1, name: http, protocol: HTTP}}], resolution: DNS}}\n"
        )
    };
    let world = World::from_objects(objects(&format!("{}{}", entry("a"), entry("b"))));
    let find = |namespace: &str| world.index().registry.find("x.com", namespace, "gw").unwrap().namespace.to_string();
    assert_eq!([find("a"), find("b"), find("c")], ["a", "b", "a"]);
}
