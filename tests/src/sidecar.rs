//! Pods with sidecars: real rules, the real process, and a controller of the test's own in a pod beside them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use controller::ca::Authority;
use mesh_core::testing::BackendSettings;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::{Backend, Saw};
use crate::client::{self, DEADLINE, Response};
use crate::controller::{Control, ELSEWHERE, NAMESPACE, Serving, UID};
use crate::netns::{Network, Pod};
use crate::process::{self, Meshgate};

/// Whose connections the rules leave alone.
pub const PROXY_USER: u32 = 1337;

/// What injection tells redirection and the sidecar of pods whose names the sidecar answers.
const DNS_CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";

/// What injection makes of a readiness probe.
const PROBERS: &str = r#"{"/app-health/app/readyz": {"httpGet": {"path": "/ready", "port": 8080}}}"#;

/// A network with a controller in it.
pub struct Mesh {
    pub network: Network,
    pub control: Arc<Control>,
    pub controller: SocketAddr,
    /// Of sidecars from now on.
    pub access_log: AccessLog,
    serving: Option<Serving>,
    /// Where the controller is.
    pod: Pod,
}

/// Where requests are noted.
#[derive(Clone, Debug)]
pub enum AccessLog {
    /// Among what the sidecar says.
    Text,
    Off,
    /// In JSON, in a file of this folder that is called as the proxy.
    Files(PathBuf),
}

impl AccessLog {
    fn arguments(&self, who: &Who) -> Vec<OsString> {
        let (kind, file) = match self {
            AccessLog::Text => ("text", None),
            AccessLog::Off => ("off", None),
            AccessLog::Files(folder) => ("json", Some(folder.join(who.proxy()))),
        };
        let file = file.into_iter().flat_map(|path| [OsString::from("--access-log-file"), path.into_os_string()]);
        ["--access-log", kind].map(OsString::from).into_iter().chain(file).collect()
    }
}

/// Whose pod it is.
#[derive(Clone, Debug)]
pub struct Who {
    pub name: String,
    pub namespace: String,
    pub account: String,
    pub labels: BTreeMap<String, String>,
    /// Queries to this one are led to the sidecar, and passed on by it.
    pub resolver: Option<IpAddr>,
    /// The pod has IPv6 alone, as far as anybody is told. (The controller is reached by IPv4.)
    pub v6: bool,
}

/// A pod with a sidecar.
pub struct Workload {
    pub name: String,
    pub pod: Pod,
    pub sidecar: Meshgate,
    who: Who,
    /// Of the sidecar.
    arguments: Vec<OsString>,
}

impl Mesh {
    pub async fn start() -> anyhow::Result<Mesh> {
        Mesh::start_for(NAMESPACE, &[ELSEWHERE]).await
    }

    /// The same; the controller is at home in this namespace, and reads the secrets of those, too.
    pub async fn start_for(system: &str, others: &[&str]) -> anyhow::Result<Mesh> {
        let network = Network::new()?;
        let control = Arc::new(Control::start_for(system, others).await?);
        // The sidecars have another user.
        let folder = control.root().parent().context("the root has a folder")?.to_owned();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        let pod = network.pod()?;
        let at = SocketAddr::new(pod.ip(), 15012);
        let mut mesh = Mesh { network, control, controller: at, access_log: AccessLog::Text, serving: None, pod };
        mesh.serve().await?;
        Ok(mesh)
    }

    /// The controller is there, and knows what happened meanwhile.
    pub async fn serve(&mut self) -> anyhow::Result<()> {
        let (control, at) = (self.control.clone(), self.controller);
        self.serving = Some(self.pod.run(async move { control.serve(Some(at)).await }).await?);
        Ok(())
    }

    /// From now on nobody answers proxies.
    pub async fn leave(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop().await;
        }
    }

    /// Another CA signs, by another life of the controller.
    pub async fn sign_with(&mut self, authority: Authority) -> anyhow::Result<()> {
        self.leave().await;
        self.control.signs_from_now(authority);
        self.serve().await
    }

    /// A pod of the namespace `default`, with the label `app`, an account of its name, and a sidecar that is ready.
    pub async fn workload(&self, name: &str) -> anyhow::Result<Workload> {
        self.workload_of(&Who::named(name)).await
    }

    /// The same for anybody.
    pub async fn workload_of(&self, who: &Who) -> anyhow::Result<Workload> {
        let pod = self.network.pod()?;
        self.control.apply(&who.injected(&pod)).await?;
        let Who { name, namespace, account, .. } = who;
        let token = self.control.token_file().with_file_name(format!("token-{name}.{namespace}"));
        std::fs::write(&token, format!("pod-{name}@{namespace}:{account}"))?;
        let root = self.control.root();
        let address = self.controller.to_string();
        let arguments: [&OsStr; 8] = [
            "--controller".as_ref(),
            address.as_ref(),
            "--controller-name".as_ref(),
            "controller.test".as_ref(),
            "--controller-ca".as_ref(),
            root.as_ref(),
            "--token".as_ref(),
            token.as_ref(),
        ];
        let arguments = arguments.map(OsStr::to_owned).into_iter().chain(self.access_log.arguments(who));
        Workload::start(who, pod, arguments.collect()).await
    }

    /// The same of which the controller knows nothing.
    pub async fn workload_with_files(&self, name: &str, text: &str) -> anyhow::Result<Workload> {
        let file = self.control.root().with_file_name(format!("{name}.yaml"));
        std::fs::write(&file, text)?;
        let labels = format!("app={name}");
        let arguments: [&OsStr; 4] = ["--labels".as_ref(), labels.as_ref(), "-f".as_ref(), file.as_ref()];
        let who = Who::named(name);
        let arguments = arguments.map(OsStr::to_owned).into_iter().chain(self.access_log.arguments(&who));
        Workload::start(&who, self.network.pod()?, arguments.collect()).await
    }

    /// Applies, and waits until something holds.
    pub async fn apply_until<F>(&self, text: &str, holds: impl Fn() -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        self.control.apply(text).await?;
        until(holds).await
    }
}

impl Workload {
    async fn start(who: &Who, pod: Pod, arguments: Vec<OsString>) -> anyhow::Result<Workload> {
        redirect(&pod, who.resolver).await?;
        let sidecar = run(who, &pod, &arguments).await?;
        Ok(Workload { name: who.name.clone(), who: who.clone(), pod, sidecar, arguments })
    }

    /// Another sidecar in the place of one that ended.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.sidecar = run(&self.who, &self.pod, &self.arguments).await?;
        Ok(())
    }

    /// Its proxy, as the controller calls it.
    #[must_use]
    pub fn proxy(&self) -> String {
        self.who.proxy()
    }

    /// A GET of the application in this pod.
    pub async fn get(&self, to: SocketAddr, host: &str, path: &str) -> anyhow::Result<Response> {
        get(&self.pod, to, host, path).await
    }

    /// What the application of this pod says over a connection, to its end, and what it is answered.
    pub async fn converse(&self, to: SocketAddr, said: &'static str) -> anyhow::Result<String> {
        converse(&self.pod, to, said).await
    }

    /// An application in this pod that says in its answers what it saw.
    pub async fn echo(&self, port: u16) -> anyhow::Result<Backend> {
        echo(&self.pod, port, &self.name).await
    }

    /// The text of a page that is nobody's but the pod's.
    pub async fn page(&self, port: u16, path: &str) -> anyhow::Result<String> {
        let (at, path) = (SocketAddr::from(([127, 0, 0, 1], port)), path.to_owned());
        self.pod.run(async move { Ok(client::get(at, "localhost", &path).await?.text()) }).await
    }

    /// Waits until so much is counted with these labels: a request is counted a moment after it was answered.
    pub async fn counts(&self, family: &str, labels: &[&str], least: f64) -> anyhow::Result<()> {
        until(|| async {
            let value = self.metric(family, labels).await?;
            ensure!(value >= least, "{family} with {labels:?} is {value} at {}", self.name);
            Ok(())
        })
        .await
    }

    /// What the proxy's metrics count with all of these labels, whatever the others are.
    pub async fn metric(&self, family: &str, labels: &[&str]) -> anyhow::Result<f64> {
        let text = self.page(15090, "/stats/prometheus").await?;
        let of_family: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{family}{{"))).collect();
        let mut sum = None;
        for line in of_family.iter().filter(|line| labels.iter().all(|label| line.contains(label))) {
            let value: f64 = line.rsplit_once(' ').context("a value")?.1.parse()?;
            sum = Some(sum.unwrap_or_default() + value);
        }
        sum.with_context(|| {
            format!("no {family} with {labels:?} at {}; there are:\n{}", self.name, of_family.join("\n"))
        })
    }
}

/// The rules that lead a pod's connections to its sidecar, whose user is [`PROXY_USER`].
pub async fn redirect(pod: &Pod, resolver: Option<IpAddr>) -> anyhow::Result<()> {
    let mut redirect = Command::new(process::sidecar()?);
    redirect.args(["redirect", "-p", "15001", "-z", "15006", "-u", "1337", "-i", "*", "-b", "*"]);
    redirect.args(["-d", "15090,15021,15020"]);
    if let Some(resolver) = resolver {
        // Instead of those of /etc/resolv.conf, which is the machine's.
        redirect.env(DNS_CAPTURE, "true").args(["--dns-servers", &resolver.to_string()]);
    }
    let output = pod.output(redirect).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A sidecar that is ready.
async fn run(who: &Who, pod: &Pod, arguments: &[OsString]) -> anyhow::Result<Meshgate> {
    let mut command = Command::new(process::sidecar()?);
    command
        .arg("run")
        .args(arguments)
        .args(["--workers", "1", "--drain-seconds", "1"])
        .env("POD_NAME", &who.name)
        .env("POD_NAMESPACE", &who.namespace)
        .env("SERVICE_ACCOUNT", &who.account)
        .env("INSTANCE_IP", who.address(pod).to_string())
        .env("ISTIO_META_WORKLOAD_NAME", &who.name)
        .env("ISTIO_KUBE_APP_PROBERS", PROBERS)
        .uid(PROXY_USER)
        .gid(PROXY_USER);
    if let Some(resolver) = who.resolver {
        command.env(DNS_CAPTURE, "true").args(["--dns-upstream", &SocketAddr::new(resolver, 53).to_string()]);
    }
    let mut sidecar = pod.run(async move { Meshgate::spawn_as(command, "meshgate-sidecar") }).await?;
    tokio::task::block_in_place(|| sidecar.ready())?;
    Ok(sidecar)
}

/// A GET from a pod.
pub async fn get(pod: &Pod, to: SocketAddr, host: &str, path: &str) -> anyhow::Result<Response> {
    let (host, path) = (host.to_owned(), path.to_owned());
    pod.run(async move { client::get(to, &host, &path).await }).await
}

/// See [`Workload::converse`].
pub async fn converse(pod: &Pod, to: SocketAddr, said: &'static str) -> anyhow::Result<String> {
    let talk = async move {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(said.as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    pod.run(async move { tokio::time::timeout(DEADLINE, talk).await.context("no end of it in time")? }).await
}

/// What the first is who speaks on a connection on which the application of this pod waits: the server.
pub async fn listen(pod: &Pod, to: SocketAddr) -> anyhow::Result<String> {
    let listening = async move {
        let mut stream = TcpStream::connect(to).await?;
        let mut heard = [0; 64];
        let count = stream.read(&mut heard).await?;
        Ok(String::from_utf8_lossy(heard.get(..count).unwrap_or_default()).into_owned())
    };
    pod.run(async move { tokio::time::timeout(DEADLINE, listening).await.context("nobody speaks")? }).await
}

/// See [`Workload::echo`].
pub async fn echo(pod: &Pod, port: u16, name: &str) -> anyhow::Result<Backend> {
    let (at, name) = (SocketAddr::new(pod.ip(), port), name.to_owned());
    pod.run(async move { Backend::with_settings_at(at, &name, &BackendSettings::default()).await }).await
}

/// An application that speaks first, then says what it hears.
pub async fn server_first(pod: &Pod, at: SocketAddr) -> anyhow::Result<Backend> {
    let talk = |mut stream: TcpStream| async move {
        let _ = stream.write_all(b"hello ").await;
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    };
    pod.run(async move { Backend::start_raw_at(at, talk).await }).await
}

/// What an echo saw.
pub fn saw(response: &Response) -> anyhow::Result<Saw> {
    let text = response.text();
    serde_json::from_str(&text).with_context(|| format!("{} {text}", response.status))
}

/// Tries again until it holds.
pub async fn until<F>(holds: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let end = Instant::now() + DEADLINE;
    loop {
        match holds().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

impl Who {
    /// Of the namespace `default`, with the label `app` and an account of its name.
    #[must_use]
    pub fn named(name: &str) -> Who {
        let labels = BTreeMap::from([("app".to_owned(), name.to_owned())]);
        Who {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            account: name.to_owned(),
            labels,
            resolver: None,
            v6: false,
        }
    }

    fn proxy(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    fn address(&self, pod: &Pod) -> IpAddr {
        if self.v6 { pod.ip6.into() } else { pod.ip() }
    }

    /// A pod as injection leaves it.
    fn injected(&self, pod: &Pod) -> String {
        let mut labels = self.labels.clone();
        labels.insert("security.istio.io/tlsMode".to_owned(), "istio".to_owned());
        let env = self.resolver.map(|_| json!({ "name": DNS_CAPTURE, "value": "true" }));
        let env: Vec<Value> = env.into_iter().collect();
        let v4 = Some(json!({ "ip": pod.ip.to_string() })).filter(|_| !self.v6);
        let addresses: Vec<Value> = v4.into_iter().chain([json!({ "ip": pod.ip6.to_string() })]).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": UID,
                "labels": labels,
                "annotations": { "sidecar.istio.io/status": "{}" },
            },
            "spec": { "serviceAccountName": self.account, "containers": [{ "name": "istio-proxy", "env": env }] },
            "status": {
                "podIP": self.address(pod).to_string(),
                "podIPs": addresses,
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        })
        .to_string()
    }
}
