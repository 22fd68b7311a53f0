//! What an installation consists of: the files of `deploy/`, put together as its kustomizations say, so that `kubectl apply -k`
//! and `meshctl install` mean the same objects. A kustomization lists resources and does nothing else.

use std::fmt;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde::Deserialize;

/// The namespace that the files name.
pub const NAMESPACE: &str = "meshgate-system";
/// All that is ours carries it.
pub const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "meshgate");

macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../../../deploy/", $path)))),*] };
}

const FILES: &[(&str, &str)] = files![
    "acme/kustomization.yaml",
    "acme/rbac.yaml",
    "autoscale/autoscale.yaml",
    "autoscale/kustomization.yaml",
    "base/controller.yaml",
    "base/injection.yaml",
    "base/kustomization.yaml",
    "base/namespace.yaml",
    "base/network.yaml",
    "base/rbac.yaml",
    "base/webhook.yaml",
    "crds/crds.yaml",
    "crds/kustomization.yaml",
    "gateway-namespace/kustomization.yaml",
    "gateway-namespace/rbac.yaml",
    "gateway/gateway.yaml",
    "gateway/kustomization.yaml",
    "gateway/network.yaml",
    "profiles/default/kustomization.yaml",
    "profiles/demo/kustomization.yaml",
    "profiles/demo/mesh.yaml",
    "profiles/minimal/kustomization.yaml",
];

/// A folder of `deploy/profiles`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// The controller alone.
    Minimal,
    /// Controller, and edge gateways by load.
    #[default]
    Default,
    /// Controller and one edge gateway, which logs each request.
    Demo,
}

impl Profile {
    /// As its folder is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Minimal => "minimal",
            Profile::Default => "default",
            Profile::Demo => "demo",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    resources: Vec<String>,
}

/// The objects of a profile, in the order in which they can be applied.
pub fn manifests(profile: Profile) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    collect(&format!("profiles/{}", profile.name()), &mut objects)?;
    objects.sort_by_key(rank);
    Ok(objects)
}

/// What lets the controller read the secrets of a namespace that is not its own.
pub fn of_gateway_namespace(namespace: &str) -> anyhow::Result<Vec<DynamicObject>> {
    in_namespace("gateway-namespace", namespace)
}

/// What lets the controller write the secrets of a namespace in which certificates are that it orders.
pub fn of_acme(namespace: &str) -> anyhow::Result<Vec<DynamicObject>> {
    in_namespace("acme", namespace)
}

/// The objects of a folder that names no namespace.
fn in_namespace(folder: &str, namespace: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    collect(folder, &mut objects)?;
    for object in &mut objects {
        object.metadata.namespace = Some(namespace.to_owned());
    }
    Ok(objects)
}

/// Every object that some profile has, once.
pub fn known() -> anyhow::Result<Vec<Name>> {
    let mut known = Vec::new();
    for profile in Profile::value_variants() {
        for object in manifests(*profile)? {
            let name = Name::of(&object)?;
            if !known.contains(&name) {
                known.push(name);
            }
        }
    }
    Ok(known)
}

/// Namespaces before what is in them, definitions before what they define.
fn rank(object: &DynamicObject) -> u8 {
    match kind(object) {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    }
}

fn collect(folder: &str, objects: &mut Vec<DynamicObject>) -> anyhow::Result<()> {
    let path = format!("{folder}/kustomization.yaml");
    let kustomization: Kustomization = serde_saphyr::from_str(text(&path)?).with_context(|| path.clone())?;
    for resource in &kustomization.resources {
        let path = join(folder, resource);
        if !path.ends_with(".yaml") {
            collect(&path, objects)?;
            continue;
        }
        let documents: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(text(&path)?).with_context(|| path.clone())?;
        for document in documents {
            objects.push(serde_json::from_value(document).with_context(|| path.clone())?);
        }
    }
    Ok(())
}

fn text(path: &str) -> anyhow::Result<&'static str> {
    match FILES.iter().find(|(name, _)| *name == path) {
        Some((_, text)) => Ok(text),
        None => bail!("deploy/{path} is not part of this program"),
    }
}

fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Of an object as it is written; empty if it has none.
#[must_use]
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

/// An object of the API server by its name: `Kind/namespace/name`, or `Kind/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    pub resource: ApiResource,
    pub namespace: Option<String>,
    pub name: String,
}

impl Name {
    pub fn of(object: &DynamicObject) -> anyhow::Result<Name> {
        let types = object.types.as_ref().context("an object without a kind")?;
        // Its plural is a guess from the kind, which is right for all that `deploy/` has.
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        Ok(Name { resource, namespace: object.metadata.namespace.clone(), name: object.name_any() })
    }

    /// Where objects of this kind and namespace are.
    #[must_use]
    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }

    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.resource.kind == kind
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.resource.kind, self.name),
            None => write!(f, "{}/{}", self.resource.kind, self.name),
        }
    }
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
