use super::*;

#[test]
fn only_our_webhooks_without_our_root_are_changed() {
    let bundle = Bundle {
        service: "meshgate-controller".to_owned(),
        namespace: "meshgate-system".to_owned(),
        roots: watch::channel(String::new()).1,
    };
    let webhook = |name: &str, service: &str, ca: Option<&str>| {
        let client = json!({ "service": { "name": service, "namespace": "meshgate-system" }, "caBundle": ca });
        json!({ "name": name, "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"] })
    };
    let object = json!({
        "webhooks": [
            webhook("other", "other", None),
            webhook("has", "meshgate-controller", Some("cm9vdA==")),
            webhook("new", "meshgate-controller", None),
            webhook("old", "meshgate-controller", Some("b2xk")),
        ],
    });
    let Some(Patch::Json::<Value>(patch)) = bundle.patch(&object, "root") else { panic!("no patch") };
    let written = serde_json::to_value(&patch).unwrap();
    let paths: Vec<&str> =
        written.as_array().unwrap().iter().map(|operation| operation["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "/webhooks/2/name",
            "/webhooks/2/clientConfig/caBundle",
            "/webhooks/3/name",
            "/webhooks/3/clientConfig/caBundle"
        ]
    );
    assert_eq!(written[1]["value"], "cm9vdA==");
}
