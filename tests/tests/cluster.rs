//! The real controller and a real gateway against a real Kubernetes control plane. `bash tests/run.sh cluster` starts one and
//! runs this inside of its network namespace.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use e2e::bulk::{Routes, says};
use e2e::client;
use e2e::cluster::{self, DEADLINE, Launch, Pod, apply, apply_namespace, define, kubectl};
use e2e::fixture::{answer, eventually_async, until_answer};
use e2e::ports;
use e2e::process::Meshgate;

#[path = "cluster/inject.rs"]
mod inject;
#[path = "cluster/install.rs"]
mod install;
#[path = "cluster/killed.rs"]
mod killed;
#[path = "cluster/lease.rs"]
mod lease;
#[path = "cluster/many.rs"]
mod many;
#[path = "cluster/orders.rs"]
mod orders;
#[path = "cluster/place.rs"]
mod place;
#[path = "cluster/rivals.rs"]
mod rivals;
#[path = "cluster/secrets.rs"]
mod secrets;
#[path = "cluster/skew.rs"]
mod skew;
#[path = "cluster/slow.rs"]
mod slow;
#[path = "cluster/status.rs"]
mod status;
#[path = "cluster/streams.rs"]
mod streams;
#[path = "cluster/trouble.rs"]
mod trouble;
#[path = "cluster/unread.rs"]
mod unread;
#[path = "cluster/watch.rs"]
mod watch;

const SYSTEM: &str = "meshgate-system";

/// A kubeconfig of a service account.
fn kubeconfig_of(folder: &Path, account: &str, namespace: &str) -> PathBuf {
    let admin = std::fs::read_to_string(std::env::var_os("KUBECONFIG").unwrap()).unwrap();
    let token = kubectl(&["create", "token", account, "-n", namespace, "--duration", "1h"], "").unwrap();
    let file = folder.join("own.kubeconfig");
    std::fs::write(&file, admin).unwrap();
    let config = |arguments: &[&str]| {
        let file = file.to_string_lossy();
        kubectl(&[&["config", "--kubeconfig", &*file], arguments].concat(), "").unwrap()
    };
    config(&["set-credentials", account, "--token", token.trim()]);
    config(&["set-context", "--current", "--user", account]);
    file
}

fn start_gateway(folder: &Path, pod: &str, controller: SocketAddr) -> Meshgate {
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    Pod { namespace: SYSTEM, name: pod, labels: &labels }.gateway(folder, controller, &[]).unwrap()
}

fn edge(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: {SYSTEM}}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*/*']}}]
"
    )
}

fn route(version: &str, host: &str, answer: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/{version}
kind: VirtualService
metadata: {{name: {name}, namespace: default}}
spec:
  hosts: ['{host}']
  gateways: [{SYSTEM}/edge]
  http: [{{directResponse: {{status: 200, body: {{string: {answer}}}}}}}]
",
        name = host.replace('.', "-")
    )
}

/// VirtualServices of a namespace of their own, at the Gateway `edge`.
async fn routes_of(namespace: &str) -> Routes {
    apply_namespace(namespace).unwrap();
    Routes::new(namespace, &[&format!("{SYSTEM}/edge")]).await.unwrap()
}

/// How many hosts that end so the gateway serves.
async fn hosts_of(gateway: &Meshgate, suffix: &str) -> usize {
    let dump = gateway.admin("/config_dump?resource=routes").await.unwrap();
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    let sets = dump.as_object().unwrap().values();
    let hosts = sets.flat_map(|set| set["virtual_hosts"].as_array().unwrap());
    hosts.filter(|host| host["host"].to_string().contains(suffix)).count()
}

/// Until it serves as many. Objects that are written at once take effect in any order: who serves one may not serve all yet.
async fn until_hosts(gateway: &Meshgate, suffix: &str, wanted: usize) {
    let mut last = 0;
    let holds = async || {
        last = hosts_of(gateway, suffix).await;
        Ok(last == wanted)
    };
    if let Err(error) = eventually_async(&format!("{wanted} hosts"), DEADLINE, holds).await {
        panic!("{error}: {last}");
    }
}

/// Until the object's status says of its present generation that it is in force at all proxies, or not: status, reason, beginning
/// of the message.
async fn until_programmed(routes: &Routes, name: &str, wanted: (&str, &str, &str)) {
    let mut last = serde_json::Value::Null;
    let holds = async || {
        last = routes.get(name).await?;
        let said = says(&last, "Programmed");
        Ok(said.is_some_and(|(status, reason, message)| {
            (status, reason) == (wanted.0, wanted.1) && message.starts_with(wanted.2)
        }))
    };
    if let Err(error) = eventually_async(&format!("{wanted:?} of {name}"), DEADLINE, holds).await {
        panic!("{error}: {last:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_empty_cluster_to_answers_and_through_the_loss_of_the_controller() {
    // By its name it is the first one of all, and must be: the others leave the definitions behind.
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    apply_namespace(SYSTEM).unwrap();

    // Before the definitions are there: it says which, and waits for them.
    let first = Launch::new(folder.path(), "first", SYSTEM).start().unwrap();
    first
        .until("kinds that are missing", "/debug/diagnostics", |page| {
            page["unavailable"].as_object().is_some_and(|missing| missing.contains_key("virtualservices"))
        })
        .await
        .unwrap();
    define().unwrap();
    let mut gateway = start_gateway(folder.path(), "gw-1", first.discovery);
    gateway.ready().unwrap();
    first
        .until("all kinds", "/debug/diagnostics", |page| {
            page["unavailable"].as_object().is_some_and(serde_json::Map::is_empty)
        })
        .await
        .unwrap();

    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = SocketAddr::new(ip, ports::free_port(ip).unwrap());
    apply(&edge(address.port())).unwrap();
    for (version, host) in [("v1", "a.example"), ("v1beta1", "b.example"), ("v1alpha3", "c.example")] {
        apply(&route(version, host, "first")).unwrap();
        until_answer(address, host, "first").await.unwrap();
    }
    first
        .until("the acknowledgement", "/debug/proxies", |page| {
            let config = &page["proxies"][0]["kinds"]["config"];
            config["sent"] == page["generation"] && config["acknowledged"] == page["generation"]
        })
        .await
        .unwrap();

    // What the definitions refuse never gets here.
    let refused = kubectl(&["apply", "-f", "-"], &route("v1", "d.example", "x").replace("status: 200", "status: many"));
    assert!(refused.is_err_and(|error| error.contains("status")));

    // Killed: the gateway serves on. Another replica takes over at the same address, and leads when the Lease is over.
    let discovery = first.discovery;
    drop(first);
    apply(&route("v1", "a.example", "second")).unwrap();
    assert_eq!(answer(address, "a.example").await, "first");
    let second = Launch { discovery: Some(discovery), ..Launch::new(folder.path(), "second", SYSTEM) }.start().unwrap();
    until_answer(address, "a.example", "second").await.unwrap();
    second.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();

    // Gone is gone.
    kubectl(&["delete", "virtualservice", "b-example"], "").unwrap();
    until_answer(address, "b.example", "404").await.unwrap();
    assert_eq!(answer(address, "c.example").await, "first");
}
