//! Route sets become host tables.

use std::sync::Arc;

use super::rules;
use crate::diag::Diagnostic;
use crate::model::{Key, Listener, RouteSet};
use crate::snapshot::{HostEntry, HostTable, Snapshot};

pub(super) fn host_table(routes: &Arc<RouteSet>, snapshot: &Snapshot, diagnostics: &mut Vec<Diagnostic>) -> HostTable {
    let entries = routes
        .virtual_hosts
        .iter()
        .map(|host| {
            let table = Arc::new(rules::route_table(host, diagnostics));
            let clusters =
                table.slots.iter().map(|key| key.as_ref().and_then(|key| snapshot.cluster_index(key))).collect();
            HostEntry { model: host.clone(), table, clusters }
        })
        .collect();
    HostTable::new(routes.clone(), entries)
}

/// A listener that names routes which are not there serves nothing: 404 for every request.
pub(super) fn empty(key: &Key, listener: &Listener) -> HostTable {
    let routes = RouteSet { key: key.clone(), virtual_hosts: Vec::new(), origin: listener.origin.clone() };
    HostTable::new(Arc::new(routes), Vec::new())
}
