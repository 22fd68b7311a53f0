//! Which VirtualServices of the mesh have something to say about a host. They are not merged: of several for the same hosts the
//! first counts, by visibility, then by age; one for a narrower host counts before one for a wider.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Context;
use super::virtual_service::{Turn, visibility};
use crate::api::VirtualService;
use crate::model::HostPattern;
use crate::world::{Entry, MESH, hostname};

type Name = (Arc<str>, Arc<str>);

/// VirtualServices that the proxy sees and that are for sidecars.
#[derive(Debug, Default)]
pub(super) struct MeshRules {
    exact: BTreeMap<HostPattern, Candidates>,
    wide: BTreeMap<HostPattern, Candidates>,
    /// By namespace and name.
    known: HashMap<Name, (Turn, BTreeSet<HostPattern>)>,
}

type Candidates = BTreeMap<Turn, Arc<Entry<VirtualService>>>;

/// A VirtualService with the host that it names.
pub(super) type Candidate<'r> = (&'r HostPattern, &'r Arc<Entry<VirtualService>>);

impl MeshRules {
    /// Looks at a VirtualService again. The hosts about which it said something, and those about which it does now.
    pub fn update(&mut self, context: &Context<'_>, namespace: &Arc<str>, name: &Arc<str>) -> BTreeSet<HostPattern> {
        let key = (Arc::clone(namespace), Arc::clone(name));
        let (turn, mut touched) = match self.known.remove(&key) {
            Some((turn, hosts)) => (Some(turn), hosts),
            None => (None, BTreeSet::new()),
        };
        for host in &touched {
            let table = if matches!(host, HostPattern::Exact(_)) { &mut self.exact } else { &mut self.wide };
            if let (Some(candidates), Some(turn)) = (table.get_mut(host), &turn) {
                candidates.remove(turn);
                if candidates.is_empty() {
                    table.remove(host);
                }
            }
        }
        let entry = context.world.virtual_service(namespace, name).filter(|entry| is_for_mesh(entry));
        let entry = entry.filter(|entry| context.scope.follows_anywhere(entry));
        let Some((entry, seen)) = entry.and_then(|entry| Some((entry, visibility(context, entry)?))) else {
            return touched;
        };
        let turn = Turn::new(0, seen, entry);
        let hosts: BTreeSet<HostPattern> = hosts(entry).collect();
        for host in &hosts {
            let table = if matches!(host, HostPattern::Exact(_)) { &mut self.exact } else { &mut self.wide };
            table.entry(host.clone()).or_default().insert(turn.clone(), Arc::clone(entry));
        }
        touched.extend(hosts.iter().cloned());
        self.known.insert(key, (turn, hosts));
        touched
    }

    /// Those for a host, or for a pattern of hosts, in the order in which they count.
    pub fn of(&self, host: &HostPattern) -> Vec<Candidate<'_>> {
        let mut wide: Vec<_> = self.wide.iter().filter(|(pattern, _)| hostname::covers(pattern, host)).collect();
        wide.sort_by_key(|(pattern, _)| std::cmp::Reverse(length(pattern)));
        let exact = self.exact.get_key_value(host);
        exact
            .into_iter()
            .chain(wide)
            .flat_map(|(pattern, all)| all.values().map(move |entry| (pattern, entry)))
            .collect()
    }

    /// Those that name just this.
    pub fn at(&self, host: &HostPattern) -> Vec<Candidate<'_>> {
        let found = self.exact.get_key_value(host).or_else(|| self.wide.get_key_value(host));
        found.into_iter().flat_map(|(pattern, all)| all.values().map(move |entry| (pattern, entry))).collect()
    }
}

fn length(pattern: &HostPattern) -> usize {
    match pattern {
        HostPattern::Exact(host) | HostPattern::Suffix(host) => host.len(),
        HostPattern::Any => 0,
    }
}

/// `gateways` names the mesh, or nothing.
pub(super) fn is_for_mesh(entry: &Entry<VirtualService>) -> bool {
    let gateways = &entry.spec.gateways;
    gateways.is_empty() || gateways.iter().any(|name| name == MESH)
}

/// As they are looked up: in full, lower case. `*` means nothing in the mesh.
pub(super) fn hosts(entry: &Entry<VirtualService>) -> impl Iterator<Item = HostPattern> {
    let hosts = entry.spec.hosts.iter().map(|host| hostname::pattern(&hostname::expand(host, entry.namespace())));
    hosts.filter(|host| *host != HostPattern::Any)
}
