//! Selectors of Gateways and Sidecars that select nothing, and Sidecars that select the same. Where no workload is known at all,
//! nothing is said: files seldom have any.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::Sidecar;
use crate::diag::{self, Diagnostic};
use crate::world::{Entry, World, selects};

pub(super) fn selectors(world: &World, said: &[Diagnostic]) -> Vec<Diagnostic> {
    let objects = world.objects();
    if objects.pods.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for entry in objects.gateways.values() {
        let selector = &entry.spec.selector;
        if !selector.is_empty() && !objects.pods.values().any(|pod| selects(selector, &pod.meta.labels)) {
            found.push(nothing(entry, "spec.selector", selector));
        }
    }
    for entry in objects.sidecars.values().filter(|entry| entry.spec.is_for_some()) {
        let Some(selector) = &entry.spec.workload_selector else { continue };
        if !workloads(world, entry.namespace()).any(|labels| selects(&selector.labels, labels)) {
            found.push(nothing(entry, "spec.workloadSelector", &selector.labels));
        }
    }
    found.extend(
        overlaps(world)
            .into_iter()
            .filter(|one| !said.iter().any(|other| other.code == one.code && other.object == one.object)),
    );
    found
}

fn nothing<T>(entry: &Entry<T>, field: &str, selector: &BTreeMap<String, String>) -> Diagnostic {
    let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let message = format!("no workload has the labels {}", labels.join(","));
    let diagnostic = Diagnostic::new(diag::SELECTOR_EMPTY, message).object(&entry.reference);
    diagnostic
        .at(entry.position(field))
        .field(field.to_owned())
        .help("`kubectl get pods -A --show-labels` lists those that are there")
}

/// Labels of the pods of a namespace, and of what WorkloadEntries stand for.
fn workloads<'w>(world: &'w World, namespace: &str) -> impl Iterator<Item = &'w BTreeMap<String, String>> {
    let objects = world.objects();
    let pods = objects.pods.values().filter(move |pod| **pod.namespace() == *namespace).map(|pod| &pod.meta.labels);
    let entries = objects.workload_entries.values().filter(move |entry| **entry.namespace() == *namespace);
    pods.chain(entries.map(|entry| &entry.spec.labels)).collect::<Vec<_>>().into_iter()
}

/// Of Sidecars that select one workload, the oldest is told of the others, and they of it.
fn overlaps(world: &World) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for pod in world.objects().pods.values() {
        let selecting = world.sidecars_for(pod.namespace(), &pod.meta.labels).selecting;
        let Some((winner, others)) = selecting.split_first().filter(|(_, others)| !others.is_empty()) else { continue };
        let names: Vec<String> = others.iter().map(|other| other.reference.to_string()).collect();
        let workload = &pod.reference.name;
        found.push(shared(
            winner,
            format!("{}, too, is for `{workload}`; this one is older and counts", names.join(", ")),
        ));
        let loses = |other: &Arc<Entry<Sidecar>>| {
            let message = format!("{} is older and selects `{workload}`, too: there it counts", winner.reference);
            Diagnostic {
                code: diag::SIDECAR_OVERLAP.id,
                severity: diag::SIDECAR_OVERLAP.severity,
                ..shared(other, message)
            }
        };
        found.extend(others.iter().map(loses));
    }
    // Once, however many workloads they share.
    found.sort_by(|a, b| (&a.object, a.code).cmp(&(&b.object, b.code)));
    found.dedup_by(|a, b| a.object == b.object && a.code == b.code);
    found
}

fn shared(entry: &Entry<Sidecar>, message: String) -> Diagnostic {
    let field = "spec.workloadSelector";
    let help = "let their selectors select different workloads";
    let diagnostic = Diagnostic::new(diag::SIDECAR_SHARED, message).object(&entry.reference);
    diagnostic.at(entry.position(field)).field(field.to_owned()).help(help)
}
