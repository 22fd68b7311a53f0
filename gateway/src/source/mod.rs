//! Where configuration comes from. A source yields [`Update`]s on one channel; what they lead to is the store's business.

mod certificates;
mod controller;
mod dial;
mod documents;
mod files;
mod quota;
mod settle;
mod tree;
mod trouble;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use mesh_core::api::Positions;
use mesh_core::diag::Diagnostic;
use mesh_core::model::{AccessLog, Endpoints, Place, ResourceSet, Topology};
use mesh_core::object::ObjectRef;
use tokio::sync::oneshot;

pub use certificates::ControllerCa;
pub use controller::{Connection, ConnectionCell, Controller, ControllerOptions, Following};
pub use files::{Files, FilesOptions, Loaded, load};
pub use quota::Quota;

use crate::observe::{LogSettings, LogTarget};
use crate::tls::certs::OrderedCertificates;

/// A new state of the world.
#[derive(Debug)]
pub enum Update {
    /// All of it.
    Configuration(Box<Configuration>),
    /// Only these endpoints; everything else is as it was.
    Endpoints(Vec<Arc<Endpoints>>),
    /// Where this proxy is.
    Place(Place),
    /// Certificates that were ordered, all of them.
    Ordered(Ordered),
    /// Told when everything before it is in force.
    Barrier(oneshot::Sender<()>),
}

/// What came of orders so far.
#[derive(Clone, Debug, Default)]
pub struct Ordered {
    pub certificates: OrderedCertificates,
    /// Why others did not come.
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub set: ResourceSet,
    /// Everything that the source found out about the objects.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects in force. None: those that the set comes from.
    pub objects: Option<Arc<[ObjectRef]>>,
    /// Where Gateways and Secrets are written: only listeners and certificates find out some of what is wrong with them.
    pub positions: HashMap<ObjectRef, Positions>,
    /// As the MeshConfig wants it; none: off.
    pub access_log: Option<LogSettings>,
    /// As the MeshConfig describes it.
    pub topology: Topology,
    /// Trust domains of the mesh, its own first.
    pub trust_domains: Vec<Arc<str>>,
}

impl Configuration {
    /// Listeners and certificates do not know files; this says where the field is written.
    pub fn locate(&self, diagnostics: &mut [Diagnostic]) {
        for diagnostic in diagnostics.iter_mut().filter(|diagnostic| diagnostic.position.is_none()) {
            let positions = diagnostic.object.as_ref().and_then(|object| self.positions.get(object));
            diagnostic.position = positions.and_then(|positions| positions.get(&diagnostic.field));
        }
    }
}

/// As the MeshConfig wants it.
#[must_use]
pub fn log_settings(access_log: &AccessLog) -> LogSettings {
    LogSettings {
        target: LogTarget::from_path(std::path::Path::new(&access_log.file)),
        json: access_log.json,
        format: access_log.format.clone(),
    }
}
