//! Thousands of routes of a real API server, through the controller to a gateway: see `benches/cluster/run.sh`, which starts
//! a control plane and runs this inside of its network namespace.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use e2e::backend::Backend;
use e2e::cluster::{Controller, Launch, Pod, apply, apply_namespace, define};
use e2e::process::Meshgate;
use e2e::{client, ports};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use kube::ResourceExt as _;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::watcher::{self, Event};
use meshgate_benches::usage;
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
    /// Fails if a bar is missed: 30 ms (p99) for a new route, 40 MB of the gateway and 150 MB of the controller with the crowd. For a
    /// machine that does nothing else.
    #[arg(long)]
    strict: bool,
}

/// 99 of 100 new routes are live after this.
const LIVE: Duration = Duration::from_millis(30);
/// Resident memory with the crowd, in MB.
const WEIGHTS: [(&str, f64); 2] = [("controller", 150.0), ("gateway", 40.0)];

/// Between two questions: who asks without a pause takes the processor from those that are measured.
const BREATH: Duration = Duration::from_millis(1);

/// The API server, and where the only backend is.
#[derive(Clone)]
struct Cluster {
    client: Client,
    backend: SocketAddr,
    gateway: SocketAddr,
    seen: Seen,
}

/// When a watch that does nothing else saw VirtualServices: what the API server takes, whoever waits for it.
type Seen = Arc<Mutex<HashMap<String, Instant>>>;

/// How long it took until a new route was live, until a bare watch saw it, and until the API server answered.
struct Took {
    live: Duration,
    seen: Duration,
    stored: Duration,
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

    /// Adds a route, and asks for it all the time, until the first 200. Before it comes 404, and nothing else.
    async fn add(&self, namespace: &str, name: &str) -> anyhow::Result<Took> {
        let host = host(name);
        let key = name.to_owned();
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
        let live = begun.elapsed();
        let stored = created.await??;
        let seen = loop {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            if let Some(seen) = seen {
                break seen.duration_since(begun);
            }
            ensure!(begun.elapsed() < DEADLINE, "no watch sees {host}");
            tokio::time::sleep(BREATH).await;
        };
        Ok(Took { live, seen, stored })
    }

    /// A watch of the routes that are added one by one.
    fn watch(&self) {
        let (api, seen) = (self.api("VirtualService", "one"), Arc::clone(&self.seen));
        tokio::spawn(async move {
            let events = watcher::watcher(api, watcher::Config::default());
            futures::pin_mut!(events);
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object)) = event {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    // What comes later is its status.
                    seen.entry(object.name_any()).or_insert_with(Instant::now);
                }
            }
        });
    }

    /// Takes away all routes of a namespace.
    async fn clear(&self, namespace: &str) -> anyhow::Result<()> {
        for kind in ["VirtualService", "Service", "EndpointSlice"] {
            let api = self.api(kind, namespace);
            api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            let begun = Instant::now();
            while !api.list(&ListParams::default().limit(1)).await?.items.is_empty() {
                ensure!(begun.elapsed() < DEADLINE, "objects stay in {namespace}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
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
    let client = controller::kube::connect(None, None).await?;
    let cluster = Cluster { client, backend, gateway, seen: Seen::default() };
    apply(&edge(gateway.port()))?;
    apply_namespace("one")?;
    cluster.watch();

    let system = System::start(folder.path(), "empty")?;
    println!("nothing yet");
    system.weigh()?;
    let mut missed = Missed::default();
    let one = (0..options.routes).map(|number| format!("one-{number}"));
    missed.slow("one by one", add_all("one by one", &cluster, one.collect(), true).await?);
    system.weigh()?;
    drop(system);
    cluster.clear("one").await?;

    let system = System::start(folder.path(), "crowd")?;
    crowd(&cluster, options.crowd).await?;
    missed.heavy("made", &system.weigh()?);
    let stop = Arc::new(AtomicBool::new(false));
    let churn = tokio::spawn(churn(cluster.clone(), options.crowd, Arc::clone(&stop)));
    let before = Sample::take(&system.processes())?;
    let many = (0..options.routes / 10).map(|number| format!("more-{number}"));
    let what = "one by one, while the endpoints of 50 routes change every second";
    missed.slow(what, add_all(what, &cluster, many.collect(), false).await?);
    before.until_now(&system.processes())?;
    stop.store(true, Ordering::Relaxed);
    churn.await??;
    missed.heavy("churned", &system.weigh()?);

    change(&cluster, options.changes).await?;
    system.weigh()?;
    drop(system);
    let system = System::start(folder.path(), "again")?;
    println!("both started again");
    missed.heavy("started again", &system.weigh()?);
    missed.report(options.strict)
}

/// Bars that were missed.
#[derive(Default)]
struct Missed(Vec<String>);

impl Missed {
    fn slow(&mut self, what: &str, took: Duration) {
        if took > LIVE {
            self.0.push(format!(
                "routes {what}: p99 {:.1} ms of {:.0}",
                took.as_secs_f64() * 1e3,
                LIVE.as_secs_f64() * 1e3
            ));
        }
    }

    fn heavy(&mut self, when: &str, weights: &[(&str, f64)]) {
        for ((name, most), (_, weight)) in WEIGHTS.iter().zip(weights) {
            if weight > most {
                self.0.push(format!("{name}, {when}: {weight:.1} MB of {most:.0}"));
            }
        }
    }

    fn report(self, strict: bool) -> anyhow::Result<()> {
        for missed in &self.0 {
            println!("missed: {missed}");
        }
        ensure!(!strict || self.0.is_empty(), "a bar was missed");
        Ok(())
    }
}

/// A controller and a gateway that is ready.
struct System {
    controller: Controller,
    gateway: Meshgate,
}

impl System {
    /// Their logs have this name.
    fn start(folder: &Path, name: &str) -> anyhow::Result<System> {
        let controller = Launch::new(folder, name, SYSTEM).start()?;
        let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
        let pod = Pod { namespace: SYSTEM, name: "gw", labels: &labels };
        let mut gateway = pod.gateway(folder, controller.discovery, &[])?;
        gateway.ready()?;
        Ok(System { controller, gateway })
    }

    fn processes(&self) -> [(&'static str, u32); 2] {
        [("controller", self.controller.pid()), ("gateway", self.gateway.pid())]
    }

    /// Prints resident memory, and yields it in MB.
    fn weigh(&self) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let mut weights = Vec::new();
        for (name, pid) in self.processes() {
            let megabytes = usage::memory(pid)?.resident;
            println!("  {name}: RSS {megabytes:.1} MB");
            weights.push((name, megabytes));
        }
        Ok(weights)
    }
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

/// Each with a Service of its own, made before. Yields what 99 of 100 took at most.
async fn add_all(what: &str, cluster: &Cluster, names: Vec<String>, quick: bool) -> anyhow::Result<Duration> {
    let made = futures::stream::iter(names.clone()).map(|name| async move { cluster.service("one", &name).await });
    made.buffer_unordered(16).try_collect::<()>().await?;
    let mut took = Vec::with_capacity(names.len());
    for name in &names {
        took.push(cluster.add("one", name).await?);
        if !quick {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    println!("{} routes {what}, nothing but 404 before the first 200", took.len());
    let print = |what: &str, of: &dyn Fn(&Took) -> Duration| {
        println!("  from create until {what}: {}", figures(took.iter().map(of).collect()));
    };
    print("the first 200", &|took| took.live);
    print("the API server answers", &|took| took.stored);
    print("a bare watch sees it", &|took| took.seen);
    let own = took.iter().map(|took| took.live.saturating_sub(took.seen)).collect();
    println!("  from there until the first 200: {}", figures(own));
    let mut live: Vec<Duration> = took.iter().map(|took| took.live).collect();
    live.sort_unstable();
    Ok(percentile(&live, 99))
}

/// Of sorted times.
fn percentile(sorted: &[Duration], part: usize) -> Duration {
    sorted.get(sorted.len() * part / 100).or(sorted.last()).copied().unwrap_or_default()
}

fn figures(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |part: usize| percentile(&took, part).as_secs_f64() * 1e3;
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
    cluster.service("one", "s").await?;
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

/// Processor time of the processes at a moment.
struct Sample(Instant, Vec<f64>);

impl Sample {
    fn take(processes: &[(&str, u32)]) -> anyhow::Result<Sample> {
        Ok(Sample(Instant::now(), processes.iter().map(|(_, pid)| usage::seconds(*pid)).collect::<Result<_, _>>()?))
    }

    fn until_now(&self, processes: &[(&str, u32)]) -> anyhow::Result<()> {
        let passed = self.0.elapsed().as_secs_f64();
        for ((name, pid), before) in processes.iter().zip(&self.1) {
            println!("  {name}: {:.1} % of a processor meanwhile", (usage::seconds(*pid)? - before) / passed * 100.0);
        }
        Ok(())
    }
}
