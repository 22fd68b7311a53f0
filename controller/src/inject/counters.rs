//! What injection counts, under Istio's names.

use prometheus::{IntCounter, Registry};

/// Clones count together.
#[derive(Clone, Debug)]
pub struct Injections {
    pub requests: IntCounter,
    pub succeeded: IntCounter,
    pub failed: IntCounter,
    pub skipped: IntCounter,
}

impl Injections {
    pub fn new() -> prometheus::Result<Injections> {
        let counter = |name: &str, help: &str| IntCounter::new(format!("sidecar_injection_{name}_total"), help);
        Ok(Injections {
            requests: counter("requests", "Pods that the API server asked for a sidecar for.")?,
            succeeded: counter("success", "Pods that got one.")?,
            failed: counter("failure", "Pods that should have one and cannot.")?,
            skipped: counter("skip", "Pods that stay as they are.")?,
        })
    }

    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        for counter in [&self.requests, &self.succeeded, &self.failed, &self.skipped] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(())
    }
}
