//! What an installation has in the cluster: what carries our label and is an object of a profile, or was put in by `meshctl`
//! before. A label alone is not enough, for anybody may write it.

use anyhow::Context as _;
use kube::api::{DeleteParams, ListParams, ObjectMeta};
use kube::{Client, ResourceExt as _};

use super::manifests::{Name, PART_OF, known, of_acme, of_gateway_namespace};
use super::trouble::said;

/// Who the fields of what is installed belong to.
pub const MANAGER: &str = "meshctl";

/// Our label, as a selector.
#[must_use]
pub fn selector() -> ListParams {
    ListParams::default().labels(&format!("{}={}", PART_OF.0, PART_OF.1))
}

/// Everything, in the order in which profiles have it.
pub async fn installed(client: &Client) -> anyhow::Result<Vec<Name>> {
    let known = known()?;
    let mut kinds: Vec<Name> = Vec::new();
    for name in &known {
        if !kinds.iter().any(|kind| kind.resource == name.resource && kind.namespace == name.namespace) {
            kinds.push(name.clone());
        }
    }
    let mut found = Vec::new();
    for kind in kinds {
        let listed = kind.api(client).list_metadata(&selector()).await.map_err(said)?;
        for object in listed.items {
            let name = Name { name: object.name_any(), ..kind.clone() };
            if known.contains(&name) || is_managed(&object.metadata) {
                found.push(name);
            }
        }
    }
    // Those in the controller's own namespace have been seen.
    let more = in_gateway_namespaces(client).await?;
    let more: Vec<Name> = more.into_iter().filter(|name| !found.contains(name)).collect();
    found.extend(more);
    Ok(found)
}

/// Rights to secrets, wherever gateways run or did.
async fn in_gateway_namespaces(client: &Client) -> anyhow::Result<Vec<Name>> {
    let mut found = Vec::new();
    for object in of_gateway_namespace("")?.into_iter().chain(of_acme("")?) {
        let everywhere = Name { namespace: None, ..Name::of(&object)? };
        let listed = everywhere.api(client).list_metadata(&selector()).await.map_err(said)?;
        let same = listed.items.into_iter().filter(|object| object.name_any() == everywhere.name);
        found.extend(same.map(|object| Name { namespace: object.namespace(), ..everywhere.clone() }));
    }
    Ok(found)
}

/// Whether `install` wrote to it.
#[must_use]
pub fn is_managed(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(|fields| fields.manager.as_deref() == Some(MANAGER))
}

/// With all that belongs to it: it is there until the last of that is gone. What is gone already is fine.
pub async fn delete(client: &Client, name: &Name) -> anyhow::Result<()> {
    match name.api(client).delete(&name.name, &DeleteParams::foreground()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(said(error)).with_context(|| name.to_string()),
    }
}
