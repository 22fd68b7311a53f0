//! What tests on a real control plane share: `kubectl`, the controller as a process, and gateways whose pods nobody runs.
//! `bash tests/run.sh cluster` starts a control plane and runs these tests inside of its network namespace.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::process::{Meshgate, binary, repository};
use crate::{client, ports};

/// Nothing that a cluster does takes longer.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Folder of the cluster. None: there is none, which is said. With `CI=true` the step of `tests/run.sh` is what fails.
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("MESHGATE_CLUSTER");
    if folder.is_none() {
        println!("skipped: no cluster (bash tests/run.sh cluster starts one)");
    }
    folder.map(PathBuf::from)
}

/// `Err` is what it says when it fails.
pub fn kubectl(arguments: &[&str], input: &str) -> Result<String, String> {
    let run = || {
        let mut command = Command::new("kubectl");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // Closed when it is written.
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| format!("kubectl: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Repeated for a while: a definition may have been made a moment ago.
pub fn apply(text: &str) -> anyhow::Result<()> {
    patiently(|| kubectl(&["apply", "-f", "-"], text)).map(drop)
}

pub fn apply_namespace(name: &str) -> anyhow::Result<()> {
    apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }).to_string())
}

/// The definitions of Istio's objects.
pub fn define() -> anyhow::Result<()> {
    let definitions = repository().join("deploy/crds/crds.yaml");
    let arguments = ["apply", "--server-side", "-f", &definitions.to_string_lossy()];
    kubectl(&arguments, "").map(drop).map_err(anyhow::Error::msg)
}

fn patiently(attempt: impl Fn() -> Result<String, String>) -> anyhow::Result<String> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(output) => return Ok(output),
            Err(error) => ensure!(begun.elapsed() < DEADLINE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How a controller is started.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Where its log goes.
    pub folder: &'a Path,
    pub replica: &'a str,
    pub namespace: &'a str,
    /// None: a free port.
    pub discovery: Option<SocketAddr>,
    /// None: one that nobody knows.
    pub webhook: Option<SocketAddr>,
    /// None: that of the environment.
    pub kubeconfig: Option<&'a Path>,
    /// Others than its own.
    pub gateway_namespaces: &'a [&'a str],
}

impl<'a> Launch<'a> {
    pub fn new(folder: &'a Path, replica: &'a str, namespace: &'a str) -> Launch<'a> {
        Launch { folder, replica, namespace, discovery: None, webhook: None, kubeconfig: None, gateway_namespaces: &[] }
    }

    pub fn start(self) -> anyhow::Result<Controller> {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let free = || anyhow::Ok(SocketAddr::new(ip, ports::free_port(ip)?));
        let (discovery, admin) = (self.discovery.map_or_else(free, Ok)?, free()?);
        let webhook = self.webhook.unwrap_or(SocketAddr::new(ip, 0));
        let log = self.folder.join(format!("{}.log", self.replica));
        let mut command = Command::new(binary()?.with_file_name("meshgate-controller"));
        command
            .args(["--discovery", &discovery.to_string(), "--admin", &admin.to_string(), "--replica", self.replica])
            .args(["--namespace", self.namespace, "--webhook", &webhook.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?);
        if !self.gateway_namespaces.is_empty() {
            command.args(["--gateway-namespaces", &self.gateway_namespaces.join(",")]);
        }
        if let Some(file) = self.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        let child = command.spawn().context("starting meshgate-controller")?;
        Ok(Controller { child, log, discovery, admin })
    }
}

/// The controller as a process. Its log goes to a file that is shown if something fails.
pub struct Controller {
    child: Child,
    log: PathBuf,
    pub discovery: SocketAddr,
    pub admin: SocketAddr,
}

impl Controller {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(begun.elapsed() < DEADLINE, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A page of JSON; null if there is none.
    pub async fn page(&self, path: &str) -> Value {
        match client::get(self.admin, "localhost", path).await {
            Ok(response) => serde_json::from_str(&response.text()).unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// Asks for a page until it is as wanted, and yields it.
    pub async fn until(&self, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let begun = Instant::now();
        loop {
            let page = self.page(path).await;
            if holds(&page) {
                return Ok(page);
            }
            ensure!(begun.elapsed() < DEADLINE, "{what} does not come: {page:#}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway's pod. Nobody runs it: the gateway is a process of the test, with the token that its container would have.
#[derive(Clone, Debug)]
pub struct Pod<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
}

impl Pod<'_> {
    /// Its gateway, which may take a while to be ready. `more` are further arguments.
    pub fn gateway(&self, folder: &Path, controller: SocketAddr, more: &[String]) -> anyhow::Result<Meshgate> {
        let (token, root) = (folder.join(format!("{}.token", self.name)), folder.join("root.pem"));
        std::fs::write(&token, self.token()?)?;
        let path = "jsonpath={.data.root-cert\\.pem}";
        let map = ["get", "configmap", "istio-ca-root-cert", "-n", self.namespace, "-o", path];
        std::fs::write(&root, patiently(|| kubectl(&map, ""))?)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut arguments = vec!["--controller".to_owned(), controller.to_string()];
        arguments.extend(["--controller-ca".to_owned(), text(&root), "--token".to_owned(), text(&token)]);
        arguments.extend(["--namespace", self.namespace, "--workers", "1", "--drain-seconds", "1"].map(str::to_owned));
        arguments.extend(more.iter().cloned());
        Meshgate::spawn(arguments)
    }

    fn token(&self) -> anyhow::Result<String> {
        let account = json!({ "name": "gateway", "namespace": self.namespace });
        let meta = json!({ "name": self.name, "namespace": self.namespace, "labels": self.labels });
        let container = json!({ "name": "proxy", "image": "none.test/none:1" });
        let items = [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": account }),
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": meta,
                "spec": { "serviceAccountName": "gateway", "containers": [container] },
            }),
        ];
        apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string())?;
        let ask = |arguments: &[&str]| kubectl(arguments, "").map_err(anyhow::Error::msg);
        let uid = ask(&["get", "pod", self.name, "-n", self.namespace, "-o", "jsonpath={.metadata.uid}"])?;
        let mut arguments = vec!["create", "token", "gateway", "-n", self.namespace, "--audience", "istio-ca"];
        arguments.extend(["--bound-object-kind", "Pod", "--bound-object-name", self.name]);
        arguments.extend(["--bound-object-uid", uid.trim()]);
        ask(&arguments)
    }
}
