//! Objects with pods in them, as they are in files: which of them is what, and the same with sidecars.

use serde_json::Value;

use super::decide::{Decision, Namespace, decide};
use super::pod::Pod;
use super::sidecar::{Refusal, Settings, inject};
use super::workload::Workload;

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `Kind/namespace/name`
    pub object: String,
    pub decision: Decision,
    pub warnings: Vec<String>,
}

/// An object that cannot have a sidecar, though it should.
#[derive(Debug, thiserror::Error)]
#[error("{object}: {refusal}")]
pub struct Refused {
    pub object: String,
    pub refusal: Refusal,
}

/// Adds sidecars to the pods of an object; of a list, to those of its items. Other objects have none, and stay.
pub fn inject_object(object: &mut Value, namespace: &str, settings: &Settings) -> Result<Vec<Outcome>, Refused> {
    if object.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"))
        && let Some(items) = object.get_mut("items").and_then(Value::as_array_mut)
    {
        let outcomes = items.iter_mut().map(|item| inject_object(item, namespace, settings));
        return Ok(outcomes.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
    }
    let Some(at) = pods_of(object) else { return Ok(Vec::new()) };
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let namespace = Some(text("/metadata/namespace")).filter(|name| !name.is_empty()).unwrap_or(namespace.to_owned());
    let name = Some(text("/metadata/name")).filter(|name| !name.is_empty()).unwrap_or(text("/metadata/generateName"));
    let workload = Workload { api_version: text("/apiVersion"), kind: text("/kind"), name, namespace };
    let called = format!("{}/{}/{}", workload.kind, workload.namespace, workload.name);
    let refused = |refusal: Refusal| Refused { object: called.clone(), refusal };
    let Some(place) = object.pointer_mut(at) else { return Ok(Vec::new()) };
    let outcome = inject_pod(place, &workload, settings).map_err(refused)?;
    Ok(vec![Outcome { object: called, ..outcome }])
}

fn inject_pod(place: &mut Value, workload: &Workload, settings: &Settings) -> Result<Outcome, Refusal> {
    let unreadable = |error: serde_json::Error| Refusal::Unreadable(error.to_string());
    let pod = Pod::read(place).map_err(unreadable)?;
    let decision = decide(Namespace { name: &workload.namespace, labels: None }, &pod, &settings.selection);
    let mut warnings = Vec::new();
    if decision == Decision::Inject {
        let injected = inject(&pod, workload, settings)?;
        injected.pod.write(place).map_err(unreadable)?;
        warnings = injected.warnings;
    }
    Ok(Outcome { object: String::new(), decision, warnings })
}

/// Where the pod, or the template of pods, is in the object.
fn pods_of(object: &Value) -> Option<&'static str> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    match (group, text("kind")) {
        ("", "Pod") => Some(""),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
