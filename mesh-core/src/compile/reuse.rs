//! Parts of the previous snapshot whose input did not change are taken over as they are, so that readers, too, can see
//! by pointer that nothing changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{Destination, Key};
use crate::snapshot::{CompiledListener, CompiledProtocol, CompiledTlsServer, Snapshot, TlsTable};

/// Destinations in the order of their keys.
pub(super) fn clusters(
    destinations: &BTreeMap<Key, Arc<Destination>>,
    previous: Option<&Snapshot>,
) -> Vec<Arc<Destination>> {
    let mut old = previous.map(|previous| previous.clusters.iter().peekable());
    destinations
        .iter()
        .map(|(key, destination)| {
            let Some(old) = &mut old else { return destination.clone() };
            while old.next_if(|cluster| cluster.key < *key).is_some() {}
            match old.peek() {
                Some(cluster) if cluster.key == *key && **cluster == *destination => (*cluster).clone(),
                _ => destination.clone(),
            }
        })
        .collect()
}

/// The same keys at the same indexes.
pub(super) fn same_keys(old: &[Arc<Destination>], new: &[Arc<Destination>]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| Arc::ptr_eq(old, new) || old.key == new.key)
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
        (_, protocol) => Arc::new(CompiledListener { listener: new.listener, protocol }),
    }
}
