use super::*;
use crate::api::parse;
use crate::model::ProxyInfo;
use crate::translate::translate;

/// Fields of what is found for the usual gateway.
fn found(kind: &str, namespace: &str, spec: &str, others: &str) -> Vec<String> {
    let version = if kind == "RateLimit" { "meshgate.io/v1alpha1" } else { "security.istio.io/v1" };
    let text = format!(
        "{{ apiVersion: {version}, kind: {kind}, metadata: {{ name: p, namespace: {namespace} }}, spec: {spec} }}\n{others}"
    );
    let world = World::from_objects(parse("p.yaml", &text, "default").objects);
    let labels = [("istio".to_owned(), "ingressgateway".to_owned())].into();
    let translation = translate(&world, &ProxyInfo::edge("gw", "istio-system", labels));
    workloads(&world, &translation.set, None).into_iter().map(|found| found.field).collect()
}

#[test]
fn a_policy_for_nobody_is_named() {
    let limits = "limits: [{ name: a, requests: 1, per: 1s }]";
    let limit = |namespace: &str, who: &str| found("RateLimit", namespace, &format!("{{ {limits}{who} }}"), "");
    let none: [&str; 0] = [];
    assert_eq!(limit("istio-system", ""), none);
    assert_eq!(limit("istio-system", ", selector: { matchLabels: { istio: ingressgateway } }"), none);
    assert_eq!(limit("istio-system", ", selector: { matchLabels: { istio: gateway } }"), ["spec.selector.matchLabels"]);
    assert_eq!(
        limit("default", ", selector: { matchLabels: { istio: ingressgateway } }"),
        ["spec.selector.matchLabels"]
    );
    assert_eq!(limit("default", ""), ["metadata.namespace"]);
    let target = ", targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: gw }]";
    assert_eq!(limit("istio-system", target), ["spec.targetRefs"]);
}

#[test]
fn pods_and_workload_entries_are_workloads() {
    let pod = "---\n{ apiVersion: v1, kind: Pod, metadata: { name: a, namespace: shop, labels: { app: a } } }\n";
    let entry = "---\n{ apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: { name: a, namespace: shop }, \
                 spec: { address: 10.0.0.1, labels: { app: a } } }\n";
    let policy = |namespace: &str, labels: &str, others: &str| {
        found("AuthorizationPolicy", namespace, &format!("{{ selector: {{ matchLabels: {labels} }} }}"), others)
    };
    let none: [&str; 0] = [];
    for others in [pod, entry] {
        assert_eq!(policy("shop", "{ app: a }", others), none);
        assert_eq!(policy("istio-system", "{ app: a }", others), none);
        assert_eq!(policy("shop", "{ app: b }", others), ["spec.selector.matchLabels"]);
        assert_eq!(policy("default", "{ app: a }", others), ["spec.selector.matchLabels"]);
    }
    // Pods may come.
    assert_eq!(found("AuthorizationPolicy", "later", "{}", pod), none);
}
