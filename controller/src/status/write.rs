//! One write of one status.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use mesh_core::object::ObjectRef;
use serde_json::{Value, json};

use super::{Desired, Known};
use crate::kube::Watched;

/// Field manager of all statuses.
pub(super) const MANAGER: &str = "meshgate-status";

/// How a write went.
pub(super) enum Outcome {
    /// What the API server made of it, and whether lists merge by key there.
    Written {
        stored: Box<Known>,
        resource_version: String,
        /// Of the object at that version, which may be newer than what the write speaks of.
        generation: i64,
        keyed: bool,
    },
    /// Another writer has one of our fields.
    Contested(String),
    /// The object is not what it was; its watch will say so.
    Outdated,
    /// Not there any more, or no status there.
    Gone,
    Failed(kube::Error),
}

/// A write to be done.
#[derive(Clone)]
pub(super) struct Write {
    pub kind: Watched,
    pub object: ObjectRef,
    pub resource_version: String,
    pub known: Known,
    pub desired: Desired,
    /// See [`Known::to_apply`].
    pub whole: bool,
    /// Take fields from another writer.
    pub force: bool,
}

impl Write {
    pub async fn run(&self, client: &Client) -> Outcome {
        let resource = self.kind.resource();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.object.namespace, &resource);
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let mut metadata = json!({ "name": self.object.name, "namespace": self.object.namespace });
        if self.whole
            && let Some(fields) = metadata.as_object_mut()
        {
            // What another writes into the same list meanwhile is not lost.
            fields.insert("resourceVersion".to_owned(), self.resource_version.as_str().into());
        }
        let body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "status": self.known.to_apply(&self.desired, self.whole, &now.to_string()),
        });
        let mut params = PatchParams::apply(MANAGER);
        params.force = self.force;
        match api.patch_status(&self.object.name, &params, &Patch::Apply(&body)).await {
            Ok(object) => {
                let keyed = keyed(&object);
                let status = object.data.get("status").unwrap_or(&Value::Null);
                let resource_version = object.metadata.resource_version.clone().unwrap_or_default();
                let generation = object.metadata.generation.unwrap_or_default();
                Outcome::Written { stored: Box::new(Known::read(status)), resource_version, generation, keyed }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Outcome::Gone,
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // The causes of a conflict of fields name them.
                let of_fields = status.details.as_ref().is_some_and(|details| !details.causes.is_empty());
                if of_fields { Outcome::Contested(status.message.clone()) } else { Outcome::Outdated }
            }
            Err(error) => Outcome::Failed(error),
        }
    }
}

/// Whether `status.conditions` is a list that merges by key in this cluster's CRD: the API server notes our fields so.
pub(super) fn keyed(object: &DynamicObject) -> bool {
    let entries = object.metadata.managed_fields.iter().flatten();
    let mut ours = entries.filter(|entry| entry.manager.as_deref() == Some(MANAGER));
    ours.any(|entry| {
        let conditions = entry
            .fields_v1
            .as_ref()
            .and_then(|fields| fields.0.get("f:status").and_then(|status| status.get("f:conditions")));
        conditions.and_then(Value::as_object).is_some_and(|fields| fields.keys().any(|key| key.starts_with("k:")))
    })
}

/// Tells of `trouble` in the object's events.
pub(super) async fn tell(recorder: &Recorder, write: &Write, uid: &str, trouble: (String, String)) {
    let resource = write.kind.resource();
    let object = ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        name: Some(write.object.name.to_string()),
        namespace: Some(write.object.namespace.to_string()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: EventType::Warning,
        reason: trouble.0,
        note: Some(trouble.1.chars().take(1000).collect()),
        action: "Configure".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &object).await {
        tracing::debug!(object = %write.object, %error, "event");
    }
}
