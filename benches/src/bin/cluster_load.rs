//! Thousands of routes of a real API server, through the controller to a gateway: see `benches/cluster/run.sh`, which starts
//! a control plane and runs this inside of its network namespace.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use e2e::backend::Backend;
use e2e::cluster::{Launch, Pod, apply, apply_namespace, define};
use e2e::{client, ports};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const SYSTEM: &str = "meshgate-system";
/// Nothing takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
struct Options {
    /// Routes that are added one by one.
    #[arg(long, default_value_t = 3000)]
    routes: usize,
    /// Routes that are there at once, in 50 namespaces, while a tenth of --routes are added one by one.
    #[arg(long, default_value_t = 5000)]
    crowd: usize,
    /// Changes of a route under load.
    #[arg(long, default_value_t = 1000)]
    changes: usize,
}

/// Between two questions: who asks without a pause takes the processor from those that are measured.
const BREATH: Duration = Duration::from_millis(1);

/// The API server, and where the only backend is.
#[derive(Clone)]
struct Cluster {
    client: Client,
    backend: SocketAddr,
    gateway: SocketAddr,
}

fn resource(kind: &str) -> ApiResource {
    let gvk = match kind {
        "VirtualService" => GroupVersionKind::gvk("networking.istio.io", "v1", kind),
        "EndpointSlice" => GroupVersionKind::gvk("discovery.k8s.io", "v1", kind),
        _ => GroupVersionKind::gvk("", "v1", kind),
    };
    ApiResource::from_gvk(&gvk)
}

impl Cluster {
    fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(kind))
    }

    async fn create(&self, kind: &str, namespace: &str, object: Value) -> anyhow::Result<()> {
        let object: DynamicObject = serde_json::from_value(object)?;
        self.api(kind, namespace).create(&PostParams::default(), &object).await.map(drop).context("create")
    }

    /// A Service and its endpoints, with some that are not ready: they can churn without harm.
    async fn service(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let ports = json!([{ "name": "http", "port": 80, "targetPort": self.backend.port() }]);
        let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": { "clusterIP": "None", "ports": ports } });
        self.create("Service", namespace, service).await?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": self.backend.port() }],
            "endpoints": [{ "addresses": [self.backend.ip().to_string()], "conditions": { "ready": true } }],
        });
        self.create("EndpointSlice", namespace, slice).await
    }

    async fn route(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        self.create("VirtualService", namespace, route(name, name)).await
    }

    async fn status(&self, host: &str) -> anyhow::Result<u16> {
        Ok(client::get(self.gateway, host, "/").await?.status)
    }

    /// Adds a route, and asks for it all the time: how long from the call until the first 200, and until the API server's own
    /// answer. Before it comes 404, and nothing else.
    async fn add(&self, namespace: &str, name: &str) -> anyhow::Result<(Duration, Duration)> {
        let host = host(name);
        ensure!(self.status(&host).await? == 404, "{host} is there already");
        let (cluster, namespace, name) = (self.clone(), namespace.to_owned(), name.to_owned());
        let begun = Instant::now();
        let created = tokio::spawn(async move {
            cluster.route(&namespace, &name).await?;
            anyhow::Ok(begun.elapsed())
        });
        loop {
            match self.status(&host).await? {
                200 => break,
                404 => ensure!(begun.elapsed() < DEADLINE, "{host} does not come"),
                status => bail!("{host} answers {status}"),
            }
            tokio::time::sleep(BREATH).await;
        }
        let took = begun.elapsed();
        Ok((took, created.await??))
    }
}

fn host(name: &str) -> String {
    format!("{name}.example.com")
}

fn route(name: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": { "name": name },
        "spec": {
            "hosts": [host(name)], "gateways": [format!("{SYSTEM}/edge")],
            "http": [{ "route": [{ "destination": { "host": service, "port": { "number": 80 } } }] }],
        },
    })
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    apply_namespace(SYSTEM)?;
    define()?;
    let backend = SocketAddr::new(ports::routable()?, 8080);
    let _backend =
        Backend::start_at(backend, |_| async { http::Response::new(e2e::backend::text("ok", &BTreeMap::new())) })
            .await?;
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let gateway = SocketAddr::new(ip, ports::free_port(ip)?);
    let cluster = Cluster { client: controller::kube::connect(None, None).await?, backend, gateway };
    apply(&edge(gateway.port()))?;
    let controller = Launch::new(folder.path(), "load", SYSTEM).start()?;
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let pod = Pod { namespace: SYSTEM, name: "gw", labels: &labels };
    let mut meshgate = pod.gateway(folder.path(), controller.discovery, &[])?;
    meshgate.ready()?;
    let processes = [("controller", controller.pid()), ("gateway", meshgate.pid())];

    apply_namespace("one")?;
    cluster.service("one", "s").await?;
    let one = (0..options.routes).map(|number| format!("one-{number}"));
    add_all("one by one", &cluster, one.collect(), true).await?;
    weigh(&processes)?;

    crowd(&cluster, options.crowd).await?;
    weigh(&processes)?;
    let stop = Arc::new(AtomicBool::new(false));
    let churn = tokio::spawn(churn(cluster.clone(), options.crowd, Arc::clone(&stop)));
    let before = Sample::take(&processes)?;
    let many = (0..options.routes / 10).map(|number| format!("more-{number}"));
    add_all("one by one, while the endpoints of 50 routes change every second", &cluster, many.collect(), false)
        .await?;
    before.until_now(&processes)?;
    stop.store(true, Ordering::Relaxed);
    churn.await??;
    weigh(&processes)?;

    change(&cluster, options.changes).await?;
    weigh(&processes)
}

fn edge(port: u16) -> String {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": { "name": "edge", "namespace": SYSTEM },
        "spec": {
            "selector": { "istio": "ingressgateway" },
            "servers": [{ "port": { "number": port, "name": "http", "protocol": "HTTP" }, "bind": "127.0.0.1", "hosts": ["*/*"] }],
        },
    })
    .to_string()
}

/// Each with a Service of its own, made before.
async fn add_all(what: &str, cluster: &Cluster, names: Vec<String>, quick: bool) -> anyhow::Result<()> {
    let made = futures::stream::iter(names.clone()).map(|name| async move { cluster.service("one", &name).await });
    made.buffer_unordered(16).try_collect::<()>().await?;
    let mut took = Vec::with_capacity(names.len());
    for name in &names {
        took.push(cluster.add("one", name).await?);
        if !quick {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let (mut live, mut stored): (Vec<Duration>, Vec<Duration>) = took.iter().copied().unzip();
    let mut after: Vec<Duration> = took.iter().map(|(live, stored)| live.saturating_sub(*stored)).collect();
    println!(
        "{} routes {what}: from create to the first 200 {}; until the API server answers {}; from there {}; nothing but 404 before",
        took.len(),
        figures(&mut live),
        figures(&mut stored),
        figures(&mut after)
    );
    Ok(())
}

fn figures(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at =
        |part: usize| took.get(took.len() * part / 100).or(took.last()).map_or(0.0, |took| took.as_secs_f64() * 1e3);
    format!("{:.1} ms (median), {:.1} ms (p99), {:.1} ms (slowest)", at(50), at(99), at(100))
}

/// Routes with Services and endpoints, in 50 namespaces.
async fn crowd(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    for number in 0..50 {
        apply_namespace(&format!("ns-{number}"))?;
    }
    let made = futures::stream::iter(0..count).map(|number| async move {
        let (namespace, name) = (format!("ns-{}", number % 50), format!("r{number}"));
        cluster.service(&namespace, &name).await?;
        cluster.route(&namespace, &name).await
    });
    made.buffer_unordered(16).try_collect::<()>().await?;
    let begun = Instant::now();
    while cluster.status(&host(&format!("r{}", count - 1))).await? != 200 {
        ensure!(begun.elapsed() < DEADLINE, "the last route does not come");
    }
    println!("{count} routes in 50 namespaces are there");
    Ok(())
}

/// Every second one route of each namespace gets another endpoint more, or loses it.
async fn churn(cluster: Cluster, count: usize, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for turn in 0.. {
        tick.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let number = turn * 7 % count;
        let ready = json!({ "addresses": [cluster.backend.ip().to_string()], "conditions": { "ready": true } });
        let spare = json!({ "addresses": [format!("10.92.200.{}", turn % 250 + 1)], "conditions": { "ready": true } });
        let endpoints = if (turn / count).is_multiple_of(2) { json!([ready, spare]) } else { json!([ready]) };
        let api = cluster.api("EndpointSlice", &format!("ns-{}", number % 50));
        let patch = Patch::Merge(json!({ "endpoints": endpoints }));
        api.patch(&format!("r{number}-1"), &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

/// Changes a route while it is asked for all the time.
async fn change(cluster: &Cluster, changes: usize) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    cluster.service("one", "live").await?;
    cluster.add("one", "live").await?;
    let load = {
        let (cluster, stop) = (cluster.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut asked, mut failed) = (0_u32, BTreeMap::<String, u32>::new());
            while !stop.load(Ordering::Relaxed) {
                asked += 1;
                match cluster.status(&host("live")).await {
                    Ok(200) => {}
                    Ok(status) => *failed.entry(status.to_string()).or_default() += 1,
                    Err(error) => *failed.entry(error.to_string()).or_default() += 1,
                }
            }
            (asked, failed)
        })
    };
    let api = cluster.api("VirtualService", "one");
    for number in 0..changes {
        let spec = json!({ "http": [{
            "headers": { "response": { "set": { "x-change": number.to_string() } } },
            "route": [{ "destination": { "host": if number.is_multiple_of(2) { "s" } else { "live" }, "port": { "number": 80 } } }],
        }] });
        api.patch("live", &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await?;
    }
    stop.store(true, Ordering::Relaxed);
    let (asked, failed) = load.await?;
    println!("{changes} changes of a live route: {asked} requests, failed: {failed:?}");
    ensure!(failed.is_empty(), "requests failed");
    Ok(())
}

/// Resident memory.
fn weigh(processes: &[(&str, u32)]) -> anyhow::Result<()> {
    for (name, pid) in processes {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
        println!("  {name}: RSS {:.1} MB", kib * 1024.0 / 1e6);
    }
    Ok(())
}

/// Processor time of the processes at a moment.
struct Sample(Instant, Vec<f64>);

impl Sample {
    fn take(processes: &[(&str, u32)]) -> anyhow::Result<Sample> {
        Ok(Sample(Instant::now(), processes.iter().map(|(_, pid)| seconds(*pid)).collect::<Result<_, _>>()?))
    }

    fn until_now(&self, processes: &[(&str, u32)]) -> anyhow::Result<()> {
        let passed = self.0.elapsed().as_secs_f64();
        for ((name, pid), before) in processes.iter().zip(&self.1) {
            println!("  {name}: {:.1} % of a processor meanwhile", (seconds(*pid)? - before) / passed * 100.0);
        }
        Ok(())
    }
}

/// proc_pid_stat(5): utime and stime, in hundredths of a second.
fn seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let mut times = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let (user, system) = (times.next().context("utime")??, times.next().context("stime")??);
    Ok((user + system) / 100.0)
}
