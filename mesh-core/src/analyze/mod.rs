//! What is wrong among objects although each of them is right: one file per check, each a pure function of what it looks at.
//!
//! Decides: what is said of rules that no request reaches, and of requests whose outcome two configurations do not share. Must not
//! know: sockets, files, Kubernetes. What is asked for once, by a command or a webhook, and may cost more than a change of a
//! running gateway may, is here; what a translation finds out by the way is said in `translate`.

mod claims;
mod connection_rules;
mod dead_rules;
#[cfg(test)]
mod dead_rules_tests;
mod difference;
#[cfg(test)]
mod difference_tests;
mod door;
mod gateway_ports;
mod mesh_hosts;
#[cfg(test)]
mod objects_tests;
mod outcome;
mod references;
mod selectors;
mod service_entries;
mod subsets;
mod table;
mod tunnels;
mod verdict;
mod workloads;

use std::collections::HashMap;

use crate::diag::{self, Diagnostic};
use crate::model::ResourceSet;
use crate::object::ObjectRef;
use crate::snapshot::Snapshot;
use crate::world::World;

pub use crate::reach::Example;
pub use difference::{Asked, Change, Differences, differences};
pub use outcome::Outcome;

/// What one analysis may cost, in steps of automata: about a second.
pub const FUEL: u64 = 100_000_000;

const SAYS_MORE: [&str; 2] = [diag::RULE_UNREACHABLE.id, diag::MATCH_INEFFECTIVE.id];

/// One of two configurations, as a proxy would have it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Says where rules stand.
    pub world: &'a World,
    pub set: &'a ResourceSet,
    pub snapshot: &'a Snapshot,
}

/// Adds what is wrong among the objects of a world, with what `translate` made of it for a proxy, and `compile` of that. `about`:
/// only what has to do with this object.
pub fn analyze(
    world: &World,
    set: &ResourceSet,
    snapshot: &Snapshot,
    about: Option<&ObjectRef>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    analyze_within(world, set, snapshot, about, &mut { FUEL }, diagnostics);
}

/// The same, with what is left of the work that several may make together, in steps of automata.
pub fn analyze_within(
    world: &World,
    set: &ResourceSet,
    snapshot: &Snapshot,
    about: Option<&ObjectRef>,
    fuel: &mut u64,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let dead = dead_rules::dead_rules(world, set, snapshot, about, fuel);
    // Translation looks at rules one by one: what was found here says more.
    let mut said: HashMap<Option<&ObjectRef>, Vec<&Diagnostic>> = HashMap::new();
    for new in dead.iter().filter(|new| SAYS_MORE.contains(&new.code)) {
        said.entry(new.object.as_ref()).or_default().push(new);
    }
    diagnostics.retain(|old| {
        let same = said.get(&old.object.as_ref()).filter(|_| old.code == diag::RULE_UNREACHABLE.id);
        !same.is_some_and(|same| same.iter().any(|new| is_of(new, old)))
    });
    diagnostics.extend(dead);
    diagnostics.extend(claims::claims(world, set));
    diagnostics.extend(connection_rules::connection_rules(world, about));
    diagnostics.extend(service_entries::protocols(world, about));
    diagnostics.extend(gateway_ports::gateway_ports(world, about));
    diagnostics.extend(workloads::workloads(world, set, about));
    diagnostics.extend(tunnels::tunnels(world, set, about));
}

/// Adds what is wrong among all objects, whoever follows them: rules of proxies that are not looked at, too. `diagnostics`: what is
/// known for some proxies, which is not said again.
pub fn analyze_objects(world: &World, diagnostics: &mut Vec<Diagnostic>) {
    let mut found = references::references(world, diagnostics);
    found.extend(selectors::selectors(world, diagnostics));
    found.extend(subsets::subsets(world, diagnostics));
    found.extend(mesh_hosts::mesh_hosts(world, diagnostics));
    diagnostics.append(&mut found);
}

/// Whether both are about the same rule.
fn is_of(new: &Diagnostic, old: &Diagnostic) -> bool {
    let within = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(&new.field, &old.field) || within(&old.field, &new.field)
}
