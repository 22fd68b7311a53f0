//! What a sidecar weighs and what a request costs through two of them, beside two Envoys: see `benches/mesh/run.sh`. Pods are
//! network namespaces, with the rules that injection makes; the controller is in this process.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use e2e::netns::Pod;
use e2e::sidecar::{AccessLog, Mesh, PROXY_USER, Workload, redirect, until};
use e2e::{fixture, mesh};
use meshgate_benches::envoy;
use meshgate_benches::usage::{self, Memory};

#[derive(Debug, Parser)]
struct Options {
    /// Measurements of each kind; the figure is their median.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Load per measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Services of the cluster, of which a workload calls 5.
    #[arg(long, default_value_t = 5000)]
    services: usize,
    /// Envoy's program.
    #[arg(long)]
    envoy: PathBuf,
    /// Fails if a bar is missed: 10 MB idle, 15 MB with the services, less processor time than Envoy.
    #[arg(long)]
    strict: bool,
}

/// Resident memory in MB.
const IDLE: f64 = 10.0;
const LOADED: f64 = 15.0;
/// What the Service `web` is called at.
const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
/// Services that a workload calls.
const USED: usize = 5;

const STRICT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
";
const UPGRADE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec: {host: web, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}
";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut missed = Vec::new();
    weigh(&options, &mut missed).await?;
    compare(&options, &mut missed).await?;
    for line in &missed {
        println!("missed: {line}");
    }
    ensure!(missed.is_empty() || !options.strict, "a bar is missed");
    Ok(())
}

async fn start() -> anyhow::Result<Mesh> {
    let mut mesh = Mesh::start().await?;
    mesh.access_log = AccessLog::Off;
    Ok(mesh)
}

/// When it does not change any more.
async fn memory(of: &Workload) -> anyhow::Result<Memory> {
    let pid = of.sidecar.pid();
    fixture::settled(|| usage::memory(pid).map_or(0, |now| (now.resident * 10.0) as u64)).await?;
    usage::memory(pid)
}

fn say(name: &str, memory: Memory) {
    let Memory { resident, shared_out, private, anonymous } = memory;
    println!(
        "{name:<34} RSS {resident:>5.1} MB (anonymous {anonymous:.1}, files {:.1}), PSS {shared_out:.1}, private {private:.1}",
        resident - anonymous
    );
}

/// Memory of sidecars that do nothing, and of one in a cluster of many services.
async fn weigh(options: &Options, missed: &mut Vec<String>) -> anyhow::Result<()> {
    let mesh = start().await?;
    let first = mesh.workload("first").await?;
    let alone = memory(&first).await?;
    say("idle, the only one", alone);
    let second = mesh.workload("second").await?;
    say("idle, one of two", memory(&second).await?);
    if alone.resident > IDLE {
        missed.push(format!("an idle sidecar has {:.1} MB, not {IDLE}", alone.resident));
    }
    drop(second);
    let web = mesh.network.pod()?;
    let _server = e2e::sidecar::echo(&web, 8080, "web").await?;
    let numbers: Vec<usize> = (0..options.services).collect();
    for piece in numbers.chunks(500) {
        let text = piece.iter().fold(String::new(), |text, number| text + &service(*number, web.ip()));
        mesh.control.apply(&text).await?;
    }
    mesh.control.served(&[first.proxy()]).await?;
    say(&format!("{} services, none called", options.services), memory(&first).await?);
    for number in (0..options.services).step_by((options.services / USED).max(1)) {
        let (host, to) = (format!("s{number}.ns-{}", number % NAMESPACES), SocketAddr::from((address(number), 80)));
        for _ in 0..100 {
            until(|| async {
                let answer = first.get(to, &host, "/").await?;
                ensure!(answer.status == 200, "{host}: {} {}", answer.status, answer.text());
                Ok(())
            })
            .await?;
        }
    }
    say(&format!("{} services, {USED} called just now", options.services), memory(&first).await?);
    tokio::time::sleep(AT_REST).await;
    let loaded = memory(&first).await?;
    say(&format!("{} services, {USED} called", options.services), loaded);
    if loaded.resident > LOADED {
        missed
            .push(format!("a sidecar among {} services has {:.1} MB, not {LOADED}", options.services, loaded.resident));
    }
    Ok(())
}

/// So long after the last change a sidecar has given back what only changes need.
const AT_REST: Duration = Duration::from_secs(7);

const NAMESPACES: usize = 50;

/// Of a service.
fn address(number: usize) -> [u8; 4] {
    let (third, fourth) = (number / 250, number % 250 + 1);
    [10, 97, u8::try_from(third).unwrap_or(u8::MAX), u8::try_from(fourth).unwrap_or(u8::MAX)]
}

/// With one endpoint, which leads to the only server.
fn service(number: usize, server: IpAddr) -> String {
    let (namespace, ip) = (number % NAMESPACES, Ipv4Addr::from(address(number)));
    let mut text = String::new();
    let _ = write!(
        text,
        "apiVersion: v1
kind: Service
metadata: {{name: s{number}, namespace: ns-{namespace}}}
spec: {{clusterIP: {ip}, ports: [{{name: http, port: 80, targetPort: 8080}}], selector: {{app: s{number}}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{number}-1, namespace: ns-{namespace}, labels: {{kubernetes.io/service-name: s{number}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: ['{server}'], conditions: {{ready: true}}}}]
---
"
    );
    text
}

/// A process that ends with its handle.
struct Program(Child);

impl Program {
    async fn start(pod: &Pod, mut command: Command, log: &Path) -> anyhow::Result<Program> {
        let file = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = pod.run(async move { command.spawn().with_context(|| format!("{command:?}")) }).await?;
        Ok(Program(child))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An nginx with an answer of 1 KiB, and with one that says who came.
async fn application(pod: &Pod, folder: &Path) -> anyhow::Result<Program> {
    let at = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.err;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 1h;
  client_body_temp_path {at}/n1; proxy_temp_path {at}/n2; fastcgi_temp_path {at}/n3; uwsgi_temp_path {at}/n4; scgi_temp_path {at}/n5;
  server {{ listen 8080 backlog=4096; location = /who {{ return 200 $http_x_forwarded_client_cert; }} location / {{ return 200 '{}'; }} }} }}",
        "y".repeat(1024)
    );
    let config = folder.join("nginx.conf");
    std::fs::write(&config, text)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(config).arg("-p").arg(folder);
    Program::start(pod, command, &folder.join("nginx.log")).await
}

/// Two sidecars in the path, who asks, and who answers.
struct Way {
    name: &'static str,
    client: Asker,
    sidecars: [u32; 2],
    _keep: Box<dyn std::any::Any>,
}

enum Asker {
    Meshgate(Box<Workload>),
    Envoy(Pod),
}

impl Way {
    fn pod(&self) -> &Pod {
        match &self.client {
            Asker::Meshgate(workload) => &workload.pod,
            Asker::Envoy(pod) => pod,
        }
    }

    fn seconds(&self) -> anyhow::Result<f64> {
        self.sidecars.iter().map(|pid| usage::seconds(*pid)).sum()
    }

    /// Microseconds of processor time per request, and requests a second.
    async fn measure(&self, seconds: u32) -> anyhow::Result<(f64, f64)> {
        let before = self.seconds()?;
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c32", &format!("-d{seconds}s"), "-H", "Host: web", &format!("http://{VIP}/")]);
        let output = self.pod().output(wrk).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let spent = self.seconds()? - before;
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            bail!("{}: errors under load:\n{text}", self.name);
        }
        let line = text.lines().find_map(|line| line.split_once(" requests in ")).context("wrk says nothing")?;
        let count: f64 = line.0.trim().parse()?;
        Ok((spent / count * 1e6, count / f64::from(seconds)))
    }

    /// Until requests arrive, in mutual TLS.
    async fn ready(&self) -> anyhow::Result<()> {
        until(|| async {
            let who = e2e::sidecar::get(self.pod(), VIP, "web", "/who").await?;
            ensure!(who.status == 200 && who.text().ends_with(CLIENT), "{}: {} {}", self.name, who.status, who.text());
            let answer = e2e::sidecar::get(self.pod(), VIP, "web", "/").await?;
            ensure!(answer.status == 200 && answer.body.len() == 1024, "{}: {}", self.name, answer.status);
            Ok(())
        })
        .await
    }
}

fn web_service() -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{clusterIP: {}, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
",
        VIP.ip()
    )
}

async fn meshgate(folder: &Path) -> anyhow::Result<(Mesh, Way)> {
    let mesh = start().await?;
    mesh.control.apply(&format!("{}---\n{STRICT}", web_service())).await?;
    let (client, web) = (mesh.workload("client").await?, mesh.workload("web").await?);
    let server = application(&web.pod, folder).await?;
    let sidecars = [client.sidecar.pid(), web.sidecar.pid()];
    Ok((
        mesh,
        Way { name: "meshgate", client: Asker::Meshgate(Box::new(client)), sidecars, _keep: Box::new((web, server)) },
    ))
}

/// Files of one workload that its proxy may read.
fn identity(folder: &Path, mesh: &Mesh, id: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let authority = mesh.control.authority();
    let (chain, key) = mesh::leaf(&authority, id)?;
    for (name, text) in [("cert.pem", chain.concat()), ("key.pem", key), ("root.pem", authority.root_pem().to_owned())]
    {
        std::fs::write(folder.join(name), text)?;
        chown(folder.join(name), Some(PROXY_USER), Some(PROXY_USER))?;
    }
    Ok(())
}

async fn envoys(folder: &Path, mesh: &Mesh, program: &Path, h2: bool) -> anyhow::Result<Way> {
    let (client, web) = (mesh.network.pod()?, mesh.network.pod()?);
    let served = SocketAddr::new(web.ip(), 8080);
    let mut programs = Vec::new();
    for (name, pod, id) in [("client", &client, CLIENT), ("web", &web, WEB)] {
        let own = folder.join(name);
        identity(&own, mesh, id)?;
        let sidecar = envoy::Sidecar { folder: &own, web: served, id: WEB, h2 };
        std::fs::write(own.join("envoy.yaml"), sidecar.bootstrap().to_string())?;
        redirect(pod, None).await?;
        let mut command = Command::new(program);
        command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(own.join("envoy.yaml"));
        command.uid(PROXY_USER).gid(PROXY_USER);
        programs.push(Program::start(pod, command, &own.join("log")).await?);
    }
    let sidecars = [programs.first(), programs.last()].map(|program| program.map_or(0, |program| program.0.id()));
    let server = application(&web, folder).await?;
    let name = if h2 { "envoy, h2" } else { "envoy" };
    Ok(Way { name, client: Asker::Envoy(client), sidecars, _keep: Box::new((web, server, programs)) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Processor time of a request through two sidecars, beside two Envoys.
async fn compare(options: &Options, missed: &mut Vec<String>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    // Its user may not look into every home.
    let program = folder.path().join("envoy");
    std::fs::copy(&options.envoy, &program).with_context(|| options.envoy.display().to_string())?;
    let place = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).map(|()| path)
    };
    let (mesh, ours) = meshgate(&place("meshgate")?).await?;
    for h2 in [false, true] {
        let between = if h2 { "HTTP/2" } else { "HTTP/1.1" };
        if h2 {
            mesh.control.apply(UPGRADE).await?;
            if let Asker::Meshgate(client) = &ours.client {
                mesh.control.served(&[client.proxy()]).await?;
            }
        }
        let theirs = envoys(&place(if h2 { "envoy-h2" } else { "envoy-h1" })?, &mesh, &program, h2).await?;
        let ways = [&ours, &theirs];
        let mut found = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        for way in ways {
            way.ready().await?;
            way.measure(1).await?;
        }
        for round in 0..options.rounds {
            for turn in 0..2 {
                let index = (round + turn) % 2;
                let (Some(way), Some((costs, rates))) = (ways.get(index), found.get_mut(index)) else { continue };
                let (cost, rate) = way.measure(options.seconds).await?;
                costs.push(cost);
                rates.push(rate);
            }
        }
        let ratios = found[0].0.iter().zip(&found[1].0).map(|(ours, theirs)| ours / theirs).collect();
        let ratio = median(ratios);
        println!("1 KiB, keep-alive, {between} in mutual TLS between the two:");
        for (way, (costs, rates)) in ways.into_iter().zip(found) {
            let weights: Result<Vec<String>, _> =
                way.sidecars.iter().map(|pid| usage::memory(*pid).map(|now| format!("{:.1}", now.resident))).collect();
            println!(
                "  {:<10} {:>6.1} us of processor time per request, {:>6.0} requests/s, RSS {} MB",
                way.name,
                median(costs),
                median(rates),
                weights?.join(" and ")
            );
        }
        println!("  ratio to Envoy {ratio:.2}");
        if ratio >= 1.0 {
            missed.push(format!("a request costs {ratio:.2} of Envoy's, {between}"));
        }
    }
    Ok(())
}
