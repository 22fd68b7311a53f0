//! Sidecars that the API server asks for, and the roots that they believe.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use e2e::cluster::{self, DEADLINE, Launch, apply, apply_namespace, define, kubectl};
use e2e::ports;
use e2e::process::repository;
use serde_json::{Value, json};

use super::trouble;

const SYSTEM: &str = "meshgate-system";
const WITH: &str = "with-sidecars";
const WITHOUT: &str = "without-sidecars";
const CONFIGURATION: &str = "meshgate-sidecar-injector";

fn pod(namespace: &str, name: &str, annotations: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "annotations": annotations, "labels": { "app": "web" } },
        "spec": { "containers": [{
            "name": "web",
            "image": "web:1",
            "livenessProbe": { "grpc": { "port": 8080 } },
            "readinessProbe": { "httpGet": { "path": "/", "port": 8080 } },
        }] },
    })
    .to_string()
}

/// What the API server made of it, without keeping it.
fn created(namespace: &str, annotations: &Value) -> Result<Value, String> {
    let arguments = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    let text = kubectl(&arguments, &pod(namespace, "web", annotations))?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn until<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(begun.elapsed() < DEADLINE, "{what}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The configuration of `deploy/`, and then the same that reaches a process instead of a Service. The controller puts its root
/// into the first; the second gets the same.
fn configure(webhook: SocketAddr) {
    let text = std::fs::read_to_string(repository().join("deploy/base/injection.yaml")).unwrap();
    apply(&text).unwrap();
    let path = "jsonpath={.webhooks[3].clientConfig.caBundle}";
    let bundle = until("the controller's root", || {
        let bundle = kubectl(&["get", "mutatingwebhookconfiguration", CONFIGURATION, "-o", path], "")?;
        if bundle.is_empty() { Err("it is not there".to_owned()) } else { Ok(bundle) }
    });
    let service = "service: { name: meshgate-controller, namespace: meshgate-system, path: /inject, port: 443 }";
    assert!(text.contains(service));
    kubectl(&["delete", "mutatingwebhookconfiguration", CONFIGURATION], "").unwrap();
    apply(&text.replace(service, &format!("url: 'https://{webhook}/inject'\n      caBundle: {bundle}"))).unwrap();
}

/// Certificates in the ConfigMap of a namespace.
fn roots(namespace: &str) -> Result<Vec<String>, String> {
    let path = r"jsonpath={.data.root-cert\.pem}";
    let text = kubectl(&["get", "configmap", "istio-ca-root-cert", "-n", namespace, "-o", path], "")?;
    let roots = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    Ok(roots.map(|root| root.split("-----END").next().unwrap_or_default().trim().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_ask_for_a_sidecar_get_one() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    for namespace in [SYSTEM, WITH, WITHOUT] {
        apply_namespace(namespace).unwrap();
    }
    kubectl(&["label", "namespace", WITH, "istio-injection=enabled", "--overwrite"], "").unwrap();
    define().unwrap();
    // With the rights that it has in a pod, and no others.
    apply(&trouble::rights()).unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let webhook = SocketAddr::new(ip, ports::free_port(ip).unwrap());
    let launch = Launch { kubeconfig: Some(&kubeconfig), ..Launch::new(folder.path(), "inject", SYSTEM) };
    let controller = Launch { webhook: Some(webhook), ..launch }.start().unwrap();
    let everything = |page: &Value| page["leader"] == true && page["generation"] != 0;
    controller.until("everything", "/debug/proxies", everything).await.unwrap();
    configure(webhook);

    // The API server asks it after a moment.
    let injected = until("a sidecar", || {
        let pod = created(WITH, &json!({}))?;
        if pod["spec"]["initContainers"].is_array() { Ok(pod) } else { Err(format!("none in {pod:#}")) }
    });
    let names: Vec<&Value> =
        injected["spec"]["initContainers"].as_array().unwrap().iter().map(|all| &all["name"]).collect();
    assert_eq!(names, ["istio-init", "istio-proxy"]);
    assert_eq!(injected["spec"]["initContainers"][1]["restartPolicy"], "Always");
    assert_eq!(injected["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"], "/app-health/web/livez");
    assert_eq!(injected["metadata"]["labels"]["security.istio.io/tlsMode"], "istio");

    let untouched = created(WITHOUT, &json!({})).unwrap();
    assert!(untouched["spec"]["initContainers"].is_null(), "{untouched:#}");
    let unwilling = created(WITH, &json!({ "sidecar.istio.io/inject": "false" })).unwrap();
    assert!(unwilling["spec"]["initContainers"].is_null(), "{unwilling:#}");
    let error = created(WITH, &json!({ "traffic.sidecar.istio.io/includeInboundPorts": "http" })).unwrap_err();
    assert!(error.contains("includeInboundPorts`: `http` is not a list of ports"), "{error}");
    // A container that stays is not for every cluster.
    let classic = created(WITH, &json!({ "sidecar.istio.io/nativeSidecar": "false" })).unwrap();
    assert_eq!(classic["spec"]["containers"][1]["name"], "istio-proxy");

    assert!(controller.metric("sidecar_injection_success_total").await.unwrap() >= 2.0);
    assert!(controller.metric("sidecar_injection_failure_total").await.unwrap() >= 1.0);
    assert!(controller.metric("sidecar_injection_skip_total").await.unwrap() >= 1.0);
    kubectl(&["delete", "mutatingwebhookconfiguration", CONFIGURATION], "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_is_announced_before_the_old_one_goes() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    for namespace in [SYSTEM, WITHOUT] {
        apply_namespace(namespace).unwrap();
    }
    define().unwrap();
    apply(&trouble::rights()).unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let launch = Launch { kubeconfig: Some(&kubeconfig), ..Launch::new(folder.path(), "root", SYSTEM) };
    let launch = Launch { root_overlap_seconds: Some(1), ..launch };
    let controller = launch.start().unwrap();
    let everything = |page: &Value| page["leader"] == true && page["generation"] != 0;
    controller.until("everything", "/debug/proxies", everything).await.unwrap();
    let before = until("the root", || match roots(WITHOUT)?.as_slice() {
        [root] => Ok(root.clone()),
        other => Err(format!("{} of them", other.len())),
    });
    let annotate =
        ["annotate", "secret", "meshgate-ca-secret", "-n", SYSTEM, "meshgate.io/rotate-root=now", "--overwrite"];
    kubectl(&annotate, "").unwrap();
    let announced = until("both roots", || match roots(WITHOUT)?.as_slice() {
        [old, new] if *old == before => Ok(new.clone()),
        other => Err(format!("{} of them", other.len())),
    });
    // In between the new one is the first of both, and signs.
    until("the new root alone", || match roots(WITHOUT)?.as_slice() {
        [root] if *root == announced => Ok(()),
        other => Err(format!("{} of them\n{}", other.len(), controller.log())),
    });
    assert!(controller.log().contains("the new root signs"), "{}", controller.log());
}
