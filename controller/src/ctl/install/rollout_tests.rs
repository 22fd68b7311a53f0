#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;

fn deployment(status: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": { "name": "d", "generation": 2 },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "d" } }, "template": {} },
        "status": status,
    }))
    .unwrap()
}

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "d-1" }, "status": status })).unwrap()
}

fn told(status: Value, pods: &[Value]) -> Progress {
    progress(&deployment(status), &pods.iter().cloned().map(pod).collect::<Vec<_>>())
}

#[test]
fn it_is_done_when_only_the_newest_version_is_there() {
    let done = json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 });
    assert_eq!(told(done.clone(), &[]), Progress { done: true, told: "2/2 replicas ready".to_owned() });
    for (field, value, text) in [
        ("observedGeneration", 1, "2/2 replicas ready"),
        ("replicas", 3, "2/2 replicas ready, 1 of an older version"),
        ("updatedReplicas", 1, "2/2 replicas ready, 1 of an older version"),
        ("availableReplicas", 1, "1/2 replicas ready"),
    ] {
        let mut status = done.clone();
        status[field] = value.into();
        assert_eq!(told(status, &[]), Progress { done: false, told: text.to_owned() }, "{field}");
    }
}

#[test]
fn it_says_why_a_pod_does_not_come_up() {
    let some = json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1 });
    let container = |state: Value| json!({ "containerStatuses": [{ "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state }] });
    let image = container(
        json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\"\nmore" } }),
    );
    let mut crash = container(json!({ "waiting": { "reason": "CrashLoopBackOff" } }));
    crash["containerStatuses"][0]["lastState"] = json!({ "terminated": { "exitCode": 2, "reason": "Error" } });
    let unready = container(json!({ "running": {} }));
    let nowhere = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available" }] });
    let lines: Vec<String> =
        [image, crash, unready, nowhere].map(|pod| told(some.clone(), &[pod]).told).into_iter().collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    1/2 replicas ready; pod d-1: c: ImagePullBackOff: Back-off pulling image "x"
    1/2 replicas ready; pod d-1: c: CrashLoopBackOff, before that it ended with 2 (Error)
    1/2 replicas ready; pod d-1: c: runs and is not ready yet
    1/2 replicas ready; pod d-1: Unschedulable: 0/1 nodes are available
    "#);
}

#[test]
fn pods_that_cannot_even_be_made_are_named() {
    let status = json!({ "observedGeneration": 2, "conditions": [
        { "type": "ReplicaFailure", "status": "True", "message": "pods \"d\" is forbidden: exceeded quota" },
    ]});
    assert_eq!(told(status, &[]).told, "0/2 replicas ready; pods \"d\" is forbidden: exceeded quota");
}
