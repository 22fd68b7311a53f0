//! What tests on a real control plane share: `kubectl`, the controller as a process, and gateways whose pods nobody runs.
//! `bash tests/run.sh cluster` starts a control plane and runs these tests inside of its network namespace.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::client::{Client, Request};
use crate::process::{Meshgate, binary, repository, signal};
use crate::{client, ports};

/// Nothing that a cluster does takes longer.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// But for the start of an API server on a busy machine.
const START: Duration = Duration::from_secs(120);

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
    kubectl(&arguments, "").map_err(anyhow::Error::msg)?;
    // Who asks what there is before that is told of some of them.
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "-f", &definitions.to_string_lossy()];
    kubectl(&established, "").map(drop).map_err(anyhow::Error::msg)
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
    /// None: what it does without being told.
    pub keep_alive_seconds: Option<u64>,
    /// The same of the steps in which a root is changed.
    pub root_overlap_seconds: Option<u64>,
    /// Further arguments.
    pub more: &'a [&'a str],
}

impl<'a> Launch<'a> {
    pub fn new(folder: &'a Path, replica: &'a str, namespace: &'a str) -> Launch<'a> {
        let (discovery, webhook, kubeconfig, keep_alive_seconds) = (None, None, None, None);
        let (gateway_namespaces, root_overlap_seconds, more) = (&[], None, &[]);
        Launch {
            folder,
            replica,
            namespace,
            discovery,
            webhook,
            kubeconfig,
            gateway_namespaces,
            keep_alive_seconds,
            root_overlap_seconds,
            more,
        }
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
        if let Some(seconds) = self.keep_alive_seconds {
            command.args(["--keep-alive-seconds", &seconds.to_string()]);
        }
        if let Some(seconds) = self.root_overlap_seconds {
            command.args(["--root-overlap-seconds", &seconds.to_string()]);
        }
        if let Some(file) = self.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        command.args(self.more);
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

    /// A value of `/metrics`: `name` or `name{label="value"}`; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let page = client::get(self.admin, "localhost", "/metrics").await?.text();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map_or(Ok(0.0), str::parse)?)
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
        let root = folder.join("root.pem");
        let path = "jsonpath={.data.root-cert\\.pem}";
        let map = ["get", "configmap", "istio-ca-root-cert", "-n", self.namespace, "-o", path];
        std::fs::write(&root, patiently(|| kubectl(&map, ""))?)?;
        self.gateway_that_trusts(folder, controller, &root, more)
    }

    /// The same; the certificate that it is shown may only come from `root`.
    pub fn gateway_that_trusts(
        &self,
        folder: &Path,
        controller: SocketAddr,
        root: &Path,
        more: &[String],
    ) -> anyhow::Result<Meshgate> {
        let token = folder.join(format!("{}.token", self.name));
        std::fs::write(&token, self.token()?)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut arguments = vec!["--controller".to_owned(), controller.to_string()];
        arguments.extend(["--controller-ca".to_owned(), text(root), "--token".to_owned(), text(&token)]);
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

/// The API server, as a process of the cluster's folder.
pub struct ApiServer {
    /// Of the cluster.
    folder: PathBuf,
    pid: u32,
    line: Vec<String>,
}

impl ApiServer {
    pub fn of(cluster: &Path) -> anyhow::Result<ApiServer> {
        let text = std::fs::read_to_string(cluster.join("pid/apiserver"))?;
        let pid = text.split_whitespace().next().context("no process is noted")?.parse()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        let parts = line.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        let line = parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        Ok(ApiServer { folder: cluster.to_owned(), pid, line })
    }

    /// As if its machine had failed; until its port is free. That it has ended is not enough: the first of its threads may have, and
    /// the others still hold its sockets.
    pub fn kill(&self) -> anyhow::Result<()> {
        let port = self.line.iter().find_map(|part| part.strip_prefix("--secure-port=")).context("no port is noted")?;
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.parse()?));
        let born = started(self.pid)?;
        signal(self.pid, "KILL")?;
        let begun = Instant::now();
        while started(self.pid).is_ok_and(|now| now == born) || TcpListener::bind(address).is_err() {
            ensure!(begun.elapsed() < DEADLINE, "the API server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The same one again, until it is ready. It outlives the test: who takes the cluster down ends it.
    pub fn start(&self) -> anyhow::Result<()> {
        let (program, arguments) = self.line.split_first().context("it had no command line")?;
        let path = self.folder.join("log/apiserver.log");
        let log = std::fs::File::options().append(true).create(true).open(&path)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut server = command.spawn()?;
        let pid = server.id();
        std::fs::write(self.folder.join("pid/apiserver"), format!("{pid} {}\n", started(pid)?))?;
        let begun = Instant::now();
        while let Err(error) = kubectl(&["get", "--raw", "/readyz"], "") {
            let ended = server.try_wait()?;
            if let Some(ended) = ended {
                bail!("the API server ended: {ended}:\n{}", last_lines(&path)?);
            }
            ensure!(begun.elapsed() < START, "the API server does not get ready: {error}");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::spawn(move || server.wait());
        Ok(())
    }
}

/// The last twenty.
fn last_lines(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n"))
}

/// When a process was started, in ticks since the machine was: with its number it is one process and no other. An error if it has
/// ended.
fn started(process: u32) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in brackets, may hold anything; the rest are its state, and numbers.
    let (_, rest) = text.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    ensure!(fields.first() != Some(&"Z"), "it has ended");
    Ok((*fields.get(19).context("no start")?).to_owned())
}

/// Makes etcd forget all versions before the present one: who goes on from an older one is told that it is gone (410).
pub async fn compact() -> anyhow::Result<()> {
    let any = base64::engine::general_purpose::STANDARD.encode("a");
    let now = etcd("/v3/kv/range", &json!({ "key": any })).await?;
    let revision = now.pointer("/header/revision").context("no revision")?;
    etcd("/v3/kv/compaction", &json!({ "revision": revision, "physical": true })).await.map(drop)
}

/// Asks etcd, by the JSON that it takes beside gRPC.
async fn etcd(path: &str, body: &Value) -> anyhow::Result<Value> {
    let (mut client, _) = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 2379)), None, false).await?;
    let body = Some(body.to_string().into_bytes());
    let request = Request { method: "POST".to_owned(), body, ..Request::get("localhost", path) };
    let response = client.send(&request.header("content-type", "application/json")).await?;
    ensure!(response.status == 200, "etcd: {} {}", response.status, response.text());
    Ok(serde_json::from_slice(&response.body)?)
}
