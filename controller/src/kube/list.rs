//! Everything as it is now, asked once: for `meshctl`, which comes and goes. What is read, and how, is as for the watches.

use std::fmt::Debug;

use futures::future::join_all;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use mesh_core::api::ApiObject;
use mesh_core::diag::Diagnostic;
use serde::de::DeserializeOwned;

use super::objects::{read, reference};
use super::watch::{KINDS, Part, Watched, api, bare, namespace as namespace_of};

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
    /// `virtualservices`
    pub kind: &'static str,
    pub reason: String,
    /// There is no such kind, so there are no such objects; else we may not see them.
    pub missing: bool,
}

/// Secrets and settings are those of `namespace`. An error: the API server cannot be reached.
pub async fn list(client: &Client, namespace: &str) -> kube::Result<Listed> {
    let mut listed = Listed::default();
    let answers = join_all(KINDS.iter().map(|kind| list_kind(client, namespace, kind))).await;
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
                kind: kind.plural,
                reason: status.message.trim().to_owned(),
                missing: status.code == 404,
            }),
            Err(error) => return Err(error),
        }
    }
    Ok(listed)
}

async fn list_kind(client: &Client, namespace: &str, kind: &Watched) -> kube::Result<Vec<DynamicObject>> {
    let namespace = namespace_of(namespace, kind);
    match kind.part {
        Part::Whole => list_pages(&api(client, namespace.as_deref(), kind), kind).await,
        Part::Metadata => {
            let objects = list_pages::<PartialObjectMeta>(&api(client, namespace.as_deref(), kind), kind).await?;
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
