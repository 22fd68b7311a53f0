//! The usual set-up of a process test: one gateway with a plain and a TLS listener, and hosts that lead to backends.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::client;
use crate::process::Meshgate;
use crate::{certs, ports};

/// A running gateway and its configuration folder.
pub struct Edge {
    pub meshgate: Meshgate,
    /// Clear text.
    pub http: SocketAddr,
    /// TLS, with a certificate for `*.example`.
    pub https: SocketAddr,
    ip: IpAddr,
    folder: tempfile::TempDir,
}

impl Edge {
    /// `hosts`: host name, address, protocol (`http`, `http2`) of each backend.
    pub async fn start(hosts: &[(&str, SocketAddr, &str)]) -> anyhow::Result<Edge> {
        Edge::with(hosts, &[]).await
    }

    /// With further flags.
    pub async fn with(hosts: &[(&str, SocketAddr, &str)], flags: &[&str]) -> anyhow::Result<Edge> {
        let ip = ports::loopback();
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config");
        std::fs::create_dir(&config)?;
        std::fs::write(config.join("gateway.yaml"), gateway(ip, "*.example")?)?;
        for (host, address, protocol) in hosts {
            std::fs::write(config.join(format!("{host}.yaml")), destination(host, *address, protocol))?;
        }
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let meshgate = tokio::task::spawn_blocking(move || Meshgate::with_files(&config, &flags)).await??;
        Ok(Edge { meshgate, http: SocketAddr::new(ip, 8080), https: SocketAddr::new(ip, 8443), ip, folder })
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Puts a file into the configuration, whole at once.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let beside = self.folder.path().join("next");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, self.config().join(name))?)
    }

    /// Another certificate for the TLS listener, of the same names and one more.
    pub fn rotate(&self, serial: u32) -> anyhow::Result<()> {
        self.write("gateway.yaml", &gateway(self.ip, &format!("*.example,serial-{serial}.example"))?)
    }

    /// Asks until the answer fits: a change is live, a server is up.
    pub async fn wait_for(
        &self,
        host: &str,
        path: &str,
        fits: impl Fn(&client::Response) -> bool,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + client::DEADLINE;
        loop {
            let answer = client::get(self.http, host, path).await?;
            if fits(&answer) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "the answer stays {answer:?}; log:\n{}", self.meshgate.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn gateway(ip: IpAddr, names: &str) -> anyhow::Result<String> {
    let certificate = certs::certificate(names)?;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    Ok(format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gw }}
spec:
  selector: {{ istio: ingressgateway }}
  servers:
    - port: {{ number: 8080, name: http, protocol: HTTP }}
      bind: {ip}
      hosts: [\"*\"]
    - port: {{ number: 8443, name: https, protocol: HTTPS }}
      bind: {ip}
      hosts: [\"*\"]
      tls: {{ mode: SIMPLE, credentialName: wildcard }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: wildcard, namespace: istio-system }}
type: kubernetes.io/tls
data:
  tls.crt: {}
  tls.key: {}
",
        base64(&certificate.certificate_pem),
        base64(&certificate.key_pem)
    ))
}

/// A host, and the one endpoint that it leads to.
pub fn destination(host: &str, address: SocketAddr, protocol: &str) -> String {
    let name = host.replace('.', "-");
    let upper = protocol.to_uppercase();
    let (ip, port) = (address.ip(), address.port());
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: {name} }}
spec:
  hosts: [{name}.internal]
  resolution: STATIC
  ports: [{{ number: 80, name: {protocol}, protocol: {upper} }}]
  endpoints: [{{ address: {ip}, ports: {{ {protocol}: {port} }} }}]
---
{}",
        route(host, &name)
    )
}

/// A host that leads to the destination of that name.
pub fn route(host: &str, name: &str) -> String {
    let own = host.replace('.', "-");
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: {own} }}
spec:
  hosts: [{host}]
  gateways: [gw]
  http:
    - route: [{{ destination: {{ host: {name}.internal }} }}]
"
    )
}

/// Polls until it holds; for what nothing announces.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + client::DEADLINE;
    while !holds() {
        anyhow::ensure!(Instant::now() < end, "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The same for what has to be asked for, by whoever asks; `deadline` for what takes its time.
pub async fn eventually_async(
    what: &str,
    deadline: Duration,
    mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + deadline;
    while !holds().await? {
        anyhow::ensure!(Instant::now() < end, "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What a host is answered: the body of a 200, else the status or what went wrong.
pub async fn answer(address: SocketAddr, host: &str) -> String {
    match client::get(address, host, "/").await {
        Ok(response) if response.status == 200 => response.text(),
        Ok(response) => response.status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Asks a host all the time, each time over a new connection.
pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    pub fn start(address: SocketAddr, host: &str) -> Load {
        let (stop, asked, host) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), host.to_owned());
        let (stopped, counted) = (stop.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut failed = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match client::get(address, &host, "/").await {
                    Ok(response) if response.status == 200 => {}
                    Ok(response) => failed.push(format!("{}: {}", response.status, response.text())),
                    Err(error) => failed.push(format!("{error:#}")),
                }
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            failed
        });
        Load { stop, asked, task }
    }

    /// Requests that were answered so far, well or not.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// An error if one of them was not answered with 200, or if there were none to speak of.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.asked();
        let failed = self.task.await?;
        anyhow::ensure!(asked > 10, "only {asked} requests");
        anyhow::ensure!(failed.is_empty(), "{} of {asked} failed: {:?}", failed.len(), failed.first());
        Ok(())
    }
}

/// How long [`until_answer`] asks: a cluster's parts may have to find each other again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until the host is answered so.
pub async fn until_answer(address: SocketAddr, host: &str, wanted: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let last = answer(address, host).await;
        if last == wanted {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "{host} answers `{last}`, not `{wanted}`");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The value once it has stopped changing for a while: for progress that back-pressure ends.
pub async fn settled(mut value: impl FnMut() -> u64) -> anyhow::Result<u64> {
    let end = Instant::now() + client::DEADLINE;
    let (mut last, mut since) = (value(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        anyhow::ensure!(Instant::now() < end, "it goes on and on: {last}");
    }
    Ok(last)
}
