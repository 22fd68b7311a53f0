//! Subsets that select no pod of their service: what a translation says of endpoints, where there are none to look at.

use crate::diag::{self, Diagnostic};
use crate::world::{World, hostname, selects};

pub(super) fn subsets(world: &World, said: &[Diagnostic]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for entry in world.destination_rules().filter(|entry| !entry.spec.subsets.is_empty()) {
        let host = hostname::expand(&entry.spec.host, entry.namespace());
        let service = world.objects().services.values().find(|service| {
            hostname::service(&service.reference.name, service.namespace()) == host && !service.spec.selector.is_empty()
        });
        let Some(service) = service else { continue };
        let pods = world.objects().pods.values().filter(|pod| pod.namespace() == service.namespace());
        let pods = pods.map(|pod| &pod.meta.labels);
        let entries = world.objects().workload_entries.values();
        let entries = entries.filter(|entry| entry.namespace() == service.namespace()).map(|entry| &entry.spec.labels);
        let own: Vec<_> = pods.chain(entries).filter(|labels| selects(&service.spec.selector, labels)).collect();
        // Files seldom have any, and who may not see pods knows nothing.
        if own.is_empty() {
            continue;
        }
        for subset in &entry.spec.subsets {
            if own.iter().any(|labels| selects(&subset.labels, labels)) {
                continue;
            }
            let field = format!("spec.subsets[{}].labels", subset.index);
            let is_known = |one: &Diagnostic| one.object.as_ref() == Some(&entry.reference) && one.field == field;
            if said.iter().any(is_known) {
                continue;
            }
            let labels: Vec<String> = subset.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let (all, labels) = (own.len(), labels.join(","));
            let message =
                format!("none of the {all} workloads of `{host}` has the labels {labels} of subset `{}`", subset.name);
            let diagnostic = Diagnostic::new(diag::SUBSET_WITHOUT_ENDPOINTS, message).object(&entry.reference);
            found.push(diagnostic.at(entry.position(&field)).field(field));
        }
    }
    found
}
