use base64::Engine as _;

use super::*;
use crate::admit::review::Review;

fn request(pod: Value) -> Request {
    let review: Review = serde_json::from_value(json!({
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "u-1",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop",
            "operation": "CREATE",
            "object": pod,
            "oldObject": null,
        },
    }))
    .unwrap();
    review.request
}

/// As a ReplicaSet makes it.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-v1-5d4f-",
            "creationTimestamp": null,
            "labels": { "app": "web", "pod-template-hash": "5d4f" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-v1-5d4f", "uid": "x", "controller": true, "blockOwnerDeletion": true }],
        },
        "spec": {
            "containers": [{ "name": "web", "image": "web:1", "readinessProbe": { "httpGet": { "path": "/", "port": 8080, "scheme": "HTTP" } }, "somethingNew": 1 }],
            "serviceAccountName": "web",
        },
        "status": {},
    })
}

fn answered(pod: Value) -> Value {
    let request = request(pod);
    answer(&request.uid, injected(&request, &Settings::default()))["response"].clone()
}

#[test]
fn the_patch_makes_the_pod_with_its_sidecar() {
    let response = answered(pod());
    assert_eq!(
        (&response["uid"], &response["allowed"], &response["patchType"]),
        (&json!("u-1"), &json!(true), &json!("JSONPatch"))
    );
    let patch = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched["spec"]["initContainers"][1]["name"], "istio-proxy");
    assert_eq!(patched["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"], 15020);
    assert_eq!(patched["metadata"]["labels"]["service.istio.io/canonical-name"], "web");
    let env = patched["spec"]["initContainers"][1]["env"].as_array().unwrap();
    let owner = env.iter().find(|variable| variable["name"] == "ISTIO_META_OWNER").unwrap();
    assert_eq!(owner["value"], "kubernetes://apis/apps/v1/namespaces/shop/deployments/web-v1");
    // Nothing else is touched.
    assert_eq!(patched["spec"]["containers"][0]["somethingNew"], 1);
    assert_eq!(patched["metadata"]["ownerReferences"], pod()["metadata"]["ownerReferences"]);
    assert_eq!(patched["status"], json!({}));
    // The second time it stays.
    let again = answered(patched);
    assert_eq!(again, json!({ "uid": "u-1", "allowed": true }));
}

#[test]
fn a_pod_that_does_not_want_it_stays() {
    let mut without = pod();
    without["metadata"]["annotations"] = json!({ "sidecar.istio.io/inject": "false" });
    assert_eq!(answered(without), json!({ "uid": "u-1", "allowed": true }));
}

#[test]
fn a_pod_that_cannot_have_it_is_refused_with_the_reason() {
    let mut wrong = pod();
    wrong["metadata"]["annotations"] = json!({ "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.0.0.0/99" });
    let response = answered(wrong);
    assert_eq!(response["allowed"], false);
    insta::assert_snapshot!(response["status"]["message"].as_str().unwrap(), @"no sidecar can be added to this pod: annotation `traffic.sidecar.istio.io/excludeOutboundIPRanges`: `10.0.0.0/99` is not a list of networks such as 10.0.0.0/8");
    let mut other = pod();
    other["metadata"]["annotations"] = json!({ "sidecar.istio.io/interceptionMode": "TPROXY" });
    assert_eq!(answered(other)["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn only_pods_that_are_created_are_looked_at() {
    let created = request(pod());
    assert!(created.is_new_pod());
    let with = |change: fn(&mut Request)| {
        let mut request = request(pod());
        change(&mut request);
        request.is_new_pod()
    };
    assert!(!with(|request| request.operation = "UPDATE".to_owned()));
    assert!(!with(|request| request.sub_resource = "ephemeralcontainers".to_owned()));
    assert!(!with(|request| request.kind.kind = "Deployment".to_owned()));
}
