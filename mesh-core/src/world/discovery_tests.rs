use super::*;
use crate::api::{ApiObject, parse};
use crate::diag;
use crate::world::World;

fn objects(text: &str) -> Vec<ApiObject> {
    let parsed = parse("test.yaml", text, "default");
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.objects
}

fn settings(selectors: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: home}}\ndata:\n  mesh: |\n    discoverySelectors: {selectors}\n"
    )
}

fn service(namespace: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

fn namespace(name: &str, labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

/// Namespaces whose services are looked at.
fn looked_at(world: &World) -> Vec<String> {
    let mut found: Vec<String> = world.index().registry.iter().map(|service| service.namespace.to_string()).collect();
    found.sort();
    found
}

#[test]
fn operators() {
    let namespaces = [
        namespace("a", "env: prod, region: east"),
        namespace("b", "env: test"),
        namespace("c", ""),
        namespace("home", ""),
    ];
    let services = ["a", "b", "c", "home"].map(service);
    let rows = [
        ("[]", "a b c home"),
        ("[{}]", "a b c home"),
        ("[{matchLabels: {env: prod}}]", "a home"),
        ("[{matchLabels: {env: prod, region: west}}]", "home"),
        ("[{matchLabels: {env: prod}}, {matchLabels: {env: test}}]", "a b home"),
        ("[{matchExpressions: [{key: env, operator: In, values: [test, none]}]}]", "b home"),
        ("[{matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}]", "b c home"),
        ("[{matchExpressions: [{key: env, operator: Exists}]}]", "a b home"),
        ("[{matchExpressions: [{key: env, operator: DoesNotExist}]}]", "c home"),
        ("[{matchLabels: {env: prod}, matchExpressions: [{key: region, operator: DoesNotExist}]}]", "home"),
        ("[{matchLabels: {kubernetes.io/metadata.name: c}}]", "c home"),
    ];
    for (selectors, expected) in rows {
        let text = [namespaces.concat(), services.concat(), settings(selectors)].concat();
        let world = World::from_objects(objects(&text));
        assert_eq!(looked_at(&world).join(" "), expected, "{selectors}");
        assert_eq!(world.diagnostics().count(), 0, "{selectors}");
    }
}

/// Gateways that run elsewhere than the settings are.
#[test]
fn some_namespaces_are_always_looked_at() {
    let all = ["a", "edge", "home", "late"].map(service);
    let mut world = World::default();
    world.always_look_at(["edge"]);
    world.apply(objects(&[all.concat(), settings("[{matchLabels: {mesh: in}}]")].concat()));
    assert_eq!(looked_at(&world), ["edge", "home"]);
    assert_eq!(world.hidden_namespaces(), ["a", "late"].map(Arc::from).into());
    world.always_look_at(["late"]);
    assert_eq!(looked_at(&world), ["edge", "home", "late"]);
    world.apply(objects(&namespace("edge", "mesh: out")));
    assert_eq!(looked_at(&world), ["edge", "home", "late"]);
    world.replace(objects(&[all.concat(), settings("[{matchLabels: {mesh: other}}]")].concat()));
    assert_eq!(looked_at(&world), ["edge", "home", "late"]);
}

#[test]
fn a_selector_that_is_wrong_hides_nothing() {
    for wrong in [
        "[{matchLabels: {env: prod}}, {matchExpressions: [{key: env, operator: In}]}]",
        "[{matchExpressions: [{key: env, operator: Like}]}]",
    ] {
        let world = World::from_objects(objects(&[service("a"), settings(wrong)].concat()));
        assert_eq!(looked_at(&world), ["a"], "{wrong}");
        let found: Vec<_> = world.diagnostics().map(|found| (found.code, found.field.as_str())).collect();
        let [(code, field)] = found.as_slice() else { unreachable!("{found:?}") };
        assert_eq!(*code, diag::FIELD_INVALID.id);
        assert!(field.starts_with("data.mesh.discoverySelectors["), "{field}");
    }
}

#[test]
fn labels_and_settings_are_followed() {
    let mut world =
        World::from_objects(objects(&[service("a"), service("b"), settings("[{matchLabels: {mesh: in}}]")].concat()));
    assert_eq!(looked_at(&world), [""; 0]);
    world.apply(objects(&namespace("a", "mesh: in")));
    assert_eq!(looked_at(&world), ["a"]);
    // What comes into a namespace that is not looked at is there when it is.
    world.apply(objects(&service("c")));
    world.apply(objects(&[namespace("a", "mesh: out"), namespace("c", "mesh: in")].concat()));
    assert_eq!(looked_at(&world), ["c"]);
    assert!(world.has(&objects(&service("a")).remove(0)), "it is known, and only not looked at");
    world.remove(&[ObjectRef::new("Service", "a", "s"), ObjectRef::new("Namespace", "", "c")]);
    assert_eq!(looked_at(&world), [""; 0]);
    world.apply(objects(&settings("[]")));
    assert_eq!(looked_at(&world), ["b", "c"]);
}

#[test]
fn a_namespace_and_what_is_in_it_change_at_once() {
    let mut world = World::from_objects(objects(&[service("a"), settings("[{matchLabels: {mesh: in}}]")].concat()));
    let newer = service("a").replace("80", "81");
    world.apply(objects(&[namespace("a", "mesh: in"), newer].concat()));
    let ports = |world: &World| -> Vec<u16> {
        world.index().registry.iter().flat_map(|service| &service.ports).map(|port| port.number).collect()
    };
    assert_eq!(ports(&world), [81]);
    world.apply(objects(&[namespace("a", "mesh: out"), service("a")].concat()));
    assert_eq!(ports(&world), [0; 0]);
    world.apply(objects(&namespace("a", "mesh: in")));
    assert_eq!(ports(&world), [80]);
}

#[test]
fn who_somebody_is_does_not_depend_on_it() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: a}\nspec: {}\n";
    let world = World::from_objects(objects(&[pod, &settings("[{matchLabels: {mesh: in}}]")].concat()));
    assert!(world.pod("a", "p").is_some());
}
