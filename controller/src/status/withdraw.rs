//! Taking back what statuses say, when the controller is gone for good: a condition that nobody keeps true is worse than none.

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use mesh_core::object::ObjectRef;
use serde_json::{Map, Value, json};

use super::Known;
use super::write::{MANAGER, keyed};
use super::writer::KINDS;
use crate::kube::{KINDS as WATCHED, Watched, reference};

/// Objects in one answer.
const PAGE: u32 = 500;
/// How often it is tried again because somebody else was faster.
const ATTEMPTS: usize = 5;

/// An object whose status says something of ours.
#[derive(Clone, Debug)]
pub struct Told {
    kind: Watched,
    object: DynamicObject,
}

/// All of them, but for kinds (`virtualservices`) that are left out. A kind that does not exist has no objects.
pub async fn told(client: &Client, left_out: &[&str]) -> kube::Result<Vec<Told>> {
    let mut told = Vec::new();
    for kind in WATCHED.iter().filter(|kind| KINDS.contains(&kind.kind) && !left_out.contains(&kind.plural)) {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = match api.list(&params).await {
                // Of a group without any kind this is no answer of the usual form.
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                page => page?,
            };
            let ours = page.items.into_iter().filter(is_told);
            told.extend(ours.map(|object| Told { kind: *kind, object }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(told)
}

impl Told {
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        reference(&self.kind, &self.object)
    }

    /// `virtualservices`
    #[must_use]
    pub fn plural(&self) -> &'static str {
        self.kind.plural
    }

    /// Afterwards it says what others say, and no more.
    pub async fn withdraw(mut self, client: &Client) -> kube::Result<()> {
        let resource = self.kind.resource();
        let namespace = self.object.metadata.namespace.clone().unwrap_or_default();
        let name = self.object.metadata.name.clone().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        // What is named carries the entries of all, of a version that is named too: only another version is in its way.
        let params = PatchParams::apply(MANAGER).force();
        for attempt in 1.. {
            let mut body = without_ours(&self.object);
            if let Some(fields) = body.as_object_mut() {
                fields.insert("apiVersion".to_owned(), resource.api_version.as_str().into());
                fields.insert("kind".to_owned(), resource.kind.as_str().into());
            }
            match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => break,
                Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {
                    match api.get_opt(&name).await? {
                        Some(object) if is_told(&object) => self.object = object,
                        _ => break,
                    }
                }
                answer => {
                    answer?;
                    break;
                }
            }
        }
        Ok(())
    }
}

fn is_told(object: &DynamicObject) -> bool {
    let ours = known(object).ours;
    let says = ours.accepted.is_some() || ours.programmed.is_some() || !ours.messages.is_empty();
    says && our_fields(object).next().is_some()
}

fn known(object: &DynamicObject) -> Known {
    Known::read(object.data.get("status").unwrap_or(&Value::Null))
}

/// What the API server notes as written by us.
fn our_fields(object: &DynamicObject) -> impl Iterator<Item = Option<&Value>> {
    let entries = object.metadata.managed_fields.iter().flatten();
    let ours = entries.filter(|entry| entry.manager.as_deref() == Some(MANAGER));
    ours.map(|entry| entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:status")))
}

/// What our field manager still says: what it does not name any more is nobody's, and goes. A list that is one writer's as a whole
/// must be named with the entries of others if there are any, or if it is another writer's by now.
fn without_ours(object: &DynamicObject) -> Value {
    let Known { ours, conditions, messages } = known(object);
    let whole = !keyed(object);
    let has = |list: &str| our_fields(object).flatten().any(|fields| fields.get(format!("f:{list}")).is_some());
    let lists = [
        ("conditions", conditions, whole && (ours.accepted.is_some() || ours.programmed.is_some())),
        ("validationMessages", messages, !ours.messages.is_empty()),
    ];
    let status: Map<String, Value> = lists
        .into_iter()
        .filter(|(list, others, is_in)| *is_in && !(others.is_empty() && has(list)))
        .map(|(list, others, _)| (list.to_owned(), others.into()))
        .collect();
    let metadata = &object.metadata;
    let (name, namespace) = (&metadata.name, &metadata.namespace);
    if status.is_empty() {
        return json!({ "metadata": { "name": name, "namespace": namespace } });
    }
    // With its version: what another writes into the same list meanwhile is not lost.
    let metadata = json!({ "name": name, "namespace": namespace, "resourceVersion": metadata.resource_version });
    json!({ "metadata": metadata, "status": status })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With entries of ours and of others in both lists, of which these are noted as ours.
    fn object(fields: &Value, ours: bool, others: bool) -> DynamicObject {
        let (mut conditions, mut messages) = (Vec::new(), Vec::new());
        if ours {
            conditions.extend([json!({ "type": "Accepted", "status": "True" }), json!({ "type": "Programmed" })]);
            messages.push(json!({ "type": { "code": "MESH0103" }, "level": "ERROR" }));
        }
        if others {
            conditions.push(json!({ "type": "Other", "status": "True" }));
            messages.push(json!({ "type": { "code": "IST0101" }, "level": "ERROR" }));
        }
        let object = json!({
            "metadata": {
                "name": "a", "namespace": "b", "resourceVersion": "7",
                "managedFields": [{ "manager": MANAGER, "fieldsV1": { "f:status": fields } }],
            },
            "status": { "observedGeneration": 3, "conditions": conditions, "validationMessages": messages },
        });
        serde_json::from_value(object).unwrap()
    }

    fn keyed_list() -> Value {
        json!({ "f:conditions": { "k:{\"type\":\"Programmed\"}": {} }, "f:validationMessages": {} })
    }

    fn whole_list() -> Value {
        json!({ "f:conditions": {}, "f:validationMessages": {} })
    }

    #[test]
    fn nothing_of_ours_is_left_and_all_of_others() {
        for fields in [keyed_list(), whole_list()] {
            let alone = without_ours(&object(&fields, true, false));
            assert_eq!(alone, json!({ "metadata": { "name": "a", "namespace": "b" } }));
        }
        let messages = json!([{ "type": { "code": "IST0101" }, "level": "ERROR" }]);
        let conditions = json!([{ "type": "Other", "status": "True" }]);
        let metadata = json!({ "name": "a", "namespace": "b", "resourceVersion": "7" });
        // They keep their condition themselves.
        let keyed = without_ours(&object(&keyed_list(), true, true));
        assert_eq!(keyed, json!({ "metadata": metadata, "status": { "validationMessages": messages } }));
        let whole = without_ours(&object(&whole_list(), true, true));
        let status = json!({ "conditions": conditions, "validationMessages": messages });
        assert_eq!(whole, json!({ "metadata": metadata, "status": status }));
        // Another one has written the lists since, with our entries in them.
        let taken = without_ours(&object(&json!({ "f:observedGeneration": {} }), true, false));
        let status = json!({ "conditions": [], "validationMessages": [] });
        assert_eq!(taken, json!({ "metadata": metadata, "status": status }));
    }

    #[test]
    fn only_what_says_something_of_ours_is_cleared() {
        assert!(is_told(&object(&keyed_list(), true, true)));
        // Cleared already: that we named others' entries once makes them not ours.
        assert!(!is_told(&object(&whole_list(), false, true)));
        let others = without_ours(&object(&keyed_list(), false, true));
        assert_eq!(others, json!({ "metadata": { "name": "a", "namespace": "b" } }));
        let mut foreign = object(&keyed_list(), true, false);
        foreign.metadata.managed_fields = None;
        assert!(!is_told(&foreign));
    }
}
