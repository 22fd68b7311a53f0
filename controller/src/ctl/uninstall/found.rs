//! What is in the cluster of an installation, and of others in what it would take along.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Client, Resource, ResourceExt as _};

use crate::acme::ACCOUNT;
use crate::ca::SECRET;
use crate::ctl::installed::{installed, is_managed, selector};
use crate::ctl::manifests::{NAMESPACE, Name, known};
use crate::ctl::trouble::said;
use crate::kube::{LEASE, ROOTS};
use crate::status;

/// ConfigMaps that Kubernetes itself writes into each namespace.
const OF_KUBERNETES: &str = "kube-root-ca.crt";

#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What `install` put in, but for definitions and the namespace.
    pub installed: Vec<Name>,
    /// What the controller wrote.
    pub written: Vec<Name>,
    pub definitions: Vec<Name>,
    pub namespace: Option<Name>,
    /// How many objects go with a definition.
    pub objects: Vec<(Name, u64)>,
    /// What is in the namespace and not ours.
    pub inside: Vec<String>,
    /// Definitions of these kinds that somebody else made, and that were brought to our version.
    pub theirs: Vec<Name>,
    /// How many objects of each definition have a status that says something of ours: `virtualservices`, number.
    pub statuses: BTreeMap<String, usize>,
}

impl Found {
    /// Plurals of the kinds whose definitions go.
    pub fn kinds_that_go(&self, purge: bool) -> Vec<&str> {
        let definitions = self.definitions.iter().filter(|_| purge);
        definitions.filter_map(|name| name.name.split('.').next()).collect()
    }

    /// Statuses that stay, and must not go on saying what nobody keeps true.
    pub fn statuses_to_clear(&self, purge: bool) -> usize {
        let going = self.kinds_that_go(purge);
        self.statuses.iter().filter(|(kind, _)| !going.contains(&kind.as_str())).map(|(_, count)| count).sum()
    }

    /// What goes only with `--purge`, in this order.
    pub fn purged(&self) -> impl Iterator<Item = &Name> {
        self.written.iter().chain(&self.definitions).chain(&self.namespace)
    }
}

pub async fn find(client: &Client) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for name in installed(client).await? {
        match name.resource.kind.as_str() {
            "CustomResourceDefinition" => found.definitions.push(name),
            "Namespace" => found.namespace = Some(name),
            _ => found.installed.push(name),
        }
    }
    found.written = written(client).await?;
    found.theirs = theirs(client, &found.definitions).await?;
    for told in status::told(client, &[]).await.map_err(said)? {
        *found.statuses.entry(told.plural().to_owned()).or_default() += 1;
    }
    found.objects = try_join_all(found.definitions.iter().map(|name| objects(client, name))).await?;
    if found.namespace.is_some() {
        found.inside = inside(client, &found).await?;
    }
    Ok(found)
}

/// Only what `install` wrote to: others' definitions are of no interest otherwise.
async fn theirs(client: &Client, ours: &[Name]) -> anyhow::Result<Vec<Name>> {
    let mut names = Vec::new();
    for name in known()?.into_iter().filter(|name| name.is("CustomResourceDefinition") && !ours.contains(name)) {
        let there = name.api(client).get_metadata_opt(&name.name).await.map_err(said)?;
        if there.is_some_and(|found| is_managed(&found.metadata)) {
            names.push(name);
        }
    }
    Ok(names)
}

async fn written(client: &Client) -> anyhow::Result<Vec<Name>> {
    let maps: Api<ConfigMap> = Api::all(client.clone());
    let maps = maps.list_metadata(&selector()).await.map_err(said)?;
    let roots = maps.items.iter().filter(|map| map.name_any() == ROOTS);
    let mut names: Vec<Name> = roots.map(|map| name::<ConfigMap>(map.namespace(), ROOTS)).collect();
    let system = Some(NAMESPACE.to_owned());
    let secrets = [SECRET, ACCOUNT].map(|secret| name::<Secret>(system.clone(), secret));
    for name in secrets.into_iter().chain([name::<Lease>(system.clone(), LEASE)]) {
        if name.api(client).get_metadata_opt(&name.name).await.map_err(said)?.is_some() {
            names.push(name);
        }
    }
    Ok(names)
}

fn name<K: Resource<DynamicType = ()>>(namespace: Option<String>, name: &str) -> Name {
    Name { resource: ApiResource::erase::<K>(&()), namespace, name: name.to_owned() }
}

/// One of them is asked for, and how many more there are.
async fn objects(client: &Client, definition: &Name) -> anyhow::Result<(Name, u64)> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let Some(found) = api.get_opt(&definition.name).await.map_err(said)? else { return Ok((definition.clone(), 0)) };
    let Some(version) = found.spec.versions.iter().find(|version| version.served) else {
        return Ok((definition.clone(), 0));
    };
    let kind = GroupVersionKind::gvk(&found.spec.group, &version.name, &found.spec.names.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &found.spec.names.plural);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let list = match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(list) => list,
        // It is going already.
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok((definition.clone(), 0)),
        Err(error) => return Err(said(error)),
    };
    let more = list.metadata.remaining_item_count.and_then(|more| u64::try_from(more).ok()).unwrap_or(0);
    Ok((definition.clone(), more.saturating_add(list.items.len().try_into()?)))
}

async fn inside(client: &Client, found: &Found) -> anyhow::Result<Vec<String>> {
    let ours = |name: &Name| found.installed.contains(name) || found.written.contains(name);
    let kinds = [
        name::<Secret>(None, ""),
        name::<ConfigMap>(None, ""),
        name::<Service>(None, ""),
        name::<Deployment>(None, ""),
        name::<StatefulSet>(None, ""),
        name::<DaemonSet>(None, ""),
        name::<PersistentVolumeClaim>(None, ""),
    ];
    let mut names = Vec::new();
    for kind in kinds {
        let kind = Name { namespace: Some(NAMESPACE.to_owned()), ..kind };
        for object in kind.api(client).list_metadata(&ListParams::default()).await.map_err(said)?.items {
            let name = Name { name: object.name_any(), ..kind.clone() };
            if !ours(&name) && name.name != OF_KUBERNETES && object.owner_references().is_empty() {
                names.push(name.to_string());
            }
        }
    }
    Ok(names)
}
