use super::*;

fn written(text: &str) -> Written {
    let mut written = Written::default();
    written.add(text, "default", &Settings::default()).unwrap();
    written
}

const FILE: &str = r##"# The service stays, with its comments.
apiVersion: v1
kind: Service
metadata: { name: web }   # as it is
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    metadata:
      labels: { app: web, on: "yes", number: "0123" }
    spec:
      containers:
      - name: web
        args: ["on", "null", "1e3", "~", "a: b", "*", "#", ""]
--- # a job that wants none
apiVersion: batch/v1
kind: Job
metadata: { name: once }
spec: { template: { metadata: { labels: { sidecar.istio.io/inject: "false" } }, spec: {} } }
---
"##;

#[test]
fn documents_without_pods_stay_as_they_are() {
    let written = written(FILE);
    let documents = documents(&written.text);
    assert_eq!(documents.len(), 3);
    assert_eq!(documents[0], documents_of(FILE, 0));
    assert_eq!(documents[2], documents_of(FILE, 2));
    let notes = ["Job/default/once stays as it is: the pod has the label `sidecar.istio.io/inject: \"false\"`"];
    assert_eq!(written.notes, notes);
    let injected: Value = serde_saphyr::from_str(&documents[1]).unwrap();
    assert_eq!(injected["spec"]["template"]["spec"]["initContainers"][0]["name"], "istio-init");
}

fn documents_of(text: &str, at: usize) -> String {
    documents(text).remove(at)
}

/// Words that older readers of YAML take for something else are quoted.
#[test]
fn strings_stay_strings() {
    let text = written(FILE).text;
    let injected: Value = serde_saphyr::from_str(&documents_of(&text, 1)).unwrap();
    let before: Value = serde_saphyr::from_str(&documents_of(FILE, 1)).unwrap();
    let template = &injected["spec"]["template"];
    assert_eq!(template["spec"]["containers"][0]["args"], before["spec"]["template"]["spec"]["containers"][0]["args"]);
    assert_eq!(template["metadata"]["labels"]["on"], "yes");
    for word in ["on", "yes", "null", "~", "0123", "1e3"] {
        let bare = text
            .lines()
            .any(|line| line.trim_start_matches(['-', ' ']).trim() == word || line.ends_with(&format!(": {word}")));
        assert!(!bare, "`{word}` is bare in\n{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_object() {
    let wrong =
        "{ apiVersion: v1, kind: Pod, metadata: { name: p, annotations: { sidecar.istio.io/proxyCPU: lots } } }";
    let error = Written::default().add(wrong, "shop", &Settings::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Pod/shop/p: annotation `sidecar.istio.io/proxyCPU`: `lots` is not an amount such as 500m, 1.5 or 128Mi"
    );
    assert!(Written::default().add("a: [", "shop", &Settings::default()).is_err());
}
