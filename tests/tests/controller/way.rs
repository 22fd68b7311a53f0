//! What can be in the way to the controller: the log, the admin pages and the metrics say what it is, and what to do.

use controller::ca::Authority;
use e2e::client;

use super::*;

/// Waits for the line of the log, and for the pages to say the same.
async fn says(mut gateway: Meshgate, reason: &str, what: &str, help: &str) {
    gateway.waiting().unwrap();
    let reason_of = format!("reason=\"{reason}\"");
    let line = gateway.wait_for_line(|line| line.contains(&reason_of), client::DEADLINE).unwrap();
    for part in ["WARN", what, help, "retry_ms"] {
        assert!(line.contains(part), "no `{part}` in {line}");
    }
    let ready = client::get(gateway.status, "localhost", "/healthz/ready").await.unwrap();
    assert_eq!(ready.status, 503);
    // Everybody may ask there.
    assert_eq!(ready.text(), format!("INITIALIZING\ncontroller: {reason}\n"));
    let ready = client::get(gateway.admin, "localhost", "/ready").await.unwrap();
    assert_eq!(ready.status, 503);
    let ready = ready.text();
    let state = state(&gateway).await;
    assert_eq!(state["connected"], false);
    let told = format!("{} {}", state["last_error"], state["help"]);
    for part in [what, help] {
        assert!(ready.contains(part), "no `{part}` in {ready}");
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    let metrics = gateway.admin("/metrics").await.unwrap();
    assert!(metrics.contains(&format!("meshgate_controller_errors_total{{reason=\"{reason}\"}}")), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ca_and_another_name_are_not_taken_for_the_controller() {
    let control = Control::start().await.unwrap();
    control.apply(&gateway(edge().port())).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.pem");
    std::fs::write(&other, Authority::generate().unwrap().root_pem()).unwrap();

    let gateway = control.gateway_that_trusts(serving.address, "controller.test", &other).unwrap();
    says(gateway, "unknown_ca", "is not of a CA in", "istio-ca-root-cert").await;
    let gateway = control.gateway_that_trusts(serving.address, "other.test", &control.root()).unwrap();
    says(gateway, "wrong_name", "is not for `other.test`", "--controller-name").await;
    assert!(control.proxies.all().is_empty(), "no token was shown to anybody");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let control = Control::start().await.unwrap();
    control.apply(&gateway(edge().port())).await.unwrap();
    let nobody = ports::refused().unwrap();
    says(control.gateway(nobody).unwrap(), "unreachable", "cannot connect to", "does the controller run").await;
    let absent = control.root().with_file_name("absent.pem");
    let gateway = control.gateway_that_trusts(nobody, "controller.test", &absent).unwrap();
    says(gateway, "no_ca", "absent.pem", "istio-ca-root-cert").await;

    let serving = control.serve(None).await.unwrap();
    control.token("stolen").unwrap();
    says(control.gateway(serving.address).unwrap(), "token_refused", "no such token", "audience istio-ca").await;
    std::fs::remove_file(control.token_file()).unwrap();
    says(control.gateway(serving.address).unwrap(), "no_token", "cannot read the token", "--token").await;
}
