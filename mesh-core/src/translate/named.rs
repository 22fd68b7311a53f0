//! Destinations that something of a translation names: how often, and what of them is in the set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Context;
use super::concerned::{self, Composite, Concerned};
use super::readers::{Readers, Unit};
use crate::model::{Destination, Key, ResourceSet, Resources, Secret};

#[derive(Debug, Default)]
pub(super) struct Destinations {
    named: BTreeMap<Key, Named>,
    /// By key of the secret, those whose TLS is made of it.
    secrets: BTreeMap<Key, BTreeSet<Key>>,
    /// The same the other way round.
    secret_of: BTreeMap<Key, Key>,
}

/// A destination, with the number of those who name it.
#[derive(Debug)]
struct Named {
    destination: Arc<Destination>,
    count: usize,
}

impl Destinations {
    /// One more names it. All who do mean the same by a key.
    pub fn name(&mut self, key: &Key, destination: Arc<Destination>) {
        let named = self
            .named
            .entry(Arc::clone(key))
            .or_insert_with(|| Named { destination: Arc::clone(&destination), count: 0 });
        named.count += 1;
        if named.destination != destination {
            named.destination = destination;
        }
    }

    /// One less names it.
    pub fn release(&mut self, key: &Key) {
        if let Some(named) = self.named.get_mut(key) {
            named.count -= 1;
        }
    }

    /// Something names these instead of those. Yields all of them: each has to be put again.
    pub fn exchange(&mut self, old: &Resources<Destination>, new: &Resources<Destination>) -> Vec<Key> {
        for key in old.keys() {
            self.release(key);
        }
        for (key, destination) in new {
            self.name(key, Arc::clone(destination));
        }
        old.keys().chain(new.keys()).cloned().collect()
    }

    /// What was taken over from an earlier set is remembered as it is there.
    pub fn adopt(&mut self, set: &ResourceSet) {
        for (key, named) in &mut self.named {
            if let Some(destination) = set.destinations.get(key) {
                named.destination = Arc::clone(destination);
            }
        }
    }

    /// Puts a destination and its endpoints into the set, or takes them out.
    pub fn put(
        &mut self,
        context: &mut Context<'_>,
        key: &Key,
        readers: &mut Readers,
        concerned: &mut Concerned,
        set: &mut ResourceSet,
    ) {
        let unit = Unit::Endpoints(Arc::clone(key));
        let Some(named) = self.named.get(key).filter(|named| named.count > 0) else {
            self.named.remove(key);
            set.destinations.remove(key);
            set.endpoints.remove(key);
            self.put_secret(key, None, set);
            concerned::note(concerned, Composite::Destination(Arc::clone(key)), Vec::new());
            return readers.forget(&unit);
        };
        let known = set.destinations.get(key).is_some_and(|known| Arc::ptr_eq(known, &named.destination));
        if !known {
            set.destinations.insert(Arc::clone(key), Arc::clone(&named.destination));
        }
        let endpoints = context.endpoints(&named.destination);
        let secret = context.secret_of(&named.destination);
        let merged = context.merged_rules(&named.destination);
        concerned::note(concerned, Composite::Destination(Arc::clone(key)), merged);
        readers.set(&unit, std::mem::take(&mut context.reads));
        match endpoints {
            None => drop(set.endpoints.remove(key)),
            Some(endpoints) if set.endpoints.get(key).is_some_and(|known| **known == endpoints) => {}
            Some(endpoints) => drop(set.endpoints.insert(Arc::clone(key), Arc::new(endpoints))),
        }
        self.put_secret(key, secret, set);
    }

    /// The secret that the destination's TLS is made of now; what nobody needs any more is taken out.
    fn put_secret(&mut self, destination: &Key, new: Option<(Key, Option<Secret>)>, set: &mut ResourceSet) {
        let now = new.as_ref().map(|(key, _)| key);
        if let Some(before) = self.secret_of.get(destination).filter(|before| Some(*before) != now).cloned() {
            self.secret_of.remove(destination);
            if let Some(users) = self.secrets.get_mut(&before) {
                users.remove(destination);
                if users.is_empty() {
                    self.secrets.remove(&before);
                    set.secrets.remove(&before);
                }
            }
        }
        let Some((key, secret)) = new else { return };
        match secret {
            None => drop(set.secrets.remove(&key)),
            Some(secret) if set.secrets.get(&key).is_some_and(|known| **known == secret) => {}
            Some(secret) => drop(set.secrets.insert(Arc::clone(&key), Arc::new(secret))),
        }
        self.secret_of.insert(Arc::clone(destination), Arc::clone(&key));
        self.secrets.entry(key).or_default().insert(Arc::clone(destination));
    }

    /// Whether a secret is needed, be it there or not.
    pub fn name_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// These, and those of destinations as they are in `set`.
    pub fn with_secrets(&self, mut secrets: Resources<Secret>, set: &ResourceSet) -> Resources<Secret> {
        for key in self.secrets.keys() {
            if let Some(secret) = set.secrets.get(key) {
                secrets.insert(Arc::clone(key), Arc::clone(secret));
            }
        }
        secrets
    }
}
