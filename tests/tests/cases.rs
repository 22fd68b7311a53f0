//! Every case file, in memory and by a real gateway that reads files. `CASE=merge/` runs those whose path contains it. What a
//! runner could not see is printed, not passed over.

use std::sync::{Arc, Mutex};

use e2e::case::{self, Report, Selection};
use mesh_core::testing::Runner;

/// So many gateways at a time.
const PARALLEL: usize = 3;
/// Cases of which something must be seen: runners do not shrink unnoticed.
const LEAST_IN_MEMORY: usize = 280;
const LEAST_AS_PROCESSES: usize = 390;

#[test]
fn in_memory() {
    let selection = Selection::new(Runner::Memory).unwrap();
    let mut report = Report::default();
    for (name, case) in &selection.cases {
        report.add(name, case::run_in_memory(case));
    }
    report.finish("memory", &selection, LEAST_IN_MEMORY).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_processes() {
    let selection = Selection::new(Runner::Process).unwrap();
    let report = Arc::new(Mutex::new(Report::default()));
    let mut running = tokio::task::JoinSet::new();
    for (name, case) in selection.cases.clone() {
        if running.len() >= PARALLEL {
            running.join_next().await.unwrap().unwrap();
        }
        let report = report.clone();
        running.spawn(async move {
            let outcome = case::run_as_process(&case).await;
            report.lock().unwrap().add(&name, outcome);
        });
    }
    while let Some(joined) = running.join_next().await {
        joined.unwrap();
    }
    report.lock().unwrap().finish("process", &selection, LEAST_AS_PROCESSES).unwrap();
}
