//! How long the validating webhook takes, as the API server sees it: a review over TLS, on a kept connection, in a world of
//! thousands of routes. The API server's own part of a write is not in it.
//!
//!     cargo run --release -p meshgate-benches --bin webhook

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use controller::admit::{self, CurrentSelection, Injector, Judge, Webhooks};
use controller::ca::{Authority, ServerCertificate};
use controller::inject::{Injections, Settings};
use controller::push::Identity;
use e2e::client::{Client, Request, TlsOptions};
use e2e::controller::{Control, NAMESPACE, UID};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// No review may take longer, or writes would be felt to be slow.
const BUDGET: Duration = Duration::from_millis(50);
/// Objects in one text.
const PIECE: usize = 500;

#[derive(Debug, Parser)]
struct Options {
    /// VirtualServices that are there, each with a Service.
    #[arg(long, default_value_t = 5000)]
    routes: usize,
    /// Reviews of each kind.
    #[arg(long, default_value_t = 2000)]
    reviews: usize,
}

fn service(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": format!("s{number}"), "namespace": namespace(number) },
        "spec": { "ports": [{ "name": "http", "port": 80 }], "selector": { "app": format!("s{number}") } },
    })
}

fn route(number: usize, path: &str) -> Value {
    let matches = json!([{ "uri": { "prefix": path } }, { "headers": { "x-user": { "regex": "(anna|ben).*" } } }]);
    let to = json!([{ "destination": { "host": format!("s{number}"), "port": { "number": 80 } } }]);
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": { "name": format!("r{number}"), "namespace": namespace(number) },
        "spec": {
            "hosts": [format!("r{number}.example.com")],
            "gateways": [format!("{NAMESPACE}/edge")],
            "http": [{ "match": matches, "route": to }],
        },
    })
}

fn namespace(number: usize) -> String {
    format!("ns-{}", number % 50)
}

fn edge() -> Value {
    let port = json!({ "number": 8080, "name": "http", "protocol": "HTTP" });
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": { "name": "edge", "namespace": NAMESPACE },
        "spec": { "selector": { "istio": "ingressgateway" }, "servers": [{ "port": port, "hosts": ["*/*"] }] },
    })
}

fn review(number: usize, object: &Value) -> Request {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": number.to_string(), "operation": "CREATE", "namespace": object.pointer("/metadata/namespace"), "object": object,
            "kind": { "group": "networking.istio.io", "version": "v1", "kind": "VirtualService" },
        },
    });
    let body = body.to_string().into_bytes();
    let request = Request { method: "POST".to_owned(), body: Some(body), ..Request::get("webhook.test", "/validate") };
    request.header("content-type", "application/json")
}

async fn start(control: &Control) -> anyhow::Result<Client> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let certificate = ServerCertificate::start(Arc::new(Authority::generate()?), vec!["webhook.test".to_owned()])?;
    let keeper = control.keeper.clone();
    let webhooks = Webhooks {
        judge: Judge::new(keeper.clone(), NAMESPACE),
        injector: Injector {
            keeper,
            settings: Settings::default(),
            selection: CurrentSelection::default(),
            counters: Injections::new()?,
        },
    };
    tokio::spawn(admit::serve(listener, certificate.config(&["h2", "http/1.1"])?, Arc::new(webhooks)));
    let tls = TlsOptions { sni: Some("webhook.test".to_owned()), ..TlsOptions::default() };
    Ok(Client::connect(address, Some(&tls), false).await?.0)
}

/// Reviews one after the other; with `changes` the world is another one for each. The times, sorted.
async fn measure(control: &Control, options: &Options, changes: bool) -> anyhow::Result<Vec<Duration>> {
    let mut client = start(control).await?;
    let mut generation = control.keeper.generation();
    let mut times = Vec::with_capacity(options.reviews);
    for turn in 0..options.reviews {
        let number = turn * 7 % options.routes;
        let object = route(number, &format!("/turn-{changes}-{turn}"));
        if changes {
            generation.borrow_and_update();
            control.apply(&object.to_string()).await?;
            generation.changed().await?;
        }
        let request = review(turn, &object);
        let begun = Instant::now();
        let answer = client.send(&request).await?;
        times.push(begun.elapsed());
        let answer: Value = serde_json::from_str(&answer.text())?;
        ensure!(answer.pointer("/response/allowed") == Some(&true.into()), "{answer}");
    }
    times.sort();
    Ok(times)
}

fn at(times: &[Duration], share: f64) -> Duration {
    let last = times.len().saturating_sub(1);
    times.get(((last as f64) * share).round() as usize).copied().unwrap_or_default()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let control = Control::start().await?;
    control.apply(&edge().to_string()).await?;
    let objects: Vec<String> = (0..options.routes)
        .flat_map(|number| [service(number), route(number, "/")])
        .map(|object| object.to_string())
        .collect();
    for piece in objects.chunks(PIECE) {
        control.apply(&piece.join("\n---\n")).await?;
    }
    // A gateway is told of all of them, so reviews are judged as it would see them.
    let (namespace, pod, uid) = (NAMESPACE.to_owned(), "gw".to_owned(), UID.to_owned());
    let joined = control.keeper.join(&Identity { namespace, service_account: "gateway".to_owned(), pod, uid }).await?;
    let mut states = joined.states;
    let routes =
        |set: &mesh_core::model::ResourceSet| set.routes.values().map(|set| set.virtual_hosts.len()).sum::<usize>();
    states.wait_for(|state| routes(&state.set) >= options.routes).await?;
    for (what, changes) in [("the world as it was", false), ("another world for each", true)] {
        let times = measure(&control, &options, changes).await?;
        let [median, p99, most] = [0.5, 0.99, 1.0].map(|share| at(&times, share));
        println!(
            "webhook at {} routes, {what}: {} reviews, median {median:.2?}, p99 {p99:.2?}, longest {most:.2?}",
            options.routes,
            times.len()
        );
        ensure!(p99 < BUDGET, "the budget is {BUDGET:?}");
    }
    Ok(())
}
