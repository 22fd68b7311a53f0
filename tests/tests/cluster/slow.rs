//! Gateways that stop for a while, or for good: nobody waits for them.

use std::time::{Duration, Instant};

use e2e::cluster::Controller;
use e2e::process::signal;
use serde_json::Value;

use super::*;

const NAMES: usize = 60;
/// How often each of them changes.
const ROUNDS: usize = 5;
/// Longest that changes, and asking for all of them, may take at a gateway that does not stop.
const AT_ONCE: Duration = Duration::from_secs(5);
/// More memory than this for what a gateway does not take would be a queue, in bytes.
const QUEUE: f64 = 64.0 * 1024.0 * 1024.0;

/// A gateway beside `edge`, with a port of its own: two processes cannot share one.
fn second_gateway(port: u16) -> String {
    edge(port).replace("name: edge", "name: slow").replace("istio: ingressgateway", "istio: slow")
}

/// How far the proxy of this pod is with its configuration.
fn config<'p>(page: &'p Value, pod: &str) -> &'p Value {
    let proxies = page["proxies"].as_array().unwrap();
    proxies.iter().find(|proxy| proxy["pod"] == pod).map_or(&Value::Null, |proxy| &proxy["kinds"]["config"])
}

async fn responses(controller: &Controller, pod: &str) -> u64 {
    let page = controller.page("/debug/proxies").await;
    config(&page, pod)["responses"].as_u64().unwrap_or_else(|| panic!("{page:#}"))
}

fn published(gateway: &Meshgate) -> usize {
    gateway.log().matches("published generation").count()
}

/// Two gateways that the same VirtualServices concern, and the object `r0`.
struct Two {
    controller: Controller,
    /// Held: they end with it.
    _quick: (Meshgate, tempfile::TempDir),
    quick_address: SocketAddr,
    slow: Meshgate,
    slow_address: SocketAddr,
    routes: Routes,
}

impl Two {
    async fn start(replica: &str, keep_alive_seconds: Option<u64>) -> Two {
        let folder = tempfile::tempdir().unwrap();
        let quick_address = trouble::prepare();
        let slow_address = SocketAddr::new(quick_address.ip(), ports::free_port(quick_address.ip()).unwrap());
        apply(&second_gateway(slow_address.port())).unwrap();
        apply_namespace("slow").unwrap();
        let gateways = [format!("{SYSTEM}/edge"), format!("{SYSTEM}/slow")];
        let routes = Routes::new("slow", &gateways.each_ref().map(String::as_str)).await.unwrap();
        routes.apply("r0", "first").await.unwrap();
        let kubeconfig = trouble::own_kubeconfig(folder.path());
        let launch = Launch::new(folder.path(), replica, SYSTEM);
        let controller = Launch { kubeconfig: Some(&kubeconfig), keep_alive_seconds, ..launch }.start().unwrap();
        let mut quick = start_gateway(folder.path(), "gw-quick", controller.discovery);
        let labels = BTreeMap::from([("istio".to_owned(), "slow".to_owned())]);
        let pod = Pod { namespace: SYSTEM, name: "gw-slow", labels: &labels };
        let mut slow = pod.gateway(folder.path(), controller.discovery, &[]).unwrap();
        quick.ready().unwrap();
        slow.ready().unwrap();
        until_programmed(&routes, "r0", ("True", "Programmed", "2/2 proxies")).await;
        Two { controller, _quick: (quick, folder), quick_address, slow, slow_address, routes }
    }

    async fn end(self) {
        self.routes.clear().await.unwrap();
        kubectl(&["delete", "gateway.networking.istio.io", "slow", "-n", SYSTEM], "").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_for_a_while_holds_up_nobody_and_gets_what_is_newest() {
    let Some(_) = cluster::folder() else { return };
    let two = Two::start("slow", None).await;
    let Two { controller, routes, slow, .. } = &two;
    let before = [responses(controller, "gw-quick").await, responses(controller, "gw-slow").await];
    let memory = controller.metric("process_resident_memory_bytes").await.unwrap();
    let had = published(slow);
    signal(slow.pid(), "STOP").unwrap();
    for round in 0..ROUNDS {
        routes.apply_all((0..NAMES).map(|number| (format!("r{number}"), format!("a{round}")))).await.unwrap();
        let begun = Instant::now();
        for number in 0..NAMES {
            until_answer(two.quick_address, &routes.host(&format!("r{number}")), &format!("a{round}")).await.unwrap();
        }
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
    // One response is on its way to it; the rest will be one more.
    let page = controller.page("/debug/proxies").await;
    let state = config(&page, "gw-slow");
    assert!(state["sent"].as_u64() > state["acknowledged"].as_u64(), "{page:#}");
    assert!(responses(controller, "gw-slow").await <= before[1] + 1, "{page:#}");
    assert!(responses(controller, "gw-quick").await > before[0] + 10, "{page:#}");
    let more = controller.metric("process_resident_memory_bytes").await.unwrap() - memory;
    assert!(more < QUEUE, "{more} bytes");
    until_programmed(routes, "r0", ("False", "Pending", "1/2 proxies")).await;

    signal(slow.pid(), "CONT").unwrap();
    let last = format!("a{}", ROUNDS - 1);
    for number in 0..NAMES {
        until_answer(two.slow_address, &routes.host(&format!("r{number}")), &last).await.unwrap();
    }
    until_programmed(routes, "r0", ("True", "Programmed", "2/2 proxies")).await;
    assert!(responses(controller, "gw-slow").await <= before[1] + 3, "{before:?}");
    assert!(published(slow) <= had + 3, "each of {} changes: {}", NAMES * ROUNDS, slow.log());
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stays_stopped_does_not_count_until_it_comes_back() {
    let Some(_) = cluster::folder() else { return };
    let two = Two::start("slow-for-good", Some(3)).await;
    let Two { controller, routes, slow, .. } = &two;
    let count = |count: usize| move |page: &Value| page["proxies"].as_array().is_some_and(|all| all.len() == count);
    signal(slow.pid(), "STOP").unwrap();
    routes.apply("r0", "without").await.unwrap();
    until_answer(two.quick_address, &routes.host("r0"), "without").await.unwrap();
    until_programmed(routes, "r0", ("False", "Pending", "1/2 proxies")).await;
    controller.until("one that is left", "/debug/proxies", count(1)).await.unwrap();
    until_programmed(routes, "r0", ("True", "Programmed", "1/1 proxies")).await;
    let silent = "meshgate_controller_streams_ended_total{reason=\"silent\"}";
    assert_eq!(controller.metric(silent).await.unwrap(), 1.0);

    signal(slow.pid(), "CONT").unwrap();
    until_answer(two.slow_address, &routes.host("r0"), "without").await.unwrap();
    controller.until("both again", "/debug/proxies", count(2)).await.unwrap();
    routes.apply("r0", "with").await.unwrap();
    until_answer(two.slow_address, &routes.host("r0"), "with").await.unwrap();
    until_programmed(routes, "r0", ("True", "Programmed", "2/2 proxies")).await;
    two.end().await;
}
