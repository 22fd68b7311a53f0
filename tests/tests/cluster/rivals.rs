//! Others who write the same objects at the same time.

use std::time::{Duration, Instant};

use e2e::bulk::condition;
use e2e::cluster::Controller;
use serde_json::{Value, json};

use super::*;

/// Writes of the other one.
const WRITES: usize = 300;
/// How long it takes ours away. The pauses double: the last one may be as long as this, and a little more.
const HOSTILE: Duration = Duration::from_secs(3);

const PROGRAMMED: (&str, &str, &str) = ("True", "Programmed", "1/1 proxies");

/// A controller, its gateway, and the object `both`, which is programmed.
struct Told {
    controller: Controller,
    address: SocketAddr,
    routes: Routes,
    /// Held: they end with it.
    _gateway: (Meshgate, tempfile::TempDir),
}

impl Told {
    async fn start(replica: &str) -> Told {
        let folder = tempfile::tempdir().unwrap();
        let address = trouble::prepare();
        let routes = routes_of("rivals").await;
        routes.apply("both", "0").await.unwrap();
        let kubeconfig = trouble::own_kubeconfig(folder.path());
        let controller = trouble::start_with(folder.path(), replica, None, &kubeconfig);
        let mut gateway = start_gateway(folder.path(), "gw-rivals", controller.discovery);
        gateway.ready().unwrap();
        until_programmed(&routes, "both", PROGRAMMED).await;
        Told { controller, address, routes, _gateway: (gateway, folder) }
    }

    async fn writes(&self, outcome: &str) -> f64 {
        let series = format!("meshgate_controller_status_writes_total{{outcome=\"{outcome}\"}}");
        self.controller.metric(&series).await.unwrap()
    }
}

fn theirs(kind: &str, message: &str) -> Value {
    let time = "2026-01-01T00:00:00Z";
    json!({ "conditions": [{ "type": kind, "status": "False", "message": message, "lastTransitionTime": time }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_spec_and_status_all_the_time_is_not_fought() {
    let Some(_) = cluster::folder() else { return };
    let told = Told::start("rivals").await;
    let Told { controller, routes, .. } = &told;
    let (before, begun) = (told.writes("written").await, Instant::now());
    for number in 1..=WRITES {
        let number = number.to_string();
        routes.apply("both", &number).await.unwrap();
        routes.apply_status("both", "theirs", &theirs("Theirs", &number)).await.unwrap();
    }
    let took = begun.elapsed();
    let last = WRITES.to_string();
    until_answer(told.address, &routes.host("both"), &last).await.unwrap();
    until_programmed(routes, "both", PROGRAMMED).await;
    // Both are there.
    let object = routes.get("both").await.unwrap();
    assert!(condition(&object, "Theirs").is_some_and(|theirs| theirs["message"] == last), "{object:#}");
    assert!(condition(&object, "Accepted").is_some_and(|ours| ours["status"] == "True"), "{object:#}");
    // As many writes as the time allows, and not as many as the other one makes. They are counted a moment after they are seen.
    let counted = async || Ok(told.writes("written").await > before);
    eventually_async("a write is counted", DEADLINE, counted).await.unwrap();
    let written = told.writes("written").await - before;
    let most = took.as_secs_f64() * 3.0 + 3.0;
    assert!(written >= 1.0 && written <= most, "{written} writes in {took:?}");
    assert_eq!(told.writes("contested").await, 0.0, "{}", controller.log());
    routes.clear().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_our_part_away_all_the_time_is_answered_later_and_later() {
    let Some(_) = cluster::folder() else { return };
    let told = Told::start("hostile").await;
    let Told { controller, routes, .. } = &told;
    let (before, begun, mut count) = (told.writes("written").await, Instant::now(), 0);
    while begun.elapsed() < HOSTILE {
        count += 1;
        routes.merge_status("both", "hostile", &theirs("Programmed", &count.to_string())).await.unwrap();
    }
    // In the end it says what is true.
    until_programmed(routes, "both", PROGRAMMED).await;
    let (written, took) = (told.writes("written").await - before, begun.elapsed());
    // At once, and then after 2, 4, 8 s and so on: the last pause may be as long as all before.
    let most = (took.as_secs_f64() + 2.0).log2() + 1.0;
    assert!(written >= 2.0 && written <= most, "{written} writes against {count} in {took:?}: {}", controller.log());
    assert_eq!(answer(told.address, &routes.host("both")).await, "0");
    routes.clear().await.unwrap();
}
