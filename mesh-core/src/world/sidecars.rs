//! Which Sidecar is for a workload: one that selects it, else that of its namespace, else that of the mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::by_age;
use super::{Entry, World, in_namespace, selects};
use crate::api::Sidecar;

/// Sidecars that are for a workload, by where they were looked for, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// They select it.
    pub selecting: Vec<Arc<Entry<Sidecar>>>,
    /// They are for all workloads of its namespace.
    pub of_namespace: Vec<Arc<Entry<Sidecar>>>,
    /// They are in the root namespace, and for the whole mesh.
    pub of_mesh: Vec<Arc<Entry<Sidecar>>>,
}

impl Candidates {
    /// The one that counts.
    pub fn first(&self) -> Option<&Arc<Entry<Sidecar>>> {
        [&self.selecting, &self.of_namespace, &self.of_mesh].into_iter().find_map(|all| all.first())
    }
}

impl World {
    /// Of a workload of this namespace with these labels.
    pub fn sidecars_for(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Candidates {
        let root = self.mesh().root_namespace.as_str();
        let find = |namespace: &str, wanted: &dyn Fn(&Sidecar) -> bool| {
            let all = in_namespace(&self.objects().sidecars, namespace);
            by_age(all.filter(|entry| wanted(&entry.spec)).cloned().collect())
        };
        let selecting = |spec: &Sidecar| {
            let selector = spec.workload_selector.as_ref().filter(|_| spec.is_for_some());
            selector.is_some_and(|selector| selects(&selector.labels, labels))
        };
        let for_all = |spec: &Sidecar| !spec.is_for_some();
        Candidates {
            selecting: find(namespace, &selecting),
            of_namespace: find(namespace, &for_all),
            of_mesh: if namespace == root { Vec::new() } else { find(root, &for_all) },
        }
    }

    /// A Sidecar by its name.
    pub fn sidecar(&self, namespace: &str, name: &str) -> Option<&Arc<Entry<Sidecar>>> {
        self.objects().sidecars.get(&(namespace.into(), name.into()))
    }
}
