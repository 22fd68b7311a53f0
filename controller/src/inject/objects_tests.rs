use serde_json::json;

use super::super::decide::Reason;
use super::*;

fn outcomes(object: &mut Value) -> Vec<(String, bool)> {
    let outcomes = inject_object(object, "default", &Settings::default()).unwrap();
    outcomes.into_iter().map(|outcome| (outcome.object, outcome.decision == Decision::Inject)).collect()
}

fn workload(api_version: &str, kind: &str, path: &str) -> Value {
    let pods = json!({ "metadata": { "labels": { "app": "a" } }, "spec": { "containers": [{ "name": "web" }] } });
    let spec = path.rsplit('/').filter(|key| !key.is_empty()).fold(pods, |inner, key| json!({ key: inner }));
    let mut object =
        json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "a", "namespace": "shop" } });
    object.as_object_mut().unwrap().extend(spec.as_object().cloned().unwrap());
    object
}

#[test]
fn every_kind_of_workload_has_its_pods_somewhere() {
    for (api_version, kind, path) in [
        ("apps/v1", "Deployment", "/spec/template"),
        ("apps/v1", "StatefulSet", "/spec/template"),
        ("apps/v1", "DaemonSet", "/spec/template"),
        ("apps/v1", "ReplicaSet", "/spec/template"),
        ("v1", "ReplicationController", "/spec/template"),
        ("batch/v1", "Job", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ] {
        let mut object = workload(api_version, kind, path);
        assert_eq!(outcomes(&mut object), [(format!("{kind}/shop/a"), true)]);
        let pods = object.pointer(path).unwrap();
        assert_eq!(pods["spec"]["initContainers"][1]["name"], "istio-proxy", "{kind}");
        let env = pods["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let owner = env.iter().find(|variable| variable["name"] == "ISTIO_META_OWNER").unwrap();
        let plural = kind.to_lowercase();
        assert_eq!(owner["value"], format!("kubernetes://apis/{api_version}/namespaces/shop/{plural}s/a"));
        // A second time there is nothing to do.
        let again = inject_object(&mut object, "default", &Settings::default()).unwrap();
        assert_eq!(again[0].decision, Decision::Leave(Reason::AlreadyInjected));
    }
}

#[test]
fn lists_are_of_their_items_and_the_rest_stays() {
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "web" }] } });
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" }, "spec": {} });
    let mut list = json!({ "apiVersion": "v1", "kind": "List", "items": [service, pod, workload("apps/v1", "Deployment", "/spec/template")] });
    assert_eq!(outcomes(&mut list), [("Pod/default/p".to_owned(), true), ("Deployment/shop/a".to_owned(), true)]);
    assert_eq!(list["items"][0], service);
    let pod = &list["items"][1];
    assert_eq!(pod.as_object().unwrap().keys().collect::<Vec<_>>(), ["apiVersion", "kind", "metadata", "spec"]);
    // Somebody else's kinds of those names are none.
    let mut other = workload("serving.knative.dev/v1", "Deployment", "/spec/template");
    assert_eq!(outcomes(&mut other), []);
}

#[test]
fn what_cannot_be_injected_is_named() {
    let mut object = workload("apps/v1", "Deployment", "/spec/template");
    object["spec"]["template"]["metadata"]["annotations"] =
        json!({ "traffic.sidecar.istio.io/includeInboundPorts": "x" });
    let refused = inject_object(&mut object, "default", &Settings::default()).unwrap_err();
    insta::assert_snapshot!(refused.to_string(), @"Deployment/shop/a: annotation `traffic.sidecar.istio.io/includeInboundPorts`: `x` is not a list of ports");
}

/// What users of the tutorial get.
#[test]
fn bookinfo() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/bookinfo/kube/bookinfo.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut details = documents.into_iter().find(|object| object["kind"] == "Deployment").unwrap();
    inject_object(&mut details, "default", &Settings::default()).unwrap();
    insta::assert_snapshot!(serde_saphyr::to_string(&details).unwrap());
}
