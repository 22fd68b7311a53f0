//! Route sets become host tables, host by host; a host whose rules did not change keeps its table.

use std::collections::HashSet;
use std::sync::Arc;

use super::regex::Patterns;
use super::reuse::Moved;
use super::table;
use crate::diag::Diagnostic;
use crate::model::{Key, Listener, RouteSet, VirtualHost};
use crate::snapshot::{HostEntry, HostTable, Snapshot};

/// What all hosts of one compile share.
pub(super) struct Hosts<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Where clusters are since the previous snapshot.
    pub(super) moved: Moved,
    pub(super) patterns: Patterns,
    pub(super) diagnostics: Vec<Diagnostic>,
    told: HashSet<Diagnostic>,
}

impl<'a> Hosts<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, moved: Moved) -> Hosts<'a> {
        let patterns = Patterns::default();
        Hosts { snapshot, moved, patterns, diagnostics: Vec::new(), told: HashSet::new() }
    }

    pub(super) fn table(&mut self, routes: &Arc<RouteSet>, previous: Option<&Arc<HostTable>>) -> Arc<HostTable> {
        if let Some(previous) = previous
            && self.moved.is_empty()
            && Arc::ptr_eq(&previous.model, routes)
        {
            if !previous.plain {
                previous.hosts.iter().for_each(|entry| self.tell(entry));
            }
            return previous.clone();
        }
        let mut same_hosts = previous.is_some_and(|previous| previous.hosts.len() == routes.virtual_hosts.len());
        let mut entries = Vec::with_capacity(routes.virtual_hosts.len());
        // Of these, hosts that are the same allocation need not be looked at, which would cost more than all the rest.
        let untouched = previous.filter(|previous| previous.plain && self.moved.indexes_stay());
        let mut plain = true;
        // Behind the last one that was found: hosts come and go, but keep their order.
        let mut likely = 0;
        for (index, host) in routes.virtual_hosts.iter().enumerate() {
            if let Some(same) = untouched.and_then(|previous| same_allocation(previous, likely, host)) {
                same_hosts &= likely == index;
                likely += 1;
                entries.push(same);
                continue;
            }
            let old = previous.and_then(|previous| previous.same_pattern(likely, host));
            likely = old.map_or(likely, |(at, _)| at + 1);
            same_hosts &= old.is_some_and(|(at, old)| at == index && old.model.aliases == host.aliases);
            let entry = self.entry(host, old.map(|(_, entry)| entry));
            self.tell(&entry);
            plain &= entry.is_plain();
            entries.push(entry);
        }
        let Some(previous) = previous.filter(|_| same_hosts) else {
            return Arc::new(HostTable::new(routes.clone(), entries, plain));
        };
        let same_entries = previous.hosts.iter().zip(&entries).all(|(old, new)| Arc::ptr_eq(old, new));
        let is_same =
            |before: &RouteSet| before.key == routes.key && before.origin == routes.origin && before.tcp == routes.tcp;
        if same_entries && is_same(&previous.model) {
            return previous.clone();
        }
        Arc::new(previous.with_entries(routes.clone(), entries, plain))
    }

    fn entry(&mut self, host: &Arc<VirtualHost>, previous: Option<&Arc<HostEntry>>) -> Arc<HostEntry> {
        let differs = |old: &HostEntry| table::difference(&old.model.rules, &host.rules);
        let difference = previous.filter(|old| !Arc::ptr_eq(&old.model, host)).map(|old| differs(old));
        let same = previous.filter(|old| match &difference {
            None => true,
            Some(difference) => {
                difference.is_empty(&old.model.rules, &host.rules)
                    && old.https_redirect == host.https_redirect
                    && old.model.aliases == host.aliases
                    && old.model.origin == host.origin
            }
        });
        if let Some(same) = same
            && self.moved.spares(&same.clusters)
        {
            return same.clone();
        }
        let table = match (same, previous.zip(difference)) {
            (Some(same), _) => same.table.clone(),
            (None, Some((old, difference))) => {
                Arc::new(table::edited(&host.rules, &old.model.rules, &old.table, &difference, &mut self.patterns))
            }
            (None, None) => Arc::new(table::fresh(&host.rules, &mut self.patterns)),
        };
        let old_clusters = previous
            .filter(|old| self.moved.spares(&old.clusters) && Arc::ptr_eq(&old.table.destinations, &table.destinations))
            .map(|old| old.clusters.clone());
        let clusters = old_clusters
            .unwrap_or_else(|| table.destinations.keys.iter().map(|key| self.snapshot.cluster_index(key)).collect());
        let troubled =
            table.order.iter().any(|slot| table.rules.get(*slot).is_some_and(|rule| rule.diagnostics.is_some()));
        Arc::new(HostEntry { model: host.clone(), table, clusters, https_redirect: host.https_redirect, troubled })
    }

    /// Rules that share an action, and hosts that share rules, have the same to tell; it is told once.
    fn tell(&mut self, entry: &HostEntry) {
        if !entry.troubled {
            return;
        }
        for slot in &entry.table.order {
            let Some(rule) = entry.table.rules.get(*slot) else { continue };
            for diagnostic in rule.diagnostics.iter().flat_map(|all| all.iter()) {
                if self.told.insert(diagnostic.clone()) {
                    self.diagnostics.push(diagnostic.clone());
                }
            }
        }
    }
}

/// The entry at this place, if it was made from this very host.
fn same_allocation(previous: &HostTable, place: usize, host: &Arc<VirtualHost>) -> Option<Arc<HostEntry>> {
    previous.model.virtual_hosts.get(place).filter(|old| Arc::ptr_eq(old, host))?;
    previous.hosts.get(place).cloned()
}

/// A listener that names routes which are not there serves nothing: 404 for every request.
pub(super) fn empty(key: &Key, listener: &Listener) -> HostTable {
    let routes =
        RouteSet { key: key.clone(), virtual_hosts: Vec::new(), tcp: Vec::new(), origin: listener.origin.clone() };
    HostTable::new(Arc::new(routes), Vec::new(), true)
}
