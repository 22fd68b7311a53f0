//! What others are told of orders: pages, statuses, metrics.

use std::collections::HashSet;
use std::sync::Arc;

use mesh_acme::{Counters, House, OrderStatus, Orders};
use mesh_core::diag::Diagnostic;
use prometheus::{IntGaugeVec, Opts, Registry};
use serde::Serialize;
use tokio::sync::watch;

/// Clones are of the same board. Empty where this replica does not lead.
#[derive(Clone, Debug)]
pub struct Board {
    page: Arc<watch::Sender<Arc<OrdersPage>>>,
    findings: Arc<watch::Sender<Arc<[Diagnostic]>>>,
    pub(super) counters: Counters,
    ends: IntGaugeVec,
}

/// Where each order stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OrdersPage {
    /// Of the CA.
    pub directory: String,
    pub orders: Vec<OrderStatus>,
}

impl Board {
    pub fn new() -> prometheus::Result<Board> {
        let ends = Opts::new(
            "meshgate_acme_certificate_expiry_timestamp_seconds",
            "When a certificate that was ordered ends, in seconds since 1970.",
        );
        Ok(Board {
            page: Arc::default(),
            findings: Arc::new(watch::Sender::new(Arc::default())),
            counters: Counters::new()?,
            ends: IntGaugeVec::new(ends, &["secret"])?,
        })
    }

    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.counters.issued.clone()))?;
        registry.register(Box::new(self.counters.failures.clone()))?;
        registry.register(Box::new(self.ends.clone()))
    }

    #[must_use]
    pub fn page(&self) -> Arc<OrdersPage> {
        self.page.borrow().clone()
    }

    /// What is to be told of objects.
    #[must_use]
    pub fn findings(&self) -> watch::Receiver<Arc<[Diagnostic]>> {
        self.findings.subscribe()
    }

    pub(super) fn set<H: House>(&self, directory: &str, orders: &Orders<H>, more: &[Diagnostic]) {
        let findings = orders.diagnostics().into_iter().chain(more.iter().cloned()).collect();
        self.ends.reset();
        for (secret, certificate) in orders.certificates() {
            self.ends.with_label_values(&[&**secret]).set(certificate.info.not_after);
        }
        self.show(OrdersPage { directory: directory.to_owned(), orders: orders.statuses() }, findings);
    }

    /// Nothing is ordered.
    pub(super) fn decline(&self, findings: Vec<Diagnostic>) {
        self.show(OrdersPage::default(), findings);
    }

    /// Somebody else leads.
    pub(super) fn clear(&self) {
        self.ends.reset();
        self.show(OrdersPage::default(), Vec::new());
    }

    fn show(&self, page: OrdersPage, findings: Vec<Diagnostic>) {
        self.page.send_replace(Arc::new(page));
        self.findings.send_if_modified(|known| {
            let is_new = **known != *findings;
            if is_new {
                let before: HashSet<&Diagnostic> = known.iter().collect();
                findings.iter().filter(|finding| !before.contains(finding)).for_each(tell);
                *known = findings.into();
            }
            is_new
        });
    }
}

/// Once for each that is new.
fn tell(finding: &Diagnostic) {
    use mesh_core::diag::Severity;
    match finding.severity {
        Severity::Error => tracing::error!("{finding}"),
        Severity::Warning => tracing::warn!("{finding}"),
        Severity::Info => tracing::info!("{finding}"),
    }
}
