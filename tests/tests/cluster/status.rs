//! What objects say of themselves, and what the API server is told before it stores them.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::bulk::condition;
use e2e::process::repository;
use serde_json::{Value, json};

use super::*;

const NAMESPACE: &str = "told";

fn object(name: &str) -> Value {
    let text = kubectl(&["get", "virtualservice", name, "-n", NAMESPACE, "-o", "json"], "").unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Until both conditions are about the object's newest generation and have these reasons.
fn until_reasons(name: &str, accepted: &str, programmed: &str) -> Value {
    let begun = Instant::now();
    loop {
        let object = object(name);
        let generation = &object["metadata"]["generation"];
        let holds = |name, reason: &str| {
            condition(&object, name)
                .is_some_and(|found| found["reason"] == reason && found["observedGeneration"] == *generation)
        };
        if holds("Accepted", accepted) && holds("Programmed", programmed) {
            return object;
        }
        assert!(begun.elapsed() < DEADLINE, "{name} is not {accepted}, {programmed}: {object:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn told(host: &str, rule: &str) -> String {
    route("v1", host, "x")
        .replace("namespace: default", &format!("namespace: {NAMESPACE}"))
        .replace("directResponse: {status: 200, body: {string: x}}", rule)
}

fn message<'o>(object: &'o Value, name: &str) -> &'o str {
    condition(object, name).and_then(|condition| condition["message"].as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_say_whether_they_are_in_force() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    for namespace in [SYSTEM, NAMESPACE] {
        apply_namespace(namespace).unwrap();
    }
    define().unwrap();
    let controller = Launch::new(folder.path(), "status", SYSTEM).start().unwrap();
    controller.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    apply(&edge(ports::free_port(ip).unwrap())).unwrap();
    apply(&told("good.told", "directResponse: {status: 200}")).unwrap();
    let alone = until_reasons("good-told", "Accepted", "NoProxies");
    let why = format!("0/0 proxies; gateway {SYSTEM}/edge selects no connected proxy (istio: ingressgateway)");
    assert_eq!(message(&alone, "Programmed"), why);

    let mut gateway = start_gateway(folder.path(), "gw-status", controller.discovery);
    gateway.ready().unwrap();
    let good = until_reasons("good-told", "Accepted", "Programmed");
    assert_eq!(message(&good, "Programmed"), "1/1 proxies");
    assert_eq!(good["status"]["observedGeneration"], good["metadata"]["generation"]);
    let table = kubectl(&["get", "vs", "good-told", "-n", NAMESPACE], "").unwrap();
    let words = |line: usize| table.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["NAME", "GATEWAYS", "HOSTS", "ACCEPTED", "PROGRAMMED", "AGE"], "{table}");
    assert_eq!(words(1)[3..5], ["True", "True"], "{table}");
    apply(&told("mesh.told", "directResponse: {status: 200}").replace(&format!("{SYSTEM}/edge"), "mesh")).unwrap();
    let mesh = until_reasons("mesh-told", "Accepted", "NoProxies");
    let why = "0/0 proxies; `spec.gateways` names `mesh` only, and no sidecar is connected";
    assert_eq!(message(&mesh, "Programmed"), why);

    // All of its rules are another object's.
    let part = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": { "name": "leaf", "namespace": NAMESPACE },
        "spec": { "http": [{ "directResponse": { "status": 200, "body": { "string": "leaf" } } }] },
    });
    apply(&part.to_string()).unwrap();
    apply(&told("root.told", "delegate: {name: leaf}")).unwrap();
    for name in ["root-told", "leaf"] {
        until_reasons(name, "Accepted", "Programmed");
    }

    // A part of it is lost: told in the condition, in Istio's messages, and in an event.
    apply(&told("part.told", "route: [{destination: {host: nobody}}]")).unwrap();
    let part = until_reasons("part-told", "PartiallyInvalid", "Programmed");
    assert!(message(&part, "Accepted").starts_with("spec.http[0].route[0].destination.host: `nobody`"), "{part:#}");
    let messages = json!([{ "type": { "name": "DestinationHostUnknown", "code": "MESH0103" }, "level": "ERROR" }]);
    assert_eq!(part["status"]["validationMessages"], messages);
    let begun = Instant::now();
    while !kubectl(&["get", "events.events.k8s.io", "-n", NAMESPACE, "-o", "name"], "").unwrap().contains("part-told") {
        assert!(begun.elapsed() < DEADLINE, "no event");
        std::thread::sleep(Duration::from_millis(100));
    }

    // The version in force stays, and the status does not claim otherwise.
    apply(&told("good.told", "directResponse: {status: 200}, redirect: {uri: /x}")).unwrap();
    let stale = until_reasons("good-told", "Invalid", "Invalid");
    assert!(message(&stale, "Accepted").contains("previous version stays in force"), "{stale:#}");
    apply(&told("good.told", "directResponse: {status: 201}")).unwrap();
    until_reasons("good-told", "Accepted", "Programmed");

    // Conditions of others stay; ours come back.
    let other = json!([
        { "op": "add", "path": "/status/conditions/-", "value": { "type": "Other", "status": "True" } },
        { "op": "replace", "path": "/status/observedGeneration", "value": 1 },
    ]);
    let arguments =
        ["patch", "virtualservice", "good-told", "-n", NAMESPACE, "--subresource", "status", "--type", "json"];
    kubectl(&[&arguments[..], &["-p", &other.to_string()]].concat(), "").unwrap();
    let begun = Instant::now();
    let mended = loop {
        let object = object("good-told");
        if object["status"]["observedGeneration"] == object["metadata"]["generation"] {
            break object;
        }
        assert!(begun.elapsed() < DEADLINE, "{object:#}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(condition(&mended, "Other").is_some(), "{mended:#}");

    // A new leader finds all as it should be, and writes nothing.
    let version = mended["metadata"]["resourceVersion"].clone();
    let discovery = controller.discovery;
    drop(controller);
    let next = Launch { discovery: Some(discovery), ..Launch::new(folder.path(), "status-2", SYSTEM) }.start().unwrap();
    next.until("leadership", "/debug/proxies", |page| page["leader"] == true && page["proxies"][0].is_object())
        .await
        .unwrap();
    apply(&told("later.told", "directResponse: {status: 200}")).unwrap();
    until_reasons("later-told", "Accepted", "Programmed");
    assert_eq!(object("good-told")["metadata"]["resourceVersion"], version);
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_takes_back_what_objects_say_and_leaves_what_others_say() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    for namespace in [SYSTEM, NAMESPACE] {
        apply_namespace(namespace).unwrap();
    }
    define().unwrap();
    let controller = Launch::new(folder.path(), "withdraw", SYSTEM).start().unwrap();
    controller.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    apply(&told("taken.told", "directResponse: {status: 200}")).unwrap();
    until_reasons("taken-told", "Accepted", "NoProxies");
    drop(controller);
    let other =
        json!([{ "op": "add", "path": "/status/conditions/-", "value": { "type": "Other", "status": "True" } }]);
    let arguments =
        ["patch", "virtualservice", "taken-told", "-n", NAMESPACE, "--subresource", "status", "--type", "json"];
    kubectl(&[&arguments[..], &["-p", &other.to_string()]].concat(), "").unwrap();

    let dry = install::meshctl(&["uninstall", "--dry-run"]).ends_with(0);
    assert!(dry.out.contains("To be cleared: what the status"), "{}", dry.out);
    assert!(condition(&object("taken-told"), "Accepted").is_some());
    install::meshctl(&["uninstall"]).ends_with(0);
    let status = object("taken-told")["status"].clone();
    assert_eq!(status, json!({ "conditions": [{ "type": "Other", "status": "True" }] }));
    let again = install::meshctl(&["uninstall"]).ends_with(0);
    assert!(!again.out.contains("To be cleared"), "{}", again.out);
    kubectl(&["delete", "virtualservice", "taken-told", "-n", NAMESPACE], "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_told_before_it_stores() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    for namespace in [SYSTEM, NAMESPACE] {
        apply_namespace(namespace).unwrap();
    }
    define().unwrap();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let webhook = SocketAddr::new(ip, ports::free_port(ip).unwrap());
    let controller =
        Launch { webhook: Some(webhook), ..Launch::new(folder.path(), "webhook", SYSTEM) }.start().unwrap();
    controller
        .until("everything", "/debug/proxies", |page| page["leader"] == true && page["generation"] != 0)
        .await
        .unwrap();
    apply(&edge(ports::free_port(ip).unwrap())).unwrap();
    configure(webhook);

    // The API server asks it after a moment.
    let regex = told("bad.told", "match: [{uri: {regex: '('}}], directResponse: {status: 200}");
    let begun = Instant::now();
    let error = loop {
        match kubectl(&["apply", "--dry-run=server", "-f", "-"], &regex) {
            Err(error) if error.contains("denied the request") => break error,
            other => assert!(begun.elapsed() < DEADLINE, "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(error.contains("spec.http[0].match[0].uri.regex: `(` is not a regular expression"), "{error}");
    let both = told("bad.told", "directResponse: {status: 200}, redirect: {uri: /x}").replace("/v1\n", "/v1alpha3\n");
    let error = kubectl(&["apply", "-f", "-"], &both).unwrap_err();
    assert!(error.contains("spec.http[0].directResponse: "), "{error}");

    // It may come later, so it is stored.
    let warned = warnings(&told("warned.told", "route: [{destination: {host: nobody}}]"));
    assert!(warned.contains("Warning: spec.http[0].route[0].destination.host: `nobody`"), "{warned}");
    assert!(warned.contains("[MESH0103]"), "{warned}");
    assert_eq!(warnings(&told("fine.told", "directResponse: {status: 200}")), "");
    kubectl(&["delete", "virtualservice", "warned-told", "-n", NAMESPACE], "").unwrap();
    kubectl(&["delete", "validatingwebhookconfiguration", "meshgate-validator"], "").unwrap();
}

/// What `kubectl apply` says besides that it is done.
fn warnings(text: &str) -> String {
    let mut child = Command::new("kubectl")
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The configuration of `deploy/`, and beside it one that reaches a process instead of a Service. The controller puts its
/// root into the first; the second gets the same.
fn configure(webhook: SocketAddr) {
    let text = std::fs::read_to_string(repository().join("deploy/base/webhook.yaml")).unwrap();
    // No Service is reached here.
    apply(&text.replace("apiGroups: [networking.istio.io]", "apiGroups: [none.test]")).unwrap();
    let begun = Instant::now();
    let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
    let bundle = loop {
        let bundle = kubectl(&["get", "validatingwebhookconfiguration", "meshgate-validator", "-o", path], "").unwrap();
        if !bundle.is_empty() {
            break bundle;
        }
        assert!(begun.elapsed() < DEADLINE, "the controller's root does not come");
        std::thread::sleep(Duration::from_millis(100));
    };
    let client = format!("clientConfig: {{url: 'https://{webhook}/validate', caBundle: {bundle}}}");
    let service = "clientConfig:\n      service: { name: meshgate-controller, namespace: meshgate-system, path: /validate, port: 443 }";
    assert!(text.contains(service));
    apply(&text.replace(service, &client).replace("failurePolicy: Ignore", "failurePolicy: Fail")).unwrap();
}
