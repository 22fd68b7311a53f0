//! Where things are: nodes, and the localities that their labels say; namespaces, and which of them are looked at.

use std::time::Instant;

use e2e::process::repository;
use serde_json::{Value, json};

use super::*;

async fn localities(gateway: &Meshgate) -> Value {
    let page: Value = serde_json::from_str(&gateway.admin("/clusters?format=json").await.unwrap()).unwrap();
    let clusters = page["clusters"].as_array().cloned().unwrap_or_default();
    let placed = clusters.iter().find(|cluster| cluster["key"].as_str().is_some_and(|key| key.contains("placed")));
    let endpoints = placed.and_then(|cluster| cluster["endpoints"].as_array().cloned()).unwrap_or_default();
    endpoints.into_iter().map(|endpoint| endpoint["locality"].clone()).collect()
}

async fn until_localities(gateway: &Meshgate, wanted: Value) {
    let begun = Instant::now();
    loop {
        let found = localities(gateway).await;
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{found} instead of {wanted}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A gateway's pod that runs on a node, as its kubelet would report it.
fn pod_on(node: &str, name: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": SYSTEM, "labels": { "istio": "ingressgateway" } },
        "spec": {
            "serviceAccountName": "gateway", "nodeName": node,
            "containers": [{ "name": "proxy", "image": "none.test/none:1" }],
        },
    });
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "gateway", "namespace": SYSTEM } });
    apply(&account.to_string()).unwrap();
    kubectl(&["create", "-f", "-"], &pod.to_string()).unwrap();
    let status = json!({ "status": { "phase": "Running", "podIP": "10.9.0.1", "podIPs": [{ "ip": "10.9.0.1" }] } });
    kubectl(&["patch", "pod", name, "-n", SYSTEM, "--subresource=status", "-p", &status.to_string()], "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn localities_of_endpoints_and_proxies_follow_the_labels_of_nodes() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    apply_namespace(SYSTEM).unwrap();
    define().unwrap();
    // With the rights of the installation: they must be enough.
    apply(&std::fs::read_to_string(repository().join("deploy/base/rbac.yaml")).unwrap()).unwrap();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    apply(&edge(ports::free_port(ip).unwrap())).unwrap();
    let objects = "apiVersion: v1
kind: Node
metadata: {name: place-1, labels: {topology.kubernetes.io/region: north, topology.kubernetes.io/zone: a, topology.istio.io/subzone: rack-1}}
---
apiVersion: v1
kind: Service
metadata: {name: placed, namespace: default}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: placed-1, namespace: default, labels: {kubernetes.io/service-name: placed}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.1], nodeName: place-1}, {addresses: [10.0.0.2], zone: z}]
";
    apply(objects).unwrap();
    let rule = "directResponse: {status: 200, body: {string: x}}";
    apply(&route("v1", "placed.example", "x").replace(rule, "route: [{destination: {host: placed}}]")).unwrap();
    pod_on("place-1", "gw-place");

    let config = kubeconfig_of(folder.path(), "meshgate-controller", SYSTEM);
    let launch = Launch { kubeconfig: Some(&config), ..Launch::new(folder.path(), "place", SYSTEM) };
    let controller = launch.start().unwrap();
    let mut gateway = start_gateway(folder.path(), "gw-place", controller.discovery);
    gateway.ready().unwrap();
    until_localities(&gateway, json!(["north/a/rack-1", "/z"])).await;
    let page = controller.page("/debug/proxies").await;
    assert_eq!(page["proxies"][0]["locality"], "north/a/rack-1", "{page:#}");

    // What its kubelet writes of a node is no change of anything.
    let before = controller.page("/debug/objects").await;
    let status =
        json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }] } });
    kubectl(&["patch", "node", "place-1", "--subresource=status", "-p", &status.to_string()], "").unwrap();
    let seen = |page: &Value| page["objects"]["Node/place-1"] != before["objects"]["Node/place-1"];
    let after = controller.until("the status of the node", "/debug/objects", seen).await.unwrap();
    assert_eq!(after["generation"], before["generation"]);

    kubectl(&["label", "node", "place-1", "--overwrite", "topology.kubernetes.io/zone=b"], "").unwrap();
    until_localities(&gateway, json!(["north/b/rack-1", "/z"])).await;
    kubectl(&["delete", "node", "place-1"], "").unwrap();
    until_localities(&gateway, json!(["", "/z"])).await;
    kubectl(&["delete", "virtualservice/placed-example", "service/placed"], "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_namespaces_that_are_not_selected_are_not_looked_at() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    for namespace in [SYSTEM, "chosen"] {
        apply_namespace(namespace).unwrap();
    }
    define().unwrap();
    apply(&std::fs::read_to_string(repository().join("deploy/base/rbac.yaml")).unwrap()).unwrap();
    let settings = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "istio", "namespace": SYSTEM },
        "data": { "mesh": "discoverySelectors: [{matchLabels: {mesh: chosen}}]" },
    });
    apply(&settings.to_string()).unwrap();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = SocketAddr::new(ip, ports::free_port(ip).unwrap());
    apply(&edge(address.port())).unwrap();
    apply(&route("v1", "chosen.example", "chosen").replace("namespace: default", "namespace: chosen")).unwrap();
    apply(&route("v1", "other.example", "other")).unwrap();
    kubectl(&["label", "namespace", "chosen", "--overwrite", "mesh=chosen"], "").unwrap();

    let config = kubeconfig_of(folder.path(), "meshgate-controller", SYSTEM);
    let launch = Launch { kubeconfig: Some(&config), ..Launch::new(folder.path(), "selectors", SYSTEM) };
    let controller = launch.start().unwrap();
    let mut gateway = start_gateway(folder.path(), "gw-selectors", controller.discovery);
    gateway.ready().unwrap();
    until_answer(address, "chosen.example", "chosen").await.unwrap();
    assert_eq!(answer(address, "other.example").await, "404");
    kubectl(&["label", "namespace", "chosen", "mesh-"], "").unwrap();
    until_answer(address, "chosen.example", "404").await.unwrap();
    kubectl(&["label", "namespace", "default", "mesh=chosen"], "").unwrap();
    until_answer(address, "other.example", "other").await.unwrap();
    kubectl(&["delete", "configmap", "istio", "-n", SYSTEM], "").unwrap();
    until_answer(address, "chosen.example", "chosen").await.unwrap();
    kubectl(&["label", "namespace", "default", "mesh-"], "").unwrap();
    kubectl(&["delete", "virtualservice", "other-example"], "").unwrap();
    kubectl(&["delete", "namespace", "chosen", "--wait=false"], "").unwrap();
}
