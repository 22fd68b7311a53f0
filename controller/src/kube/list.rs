//! Everything as it is now, asked once: for `meshctl`, which comes and goes. What is read, and how, is as for the watches.

use std::fmt::{self, Debug};

use futures::future::join_all;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use mesh_core::api::ApiObject;
use mesh_core::diag::Diagnostic;
use serde::de::DeserializeOwned;

use super::objects::{read, reference};
use super::unread::unread;
use super::watch::{Detail, KINDS, Scope, Watched, api, bare};

/// Objects in one answer; the rest follows.
const PAGE: u32 = 500;

/// All objects that the world is made of.
#[derive(Debug, Default)]
pub struct Listed {
    pub objects: Vec<ApiObject>,
    /// What is wrong with objects alone.
    pub diagnostics: Vec<Diagnostic>,
    /// Of which nothing is known.
    pub unavailable: Vec<Unavailable>,
}

/// A kind that cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// `virtualservices`; with its group if it is not read.
    pub kind: String,
    pub reason: String,
    /// There is no such kind, so there are no such objects; else we may not see them.
    pub missing: bool,
    /// Its objects would have an effect.
    pub is_read: bool,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unavailable { kind, reason, missing, is_read } = self;
        match (missing, is_read) {
            (true, _) => write!(f, "{kind} do not exist here: their definition is not installed"),
            (false, true) => write!(f, "{kind} cannot be listed: {reason}"),
            (false, false) => write!(f, "{kind}, which have no effect yet, cannot be listed: {reason}"),
        }
    }
}

/// Settings are those of the controller's namespace `system`, secrets those of the gateway's namespace `gateway`. An error: the API
/// server cannot be reached.
pub async fn list(client: &Client, system: &str, gateway: &str) -> kube::Result<Listed> {
    let mut listed = Listed::default();
    let list_from = |kind: &'static Watched| list_kind(client, namespace_of(kind, system, gateway), kind);
    let answers = join_all(KINDS.iter().map(list_from)).await;
    for (kind, answer) in KINDS.iter().zip(answers) {
        match answer {
            Ok(objects) => {
                for object in objects {
                    let read = read(kind, &reference(kind, &object), &object);
                    listed.objects.extend(read.object);
                    listed.diagnostics.extend(read.diagnostics);
                }
            }
            Err(kube::Error::Api(status)) => listed.unavailable.push(Unavailable {
                kind: kind.plural.to_owned(),
                reason: status.message.trim().to_owned(),
                missing: status.code == 404,
                is_read: true,
            }),
            Err(error) => return Err(error),
        }
    }
    let (found, unavailable) = unread(client).await;
    listed.diagnostics.extend(found);
    listed.unavailable.extend(unavailable);
    Ok(listed)
}

/// None: all of them.
fn namespace_of<'n>(kind: &Watched, system: &'n str, gateway: &'n str) -> Option<&'n str> {
    match kind.scope {
        Scope::Everywhere => None,
        Scope::System => Some(system),
        Scope::Gateways => Some(gateway),
    }
}

async fn list_kind(client: &Client, namespace: Option<&str>, kind: &Watched) -> kube::Result<Vec<DynamicObject>> {
    match kind.detail {
        Detail::Whole => list_pages(&api(client, namespace, kind), kind).await,
        Detail::Metadata => {
            let objects = list_pages::<PartialObjectMeta>(&api(client, namespace, kind), kind).await?;
            Ok(objects.into_iter().map(bare).collect())
        }
    }
}

async fn list_pages<K: Clone + DeserializeOwned + Debug>(api: &Api<K>, kind: &Watched) -> kube::Result<Vec<K>> {
    let mut params = ListParams::default().limit(PAGE);
    if !kind.fields.is_empty() {
        params = params.fields(kind.fields);
    }
    let mut objects = Vec::new();
    loop {
        let page = api.list(&params).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_the_controllers_and_secrets_the_gateways() {
        let from = |kind: &str| {
            let kind = KINDS.iter().find(|known| known.kind == kind)?;
            Some(namespace_of(kind, "sys", "edge"))
        };
        assert_eq!(from("ConfigMap"), Some(Some("sys")));
        assert_eq!(from("Secret"), Some(Some("edge")));
        assert_eq!(from("VirtualService"), Some(None));
    }
}
