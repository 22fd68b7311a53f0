//! What the store says of itself: what is served, what is wrong with it, and what the last change was.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use mesh_core::diag::Diagnostic;
use mesh_core::model::{Key, ResourceSet};
use mesh_core::object::ObjectRef;

/// For admin pages. Replaced as a whole.
#[derive(Clone, Debug)]
pub struct Status {
    /// 0: nothing was published yet.
    pub generation: u64,
    pub published: SystemTime,
    pub set: Arc<ResourceSet>,
    /// Objects in force.
    pub objects: Arc<[ObjectRef]>,
    pub diagnostics: Vec<Diagnostic>,
}

pub type StatusCell = ArcSwap<Status>;

impl Default for Status {
    fn default() -> Self {
        Status {
            generation: 0,
            published: SystemTime::UNIX_EPOCH,
            set: Arc::default(),
            objects: Arc::default(),
            diagnostics: Vec::new(),
        }
    }
}

/// What is different between two sets.
#[derive(Debug, Default)]
pub struct Changed {
    pub listeners: Delta,
    pub routes: Delta,
    pub destinations: Delta,
    pub endpoints: Delta,
    pub secrets: Delta,
}

/// How many came, went, and changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
}

impl Changed {
    /// By pointer: unchanged parts of `new` are those of `old` already.
    pub fn between(old: &ResourceSet, new: &ResourceSet) -> Changed {
        Changed {
            listeners: Delta::between(&old.listeners, &new.listeners),
            routes: Delta::between(&old.routes, &new.routes),
            destinations: Delta::between(&old.destinations, &new.destinations),
            endpoints: Delta::between(&old.endpoints, &new.endpoints),
            secrets: Delta::between(&old.secrets, &new.secrets),
        }
    }

    /// Or nothing at all.
    pub fn only_endpoints(&self) -> bool {
        ![self.listeners, self.routes, self.destinations, self.secrets].iter().any(Delta::any)
    }
}

impl Delta {
    fn between<T>(old: &BTreeMap<Key, Arc<T>>, new: &BTreeMap<Key, Arc<T>>) -> Delta {
        let mut delta = Delta { removed: old.keys().filter(|key| !new.contains_key(*key)).count(), ..Delta::default() };
        for (key, value) in new {
            match old.get(key) {
                None => delta.added = delta.added.saturating_add(1),
                Some(before) if !Arc::ptr_eq(before, value) => delta.changed = delta.changed.saturating_add(1),
                Some(_) => {}
            }
        }
        delta
    }

    pub fn any(&self) -> bool {
        *self != Delta::default()
    }
}

/// `routes +1 ~2, endpoints -1`
impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("listeners", self.listeners),
            ("routes", self.routes),
            ("destinations", self.destinations),
            ("endpoints", self.endpoints),
            ("secrets", self.secrets),
        ];
        let mut separator = "";
        for (name, delta) in parts.iter().filter(|(_, delta)| delta.any()) {
            write!(f, "{separator}{name}")?;
            for (sign, count) in [('+', delta.added), ('~', delta.changed), ('-', delta.removed)] {
                if count > 0 {
                    write!(f, " {sign}{count}")?;
                }
            }
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}
