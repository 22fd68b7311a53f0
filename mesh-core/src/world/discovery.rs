//! `discoverySelectors` of the mesh's settings: which namespaces are looked at. Objects of the others are kept aside, so that a
//! label of a namespace, or other settings, bring them back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entry::selects;
use super::index::Touched;
use super::mesh::Mesh;
use super::{Objects, Shelf};
use crate::api::{LabelExpression, LabelOperator, LabelSelector, is_cluster_scoped};
use crate::object::ObjectRef;

/// Which label of a namespace is its name; the API server gives it to all.
const NAME: &str = "kubernetes.io/metadata.name";

#[derive(Clone, Debug, Default)]
pub(super) struct Discovery {
    selectors: Vec<LabelSelector>,
    /// Of the settings. It is always looked at, or a selector that forgets it would take the gateways' ports and
    /// certificates away: they run where the settings are. Istio leaves that to whoever writes the selectors.
    home: Arc<str>,
    /// Others that are always looked at, whatever the settings are.
    always: BTreeSet<Arc<str>>,
}

impl Discovery {
    /// As the settings among these objects say.
    pub fn read(&mut self, objects: &Objects) {
        let always = std::mem::take(&mut self.always);
        *self = Discovery { always, ..Discovery::default() };
        if let Some(map) = Mesh::config_map(objects) {
            // What is wrong there is said by whoever reads all of it.
            let mesh = Mesh::read(objects, &mut Vec::new());
            self.selectors = mesh.config.discovery_selectors.unwrap_or_default();
            self.home = Arc::clone(map.namespace());
        }
    }

    pub fn always_look_at(&mut self, namespaces: impl IntoIterator<Item = Arc<str>>) {
        self.always.extend(namespaces);
    }

    /// For the same settings in another world.
    pub fn always_as(&mut self, other: &Discovery) {
        self.always.clone_from(&other.always);
    }

    /// Whether the object counts, by the labels of the namespaces among `objects`.
    pub fn shows(&self, objects: &Objects, name: &ObjectRef) -> bool {
        // The settings are where the selectors come from.
        is_cluster_scoped(&name.kind) || &*name.kind == "ConfigMap" || self.looks_at(objects, &name.namespace)
    }

    fn looks_at(&self, objects: &Objects, namespace: &Arc<str>) -> bool {
        if self.selectors.is_empty() || *namespace == self.home || self.always.contains(namespace) {
            return true;
        }
        let entry = objects.namespaces.get(&("".into(), Arc::clone(namespace)));
        let mut labels = entry.map(|entry| entry.meta.labels.clone()).unwrap_or_default();
        // Files seldom hold the namespaces; their names can be selected nevertheless.
        labels.entry(NAME.to_owned()).or_insert_with(|| namespace.to_string());
        self.selectors.iter().any(|selector| fits(selector, &labels))
    }

    /// Moves objects of the touched namespaces to where they belong now.
    pub fn follow(&self, objects: &mut Objects, hidden: &mut Objects, touched: &mut Touched) {
        if self.selectors.is_empty() {
            return;
        }
        for namespace in touched.namespaces() {
            if self.looks_at(objects, &namespace) {
                let names = hidden.hand_over(&namespace, objects);
                names.iter().for_each(|name| touched.touch(objects, name));
            } else {
                let names = objects.names(&namespace);
                names.iter().for_each(|name| touched.touch(objects, name));
                objects.hand_over(&namespace, hidden);
            }
        }
    }

    /// The same for all objects, of which nothing is known.
    pub fn sort(&self, objects: &mut Objects, hidden: &mut Objects) {
        for namespace in hidden.all_namespaces() {
            hidden.hand_over(&namespace, objects);
        }
        if self.selectors.is_empty() {
            return;
        }
        for namespace in objects.all_namespaces() {
            if !self.looks_at(objects, &namespace) {
                objects.hand_over(&namespace, hidden);
            }
        }
    }
}

/// Whether labels are as a selector wants them.
#[must_use]
pub fn fits(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let expression = |LabelExpression { key, operator, values }: &LabelExpression| {
        let value = labels.get(key);
        let listed = value.is_some_and(|value| values.contains(value));
        match operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    };
    selects(&selector.match_labels, labels) && selector.match_expressions.iter().all(expression)
}

/// The same with every shelf whose objects can be hidden; its last argument is what is done with it.
macro_rules! each_shelf {
    ($do:ident) => {
        $do!(gateways);
        $do!(virtual_services);
        $do!(destination_rules);
        $do!(service_entries);
        $do!(workload_entries);
        $do!(sidecars);
        $do!(authorization_policies);
        $do!(request_authentications);
        $do!(peer_authentications);
        $do!(rate_limits);
        $do!(services);
        $do!(endpoint_slices);
        $do!(secrets);
        $do!(pods);
    };
}

impl Objects {
    /// Those of a namespace that can be hidden.
    fn names(&self, namespace: &str) -> Vec<ObjectRef> {
        let mut names = Vec::new();
        macro_rules! collect {
            ($shelf:ident) => {
                names.extend(super::in_namespace(&self.$shelf, namespace).map(|entry| entry.reference.clone()));
            };
        }
        each_shelf!(collect);
        names
    }

    /// Of objects that can be hidden.
    pub(super) fn all_namespaces(&self) -> BTreeSet<Arc<str>> {
        let mut namespaces = BTreeSet::new();
        macro_rules! collect {
            ($shelf:ident) => {
                for (namespace, _) in self.$shelf.keys() {
                    if !namespaces.contains(namespace) {
                        namespaces.insert(Arc::clone(namespace));
                    }
                }
            };
        }
        each_shelf!(collect);
        namespaces
    }

    /// Moves those objects of a namespace that can be hidden, and names them.
    fn hand_over(&mut self, namespace: &str, to: &mut Objects) -> Vec<ObjectRef> {
        fn shelf<T>(from: &mut Shelf<T>, to: &mut Shelf<T>, namespace: &str, names: &mut Vec<ObjectRef>) {
            let entries: Vec<_> = super::in_namespace(from, namespace).cloned().collect();
            for entry in entries {
                let name = &entry.reference;
                let key = (Arc::clone(&name.namespace), Arc::clone(&name.name));
                from.remove(&key);
                names.push(name.clone());
                to.insert(key, entry);
            }
        }
        let mut names = Vec::new();
        macro_rules! move_all {
            ($shelf:ident) => {
                shelf(&mut self.$shelf, &mut to.$shelf, namespace, &mut names);
            };
        }
        each_shelf!(move_all);
        names
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
