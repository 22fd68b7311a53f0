use serde_json::json;

use super::*;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: reviews, namespace: shop }
spec: { selector: { app: reviews }, ports: [{ name: http, port: 9080 }, { name: tcp-admin, port: 9090 }] }
---
apiVersion: v1
kind: Service
metadata: { name: ratings, namespace: shop }
spec: { selector: { app: ratings }, ports: [{ name: http, port: 9080 }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews, namespace: shop }
spec: { host: reviews, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews, namespace: shop }
spec: { hosts: [reviews], http: [{ route: [{ destination: { host: reviews, subset: v1 } }] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: edge, namespace: shop }
spec: { hosts: ["*"], gateways: [web], http: [{ route: [{ destination: { host: reviews.shop.svc.cluster.local } }] }] }
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: default, namespace: istio-system }
spec: { egress: [{ hosts: ["./*"] }] }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: istio-system }
spec: { mtls: { mode: STRICT } }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: reviews, namespace: shop }
spec: { selector: { matchLabels: { app: reviews } }, portLevelMtls: { "9090": { mode: DISABLE } } }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny-all, namespace: shop }
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ratings, namespace: shop }
spec: { selector: { matchLabels: { app: ratings } }, action: DENY }
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: istio-system }
spec: { jwtRules: [{ issuer: a, jwks: "{}" }] }
---
apiVersion: meshgate.io/v1alpha1
kind: RateLimit
metadata: { name: api, namespace: shop }
spec: { limits: [{ name: all, requests: 1, per: 1s }] }
"#;

fn described(pod: serde_json::Value, namespace_labels: &[(&str, &str)]) -> String {
    let world = World::from_objects(mesh_core::api::parse("", OBJECTS, "default").objects);
    let namespace_labels =
        namespace_labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let pod = Pod::read(&pod).unwrap();
    let subject = Subject {
        pod: &pod,
        name: "reviews-v1-x",
        namespace: "shop",
        namespace_labels: &namespace_labels,
        selection: &Selection::default(),
    };
    text(&describe(&subject, &world))
}

fn pod(change: impl Fn(&mut serde_json::Value)) -> serde_json::Value {
    let mut pod = json!({ "metadata": { "labels": { "app": "reviews", "version": "v1" } }, "spec": { "containers": [{ "name": "reviews" }] } });
    change(&mut pod);
    pod
}

#[test]
fn all_that_applies_is_named() {
    let injected = pod(|pod| {
        pod["metadata"]["annotations"] = json!({ "sidecar.istio.io/status": "{}" });
        pod["spec"]["initContainers"] = json!([{ "name": "istio-proxy" }]);
    });
    insta::assert_snapshot!(described(injected, &[("istio-injection", "enabled")]), @r#"
    Pod           reviews-v1-x.shop
    Sidecar       yes
    Scope         Sidecar/istio-system/default
    Service       reviews.shop.svc.cluster.local (9080 http, 9090 tcp)
                  DestinationRule/shop/reviews (subsets of the pod: v1)
                  VirtualService/shop/edge (leads to it; gateways: web)
                  VirtualService/shop/reviews (for its host; gateways: mesh)
    Mutual TLS    STRICT, port 9090 DISABLE (PeerAuthentication/shop/reviews, PeerAuthentication/istio-system/default)
    Tokens        RequestAuthentication/istio-system/tokens
    Policies      AuthorizationPolicy/shop/deny-all (ALLOW)
    Limits        RateLimit/shop/api
    "#);
}

#[test]
fn why_there_is_no_sidecar_is_said() {
    let sidecar =
        |pod: serde_json::Value, labels: &[(&str, &str)]| described(pod, labels).lines().nth(1).unwrap().to_owned();
    let enabled = [("istio-injection", "enabled")];
    let lines = [
        sidecar(pod(|_| {}), &[]),
        sidecar(pod(|_| {}), &enabled),
        sidecar(pod(|pod| pod["spec"]["hostNetwork"] = true.into()), &enabled),
        sidecar(pod(|pod| pod["metadata"]["annotations"] = json!({ "sidecar.istio.io/inject": "false" })), &enabled),
        sidecar(pod(|pod| pod["spec"]["containers"] = json!([{ "name": "istio-proxy" }])), &enabled),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    Sidecar       no: nobody asks for it: neither the namespace (label `istio-injection: enabled`) nor the pod (label `sidecar.istio.io/inject: "true"`)
    Sidecar       no: it is older than what asks for it, or the webhook was away: create it anew (`kubectl rollout restart`)
    Sidecar       no: it has `hostNetwork: true`, so its connections are those of the node
    Sidecar       no: the pod has the annotation `sidecar.istio.io/inject: "false"`
    Sidecar       yes: not by injection: it is a gateway, or was written by hand
    "#);
}

#[test]
fn a_pod_without_a_service_is_told_so() {
    let other = pod(|pod| pod["metadata"]["labels"] = json!({ "app": "other" }));
    let text = described(other, &[]);
    assert!(text.contains("Services      none selects it"), "{text}");
    let demanded = "Mutual TLS    STRICT (PeerAuthentication/istio-system/default); nobody demands it while the pod has no sidecar";
    assert!(text.contains(demanded), "{text}");
}

/// A PeerAuthentication is for workloads, and would close a gateway to everybody outside.
#[test]
fn of_a_gateway_no_peer_authentication_speaks() {
    let gateway = pod(|pod| pod["spec"]["containers"] = json!([{ "name": "istio-proxy" }]));
    let text = described(gateway, &[]);
    assert!(text.contains("Mutual TLS    of a gateway its servers say what they demand"), "{text}");
    assert!(!text.contains("STRICT"), "{text}");
}
