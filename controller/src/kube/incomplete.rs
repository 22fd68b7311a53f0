//! VirtualServices that name something new that does not exist yet. Its rest may be on its way, a DestinationRule after its
//! VirtualService for example; until then the requests would fail, where the version in force serves them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_core::api::{ApiObject, Spec};
use mesh_core::diag::{self, Diagnostic};
use mesh_core::object::ObjectRef;
use mesh_core::world::World;
use tokio::time::Instant;

use super::Observed;

/// How long a version waits for what it names.
const PATIENCE: Duration = Duration::from_secs(2);

/// VirtualService, field, and what is said about it.
pub(super) type Missing = BTreeSet<(ObjectRef, String, String)>;

/// What VirtualServices name and what does not exist.
pub(super) fn missing(diagnostics: &[Diagnostic]) -> Missing {
    let codes = [
        diag::DESTINATION_HOST_UNKNOWN,
        diag::DESTINATION_SUBSET_UNKNOWN,
        diag::DESTINATION_PORT_UNKNOWN,
        diag::DELEGATE_UNKNOWN,
    ];
    let found = diagnostics.iter().filter(|diagnostic| codes.iter().any(|code| code.id == diagnostic.code));
    found.filter_map(|found| Some((found.object.clone()?, found.field.clone(), found.message.clone()))).collect()
}

/// Versions that wait.
#[derive(Debug, Default)]
pub(super) struct Incomplete(BTreeMap<ObjectRef, (ApiObject, Instant)>);

/// A version that is put into the world on trial.
pub(super) struct Trial {
    new: ApiObject,
    /// None: it was not there.
    old: Option<ApiObject>,
    since: Instant,
}

pub(super) type Trials = BTreeMap<ObjectRef, Trial>;

impl Incomplete {
    /// When the next of them is in force whatever it names.
    pub fn due(&self) -> Option<Instant> {
        self.0.values().map(|(_, since)| *since + PATIENCE).min()
    }

    /// Whose last version waits.
    pub fn waiting(&self) -> impl Iterator<Item = &ObjectRef> {
        self.0.keys()
    }

    /// Generations of what is in force: those of versions that wait are left out.
    pub fn in_force(&self, observed: &Observed) -> Observed {
        let mut observed = observed.clone();
        for name in self.0.keys() {
            observed.remove(name);
        }
        observed
    }

    /// Gone for good.
    pub fn forget(&mut self, name: &ObjectRef) {
        self.0.remove(name);
    }

    /// Adds those that wait to what comes new, and remembers what they replace. `world` is as it was.
    pub fn try_again(&mut self, apply: &mut BTreeMap<ObjectRef, ApiObject>, world: &World, now: Instant) -> Trials {
        let mut since: BTreeMap<ObjectRef, Instant> = BTreeMap::new();
        for (name, (object, begun)) in std::mem::take(&mut self.0) {
            since.insert(name.clone(), begun);
            apply.entry(name).or_insert(object);
        }
        let rules = apply.iter().filter(|(_, object)| matches!(object.spec, Spec::VirtualService(_)));
        let trial = |(name, object): (&ObjectRef, &ApiObject)| {
            let old = world.virtual_service(&name.namespace, &name.name).map(|entry| ApiObject {
                meta: entry.meta.clone(),
                spec: Spec::VirtualService(entry.spec.clone()),
                positions: entry.positions.clone(),
            });
            let since = since.get(name).copied().unwrap_or(now);
            (name.clone(), Trial { new: object.clone(), old, since })
        };
        rules.map(trial).collect()
    }

    /// Takes those out of the world again that have time left to wait for what they name. True: there were some.
    pub fn take_back(&mut self, failed: &BTreeSet<ObjectRef>, trials: Trials, world: &mut World, now: Instant) -> bool {
        let (mut apply, mut remove) = (Vec::new(), Vec::new());
        for (name, trial) in trials {
            if !failed.contains(&name) || now >= trial.since + PATIENCE {
                continue;
            }
            match trial.old {
                Some(old) => apply.push(old),
                None => remove.push(name.clone()),
            }
            self.0.insert(name, (trial.new, trial.since));
        }
        let some = !apply.is_empty() || !remove.is_empty();
        if !apply.is_empty() {
            world.apply(apply);
        }
        if !remove.is_empty() {
            world.remove(&remove);
        }
        some
    }
}

#[cfg(test)]
#[path = "incomplete_tests.rs"]
mod tests;
