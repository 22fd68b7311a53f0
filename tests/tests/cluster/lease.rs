//! Who leads, and what happens when it stops.

use std::process::Command;

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

    assert!(Command::new("kill").arg(first.pid().to_string()).status().unwrap().success());
    assert!(first.ended().unwrap().success(), "{}", first.log());
    // It was given back before the process ended: nobody waits for it to run out.
    assert_ne!(lease("holderIdentity"), "lease-first");
    second.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    assert_eq!(lease("holderIdentity"), "lease-second");

    // Nobody is there to take it.
    let mut second = second;
    assert!(Command::new("kill").arg(second.pid().to_string()).status().unwrap().success());
    assert!(second.ended().unwrap().success(), "{}", second.log());
    assert_eq!(lease("holderIdentity"), "");
}
