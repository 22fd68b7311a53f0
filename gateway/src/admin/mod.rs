//! Admin pages and readiness, on the control runtime. One file per page; a page reads what others made and changes
//! nothing, except the few that say so (`POST`).

mod certs;
mod clusters;
mod collector;
mod config_dump;
mod controller;
mod diagnostics;
mod explain;
mod index;
mod listeners;
mod logging;
mod metrics;
mod page;
mod process;
mod ready;
mod server;
mod server_info;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

pub use collector::{SocketCollector, WorkloadCollector};
pub use server::{Audience, serve};

use crate::acme::AcmeHandle;
use crate::listen::ListenerManager;
use crate::live::Cells;
use crate::logging::Logging;
use crate::observe::Observe;
use crate::sidecar::agent::Agent;
use crate::source::ConnectionCell;
use crate::store::StatusCell;
use crate::tls::renewal::RenewalHandle;
use crate::upstream::Pools;

/// All that pages may look at.
pub struct Admin {
    pub cells: Arc<Cells>,
    pub status: Arc<StatusCell>,
    pub observe: Arc<Observe>,
    pub listeners: Arc<ListenerManager>,
    pub pools: Arc<PoolList>,
    pub readiness: Arc<Readiness>,
    pub logging: Option<Logging>,
    pub commands: mpsc::UnboundedSender<Command>,
    pub info: Info,
    /// None: configuration comes from files.
    pub connection: Option<ConnectionCell>,
    /// None: nobody gives this process a workload certificate.
    pub renewal: Option<RenewalHandle>,
    /// Empty: this process orders no certificates.
    pub orders: OnceLock<AcmeHandle>,
    /// What may be asked of the application.
    pub agent: Agent,
}

/// What never changes.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Info {
    pub namespace: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub workers: usize,
    pub command_line: Vec<String>,
    #[serde(skip)]
    pub started: Option<Instant>,
}

/// What a page asks the process for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Quit,
    DrainListeners,
}

/// The workers' pools; each worker adds its own.
#[derive(Default)]
pub struct PoolList(Mutex<Vec<Arc<Pools>>>);

impl PoolList {
    pub fn add(&self, pools: Arc<Pools>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(pools);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Pools>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether clients should be sent here.
#[derive(Default)]
pub struct Readiness(AtomicU8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Live,
    Draining,
}

impl Readiness {
    pub fn set(&self, phase: Phase) {
        let number = match phase {
            Phase::Starting => 0,
            Phase::Live => 1,
            Phase::Draining => 2,
        };
        self.0.store(number, Ordering::Release);
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Live,
            _ => Phase::Draining,
        }
    }
}
