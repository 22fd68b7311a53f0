//! Objects that resources are made of without being named in them: whoever asks whether a proxy has an object must look here, too.

use std::sync::Arc;

use imbl::OrdMap;

use super::gateway::Table;
use crate::model::{HostPattern, Key};
use crate::object::ObjectRef;

/// A resource of a set that is made of more objects than it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Composite {
    /// Gateways with servers on a listener that is named after an older one.
    Routes(Key),
    /// VirtualServices whose rules here are all those of delegates. Key of the routes, and host.
    Host(Key, HostPattern),
    /// DestinationRules that are merged behind the one that it names.
    Destination(Key),
    /// PeerAuthentications that say what a listener demands of its clients.
    Listener(Key),
}

/// Resources without such objects are not in it. Most have none, so it is small; a copy costs nothing.
pub type Concerned = OrdMap<Composite, Arc<[ObjectRef]>>;

/// Replaces what is known of a resource.
pub(super) fn note(concerned: &mut Concerned, composite: Composite, mut objects: Vec<ObjectRef>) {
    objects.sort_unstable();
    objects.dedup();
    if objects.is_empty() {
        if concerned.contains_key(&composite) {
            concerned.remove(&composite);
        }
    } else if concerned.get(&composite).is_none_or(|known| **known != *objects) {
        concerned.insert(composite, objects.into());
    }
}

/// Replaces what is known of all route tables.
pub(super) fn note_tables(concerned: &mut Concerned, tables: &[Table]) {
    let known: Vec<Composite> =
        concerned.keys().filter(|composite| matches!(composite, Composite::Routes(_))).cloned().collect();
    for composite in known {
        concerned.remove(&composite);
    }
    for table in tables {
        let gateways = table.slots.iter().map(|slot| &slot.gateway.reference);
        let others = gateways.filter(|gateway| **gateway != table.origin).cloned().collect();
        note(concerned, Composite::Routes(Arc::clone(&table.key)), others);
    }
}
