//! One stored object, typed by its kind.

use std::sync::Arc;

use crate::api::{Meta, Positions};
use crate::object::{ObjectRef, Position};

/// A user's object with its name and the places of its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T> {
    pub reference: ObjectRef,
    pub meta: Meta,
    pub spec: T,
    pub positions: Positions,
}

impl<T> Entry<T> {
    pub fn position(&self, field: &str) -> Option<Position> {
        self.positions.get(field)
    }

    pub fn namespace(&self) -> &Arc<str> {
        &self.reference.namespace
    }

    /// What comes first is older. Objects without a time (files) come before those with one; equal times are settled by
    /// name, then namespace (Istio's order, observed).
    pub fn age(&self) -> (Option<&str>, &str, &str) {
        (self.meta.creation_timestamp.as_deref(), &self.reference.name, &self.reference.namespace)
    }
}

/// Oldest first.
pub fn by_age<T>(mut entries: Vec<Arc<Entry<T>>>) -> Vec<Arc<Entry<T>>> {
    entries.sort_by(|a, b| a.age().cmp(&b.age()));
    entries
}

/// Whether `labels` has all of `selector`.
pub fn selects(
    selector: &std::collections::BTreeMap<String, String>,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
