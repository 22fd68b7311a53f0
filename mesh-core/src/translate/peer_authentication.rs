//! PeerAuthentications: what the ports of a workload demand of their clients. A narrower scope counts before a wider one, and
//! what it leaves open (`UNSET`) is the wider one's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Context;
use crate::api::{PeerAuthentication, PeerTlsMode};
use crate::model::MtlsMode;
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, World, selects};

/// What a workload demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerModes {
    /// Of ports that are named.
    pub ports: BTreeMap<u16, MtlsMode>,
    pub others: MtlsMode,
    /// The PeerAuthentications that say it: of the mesh, of the namespace, of the workload.
    pub origins: Vec<ObjectRef>,
}

impl PeerModes {
    pub(super) fn of(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.others)
    }
}

/// The one that counts there.
type Scope<'a> = Option<&'a Arc<Entry<PeerAuthentication>>>;

impl Context<'_> {
    /// Of the workloads of a namespace with these labels.
    pub(super) fn peer_modes(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> PeerModes {
        for namespace in [self.world.mesh().root_namespace.as_str(), namespace] {
            self.reads.note(Cell::Namespace("PeerAuthentication", namespace.into()));
        }
        peer_modes(self.world, namespace, labels)
    }
}

/// What workloads of a namespace with these labels demand.
#[must_use]
pub fn peer_modes(world: &World, namespace: &str, labels: &BTreeMap<String, String>) -> PeerModes {
    let of_mesh = oldest(world, world.mesh().root_namespace.as_str(), |spec| !spec.is_for_some());
    let of_namespace = oldest(world, namespace, |spec| !spec.is_for_some());
    let of_workload = oldest(world, namespace, |spec| {
        spec.is_for_some() && spec.selector.as_ref().is_some_and(|own| selects(&own.match_labels, labels))
    });
    let scopes = [of_mesh, of_namespace, of_workload].into_iter().flatten();
    let others = scopes.clone().fold(MtlsMode::default(), |wider, entry| read(entry.spec.mode(), wider));
    let ports = of_workload.into_iter().flat_map(|entry| entry.spec.ports());
    let ports = ports.map(|(port, mode)| (port, read(mode, others))).collect();
    let mut origins: Vec<ObjectRef> = scopes.map(|entry| entry.reference.clone()).collect();
    // That of the mesh is in a namespace, too.
    origins.dedup();
    PeerModes { ports, others, origins }
}

fn oldest<'w>(world: &'w World, namespace: &str, wanted: impl Fn(&PeerAuthentication) -> bool) -> Scope<'w> {
    let all = world.peer_authentications(namespace).filter(|entry| wanted(&entry.spec));
    all.min_by(|a, b| a.age().cmp(&b.age()))
}

fn read(mode: PeerTlsMode, wider: MtlsMode) -> MtlsMode {
    match mode {
        PeerTlsMode::Unset => wider,
        PeerTlsMode::Disable => MtlsMode::Disable,
        PeerTlsMode::Permissive => MtlsMode::Permissive,
        PeerTlsMode::Strict => MtlsMode::Strict,
    }
}
