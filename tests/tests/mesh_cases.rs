//! Every case file about a sidecar, in pods of network namespaces with real rules and real sidecars. Needs root.

use std::sync::{Arc, Mutex};

use e2e::case::{self, Report, Selection};
use e2e::netns;
use mesh_core::testing::Runner;

/// So many meshes at a time.
const PARALLEL: usize = 3;
/// Cases of which something must be seen: this does not shrink unnoticed.
const LEAST: usize = 45;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_mesh() {
    if !netns::available() {
        return;
    }
    let selection = Selection::new(Runner::Mesh).unwrap();
    let report = Arc::new(Mutex::new(Report::default()));
    let mut running = tokio::task::JoinSet::new();
    for (name, case) in selection.cases.clone() {
        if running.len() >= PARALLEL {
            running.join_next().await.unwrap().unwrap();
        }
        let report = report.clone();
        running.spawn(async move {
            let outcome = case::run_in_mesh(&case).await;
            report.lock().unwrap().add(&name, outcome);
        });
    }
    while let Some(joined) = running.join_next().await {
        joined.unwrap();
    }
    report.lock().unwrap().finish("mesh", &selection, LEAST).unwrap();
}
