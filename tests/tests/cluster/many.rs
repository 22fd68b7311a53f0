//! Thousands of objects at once.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

const NAMESPACES: [&str; 4] = ["many-0", "many-1", "many-2", "many-3"];
/// In each of them.
const OBJECTS: usize = 500;
/// Of all statuses.
const PATIENCE: Duration = Duration::from_secs(90);

/// How many of them say that they are programmed.
async fn programmed(all: &[Routes]) -> usize {
    let mut count = 0;
    for routes in all {
        let is_programmed = |object: &Value| says(object, "Programmed") == Some(("True", "Programmed", "1/1 proxies"));
        count += routes.list().await.unwrap().iter().filter(|object| is_programmed(object)).count();
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_objects_are_served_told_and_forgotten() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = trouble::prepare();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let controller = trouble::start_with(folder.path(), "many", None, &kubeconfig);
    let mut gateway = start_gateway(folder.path(), "gw-many", controller.discovery);
    gateway.ready().unwrap();
    controller.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    let mut all = Vec::new();
    for namespace in NAMESPACES {
        all.push(routes_of(namespace).await);
    }
    let written = "meshgate_controller_status_writes_total{outcome=\"written\"}";
    let before = controller.metric(written).await.unwrap();

    let name = |number: usize| format!("r{number:03}");
    for routes in &all {
        routes.apply_all((0..OBJECTS).map(|number| (name(number), format!("a{number}")))).await.unwrap();
    }
    let sample = [0, 1, 99, 250, OBJECTS - 1];
    for routes in &all {
        for number in sample {
            until_answer(address, &routes.host(&name(number)), &format!("a{number}")).await.unwrap();
        }
    }
    until_hosts(&gateway, ".many-", NAMESPACES.len() * OBJECTS).await;

    let begun = Instant::now();
    let told = eventually_async("a true status of each", PATIENCE, async || {
        Ok(programmed(&all).await == NAMESPACES.len() * OBJECTS)
    });
    told.await.unwrap_or_else(|error| panic!("{error}:\n{}", controller.log()));
    e2e::say(&format!("2,000 statuses after {:?}", begun.elapsed()));
    // That somebody waits, and that all have it: not every push in between.
    let writes = controller.metric(written).await.unwrap() - before;
    let most = (2 * NAMESPACES.len() * OBJECTS) as f64;
    assert!(writes <= most, "{writes} writes");
    for outcome in ["contested", "failed"] {
        let series = format!("meshgate_controller_status_writes_total{{outcome=\"{outcome}\"}}");
        assert_eq!(controller.metric(&series).await.unwrap(), 0.0, "{outcome}: {}", controller.log());
    }

    for routes in &all {
        routes.clear().await.unwrap();
    }
    for routes in &all {
        for number in sample {
            until_answer(address, &routes.host(&name(number)), "404").await.unwrap();
        }
    }
    until_hosts(&gateway, ".many-", 0).await;
    let is_forgotten = |page: &Value| !page.to_string().contains("many-");
    controller
        .until("forgotten objects", "/debug/objects", |page| !page.to_string().contains("VirtualService/many-"))
        .await
        .unwrap();
    controller.until("forgotten progress", "/debug/programmed", is_forgotten).await.unwrap();
}
