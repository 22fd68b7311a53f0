//! Every case file on a real control plane: its objects in the API server, read by the controller, told to a real gateway.
//! `bash tests/run.sh cluster` starts a control plane of its own for this, and runs it inside of its network namespace.

use e2e::case::{ClusterRunner, Report, Selection};
use e2e::cluster;
use mesh_core::testing::Runner;

/// Cases of which something must be seen: this does not shrink unnoticed.
const LEAST: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster() {
    let Some(_) = cluster::folder() else { return };
    let selection = Selection::new(Runner::Cluster).unwrap();
    let mut report = Report::default();
    let mut runner = ClusterRunner::start().await.unwrap();
    for (name, case) in &selection.cases {
        report.add(name, runner.run(case).await);
    }
    drop(runner);
    report.finish("cluster", &selection, LEAST).unwrap();
}
