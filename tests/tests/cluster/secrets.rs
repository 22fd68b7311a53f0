//! Certificates of gateways that run in another namespace than the controller, and who else may have them.

use std::process::Command;

use controller::kube::connect;
use controller::push::{Account, Authorize as _, SecretReviewer};
use e2e::certs;
use e2e::client::TlsOptions;
use e2e::process::repository;

use super::*;

const ELSEWHERE: &str = "istio-ingress";

/// What an installation for gateways of that namespace gives the controller.
fn rights(path: &str) -> String {
    let meshctl = e2e::process::binary().unwrap().with_file_name("meshctl");
    let set = format!("gateway.namespaces={ELSEWHERE}");
    let output =
        Command::new(meshctl).args(["install", "--profile", "minimal", "--set", &set, "-o", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_right = |object: &serde_json::Value| {
        let kind = object["kind"].as_str().unwrap();
        let rights = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
        rights.contains(&kind) && (path.is_empty() || object["metadata"]["namespace"] != *path)
    };
    list["items"].as_array_mut().unwrap().retain(is_right);
    list.to_string()
}

fn gateway(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: elsewhere, namespace: {ELSEWHERE}}}
spec:
  selector: {{istio: ingress}}
  servers:
  - {{port: {{number: {port}, name: https, protocol: HTTPS}}, bind: 127.0.0.1, hosts: ['*/*'], tls: {{mode: SIMPLE, credentialName: cert}}}}
"
    )
}

fn secret(namespace: &str, names: &str) -> String {
    let made = certs::certificate(names).unwrap();
    let data = serde_json::json!({ "tls.crt": made.certificate_pem, "tls.key": made.key_pem });
    let metadata = serde_json::json!({ "name": "cert", "namespace": namespace });
    let object = serde_json::json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": data });
    object.to_string()
}

/// Puts the sample of a gateway there, and yields the labels of its pods, of which none run here.
fn deploy() -> BTreeMap<String, String> {
    let folder = repository().join("deploy/samples/istio-ingress");
    kubectl(&["apply", "--server-side", "-k", &folder.to_string_lossy()], "").unwrap();
    let get = ["get", "deployment,service", "istio-ingressgateway", "-n", ELSEWHERE, "-o", "json"];
    let list: serde_json::Value = serde_json::from_str(&kubectl(&get, "").unwrap()).unwrap();
    let template = &list["items"][0]["spec"]["template"];
    let labels: BTreeMap<String, String> = serde_json::from_value(template["metadata"]["labels"].clone()).unwrap();
    // What its metrics name, and what balances to it, are these pods.
    let told = format!("--labels=app={},istio={}", labels["app"], labels["istio"]);
    let arguments = template["spec"]["containers"][0]["args"].as_array().unwrap();
    assert!(arguments.contains(&told.into()), "{arguments:?}");
    let selector: BTreeMap<String, String> =
        serde_json::from_value(list["items"][1]["spec"]["selector"].clone()).unwrap();
    assert!(selector.iter().all(|(name, value)| labels.get(name) == Some(value)), "{selector:?}");
    labels
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_elsewhere_serves_the_certificate_of_its_own_namespace() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    for namespace in [SYSTEM, ELSEWHERE] {
        apply_namespace(namespace).unwrap();
    }
    define().unwrap();
    apply(&rights(ELSEWHERE)).unwrap();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = SocketAddr::new(ip, ports::free_port(ip).unwrap());
    apply(&gateway(address.port())).unwrap();
    apply(&route("v1", "secret.example", "x").replace(&format!("{SYSTEM}/edge"), &format!("{ELSEWHERE}/elsewhere")))
        .unwrap();
    apply(&secret(ELSEWHERE, "secret.example,theirs.example")).unwrap();
    apply(&secret(SYSTEM, "secret.example,ours.example")).unwrap();

    // Without the right the gateway is told why, and others are told what they need.
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let namespaces = [ELSEWHERE];
    let launch = Launch::new(folder.path(), "secrets", SYSTEM);
    let controller =
        Launch { kubeconfig: Some(&kubeconfig), gateway_namespaces: &namespaces, ..launch }.start().unwrap();
    let unavailable = format!("secrets in {ELSEWHERE}");
    controller
        .until("the secrets that may not be read", "/debug/diagnostics", |page| {
            page["unavailable"][&unavailable].as_str().is_some_and(|why| why.contains("forbidden"))
        })
        .await
        .unwrap();
    controller.until("the rest", "/debug/proxies", |page| page["generation"].as_u64() > Some(0)).await.unwrap();
    assert_eq!(client::get(controller.admin, "localhost", "/ready").await.unwrap().status, 200);
    let labels = deploy();
    let pod = Pod { namespace: ELSEWHERE, name: "gw-elsewhere", labels: &labels };
    let mut gateway = pod.gateway(folder.path(), controller.discovery, &[]).unwrap();
    let told = format!("the secrets of namespace {ELSEWHERE} are not known");
    gateway.wait_for_line(|line| line.contains(&told), DEADLINE).unwrap();

    apply(&rights("")).unwrap();
    gateway.ready().unwrap();
    let tls = TlsOptions { sni: Some("secret.example".to_owned()), ..TlsOptions::default() };
    let (mut client, details) = client::Client::connect(address, Some(&tls), false).await.unwrap();
    assert_eq!(details.unwrap().names, ["secret.example", "theirs.example"]);
    assert_eq!(client.send(&client::Request::get("secret.example", "/")).await.unwrap().status, 200);
    assert!(!gateway.log().contains("BEGIN"), "keys stay out of logs");
    kubectl(&["delete", "virtualservice", "secret-example"], "").unwrap();
    let folder = repository().join("deploy/samples/istio-ingress");
    kubectl(&["delete", "-k", &folder.to_string_lossy()], "").unwrap();
    kubectl(&["delete", "gateway.networking.istio.io", "elsewhere", "-n", ELSEWHERE], "").unwrap();
}

/// Binds who may list secrets there, to an account or to a group.
fn binding(name: &str, subject: &serde_json::Value) -> String {
    let rules = serde_json::json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"] }]);
    let metadata = serde_json::json!({ "name": name, "namespace": ELSEWHERE });
    let api = "rbac.authorization.k8s.io";
    let of = |kind: &str| serde_json::json!({ "apiVersion": format!("{api}/v1"), "kind": kind, "metadata": metadata });
    let (mut role, mut binding) = (of("Role"), of("RoleBinding"));
    role["rules"] = rules;
    binding["roleRef"] = serde_json::json!({ "apiGroup": api, "kind": "Role", "name": name });
    binding["subjects"] = serde_json::json!([subject]);
    serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": [role, binding] }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_secrets_is_asked_with_the_rights_of_the_installation() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    for namespace in [SYSTEM, ELSEWHERE] {
        apply_namespace(namespace).unwrap();
    }
    apply(&rights("")).unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let reviewer = SecretReviewer::new(connect(Some(&kubeconfig), None).await.unwrap());
    let ask = async |namespace: &str, name: &str| {
        let account = Account { namespace: namespace.to_owned(), name: name.to_owned() };
        reviewer.may_read_secrets(&account).await
    };
    let until = async |name: &str, wanted: bool| {
        let is_so = async || Ok(ask(ELSEWHERE, name).await == Ok(wanted));
        eventually_async(&format!("{name}: {wanted}"), DEADLINE, is_so).await.unwrap();
    };
    // Rights take a moment to be known.
    until("cart", false).await;
    let account = serde_json::json!({ "kind": "ServiceAccount", "name": "cart", "namespace": ELSEWHERE });
    apply(&binding("cart-reads", &account)).unwrap();
    until("cart", true).await;
    assert_eq!(ask(ELSEWHERE, "other").await, Ok(false));
    // The same name elsewhere is another account.
    assert_eq!(ask(SYSTEM, "cart").await, Ok(false));
    // A Role that is gone takes the right, though the API server complains of the binding that is left.
    kubectl(&["delete", "role", "cart-reads", "-n", ELSEWHERE], "").unwrap();
    until("cart", false).await;
    let group = format!("system:serviceaccounts:{ELSEWHERE}");
    let group = serde_json::json!({ "kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io" });
    apply(&binding("all-read", &group)).unwrap();
    until("other", true).await;
    // Of namespaces whose secrets the controller may not read it may not even ask.
    let refused = ask("default", "default").await.unwrap_err();
    assert!(refused.contains("localsubjectaccessreviews"), "{refused}");
    for name in ["cart-reads", "all-read"] {
        kubectl(&["delete", "rolebinding", name, "-n", ELSEWHERE], "").unwrap();
    }
    kubectl(&["delete", "role", "all-read", "-n", ELSEWHERE], "").unwrap();
}
