//! Objects that are there and have no effect yet. Whoever wrote a policy must not believe that it holds.

use futures::future::join_all;
use kube::Client;
use kube::api::{Api, ApiResource, ListParams};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use mesh_core::api::{UNREAD, UnreadKind};
use mesh_core::diag::Diagnostic;
use mesh_core::object::ObjectRef;

/// Most objects of a kind that are named.
const NAMED: u32 = 100;

/// One finding for each such object. Kinds that are not there, or may not be listed, are passed over: they are of no use to
/// Meshgate, and rights to them are not asked for.
pub(super) async fn unread(client: &Client) -> Vec<Diagnostic> {
    let found = join_all(UNREAD.iter().map(|kind| of_kind(client, kind))).await;
    found.into_iter().flatten().collect()
}

async fn of_kind(client: &Client, kind: &UnreadKind) -> Vec<Diagnostic> {
    let gvk = GroupVersionKind::gvk(kind.group, kind.version, kind.name);
    let resource = ApiResource { plural: kind.plural.to_owned(), ..ApiResource::from_gvk(&gvk) };
    let api: Api<PartialObjectMeta> = Api::all_with(client.clone(), &resource);
    let listed = api.list(&ListParams::default().limit(NAMED)).await;
    let objects = listed.map(|list| list.items).unwrap_or_default();
    let finding = |object: PartialObjectMeta| {
        let text = |text: Option<String>| text.unwrap_or_default();
        let reference = ObjectRef::new(kind.name, &text(object.metadata.namespace), &text(object.metadata.name));
        kind.diagnostic(&resource.api_version).object(&reference).field("kind")
    };
    objects.into_iter().map(finding).collect()
}
