//! A controller that was away for longer than the API server remembers.

use e2e::cluster::{ApiServer, compact};
use e2e::fixture::Load;
use e2e::process::signal;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn whose_position_is_gone_lists_again_and_forgets_what_is_gone() {
    let Some(cluster) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = trouble::prepare();
    let routes = routes_of("watched").await;
    for name in ["stays", "changes", "goes", "comes-again"] {
        routes.apply(name, "first").await.unwrap();
    }
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let controller = trouble::start_with(folder.path(), "watch", None, &kubeconfig);
    let mut gateway = start_gateway(folder.path(), "gw-watch", controller.discovery);
    gateway.ready().unwrap();
    for name in ["stays", "changes", "goes", "comes-again"] {
        until_answer(address, &routes.host(name), "first").await.unwrap();
    }
    controller.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
    let load = Load::start(address, &routes.host("stays"));

    // Its connections are cut before anything happens, so that it sees nothing of it; then the versions are gone that it would go
    // on from.
    signal(controller.pid(), "STOP").unwrap();
    let server = ApiServer::of(&cluster).unwrap();
    server.kill().unwrap();
    server.start().unwrap();
    routes.delete_all(["goes", "comes-again"].map(str::to_owned)).await.unwrap();
    routes.apply("changes", "second").await.unwrap();
    routes.apply("comes", "first").await.unwrap();
    routes.apply("comes-again", "again").await.unwrap();
    compact().await.unwrap();
    assert!(!controller.log().contains("too old resource version"), "not asked yet");
    signal(controller.pid(), "CONT").unwrap();

    for (name, answer) in [("goes", "404"), ("changes", "second"), ("comes", "first"), ("comes-again", "again")] {
        until_answer(address, &routes.host(name), answer).await.unwrap();
    }
    load.end().await.unwrap();
    let log = controller.log();
    assert!(log.contains("too old resource version") && log.contains("virtualservices"), "{log}");
    // It was no list with nothing in it, either: what is known is what is there.
    let page = controller.page("/debug/objects").await;
    let known = page["objects"].as_object().unwrap().keys().filter(|name| name.contains("/watched/")).count();
    assert_eq!(known, 4, "{page:#}");
    // The watch that statuses are compared by was away for as long.
    for name in ["stays", "changes", "comes", "comes-again"] {
        until_programmed(&routes, name, ("True", "Programmed", "1/1 proxies")).await;
    }
    routes.clear().await.unwrap();
}
