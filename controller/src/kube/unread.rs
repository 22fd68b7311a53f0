//! Objects that are there and have no effect yet. Whoever wrote a policy must not believe that it holds.

use futures::future::join_all;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::{GroupVersionKind, ObjectMeta, PartialObjectMeta};
use mesh_core::api::{UNREAD, UnreadKind};
use mesh_core::diag::Diagnostic;
use mesh_core::object::ObjectRef;

use super::Unavailable;

/// Most objects of a kind that are named.
const NAMED: u32 = 100;

/// One finding for each such object, and the kinds that are there and may not be listed.
pub(super) async fn unread(client: &Client) -> (Vec<Diagnostic>, Vec<Unavailable>) {
    let (mut found, mut unavailable) = (Vec::new(), Vec::new());
    for (kind, answer) in UNREAD.iter().zip(join_all(UNREAD.iter().map(|kind| of_kind(client, kind))).await) {
        match answer {
            Ok(diagnostics) => found.extend(diagnostics),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            // To whom a kind is forbidden it is so whether it exists or not.
            Err(_) if matches!(exists(client, kind).await, Ok(false)) => {}
            Err(error) => unavailable.push(Unavailable {
                kind: format!("{}.{}", kind.plural, kind.group),
                reason: match error {
                    kube::Error::Api(status) => status.message.trim().to_owned(),
                    error => error.to_string(),
                },
                missing: false,
                is_read: false,
            }),
        }
    }
    (found, unavailable)
}

async fn exists(client: &Client, kind: &UnreadKind) -> kube::Result<bool> {
    match client.list_api_group_resources(&format!("{}/{}", kind.group, kind.version)).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == kind.plural)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

async fn of_kind(client: &Client, kind: &UnreadKind) -> kube::Result<Vec<Diagnostic>> {
    let gvk = GroupVersionKind::gvk(kind.group, kind.version, kind.name);
    let resource = ApiResource { plural: kind.plural.to_owned(), ..ApiResource::from_gvk(&gvk) };
    let named = ListParams::default().limit(NAMED);
    let finding = |metadata: ObjectMeta| {
        let text = |text: Option<String>| text.unwrap_or_default();
        let reference = ObjectRef::new(kind.name, &text(metadata.namespace), &text(metadata.name));
        kind.diagnostic(&resource.api_version).object(&reference).field("kind")
    };
    if kind.is_looked_into() {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let objects = api.list(&named).await?.items;
        return Ok(objects
            .into_iter()
            .map(|object| kind.advised(finding(object.metadata), &object.data.to_string()))
            .collect());
    }
    let api: Api<PartialObjectMeta> = Api::all_with(client.clone(), &resource);
    let objects = api.list(&named).await?.items;
    Ok(objects.into_iter().map(|object| finding(object.metadata)).collect())
}
