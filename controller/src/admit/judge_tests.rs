use mesh_core::api::parse;
use serde_json::json;

use super::*;

fn kind(name: &str) -> &'static Watched {
    KINDS.iter().find(|kind| kind.kind == name).unwrap()
}

fn world() -> World {
    let text = r#"
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: gw, namespace: edge}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: reviews, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}
"#;
    World::from_objects(parse("", text, "default").objects)
}

fn route(http: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "name": "a", "namespace": "shop" },
        "spec": { "hosts": ["a.example"], "gateways": ["edge/gw"], "http": [http] },
    })
}

fn verdict(object: Value, world: Option<&World>) -> Verdict {
    let proxies = [expected("edge")];
    judge(kind("VirtualService"), "shop", object, world.map(|world| (world, proxies.as_slice())))
}

#[test]
fn what_is_right_is_allowed_without_a_word() {
    let object = route(json!({ "route": [{ "destination": { "host": "reviews" } }] }));
    assert_eq!(verdict(object.clone(), Some(&world())), Verdict::default());
    assert_eq!(verdict(object, None), Verdict::default());
}

#[test]
fn errors_of_the_object_deny() {
    let object = route(json!({ "timeout": "5", "route": [{ "destination": { "host": "reviews" } }] }));
    for world in [None, Some(&world())] {
        let verdict = verdict(object.clone(), world);
        assert_eq!(verdict.denied.len(), 1, "{verdict:?}");
        assert!(verdict.denied[0].starts_with("spec.http[0].timeout: "), "{verdict:?}");
    }
}

#[test]
fn a_regex_that_cannot_be_used_denies() {
    let matches = json!([{ "uri": { "regex": "(" } }]);
    let object = route(json!({ "match": matches, "route": [{ "destination": { "host": "reviews" } }] }));
    let verdict = verdict(object, Some(&world()));
    assert!(verdict.denied.iter().any(|message| message.starts_with("spec.http[0].match[0].uri")), "{verdict:?}");
}

#[test]
fn what_is_not_there_yet_is_a_warning() {
    let object = route(json!({ "route": [{ "destination": { "host": "review" } }] }));
    let verdict = verdict(object, Some(&world()));
    assert_eq!((verdict.denied.len(), verdict.warnings.len()), (0, 1), "{verdict:?}");
    assert!(verdict.warnings[0].contains("did you mean `reviews"), "{verdict:?}");
    assert!(verdict.warnings[0].ends_with("[MESH0103]"), "{verdict:?}");
}

#[test]
fn unknown_fields_are_warnings() {
    let object = route(json!({ "tiemout": "5s", "route": [{ "destination": { "host": "reviews" } }] }));
    let verdict = verdict(object, Some(&world()));
    assert_eq!((verdict.denied.len(), verdict.warnings.len()), (0, 1), "{verdict:?}");
}

#[test]
fn names_that_are_made_up_later_are_no_error() {
    let mut object = route(json!({ "route": [{ "destination": { "host": "reviews" } }] }));
    object["metadata"] = json!({ "generateName": "a-" });
    assert_eq!(verdict(object, Some(&world())), Verdict::default());
}

#[test]
fn a_rule_that_no_request_reaches_is_a_warning() {
    let rule = |regex: &str, status: u16| json!({ "match": [{ "uri": { "regex": regex } }], "directResponse": { "status": status } });
    let mut object = route(rule("/api/.*", 200));
    object["spec"]["http"] = json!([rule("/api/.*", 200), rule("/api/v[0-9]", 201)]);
    let verdict = verdict(object, Some(&world()));
    assert!(verdict.denied.is_empty(), "{verdict:?}");
    assert_eq!(verdict.warnings.len(), 1, "{verdict:?}");
    assert!(
        verdict.warnings[0].starts_with("spec.http[1]: ") && verdict.warnings[0].ends_with("[MESH0111]"),
        "{verdict:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn when_too_many_are_analysed_an_object_is_looked_at_by_itself() {
    let keeper = KeeperHandle::new(tokio::sync::mpsc::channel(1).0, tokio::sync::watch::channel(1).1);
    let known = Surroundings { generation: 1, world: world(), proxies: vec![expected("edge")] };
    let judge = Judge { surroundings: Mutex::new(Some(Arc::new(known))), ..Judge::new(keeper, "edge") };
    let absent = || route(json!({ "route": [{ "destination": { "host": "review" } }] }));
    let wrong = || route(json!({ "timeout": "5", "route": [{ "destination": { "host": "review" } }] }));
    let all = judge.turns.clone().acquire_many_owned(u32::try_from(ANALYSES).unwrap()).await.unwrap();
    assert_eq!(judge.judge("VirtualService", "shop", absent()).await, Verdict::default());
    assert_eq!(judge.judge("VirtualService", "shop", wrong()).await.denied.len(), 1);
    drop(all);
    assert_eq!(judge.judge("VirtualService", "shop", absent()).await.warnings.len(), 1);
}
