//! Objects that resources are made of without being named in them: whoever asks whether a proxy has an object must look here, too.

use std::sync::Arc;

use imbl::OrdMap;

use super::gateway::Table;
use crate::model::{HostPattern, Key};
use crate::object::ObjectRef;

/// A resource of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Gateways with servers on a listener that is named after an older one.
    Routes(Key),
    /// VirtualServices whose rules here are all those of delegates. Key of the routes, and host.
    Host(Key, HostPattern),
    /// DestinationRules that are merged behind the one that it names.
    Destination(Key),
}

/// Parts without such objects are not in it. Most have none, so it is small; a copy costs nothing.
pub type Concerned = OrdMap<Part, Arc<[ObjectRef]>>;

/// Replaces what is known of a part.
pub(super) fn note(concerned: &mut Concerned, part: Part, mut objects: Vec<ObjectRef>) {
    objects.sort_unstable();
    objects.dedup();
    if objects.is_empty() {
        if concerned.contains_key(&part) {
            concerned.remove(&part);
        }
    } else if concerned.get(&part).is_none_or(|known| **known != *objects) {
        concerned.insert(part, objects.into());
    }
}

/// Replaces what is known of all route tables.
pub(super) fn note_tables(concerned: &mut Concerned, tables: &[Table]) {
    let known: Vec<Part> = concerned.keys().filter(|part| matches!(part, Part::Routes(_))).cloned().collect();
    for part in known {
        concerned.remove(&part);
    }
    for table in tables {
        let gateways = table.slots.iter().map(|slot| &slot.gateway.reference);
        let others = gateways.filter(|gateway| **gateway != table.origin).cloned().collect();
        note(concerned, Part::Routes(Arc::clone(&table.key)), others);
    }
}
