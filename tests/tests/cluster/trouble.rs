//! What goes wrong around the controller: rights that are missing, an API server that dies, changes that come in pieces.

use std::path::PathBuf;

use e2e::backend::Backend;
use e2e::cluster::{ApiServer, Controller};
use e2e::fixture::Load;
use e2e::process::repository;

use super::*;

/// The rights that the controller is installed with, and nothing else.
pub fn rights() -> String {
    std::fs::read_to_string(repository().join("deploy/base/rbac.yaml")).unwrap()
}

/// A kubeconfig of the controller's own service account.
pub fn own_kubeconfig(folder: &Path) -> PathBuf {
    kubeconfig_of(folder, "meshgate-controller", SYSTEM)
}

pub fn start_with(folder: &Path, replica: &str, discovery: Option<SocketAddr>, kubeconfig: &Path) -> Controller {
    let kubeconfig = Some(kubeconfig);
    Launch { discovery, kubeconfig, ..Launch::new(folder, replica, SYSTEM) }.start().unwrap()
}

/// Namespace, definitions, rights, a gateway on a free port of the loopback.
pub fn prepare() -> SocketAddr {
    apply_namespace(SYSTEM).unwrap();
    define().unwrap();
    apply(&rights()).unwrap();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = SocketAddr::new(ip, ports::free_port(ip).unwrap());
    apply(&edge(address.port())).unwrap();
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_not_taken_for_empty() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = prepare();
    apply(&route("v1", "rights.example", "first")).unwrap();
    let kubeconfig = own_kubeconfig(folder.path());

    // The rights of the installation are enough.
    let first = start_with(folder.path(), "all-rights", None, &kubeconfig);
    let mut gateway = start_gateway(folder.path(), "gw-rights", first.discovery);
    gateway.ready().unwrap();
    until_answer(address, "rights.example", "first").await.unwrap();
    let discovery = first.discovery;
    drop(first);

    // Without one of them nothing is told, and the gateway serves what it has.
    apply(&rights().replace("virtualservices, ", "")).unwrap();
    let second = start_with(folder.path(), "no-rights", Some(discovery), &kubeconfig);
    second
        .until("the kind that may not be read", "/debug/diagnostics", |page| {
            page["unavailable"]["virtualservices"].as_str().is_some_and(|why| why.contains("forbidden"))
        })
        .await
        .unwrap();
    let ready = client::get(second.admin, "localhost", "/ready").await.unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("virtualservices"), "{}", ready.text());
    assert_eq!(answer(address, "rights.example").await, "first");

    // With it all goes on.
    apply(&rights()).unwrap();
    apply(&route("v1", "rights.example", "second")).unwrap();
    until_answer(address, "rights.example", "second").await.unwrap();
    kubectl(&["delete", "virtualservice", "rights-example"], "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_a_rule_and_its_subset_come_one_after_the_other() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = prepare();
    let backend = Backend::echo("app").await.unwrap();
    let rule = |subset: &str| {
        route("v1", "pieces.example", "x").replace(
            "directResponse: {status: 200, body: {string: x}}",
            &format!("route: [{{destination: {{host: app.example{subset}}}}}]"),
        )
    };
    let subset = |name: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app, namespace: default}}\n\
             spec: {{host: app.example, subsets: [{{name: {name}, labels: {{app: app}}}}]}}\n"
        )
    };
    apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app, namespace: default}}\nspec:\n  \
         hosts: [app.example]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{{address: {}, ports: {{http: {}}}, labels: {{app: app}}}}]\n",
        backend.address.ip(),
        backend.address.port()
    ))
    .unwrap();
    apply(&rule("")).unwrap();
    let controller = start_with(folder.path(), "pieces", None, &own_kubeconfig(folder.path()));
    let mut gateway = start_gateway(folder.path(), "gw-pieces", controller.discovery);
    gateway.ready().unwrap();
    let load = Load::start(address, "pieces.example");
    for round in 0..4 {
        let name = format!("v{round}");
        // The rule first, then what it names; and back.
        apply(&rule(&format!(", subset: {name}"))).unwrap();
        apply(&subset(&name)).unwrap();
        controller
            .until("no finding", "/debug/diagnostics", |page| {
                page["diagnostics"]
                    .as_array()
                    .is_some_and(|all| !all.iter().any(|found| found["object"]["name"] == "pieces-example"))
            })
            .await
            .unwrap();
        apply(&rule("")).unwrap();
    }
    load.end().await.unwrap();
    assert!(backend.requests() > 10);
    kubectl(&["delete", "virtualservice/pieces-example", "destinationrule/app", "serviceentry/app"], "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_dies_and_comes_back() {
    let Some(cluster) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = prepare();
    apply(&route("v1", "api.example", "first")).unwrap();
    let controller = start_with(folder.path(), "api", None, &own_kubeconfig(folder.path()));
    let mut gateway = start_gateway(folder.path(), "gw-api", controller.discovery);
    gateway.ready().unwrap();
    until_answer(address, "api.example", "first").await.unwrap();
    controller.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    let load = Load::start(address, "api.example");

    let server = ApiServer::of(&cluster).unwrap();
    server.kill().unwrap();
    // A leader that hears nothing leads no more, before anybody else may.
    controller.until("the end of leadership", "/debug/proxies", |page| page["leader"] == false).await.unwrap();

    server.start().unwrap();
    apply(&route("v1", "api.example", "second")).unwrap();
    until_answer(address, "api.example", "second").await.unwrap();
    load.end().await.unwrap();
    controller.until("leadership again", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    kubectl(&["delete", "virtualservice", "api-example"], "").unwrap();
}
