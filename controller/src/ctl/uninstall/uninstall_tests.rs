#![allow(clippy::unwrap_used)]
use kube::api::{ApiResource, GroupVersionKind};
use serde_json::json;

use super::*;

fn name(group: &str, kind: &str, namespace: Option<&str>, name: &str) -> Name {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Name { resource, namespace: namespace.map(str::to_owned), name: name.to_owned() }
}

fn found() -> Found {
    let system = Some("meshgate-system");
    let definition = |kind: &str| {
        name("apiextensions.k8s.io", "CustomResourceDefinition", None, &format!("{kind}.networking.istio.io"))
    };
    Found {
        installed: vec![
            name("", "ServiceAccount", system, "meshgate-controller"),
            name("apps", "Deployment", system, "meshgate-controller"),
            name("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", None, "meshgate-validator"),
            name("", "Service", system, "istio-ingressgateway"),
        ],
        written: vec![name("", "ConfigMap", Some("default"), "istio-ca-root-cert")],
        definitions: vec![definition("gateways")],
        namespace: Some(name("", "Namespace", None, "meshgate-system")),
        objects: vec![(definition("gateways"), 3)],
        inside: vec!["Secret/meshgate-system/bookinfo-credential".to_owned()],
        theirs: vec![definition("virtualservices")],
        statuses: [("gateways".to_owned(), 3), ("virtualservices".to_owned(), 1)].into(),
    }
}

#[test]
fn the_users_objects_stay() {
    insta::assert_snapshot!(told(&found(), false), @r"
    To be removed:
        ValidatingWebhookConfiguration/meshgate-validator
        Service/meshgate-system/istio-ingressgateway
        Deployment/meshgate-system/meshgate-controller
        ServiceAccount/meshgate-system/meshgate-controller
    To be cleared: what the statuses of 4 objects say of Meshgate
    To stay, for somebody else made it: CustomResourceDefinition/virtualservices.networking.istio.io
    To stay, without --purge: ConfigMap/default/istio-ca-root-cert, CustomResourceDefinition/gateways.networking.istio.io, Namespace/meshgate-system
    ");
}

#[test]
fn what_goes_with_it_is_said() {
    insta::assert_snapshot!(told(&found(), true), @r"
    To be removed:
        ValidatingWebhookConfiguration/meshgate-validator
        Service/meshgate-system/istio-ingressgateway
        Deployment/meshgate-system/meshgate-controller
        ServiceAccount/meshgate-system/meshgate-controller
        ConfigMap/default/istio-ca-root-cert
        CustomResourceDefinition/gateways.networking.istio.io
        Namespace/meshgate-system
    To be cleared: what the status of 1 object says of Meshgate
    To stay, for somebody else made it: CustomResourceDefinition/virtualservices.networking.istio.io
    CustomResourceDefinition/gateways.networking.istio.io takes along 3 objects
    Namespace/meshgate-system takes along Secret/meshgate-system/bookinfo-credential
    ");
    assert_eq!(told(&Found::default(), true), "Nothing that could be removed is installed.\n");
}

#[test]
fn what_is_waited_for_says_why() {
    let object = |value| reason(&serde_json::from_value(value).unwrap());
    assert_eq!(object(json!({ "metadata": {}, "status": { "replicas": 2 } })), " (2 pods to end)");
    let message = "Some resources are remaining: pods. has 1 resource instances";
    let conditions = json!([
        { "type": "NamespaceDeletionContentFailure", "status": "False", "message": "no" },
        { "type": "NamespaceContentRemaining", "status": "True", "message": message },
    ]);
    assert_eq!(object(json!({ "metadata": {}, "status": { "conditions": conditions } })), format!(" ({message})"));
    assert_eq!(object(json!({ "metadata": {} })), "");
}
