//! A controller that is killed while it tells a gateway of many changes.

use std::collections::BTreeMap;

use e2e::fixture::Load;
use serde_json::Value;

use super::*;

/// Objects that are there before, and those that are made while it is killed.
const BEFORE: usize = 300;
const MEANWHILE: usize = 300;
const SUFFIX: &str = ".killed.example";

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_push_and_the_next_one_sends_only_what_is_missing() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = trouble::prepare();
    let routes = routes_of("killed").await;
    let name = |number: usize| format!("r{number:04}");
    routes.apply_all((0..BEFORE).map(|number| (name(number), "first".to_owned()))).await.unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let first = trouble::start_with(folder.path(), "killed-first", None, &kubeconfig);
    let mut gateway = start_gateway(folder.path(), "gw-killed", first.discovery);
    gateway.ready().unwrap();
    until_answer(address, &routes.host(&name(BEFORE - 1)), "first").await.unwrap();
    assert_eq!(hosts_of(&gateway, SUFFIX).await, BEFORE);
    let load = Load::start(address, &routes.host(&name(0)));

    // Hundreds of new ones, some that change, some that go.
    let changes = {
        let (routes, name) = (routes.clone(), name);
        tokio::spawn(async move {
            let news = (BEFORE..BEFORE + MEANWHILE).map(|number| (name(number), "first".to_owned()));
            let changed = (10..60).map(|number| (name(number), "second".to_owned()));
            routes.apply_all(news.chain(changed)).await.unwrap();
            routes.delete_all((60..80).map(name)).await.unwrap();
        })
    };
    // The gateway was sent something that it has not acknowledged.
    let is_pushing = |page: &Value| {
        let config = &page["proxies"][0]["kinds"]["config"];
        config["responses"].as_u64() > Some(5) && config["sent"].as_u64() > config["acknowledged"].as_u64()
    };
    first.until("a push", "/debug/proxies", is_pushing).await.unwrap();
    let discovery = first.discovery;
    drop(first);
    let had = hosts_of(&gateway, SUFFIX).await;
    assert!(had > BEFORE && had < BEFORE + MEANWHILE, "{had}");
    changes.await.unwrap();
    assert_eq!(answer(address, &routes.host(&name(70))).await, "first", "it serves what it has");

    let second = trouble::start_with(folder.path(), "killed-second", Some(discovery), &kubeconfig);
    until_answer(address, &routes.host(&name(BEFORE + MEANWHILE - 1)), "first").await.unwrap();
    until_answer(address, &routes.host(&name(79)), "404").await.unwrap();
    load.end().await.unwrap();

    // What the cluster has is served, and nothing else.
    let listed = routes.list().await.unwrap();
    let wanted: BTreeMap<String, String> = listed.iter().map(host_and_answer).collect();
    assert_eq!(wanted.len(), BEFORE + MEANWHILE - 20);
    for (host, wanted) in &wanted {
        assert_eq!(answer(address, host).await, *wanted, "{host}");
    }
    assert_eq!(hosts_of(&gateway, SUFFIX).await, wanted.len());

    // It was told what it had: new ones, changed ones, and nothing twice.
    let sent = second.metric("meshgate_controller_resources_sent_total{kind=\"config\"}").await.unwrap();
    let missed = BEFORE + MEANWHILE - had + 50;
    assert!(sent >= 1.0 && sent <= missed as f64, "{sent} resources, of which it lacked {missed} at most");
    routes.clear().await.unwrap();
}

fn host_and_answer(object: &Value) -> (String, String) {
    let text = |at: &str| object.pointer(at).unwrap().as_str().unwrap().to_owned();
    (text("/spec/hosts/0"), text("/spec/http/0/directResponse/body/string"))
}
