//! The mutating webhook: pods that are created, with a sidecar.

use serde_json::{Value, json};

use super::review::{Request, envelope};
use super::selection::CurrentSelection;
use crate::inject::{Decision, Injections, Namespace, Pod, Refusal, Settings, Workload, decide, inject};
use crate::kube::KeeperHandle;

/// Adds sidecars to pods.
pub struct Injector {
    pub keeper: KeeperHandle,
    pub settings: Settings,
    pub selection: CurrentSelection,
    pub counters: Injections,
}

impl Injector {
    /// The answer's body.
    pub async fn review(&self, request: &Request) -> Value {
        self.counters.requests.inc();
        if !request.is_new_pod() {
            self.counters.skipped.inc();
            return answer(&request.uid, Ok(None));
        }
        let defaults = self.keeper.proxy_defaults().await.unwrap_or_default();
        let selection = self.selection.get().await.as_ref().clone();
        let outcome = injected(request, &Settings { defaults, selection, ..self.settings.clone() });
        match &outcome {
            Ok(Some(_)) => self.counters.succeeded.inc(),
            Ok(None) => self.counters.skipped.inc(),
            Err(refusal) => {
                self.counters.failed.inc();
                tracing::warn!(namespace = request.namespace, "no sidecar: {refusal}");
            }
        }
        answer(&request.uid, outcome)
    }
}

/// What is to be done to the pod (RFC 6902), and what has to be said of it.
#[derive(Debug)]
struct Patched {
    patch: json_patch::Patch,
    warnings: Vec<String>,
}

/// None: it stays as it is.
fn injected(request: &Request, settings: &Settings) -> Result<Option<Patched>, Refusal> {
    let unreadable = |error: serde_json::Error| Refusal::Unreadable(error.to_string());
    let pod = Pod::read(&request.object).map_err(unreadable)?;
    // The API server has looked at the labels of the namespace: it asks only for pods that its configuration selects.
    let namespace = Namespace { name: &request.namespace, labels: None };
    if let Decision::Leave(reason) = decide(namespace, &pod, &settings.selection) {
        tracing::debug!(namespace = request.namespace, "no sidecar: {reason}");
        return Ok(None);
    }
    let workload = Workload::of_pod(&pod.metadata, &request.namespace);
    let injected = inject(&pod, &workload, settings)?;
    let mut object = request.object.clone();
    injected.pod.write(&mut object).map_err(unreadable)?;
    Ok(Some(Patched { patch: json_patch::diff(&request.object, &object), warnings: injected.warnings }))
}

fn answer(uid: &str, outcome: Result<Option<Patched>, Refusal>) -> Value {
    match outcome {
        Ok(None) => envelope(json!({ "uid": uid, "allowed": true }), &[]),
        Ok(Some(Patched { patch, warnings })) => {
            let patch = k8s_openapi::ByteString(json!(patch).to_string().into_bytes());
            envelope(json!({ "uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch }), &warnings)
        }
        Err(refusal) => {
            let message = format!("no sidecar can be added to this pod: {refusal}");
            let status = json!({ "code": 400, "reason": "BadRequest", "message": message });
            envelope(json!({ "uid": uid, "allowed": false, "status": status }), &[])
        }
    }
}

#[cfg(test)]
#[path = "inject_tests.rs"]
mod tests;
