//! Where the instances of a workload are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Cell, Reads, World, in_namespace, selects};

/// Labels that are different in each pod of one workload.
const OF_ONE_POD: [&str; 4] = [
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "istio-locality",
];

impl World {
    /// How many pods that are ready, and WorkloadEntries, have these labels, by locality.
    pub fn places_of(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        reads: &mut Reads,
    ) -> BTreeMap<Arc<str>, u32> {
        let mut wanted = labels.clone();
        OF_ONE_POD.iter().for_each(|name| drop(wanted.remove(*name)));
        let mut places: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        reads.note(Cell::Namespace("Pod", namespace.into()));
        for pod in in_namespace(&self.objects().pods, namespace) {
            if pod.spec.ready && !pod.spec.terminating && selects(&wanted, &pod.meta.labels) {
                let place = self.locality_of(Some(pod), None, None, reads);
                *places.entry(place).or_default() += 1;
            }
        }
        reads.note(Cell::Namespace("WorkloadEntry", namespace.into()));
        for entry in in_namespace(&self.objects().workload_entries, namespace) {
            if selects(&wanted, &entry.spec.labels) {
                *places.entry(entry.spec.locality.as_deref().unwrap_or_default().into()).or_default() += 1;
            }
        }
        places
    }
}
