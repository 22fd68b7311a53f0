//! What ends a stream.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_pod() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = trouble::prepare();
    apply(&route("v1", "streams.example", "first")).unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let launch = Launch { kubeconfig: Some(&kubeconfig), ..Launch::new(folder.path(), "streams", SYSTEM) };
    let controller = launch.start().unwrap();
    let mut gateway = start_gateway(folder.path(), "gw-streams", controller.discovery);
    gateway.ready().unwrap();
    until_answer(address, "streams.example", "first").await.unwrap();

    kubectl(&["delete", "pod", "gw-streams", "-n", SYSTEM, "--force", "--grace-period=0"], "").unwrap();
    gateway.wait_for_line(|line| line.contains("the pod was deleted"), DEADLINE).unwrap();
    // Its token is of nobody any more.
    gateway.wait_for_line(|line| line.contains("not known") || line.contains("token_refused"), DEADLINE).unwrap();
    controller
        .until("nobody", "/debug/proxies", |page| page["proxies"].as_array().is_some_and(Vec::is_empty))
        .await
        .unwrap();
    let metrics = client::get(controller.admin, "localhost", "/metrics").await.unwrap().text();
    assert!(metrics.contains("meshgate_controller_streams_ended_total{reason=\"pod_deleted\"} 1"), "{metrics}");
    assert_eq!(answer(address, "streams.example").await, "first", "what it had it serves");
    kubectl(&["delete", "virtualservice", "streams-example"], "").unwrap();
}
