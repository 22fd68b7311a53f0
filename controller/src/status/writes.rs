//! How many statuses were written: a controller that fights another writer, or itself, shows here.

use prometheus::{IntCounterVec, Opts, Registry};

use super::write::Outcome;

/// Attempts, by what came of them. Clones count together.
#[derive(Clone, Debug)]
pub struct Writes(IntCounterVec);

impl Writes {
    pub fn new() -> prometheus::Result<Writes> {
        let help = "Attempts to write the status of an object, by what came of them.";
        let counters = IntCounterVec::new(Opts::new("meshgate_controller_status_writes_total", help), &["outcome"])?;
        Ok(Writes(counters))
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        let label = match outcome {
            Outcome::Written { .. } => "written",
            Outcome::Contested(_) => "contested",
            Outcome::Outdated => "outdated",
            Outcome::Gone => "gone",
            Outcome::Failed(_) => "failed",
        };
        self.0.with_label_values(&[label]).inc();
    }

    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.0.clone()))
    }
}
