//! Namespaces of gateways: those that are installed stay unless it is said otherwise, and those that are wanted must be there
//! before anything is changed.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Namespace};
use kube::Client;
use kube::api::{Api, DynamicObject, ObjectMeta};
use serde_json::Value;

use super::values::{self, Set};
use crate::ctl::exit::Failure;
use crate::ctl::manifests::{NAMESPACE, kind, of_gateway_namespace};
use crate::ctl::trouble::said;
use crate::options::Namespaces;

const FLAG: &str = "--gateway-namespaces";
const VARIABLE: &str = "GATEWAY_NAMESPACES";

/// Puts the namespaces that are installed into the objects, unless the values name some: who only wants another image must not
/// take the certificates of gateways elsewhere away. Those that were put in.
pub async fn keep(client: &Client, sets: &[Set], objects: &mut Vec<DynamicObject>) -> anyhow::Result<Vec<String>> {
    if sets.iter().any(Set::is_gateway_namespaces) {
        return Ok(Vec::new());
    }
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let what = || format!("Deployment/{NAMESPACE}/{}", values::CONTROLLER);
    match api.get_opt(values::CONTROLLER).await.map_err(said).with_context(what)? {
        Some(deployment) => put(&deployment, objects),
        None => Ok(Vec::new()),
    }
}

fn put(deployment: &Deployment, objects: &mut Vec<DynamicObject>) -> anyhow::Result<Vec<String>> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let told = pod.into_iter().flat_map(|pod| &pod.containers).find_map(told);
    let Some((Namespaces(names), arguments)) = told.filter(|(names, _)| !names.0.is_empty()) else {
        return Ok(Vec::new());
    };
    // As they are: whoever else has set them is in agreement.
    if let Some(arguments) = arguments {
        values::put_arguments(objects, &arguments).map_err(|missing| anyhow::anyhow!("there is no {missing}"))?;
    }
    for name in names.iter().filter(|name| *name != NAMESPACE) {
        objects.extend(of_gateway_namespace(name)?);
    }
    if values::is_to_order(objects) {
        values::rights_to_order(objects)?;
    }
    Ok(names)
}

/// What a container is told: by its arguments, which are given, or its environment.
fn told(container: &Container) -> Option<(Namespaces, Option<Vec<String>>)> {
    let arguments = container.args.as_deref().unwrap_or_default();
    let following = arguments.iter().skip(1).map(String::as_str).map(Some).chain([None]);
    let value = arguments.iter().zip(following).find_map(|(argument, next)| match argument.strip_prefix(FLAG) {
        Some("") => next,
        Some(rest) => rest.strip_prefix('='),
        None => None,
    });
    if let Some(value) = value {
        return Some((Namespaces::from_str(value).ok()?, Some(arguments.to_vec())));
    }
    let variable = container.env.iter().flatten().find(|variable| variable.name == VARIABLE)?;
    Some((Namespaces::from_str(variable.value.as_deref()?).ok()?, None))
}

/// Why namespaces that the objects need are in the way: they must be there, or be among the objects.
pub async fn absent(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<Vec<String>> {
    let made: BTreeSet<&str> = objects
        .iter()
        .filter(|object| kind(object) == "Namespace")
        .filter_map(|object| object.metadata.name.as_deref())
        .collect();
    let needed: BTreeSet<&str> = objects.iter().filter_map(|object| object.metadata.namespace.as_deref()).collect();
    let api: Api<Namespace> = Api::all(client.clone());
    let mut found = Vec::new();
    for name in needed.difference(&made) {
        let there = api.get_metadata_opt(name).await.map_err(said).with_context(|| format!("Namespace/{name}"))?;
        found.extend(in_the_way(name, there.map(|namespace| namespace.metadata).as_ref()));
    }
    Ok(found)
}

fn in_the_way(name: &str, there: Option<&ObjectMeta>) -> Option<String> {
    match there {
        None => Some(format!("gateway.namespaces: namespace `{name}` does not exist; create it, or leave it out")),
        Some(metadata) if metadata.deletion_timestamp.is_some() => {
            Some(format!("gateway.namespaces: namespace `{name}` is being deleted; leave it out"))
        }
        Some(_) => None,
    }
}

/// Refuses what would stop half way.
pub async fn check(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<()> {
    let absent = absent(client, objects).await?;
    if absent.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(format!("{} (nothing was changed)", absent.join("; "))).into())
}

/// For the objects of a Deployment.
pub(super) fn argument(names: &Value) -> Option<String> {
    let names: Vec<&str> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    (!names.is_empty()).then(|| format!("{FLAG}={}", names.join(",")))
}

#[cfg(test)]
#[path = "namespaces_tests.rs"]
mod tests;
