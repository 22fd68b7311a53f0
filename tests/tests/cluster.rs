//! The real controller and a real gateway against a real Kubernetes control plane. `bash tests/run.sh cluster` starts one and
//! runs this inside of its network namespace.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::client;
use e2e::fixture::{answer, until_answer};
use e2e::ports;
use e2e::process::{Meshgate, binary, repository};

#[path = "cluster/status.rs"]
mod status;
#[path = "cluster/trouble.rs"]
mod trouble;

const DEADLINE: Duration = Duration::from_secs(30);
const SYSTEM: &str = "meshgate-system";

/// None: there is no cluster, which is said. With `CI=true` the step of `tests/run.sh` is what fails.
fn cluster() -> Option<PathBuf> {
    let folder = std::env::var_os("MESHGATE_CLUSTER");
    if folder.is_none() {
        println!("skipped: no cluster (bash tests/run.sh cluster starts one)");
    }
    folder.map(PathBuf::from)
}

fn kubectl(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn apply(text: &str) {
    // A definition may have been made a moment ago.
    let begun = Instant::now();
    while let Err(error) = kubectl(&["apply", "-f", "-"], text) {
        assert!(begun.elapsed() < DEADLINE, "{error}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn define() {
    let crds = repository().join("deploy/crds/crds.yaml");
    kubectl(&["apply", "--server-side", "-f", &crds.to_string_lossy()], "").unwrap();
}

/// The controller as a process. Its log goes to a file that is shown if something fails.
struct Controller {
    child: Child,
    log: PathBuf,
    discovery: SocketAddr,
    admin: SocketAddr,
}

impl Controller {
    fn start(folder: &Path, replica: &str, discovery: Option<SocketAddr>) -> Controller {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Controller::start_with_webhook(folder, replica, discovery, SocketAddr::new(ip, 0))
    }

    fn start_with_webhook(
        folder: &Path,
        replica: &str,
        discovery: Option<SocketAddr>,
        webhook: SocketAddr,
    ) -> Controller {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let free = || SocketAddr::new(ip, ports::free_port(ip).unwrap());
        let (discovery, admin) = (discovery.unwrap_or_else(free), free());
        let log = folder.join(format!("{replica}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let child = Command::new(binary().unwrap().with_file_name("meshgate-controller"))
            .args(["--discovery", &discovery.to_string(), "--admin", &admin.to_string(), "--replica", replica])
            .args(["--namespace", SYSTEM, "--webhook", &webhook.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Controller { child, log, discovery, admin }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn page(&self, path: &str) -> serde_json::Value {
        match client::get(self.admin, "localhost", path).await {
            Ok(response) => serde_json::from_str(&response.text()).unwrap_or_default(),
            Err(_) => serde_json::Value::Null,
        }
    }

    async fn until(&self, what: &str, path: &str, holds: impl Fn(&serde_json::Value) -> bool) {
        let begun = Instant::now();
        loop {
            let page = self.page(path).await;
            if holds(&page) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{what}: {page:#}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pod that nobody runs, and the token that its container would have.
fn gateway_token(pod: &str) -> String {
    apply(&format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: gateway, namespace: {SYSTEM}}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {SYSTEM}, labels: {{istio: ingressgateway}}}}\n\
         spec: {{serviceAccountName: gateway, containers: [{{name: proxy, image: 'none.test/none:1'}}]}}\n"
    ));
    let uid = kubectl(&["get", "pod", pod, "-n", SYSTEM, "-o", "jsonpath={.metadata.uid}"], "").unwrap();
    kubectl(
        &[
            "create",
            "token",
            "gateway",
            "-n",
            SYSTEM,
            "--audience",
            "istio-ca",
            "--bound-object-kind",
            "Pod",
            "--bound-object-name",
            pod,
            "--bound-object-uid",
            uid.trim(),
        ],
        "",
    )
    .unwrap()
}

fn start_gateway(folder: &Path, pod: &str, controller: SocketAddr) -> Meshgate {
    let (token, root) = (folder.join(format!("{pod}.token")), folder.join("root.pem"));
    std::fs::write(&token, gateway_token(pod)).unwrap();
    let begun = Instant::now();
    loop {
        let map = ["get", "configmap", "istio-ca-root-cert", "-n", SYSTEM, "-o", "jsonpath={.data.root-cert\\.pem}"];
        match kubectl(&map, "") {
            Ok(pem) => break std::fs::write(&root, pem).unwrap(),
            Err(error) => assert!(begun.elapsed() < DEADLINE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let address = controller.to_string();
    let (token, root) = (text(&token), text(&root));
    let arguments = [
        "--controller",
        &address,
        "--controller-ca",
        &root,
        "--token",
        &token,
        "--namespace",
        SYSTEM,
        "--workers",
        "1",
        "--drain-seconds",
        "1",
    ];
    Meshgate::spawn(arguments).unwrap()
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

#[tokio::test(flavor = "multi_thread")]
async fn from_an_empty_cluster_to_answers_and_through_the_loss_of_the_controller() {
    let Some(_) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SYSTEM}}}\n"));

    // Before the definitions are there: it says which, and waits for them.
    let first = Controller::start(folder.path(), "first", None);
    first
        .until("kinds that are missing", "/debug/diagnostics", |page| {
            page["unavailable"].as_object().is_some_and(|missing| missing.contains_key("virtualservices"))
        })
        .await;
    define();
    let mut gateway = start_gateway(folder.path(), "gw-1", first.discovery);
    gateway.ready().unwrap();
    first
        .until("all kinds", "/debug/diagnostics", |page| {
            page["unavailable"].as_object().is_some_and(serde_json::Map::is_empty)
        })
        .await;

    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = SocketAddr::new(ip, ports::free_port(ip).unwrap());
    apply(&edge(address.port()));
    for (version, host) in [("v1", "a.example"), ("v1beta1", "b.example"), ("v1alpha3", "c.example")] {
        apply(&route(version, host, "first"));
        until_answer(address, host, "first").await.unwrap();
    }
    first
        .until("the acknowledgement", "/debug/proxies", |page| {
            let config = &page["proxies"][0]["kinds"]["config"];
            config["sent"] == page["generation"] && config["acknowledged"] == page["generation"]
        })
        .await;

    // What the definitions refuse never gets here.
    let refused = kubectl(&["apply", "-f", "-"], &route("v1", "d.example", "x").replace("status: 200", "status: many"));
    assert!(refused.is_err_and(|error| error.contains("status")));

    // Killed: the gateway serves on. Another replica takes over at the same address, and leads when the Lease is over.
    let discovery = first.discovery;
    drop(first);
    apply(&route("v1", "a.example", "second"));
    assert_eq!(answer(address, "a.example").await, "first");
    let second = Controller::start(folder.path(), "second", Some(discovery));
    until_answer(address, "a.example", "second").await.unwrap();
    second.until("leadership", "/debug/proxies", |page| page["leader"] == true).await;

    // Gone is gone.
    kubectl(&["delete", "virtualservice", "b-example"], "").unwrap();
    until_answer(address, "b.example", "404").await.unwrap();
    assert_eq!(answer(address, "c.example").await, "first");
}
