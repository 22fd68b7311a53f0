//! Who leads, and what happens when it stops.

use std::time::{Duration, Instant};

use e2e::process::signal;

use super::*;

fn lease(field: &str) -> String {
    let path = format!("jsonpath={{.spec.{field}}}");
    kubectl(&["get", "lease", "meshgate-leader", "-n", SYSTEM, "-o", &path], "").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_gives_the_lease_back_and_another_one_leads_at_once() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    apply_namespace(SYSTEM).unwrap();
    define().unwrap();
    apply(&trouble::rights()).unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let start =
        |replica| Launch { kubeconfig: Some(&kubeconfig), ..Launch::new(folder.path(), replica, SYSTEM) }.start();
    let mut first = start("lease-first").unwrap();
    first.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    assert_eq!(lease("holderIdentity"), "lease-first");
    let second = start("lease-second").unwrap();
    second.until("readiness", "/debug/proxies", |page| page["generation"].as_u64() > Some(0)).await.unwrap();
    assert_eq!(second.page("/debug/proxies").await["leader"], false);

    signal(first.pid(), "TERM").unwrap();
    assert!(first.ended().unwrap().success(), "{}", first.log());
    // It was given back before the process ended: nobody waits for it to run out.
    assert_ne!(lease("holderIdentity"), "lease-first");
    second.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    assert_eq!(lease("holderIdentity"), "lease-second");

    // Nobody is there to take it.
    let mut second = second;
    signal(second.pid(), "TERM").unwrap();
    assert!(second.ended().unwrap().success(), "{}", second.log());
    assert_eq!(lease("holderIdentity"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_is_followed_when_the_lease_is_over_and_statuses_go_on() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    trouble::prepare();
    let routes = routes_of("lease").await;
    routes.apply("before", "x").await.unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let first = trouble::start_with(folder.path(), "lease-killed", None, &kubeconfig);
    first.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    // Proxies are the second one's, which no Service names here: the leader knows of none.
    let second = trouble::start_with(folder.path(), "lease-next", None, &kubeconfig);
    let mut gateway = start_gateway(folder.path(), "gw-lease", second.discovery);
    gateway.ready().unwrap();
    until_programmed(&routes, "before", ("False", "NoProxies", "0/0 proxies")).await;
    assert_eq!(second.page("/debug/proxies").await["leader"], false);

    signal(first.pid(), "KILL").unwrap();
    let killed = Instant::now();
    routes.apply("after", "x").await.unwrap();
    // Nobody gave it back: it has to run out, and no replica may write before.
    assert_eq!(lease("holderIdentity"), "lease-killed");
    second.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    assert!(killed.elapsed() > Duration::from_secs(5), "after {:?}", killed.elapsed());
    assert_eq!(lease("holderIdentity"), "lease-next");
    for name in ["before", "after"] {
        until_programmed(&routes, name, ("True", "Programmed", "1/1 proxies")).await;
    }
    let failed = "meshgate_controller_status_writes_total{outcome=\"failed\"}";
    assert_eq!(second.metric(failed).await.unwrap(), 0.0, "{}", second.log());
    routes.clear().await.unwrap();
}
