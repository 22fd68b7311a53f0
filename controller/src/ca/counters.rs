//! What the CA counts, under the names of Istio's CA.

use prometheus::{IntCounter, IntGauge, Registry};

/// Clones count together.
#[derive(Clone, Debug)]
pub struct Counters {
    pub requests: IntCounter,
    pub issued: IntCounter,
    pub malformed: IntCounter,
    pub failed: IntCounter,
    pub unauthenticated: IntCounter,
    root_expires: IntGauge,
}

impl Counters {
    pub fn new() -> prometheus::Result<Counters> {
        let counter = |name: &str, help: &str| IntCounter::new(format!("citadel_server_{name}"), help);
        Ok(Counters {
            requests: counter("csr_count", "Requests for certificates.")?,
            issued: counter("success_cert_issuance_count", "Certificates issued.")?,
            malformed: counter("csr_parsing_err_count", "Requests that hold no CSR that can be signed.")?,
            failed: counter("csr_sign_err_count", "Certificates that could not be made.")?,
            unauthenticated: counter("authentication_failure_count", "Requests of nobody who is known.")?,
            root_expires: IntGauge::new(
                "citadel_server_root_cert_expiry_timestamp",
                "When the first of the roots that are trusted ends, in seconds since 1970.",
            )?,
        })
    }

    /// `seconds` since 1970.
    pub(super) fn root_expires(&self, seconds: i64) {
        self.root_expires.set(seconds);
    }

    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        for counter in [&self.requests, &self.issued, &self.malformed, &self.failed, &self.unauthenticated] {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(self.root_expires.clone()))
    }
}
