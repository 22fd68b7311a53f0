//! The root certificate in the webhook's configuration: the API server trusts nothing else there.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};

use crate::kube::Leadership;

/// Name of the object; `deploy/` has it.
pub const CONFIGURATION: &str = "meshgate-validator";
const PAUSE: Duration = Duration::from_secs(2);

/// What is written there.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Of the controller: only webhooks that go there are touched.
    pub service: String,
    pub namespace: String,
    pub root_pem: String,
}

impl Bundle {
    /// Puts it in while this replica leads, also after somebody took it out.
    pub async fn publish(self, client: Client, mut leadership: Leadership) {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(client);
        loop {
            let Some(term) = leadership.lead().await else { return };
            self.keep(&api, &mut leadership).await;
            drop(term);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until it fails, or this replica leads no more.
    async fn keep(&self, api: &Api<ValidatingWebhookConfiguration>, leadership: &mut Leadership) {
        let one = watcher::Config::default().fields(&format!("metadata.name={CONFIGURATION}"));
        let events = watcher(api.clone(), one);
        futures::pin_mut!(events);
        loop {
            let event = tokio::select! {
                biased;
                () = leadership.lost() => return,
                event = events.next() => event,
            };
            let Some(event) = event else { return };
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    let Some(patch) = self.patch(&object) else { continue };
                    match api.patch(CONFIGURATION, &PatchParams::default(), &patch).await {
                        Ok(_) => tracing::info!("webhook: the root certificate is in {CONFIGURATION}"),
                        Err(error) => {
                            tracing::warn!(%error, "cannot write the root certificate into {CONFIGURATION}");
                            return;
                        }
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "watch of {CONFIGURATION}");
                    return;
                }
            }
        }
    }

    /// None: nothing is to be changed.
    fn patch(&self, object: &ValidatingWebhookConfiguration) -> Option<Patch<Value>> {
        let bundle = ByteString(self.root_pem.clone().into_bytes());
        let mut operations = Vec::new();
        for (number, webhook) in object.webhooks.iter().flatten().enumerate() {
            let ours = |service: &k8s_openapi::api::admissionregistration::v1::ServiceReference| {
                service.name == self.service && service.namespace == self.namespace
            };
            if !webhook.client_config.service.as_ref().is_some_and(ours)
                || webhook.client_config.ca_bundle.as_ref() == Some(&bundle)
            {
                continue;
            }
            // Webhooks may have been put in another order meanwhile.
            operations.push(json!({ "op": "test", "path": format!("/webhooks/{number}/name"), "value": webhook.name }));
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
