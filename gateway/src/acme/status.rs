//! Where orders stand, for pages.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_acme::OrderStatus;
use serde::Serialize;
use tokio::sync::Notify;

/// To look at orders, and to hurry them.
#[derive(Clone, Default)]
pub struct AcmeHandle {
    state: Arc<ArcSwap<AcmeStatus>>,
    pub(super) now: Arc<Notify>,
}

impl AcmeHandle {
    pub fn get(&self) -> Arc<AcmeStatus> {
        self.state.load_full()
    }

    /// What failed is tried at once.
    pub fn hurry(&self) {
        self.now.notify_one();
    }

    pub(super) fn set(&self, status: AcmeStatus) {
        self.state.store(Arc::new(status));
    }
}

/// All orders.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AcmeStatus {
    pub directory: String,
    pub storage: String,
    /// Certificate of the CA for private names, if it signed any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_root: Option<String>,
    pub orders: Vec<OrderStatus>,
}
