//! Parts of the previous snapshot whose input did not change are taken over as they are, so that readers, too, can see
//! by pointer that nothing changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{Destination, DiffItem, Key, Resources};
use crate::snapshot::{CompiledListener, CompiledProtocol, CompiledTlsServer, Snapshot, TlsTable};

/// Indexes of the previous snapshot's clusters that mean something else now.
#[derive(Default)]
pub(super) struct Moved {
    indexes: HashSet<u32>,
    /// There are clusters that were not there.
    more: bool,
}

impl Moved {
    pub(super) fn is_empty(&self) -> bool {
        self.indexes.is_empty() && !self.more
    }

    /// Whether every index means what it meant.
    pub(super) fn indexes_stay(&self) -> bool {
        self.indexes.is_empty()
    }

    /// Whether all of these mean what they meant; none is a destination that was not there.
    pub(super) fn spares(&self, clusters: &[Option<u32>]) -> bool {
        clusters.iter().all(|index| index.map_or(!self.more, |index| !self.indexes.contains(&index)))
    }
}

/// Fills in the clusters. Those that stay keep their indexes, so that the tables of hosts do not depend on what comes and
/// goes elsewhere; the place of one that goes is taken by the last.
pub(super) fn clusters(
    snapshot: &mut Snapshot,
    destinations: &Resources<Destination>,
    previous: Option<&Snapshot>,
) -> Moved {
    if let Some(previous) = previous {
        snapshot.clusters.clone_from(&previous.clusters);
        snapshot.cluster_indexes = previous.cluster_indexes.clone();
        snapshot.destinations = previous.destinations.clone();
    }
    let Snapshot { clusters, cluster_indexes: indexes, destinations: before, .. } = snapshot;
    let mut moved = Moved::default();
    for difference in before.diff(destinations) {
        match difference {
            DiffItem::Add(key, destination) => {
                // A split that has no index is answered 503.
                if let Ok(index) = u32::try_from(clusters.len()) {
                    indexes.insert(key.clone(), index);
                    clusters.push(destination.clone());
                    moved.more = true;
                }
            }
            DiffItem::Update { new: (key, destination), .. } => {
                if let Some(cluster) = place(indexes, key).and_then(|index| clusters.get_mut(index)) {
                    *cluster = destination.clone();
                }
            }
            DiffItem::Remove(key, _) => {
                let Some(index) = indexes.remove(key) else { continue };
                let last = clusters.pop();
                moved.indexes.insert(index);
                if let Some(last) = last.filter(|last| last.key != *key) {
                    moved.indexes.extend(indexes.insert(last.key.clone(), index));
                    if let Some(cluster) = usize::try_from(index).ok().and_then(|index| clusters.get_mut(index)) {
                        *cluster = last;
                    }
                }
            }
        }
    }
    snapshot.destinations = destinations.clone();
    moved
}

fn place(indexes: &OrdMap<Key, u32>, key: &Key) -> Option<usize> {
    usize::try_from(*indexes.get(key)?).ok()
}

/// The old listener if it is the same in everything; else the new one, with those of its TLS servers that are the same.
pub(super) fn listener(new: CompiledListener, old: Option<&Arc<CompiledListener>>) -> Arc<CompiledListener> {
    let Some(old) = old else { return Arc::new(new) };
    let same_model = old.listener == new.listener;
    match (&old.protocol, new.protocol) {
        (CompiledProtocol::Http(before), CompiledProtocol::Http(after)) => {
            if same_model && Arc::ptr_eq(before, &after) {
                return old.clone();
            }
            Arc::new(CompiledListener { listener: new.listener, protocol: CompiledProtocol::Http(after) })
        }
        (CompiledProtocol::Tcp(before), CompiledProtocol::Tcp(after)) if same_model && Arc::ptr_eq(before, &after) => {
            old.clone()
        }
        (CompiledProtocol::Tls(before), CompiledProtocol::Tls(after)) => {
            // Servers seldom share their routes, and there may be thousands.
            let by_routes: HashMap<&Key, &Arc<CompiledTlsServer>> =
                before.servers().map(|server| (&server.server.routes, server)).collect();
            let servers: Vec<_> = after
                .servers()
                .map(|server| {
                    let old = by_routes.get(&server.server.routes);
                    let same =
                        old.filter(|old| Arc::ptr_eq(&old.routes, &server.routes) && old.server == server.server);
                    same.map_or(server, |same| *same).clone()
                })
                .collect();
            let unchanged = same_model
                && before.servers().count() == servers.len()
                && before.servers().zip(&servers).all(|(a, b)| Arc::ptr_eq(a, b));
            if unchanged {
                return old.clone();
            }
            let protocol = CompiledProtocol::Tls(TlsTable::new(servers));
            Arc::new(CompiledListener { listener: new.listener, protocol })
        }
        (CompiledProtocol::Outbound(before), CompiledProtocol::Outbound(after))
            if same_model && before.has_tables_of(&after) =>
        {
            old.clone()
        }
        (CompiledProtocol::Inbound(before), CompiledProtocol::Inbound(after))
            if same_model && before.has_tables_of(&after) =>
        {
            old.clone()
        }
        (_, protocol) => Arc::new(CompiledListener { listener: new.listener, protocol }),
    }
}
