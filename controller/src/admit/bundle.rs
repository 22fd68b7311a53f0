//! The root certificate in the webhooks' configurations: the API server trusts nothing else there.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::kube::Leadership;

/// Kinds and names of the objects; `deploy/` has them.
const CONFIGURATIONS: [(&str, &str); 2] = [
    ("ValidatingWebhookConfiguration", "meshgate-validator"),
    ("MutatingWebhookConfiguration", "meshgate-sidecar-injector"),
];
const PAUSE: Duration = Duration::from_secs(2);

/// What is written there.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Of the controller: only webhooks that go there are touched.
    pub service: String,
    pub namespace: String,
    /// What the API server is to trust, in PEM.
    pub roots: watch::Receiver<String>,
}

impl Bundle {
    /// Puts it in while this replica leads, also after somebody took it out.
    pub fn publish(&self, client: &Client, leadership: &Leadership) {
        for (kind, name) in CONFIGURATIONS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind));
            let api = Api::all_with(client.clone(), &resource);
            tokio::spawn(self.clone().publish_in(api, name, leadership.clone()));
        }
    }

    async fn publish_in(mut self, api: Api<DynamicObject>, name: &'static str, mut leadership: Leadership) {
        loop {
            let Some(term) = leadership.lead().await else { return };
            self.keep(&api, name, &mut leadership).await;
            drop(term);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until it fails, this replica leads no more, or there are other roots.
    async fn keep(&mut self, api: &Api<DynamicObject>, name: &str, leadership: &mut Leadership) {
        let events = watcher(api.clone(), watcher::Config::default().fields(&format!("metadata.name={name}")));
        futures::pin_mut!(events);
        let root_pem = self.roots.borrow_and_update().clone();
        loop {
            let event = tokio::select! {
                biased;
                () = leadership.lost() => return,
                Ok(()) = self.roots.changed() => return,
                event = events.next() => event,
            };
            let Some(event) = event else { return };
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    let Some(patch) = self.patch(&object.data, &root_pem) else { continue };
                    match api.patch(name, &PatchParams::default(), &patch).await {
                        Ok(_) => tracing::info!("webhook: the root certificate is in {name}"),
                        Err(error) => {
                            tracing::warn!(%error, "cannot write the root certificate into {name}");
                            return;
                        }
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "watch of {name}");
                    return;
                }
            }
        }
    }

    /// None: nothing is to be changed.
    fn patch(&self, configuration: &Value, root_pem: &str) -> Option<Patch<Value>> {
        let bundle = json!(ByteString(root_pem.as_bytes().to_vec()));
        let mut operations = Vec::new();
        for (number, webhook) in
            configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let of_client = |path: &str| webhook.pointer(&format!("/clientConfig/{path}"));
            let goes_here = of_client("service/name") == Some(&json!(self.service))
                && of_client("service/namespace") == Some(&json!(self.namespace));
            if !goes_here || of_client("caBundle") == Some(&bundle) {
                continue;
            }
            // Webhooks may have been put in another order meanwhile.
            let name = webhook.get("name");
            operations.push(json!({ "op": "test", "path": format!("/webhooks/{number}/name"), "value": name }));
            operations.push(json!({
                "op": "add",
                "path": format!("/webhooks/{number}/clientConfig/caBundle"),
                "value": bundle,
            }));
        }
        if operations.is_empty() { None } else { serde_json::from_value(operations.into()).ok().map(Patch::Json) }
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
