#![allow(clippy::unwrap_used)]
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::others::{injectors, judges, owner, peers, ports, versions};
use super::rights::{handed_out, judge, needed};
use super::*;
use crate::ctl::manifests::Name;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn info(major: &str, minor: &str) -> Info {
    Info {
        major: major.to_owned(),
        minor: minor.to_owned(),
        git_version: format!("v{major}.{minor}"),
        ..Info::default()
    }
}

#[test]
fn versions_of_kubernetes() {
    for (major, minor, state) in [
        ("1", "28", State::Ok),
        ("1", "36+", State::Ok),
        ("2", "0", State::Ok),
        ("1", "27", State::Problem),
        ("1", "x", State::Warning),
    ] {
        assert_eq!(version(&info(major, minor)).state, state, "{major}.{minor}");
    }
    assert_eq!(version(&info("1", "27")).message, "Kubernetes v1.27; it takes 1.28");
}

#[test]
fn rights_that_are_missing_are_named_once_for_each_kind() {
    let objects = manifests(Profile::Minimal).unwrap();
    let needed = needed(&objects).unwrap();
    assert_eq!(judge(needed.len(), &[]).first().unwrap().state, State::Ok);
    let missing: Vec<_> = needed.into_iter().chain(handed_out(&objects).unwrap()).collect();
    let lines: Vec<String> = judge(0, &missing).into_iter().map(|finding| finding.message).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    you may not list, watch authorizationpolicies.security.istio.io
    you may not patch authorizationpolicies.security.istio.io/status
    you may not create, get, list, patch clusterrolebindings.rbac.authorization.k8s.io
    you may not create, get, list, patch clusterroles.rbac.authorization.k8s.io
    you may not create configmaps
    you may not list, watch configmaps in meshgate-system
    you may not get, patch configmaps named istio-ca-root-cert
    you may not create, get, list, patch, watch customresourcedefinitions.apiextensions.k8s.io
    you may not create, get, list, patch deployments.apps in meshgate-system
    you may not list, watch destinationrules.networking.istio.io
    you may not patch destinationrules.networking.istio.io/status
    you may not list, watch endpointslices.discovery.k8s.io
    you may not create, patch events.events.k8s.io
    you may not list, watch gateways.networking.istio.io
    you may not patch gateways.networking.istio.io/status
    you may not list horizontalpodautoscalers.autoscaling in meshgate-system
    you may not create leases.coordination.k8s.io in meshgate-system
    you may not get, update leases.coordination.k8s.io named meshgate-leader in meshgate-system
    you may not create localsubjectaccessreviews.authorization.k8s.io in meshgate-system
    you may not create, get, list, patch, watch mutatingwebhookconfigurations.admissionregistration.k8s.io
    you may not get, patch mutatingwebhookconfigurations.admissionregistration.k8s.io named meshgate-sidecar-injector
    you may not create, get, list, patch, watch namespaces
    you may not create, get, list, patch networkpolicies.networking.k8s.io in meshgate-system
    you may not list, watch nodes
    you may not list, watch peerauthentications.security.istio.io
    you may not patch peerauthentications.security.istio.io/status
    you may not create, get, list, patch poddisruptionbudgets.policy in meshgate-system
    you may not list, watch pods
    you may not list pods in meshgate-system
    you may not list, watch ratelimits.meshgate.io
    you may not patch ratelimits.meshgate.io/status
    you may not list, watch requestauthentications.security.istio.io
    you may not patch requestauthentications.security.istio.io/status
    you may not list rolebindings.rbac.authorization.k8s.io
    you may not create, get, list, patch rolebindings.rbac.authorization.k8s.io in meshgate-system
    you may not list roles.rbac.authorization.k8s.io
    you may not create, get, list, patch roles.rbac.authorization.k8s.io in meshgate-system
    you may not create, get, list, watch secrets in meshgate-system
    you may not update secrets named meshgate-ca-secret in meshgate-system
    you may not create, get, list, patch serviceaccounts in meshgate-system
    you may not list, watch serviceentries.networking.istio.io
    you may not patch serviceentries.networking.istio.io/status
    you may not list, watch services
    you may not create, get, list, patch services in meshgate-system
    you may not list, watch sidecars.networking.istio.io
    you may not patch sidecars.networking.istio.io/status
    you may not create tokenreviews.authentication.k8s.io
    you may not create, get, list, patch, watch validatingwebhookconfigurations.admissionregistration.k8s.io
    you may not get, patch validatingwebhookconfigurations.admissionregistration.k8s.io named meshgate-validator
    you may not list, watch virtualservices.networking.istio.io
    you may not patch virtualservices.networking.istio.io/status
    you may not list, watch workloadentries.networking.istio.io
    ");
}

fn name(kind: &str) -> Name {
    let objects = manifests(Profile::Default).unwrap();
    let found = objects.iter().find(|object| object.types.as_ref().unwrap().kind == kind);
    Name::of(found.unwrap()).unwrap()
}

#[test]
fn names_that_are_taken() {
    let ours = json!({ "labels": { "app.kubernetes.io/part-of": "meshgate" } });
    assert_eq!(owner(&name("Service"), &read(ours)), None);
    let helm =
        json!({ "labels": { "app.kubernetes.io/managed-by": "Helm" }, "managedFields": [{ "manager": "helm" }] });
    let going = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
    let lines: Vec<String> = [("CustomResourceDefinition", helm.clone()), ("Namespace", helm), ("Namespace", going)]
        .into_iter()
        .map(|(kind, metadata)| {
            let finding = owner(&name(kind), &read(metadata)).unwrap();
            format!("{:?}: {}", finding.state, finding.message)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    Problem: CustomResourceDefinition/gateways.networking.istio.io exists (Helm, helm), and is not ours: `meshctl install --force-conflicts` takes it over
    Warning: Namespace/meshgate-system exists (Helm, helm); install uses it
    Problem: Namespace/meshgate-system is being deleted
    ");
}

#[test]
fn versions_of_definitions() {
    let definition = |served: &[&str], stored: &[&str]| -> CustomResourceDefinition {
        let versions: Vec<Value> =
            served.iter().map(|name| json!({ "name": name, "served": true, "storage": false })).collect();
        read(json!({
            "metadata": { "name": "gateways.networking.istio.io" },
            "spec": {
                "group": "networking.istio.io", "scope": "Namespaced", "versions": versions,
                "names": { "kind": "Gateway", "plural": "gateways" },
            },
            "status": { "storedVersions": stored },
        }))
    };
    let ours = definition(&["v1", "v1beta1"], &[]);
    assert_eq!(versions(&definition(&["v1"], &["v1beta1"]), &ours), None);
    let lost = versions(&definition(&["v1", "v2"], &["v1", "v0"]), &ours).unwrap();
    assert_eq!(lost.message, "gateways.networking.istio.io has versions that would be lost: v0, v2");
}

#[test]
fn others_in_the_cluster() {
    let webhook = |name: &str, labels: Value, group: &str| {
        read(json!({
            "metadata": { "name": name, "labels": labels },
            "webhooks": [{ "name": "a.b.c", "admissionReviewVersions": ["v1"], "clientConfig": {}, "sideEffects": "None",
                "rules": [{ "apiGroups": [group] }] }],
        }))
    };
    let part = json!({ "app.kubernetes.io/part-of": "meshgate" });
    let mut findings = judges(&[
        webhook("istio-validator", json!({}), "networking.istio.io"),
        webhook("meshgate-validator", part.clone(), "networking.istio.io"),
        webhook("other", json!({}), "apps"),
    ]);
    let injector = |name: &str, labels: &Value, key: &str| {
        let wanted = json!([{ "key": key, "operator": "In", "values": ["enabled"] }]);
        read(json!({
            "metadata": { "name": name, "labels": labels },
            "webhooks": [{ "name": "a.b.c", "admissionReviewVersions": ["v1"], "clientConfig": {}, "sideEffects": "None",
                "namespaceSelector": { "matchExpressions": wanted } }],
        }))
    };
    findings.extend(injectors(&[
        injector("istio-sidecar-injector", &json!({}), "istio-injection"),
        injector("meshgate-sidecar-injector", &part, "istio-injection"),
        injector("linkerd", &json!({}), "linkerd.io/inject"),
    ]));
    let deployment = |name: &str, labels: Value| {
        read(json!({
            "metadata": { "name": name, "namespace": "istio-system" },
            "spec": { "selector": {}, "template": { "metadata": { "labels": labels } } },
        }))
    };
    findings.extend(peers(&[
        deployment("istiod", json!({ "app": "istiod" })),
        deployment("gateway", json!({ "istio": "ingressgateway" })),
        deployment("app", json!({ "app": "app" })),
    ]));
    let service = |name: &str, labels: Value, kind: &str| {
        read(json!({
            "metadata": { "name": name, "namespace": "meshgate-system", "labels": labels },
            "spec": { "type": kind, "ports": [{ "port": 443 }, { "port": 9000 }] },
        }))
    };
    let services = [
        service("istio-ingressgateway", part, "LoadBalancer"),
        service("traefik", json!({}), "LoadBalancer"),
        service("inside", json!({}), "ClusterIP"),
    ];
    findings.extend(ports(&services, &[service("ours", json!({}), "LoadBalancer")]));
    findings.push(version(&info("1", "27")));
    insta::assert_snapshot!(table(&findings), @r"
    CHECK            STATE     MESSAGE
    webhooks         warning   ValidatingWebhookConfiguration/istio-validator judges the same objects
    sidecars         warning   MutatingWebhookConfiguration/istio-sidecar-injector injects pods of namespaces with `istio-injection=enabled` too
    other gateways   warning   Deployment/istio-system/istiod is Istio, and reads the same objects
    other gateways   warning   Deployment/istio-system/gateway serves Gateways with the selector `istio: ingressgateway` too
    ports            warning   Service/meshgate-system/traefik is a load balancer for 443, 9000 too: they need addresses of their own
    API server       PROBLEM   Kubernetes v1.27; it takes 1.28

    1 problem is in the way.
    ");
    assert!(judges(&[]).iter().chain(&peers(&[])).chain(&ports(&[], &[])).all(|finding| finding.state == State::Ok));
}
