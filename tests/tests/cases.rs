//! Every case file, by every runner that can see it. `CASE=merge/` runs those whose path contains it. What a runner could
//! not see is printed, not passed over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use e2e::case::{self, Outcome};
use mesh_core::testing::{Case, Runner};

/// So many gateways at a time.
const PARALLEL: usize = 3;

#[test]
fn in_memory() {
    let mut report = Report::new("memory");
    for (name, case) in cases(Runner::Memory) {
        report.add(&name, case::run_in_memory(&case));
    }
    report.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_processes() {
    let report = Arc::new(Mutex::new(Report::new("process")));
    let mut running = tokio::task::JoinSet::new();
    for (name, case) in cases(Runner::Process) {
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
    report.lock().unwrap().finish();
}

fn cases(runner: Runner) -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let filter = std::env::var("CASE").unwrap_or_default();
    let mut cases = Vec::new();
    for path in case::find(&folder).unwrap() {
        let name = path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        let case = case::load(&path).unwrap();
        let fits = case.runners.is_empty() || case.runners.contains(&runner);
        if fits && name.contains(&filter) {
            cases.push((name, case));
        }
    }
    cases
}

struct Report {
    runner: &'static str,
    cases: u32,
    held: u32,
    failed: Vec<String>,
    /// Key -> how many cases have it.
    unseen: BTreeMap<String, u32>,
}

impl Report {
    fn new(runner: &'static str) -> Report {
        Report { runner, cases: 0, held: 0, failed: Vec::new(), unseen: BTreeMap::new() }
    }

    fn add(&mut self, name: &str, outcome: anyhow::Result<Outcome>) {
        self.cases += 1;
        match outcome {
            Ok(outcome) => {
                self.held += outcome.held;
                for key in outcome.unseen {
                    *self.unseen.entry(key).or_default() += 1;
                }
                if !outcome.failures.is_empty() {
                    self.failed.push(format!("{name}\n    {}", outcome.failures.join("\n    ")));
                }
            }
            Err(error) => self.failed.push(format!("{name}\n    {error:#}")),
        }
    }

    fn finish(&self) {
        let Report { runner, cases, held, failed, unseen } = self;
        e2e::say(&format!(
            "{runner}: {cases} cases, {held} expectations held, {} cases failed; not seen: {unseen:?}",
            failed.len()
        ));
        assert!(failed.is_empty(), "{} of {cases} cases failed ({runner}):\n{}", failed.len(), failed.join("\n"));
    }
}
