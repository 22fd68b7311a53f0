//! PeerAuthentications: what the ports of a workload demand of their clients. A narrower scope counts before a wider one, and
//! what it leaves open (`UNSET`) is the wider one's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Context;
use crate::api::{PeerAuthentication, PeerTlsMode};
use crate::model::MtlsMode;
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, selects};

/// What a workload demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerModes {
    /// Of ports that are named.
    pub ports: BTreeMap<u16, MtlsMode>,
    pub others: MtlsMode,
}

impl PeerModes {
    pub fn of(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.others)
    }
}

/// The one that counts there.
type Scope<'a> = Option<&'a Arc<Entry<PeerAuthentication>>>;

impl<'a> Context<'a> {
    /// Of the workloads of a namespace with these labels.
    pub(super) fn peer_modes(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> PeerModes {
        let scopes = self.peer_scopes(namespace, labels);
        let [_, _, of_workload] = scopes;
        let scopes = scopes.into_iter().flatten();
        let others = scopes.fold(MtlsMode::default(), |wider, entry| read(entry.spec.mode(), wider));
        let ports = of_workload.into_iter().flat_map(|entry| entry.spec.ports());
        PeerModes { ports: ports.map(|(port, mode)| (port, read(mode, others))).collect(), others }
    }

    /// The PeerAuthentications that say it.
    pub(super) fn peer_origins(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<ObjectRef> {
        self.peer_scopes(namespace, labels).into_iter().flatten().map(|entry| entry.reference.clone()).collect()
    }

    /// Of the mesh, of the namespace, of the workload.
    fn peer_scopes(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> [Scope<'a>; 3] {
        let root = self.world.mesh().root_namespace.as_str();
        let of_mesh = self.oldest(root, |spec| !spec.is_for_some());
        let of_namespace = self.oldest(namespace, |spec| !spec.is_for_some());
        let of_workload = self.oldest(namespace, |spec| {
            spec.is_for_some() && spec.selector.as_ref().is_some_and(|own| selects(&own.match_labels, labels))
        });
        [of_mesh, of_namespace, of_workload]
    }

    fn oldest(&mut self, namespace: &str, wanted: impl Fn(&PeerAuthentication) -> bool) -> Scope<'a> {
        self.reads.note(Cell::Namespace("PeerAuthentication", namespace.into()));
        let all = self.world.peer_authentications(namespace).filter(|entry| wanted(&entry.spec));
        all.min_by(|a, b| a.age().cmp(&b.age()))
    }
}

fn read(mode: PeerTlsMode, wider: MtlsMode) -> MtlsMode {
    match mode {
        PeerTlsMode::Unset => wider,
        PeerTlsMode::Disable => MtlsMode::Disable,
        PeerTlsMode::Permissive => MtlsMode::Permissive,
        PeerTlsMode::Strict => MtlsMode::Strict,
    }
}
