//! Between whom something happened: the labels that requests and connections have in common. This proxy's workload is one of
//! the two; the other one is the endpoint, or the client of what arrives at the workload.

use std::sync::Arc;

use mesh_core::model::{BLACK_HOLE, Destination, Workload};

use super::{RequestRecord, ResponseFlags};
use crate::listen::Direction;
use crate::tls::peer_verify::Identity;

/// Route of requests to hosts that nobody knows, where they are refused (`REGISTRY_ONLY`).
const BLOCK_ALL: &str = "block_all";

/// How a worker finds its counters. The pointer stays unique because the entry keeps the workload alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartiesKey {
    cluster: u64,
    workload: usize,
    /// Of the identity of the other one; none in clear.
    peer: Option<u64>,
    inbound: bool,
    /// Which workload that is, nobody says but itself.
    said: bool,
    black_hole: bool,
    flags: ResponseFlags,
}

impl PartiesKey {
    pub fn of(record: &RequestRecord<'_>) -> PartiesKey {
        PartiesKey {
            cluster: record.cluster.map_or(0, |cluster| cluster.id),
            workload: workload(record).map_or(0, |workload| Arc::as_ptr(workload) as usize),
            peer: peer(record).map(|peer| peer.fingerprint()),
            inbound: is_inbound(record),
            said: is_said(record),
            black_hole: record.upstream_cluster == BLACK_HOLE || record.route_name == Some(BLOCK_ALL),
            flags: record.flags,
        }
    }
}

impl PartiesKey {
    /// Without what the other end says of itself. Who it is, its certificate says.
    #[must_use]
    pub fn without_said(self) -> PartiesKey {
        if self.said { PartiesKey { workload: 0, ..self } } else { self }
    }
}

/// What the numbers of a key mean.
pub struct Parties {
    destination: Option<Arc<Destination>>,
    workload: Option<Arc<Workload>>,
    peer: Option<Arc<Identity>>,
}

impl Parties {
    pub fn of(record: &RequestRecord<'_>) -> Parties {
        Parties {
            destination: record.cluster.map(|cluster| cluster.destination.clone()),
            workload: workload(record).cloned(),
            peer: peer(record).cloned(),
        }
    }

    /// See [`PartiesKey::without_said`].
    #[must_use]
    pub fn without_said(self, key: &PartiesKey) -> Parties {
        if key.said { Parties { workload: None, ..self } } else { self }
    }

    pub fn labels(&self, key: &PartiesKey) -> PartyLabels {
        let destination = self.destination.as_deref();
        let black_hole = || if key.black_hole { Arc::from(BLACK_HOLE) } else { Arc::default() };
        PartyLabels {
            inbound: key.inbound,
            service: destination.map_or_else(black_hole, |d| d.host.clone()),
            service_name: destination.map_or_else(black_hole, |d| d.service_name.clone()),
            service_namespace: destination.map(|d| d.service_namespace.clone()).unwrap_or_default(),
            workload: self.workload.as_deref().map(WorkloadLabels::from),
            principal: self.peer.as_deref().and_then(Identity::uri).map(Arc::from),
            flags: key.flags,
        }
    }
}

fn is_inbound(record: &RequestRecord<'_>) -> bool {
    record.direction == Some(Direction::Inbound)
}

/// As the endpoints have it.
fn known<'r>(record: &'r RequestRecord<'_>) -> Option<&'r Arc<Workload>> {
    record.endpoint.filter(|_| !is_inbound(record)).and_then(|endpoint| endpoint.endpoint.named_workload())
}

fn is_said(record: &RequestRecord<'_>) -> bool {
    is_inbound(record) || (record.peer_workload.is_some() && known(record).is_none())
}

fn workload<'r>(record: &'r RequestRecord<'_>) -> Option<&'r Arc<Workload>> {
    let unnamed = || record.endpoint.filter(|_| !is_inbound(record))?.endpoint.workload.as_ref();
    known(record).or(record.peer_workload).or_else(unnamed)
}

fn peer<'r>(record: &'r RequestRecord<'_>) -> Option<&'r Arc<Identity>> {
    if is_inbound(record) { record.client } else { record.upstream_peer }
}

/// The labels, but for those of this proxy's workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartyLabels {
    /// This proxy's workload is the destination, not the source.
    pub inbound: bool,
    pub service: Arc<str>,
    pub service_name: Arc<str>,
    pub service_namespace: Arc<str>,
    /// The other one's.
    pub workload: Option<WorkloadLabels>,
    /// `spiffe://…` of the other one, as its certificate said; none in clear.
    pub principal: Option<Arc<str>>,
    pub flags: ResponseFlags,
}

impl PartyLabels {
    /// See [`PartiesKey::without_said`].
    #[must_use]
    pub fn without_said(self, key: &PartiesKey) -> PartyLabels {
        if key.said { PartyLabels { workload: None, ..self } } else { self }
    }
}

/// [`Workload`] in an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadLabels {
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub app: Arc<str>,
    pub version: Arc<str>,
    pub canonical_service: Arc<str>,
    pub canonical_revision: Arc<str>,
    pub cluster: Arc<str>,
}

impl From<&Workload> for WorkloadLabels {
    fn from(workload: &Workload) -> Self {
        Self {
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            app: workload.app.clone(),
            version: workload.version.clone(),
            canonical_service: workload.canonical_service.clone(),
            canonical_revision: workload.canonical_revision.clone(),
            cluster: workload.cluster.clone(),
        }
    }
}
