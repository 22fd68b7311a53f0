//! Whether we may do what `install` does: asked of the API server one by one.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};

use super::{Finding, State};
use crate::ctl::manifests::{NAMESPACE, Name, kind, known};
use crate::ctl::trouble::{in_full, said};

const CHECK: &str = "rights";
const RBAC: &str = "rbac.authorization.k8s.io";

/// A verb on a kind of objects, everywhere or in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    group: String,
    resource: String,
    namespace: Option<String>,
    /// Of one object, else of all.
    name: Option<String>,
    verb: String,
}

impl Right {
    fn of(name: &Name, verb: &str) -> Right {
        Right {
            group: name.resource.group.clone(),
            resource: name.resource.plural.clone(),
            namespace: name.namespace.clone(),
            name: None,
            verb: verb.to_owned(),
        }
    }

    fn on(group: &str, resource: &str, namespace: Option<&str>, verb: &str) -> Right {
        let namespace = namespace.map(str::to_owned);
        Right { group: group.to_owned(), resource: resource.to_owned(), namespace, name: None, verb: verb.to_owned() }
    }

    /// `resource.group/part named NAME in NAMESPACE`
    fn on_what(&self) -> String {
        let (resource, part) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        let mut text = resource.to_owned();
        let name = self.name.as_deref().unwrap_or_default();
        let namespace = self.namespace.as_deref().unwrap_or_default();
        for (before, word) in [(".", &*self.group), ("/", part), (" named ", name), (" in ", namespace)] {
            if !word.is_empty() {
                text.push_str(before);
                text.push_str(word);
            }
        }
        text
    }
}

pub(super) async fn check(client: &Client, objects: &[DynamicObject]) -> Vec<Finding> {
    match missing(client, objects).await {
        Ok((asked, missing)) => judge(asked, &missing),
        Err(error) => vec![Finding::new(CHECK, State::Warning, format!("cannot tell: {}", in_full(&error)))],
    }
}

/// How many were asked for, and which we do not have.
async fn missing(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<(usize, Vec<Right>)> {
    let needed = needed(objects)?;
    let mut asked = needed.len();
    let mut missing = denied(client, needed).await?;
    // Who may not hand out every right may hand out those that he has himself.
    let roles = objects.iter().filter(|object| kind(object) == "Role");
    let namespaces: BTreeSet<Option<&str>> = roles.map(|role| role.metadata.namespace.as_deref()).collect();
    let free = [("clusterroles", None)].into_iter().chain(namespaces.into_iter().map(|namespace| ("roles", namespace)));
    let free = free
        .flat_map(|(resource, namespace)| ["bind", "escalate"].map(|verb| Right::on(RBAC, resource, namespace, verb)));
    if !denied(client, free.collect()).await?.is_empty() {
        let handed_out = handed_out(objects)?;
        asked += handed_out.len();
        missing.extend(denied(client, handed_out).await?);
    }
    Ok((asked, missing))
}

/// What `install` asks of the API server, in order and without repetition.
pub(super) fn needed(objects: &[DynamicObject]) -> anyhow::Result<Vec<Right>> {
    let mut needed = vec![Right::on("", "pods", Some(NAMESPACE), "list")];
    for object in objects {
        let name = Name::of(object)?;
        needed.extend(["get", "create", "patch"].map(|verb| Right::of(&name, verb)));
        if name.is("CustomResourceDefinition") {
            needed.push(Right::of(&name, "watch"));
        }
    }
    // What is left of another profile is looked for.
    needed.extend(known()?.iter().map(|name| Right::of(name, "list")));
    // Also in namespaces of gateways.
    needed.extend(["roles", "rolebindings"].map(|kind| Right::on(RBAC, kind, None, "list")));
    needed.sort();
    needed.dedup();
    Ok(needed)
}

/// What the roles give.
pub(super) fn handed_out(objects: &[DynamicObject]) -> anyhow::Result<Vec<Right>> {
    let mut rights = Vec::new();
    for object in objects.iter().filter(|object| matches!(kind(object), "Role" | "ClusterRole")) {
        let rules = object.data.get("rules").cloned().unwrap_or_default();
        let rules: Vec<PolicyRule> = serde_json::from_value(rules)?;
        for rule in rules {
            rights.extend(of_rule(&rule, object.metadata.namespace.as_deref()));
        }
    }
    rights.sort();
    rights.dedup();
    Ok(rights)
}

fn of_rule(rule: &PolicyRule, namespace: Option<&str>) -> Vec<Right> {
    let mut rights = Vec::new();
    let names: Vec<Option<String>> = match rule.resource_names.as_deref() {
        None | Some([]) => vec![None],
        Some(names) => names.iter().cloned().map(Some).collect(),
    };
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                let right = Right::on(group, resource, namespace, verb);
                rights.extend(names.iter().map(|name| Right { name: name.clone(), ..right.clone() }));
            }
        }
    }
    rights
}

async fn denied(client: &Client, rights: Vec<Right>) -> anyhow::Result<Vec<Right>> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answers = try_join_all(rights.iter().map(|right| {
        let (resource, subresource) = match right.resource.split_once('/') {
            Some((resource, part)) => (resource, Some(part.to_owned())),
            None => (right.resource.as_str(), None),
        };
        let attributes = ResourceAttributes {
            group: Some(right.group.clone()),
            resource: Some(resource.to_owned()),
            subresource,
            namespace: right.namespace.clone(),
            name: right.name.clone(),
            verb: Some(right.verb.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let api = &api;
        async move { api.create(&PostParams::default(), &review).await.map_err(said) }
    }))
    .await?;
    let denied = rights.into_iter().zip(answers);
    let denied = denied.filter(|(_, answer)| !answer.status.as_ref().is_some_and(|status| status.allowed));
    Ok(denied.map(|(right, _)| right).collect())
}

/// One line for each kind of objects.
pub(super) fn judge(asked: usize, missing: &[Right]) -> Vec<Finding> {
    if missing.is_empty() {
        return vec![Finding::new(CHECK, State::Ok, format!("all {asked} that it takes"))];
    }
    let mut kinds: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for right in missing {
        kinds.entry(right.on_what()).or_default().insert(&right.verb);
    }
    let line = |(kind, verbs): (&String, &BTreeSet<&str>)| {
        let verbs: Vec<&str> = verbs.iter().copied().collect();
        Finding::new(CHECK, State::Problem, format!("you may not {} {kind}", verbs.join(", ")))
    };
    kinds.iter().map(line).collect()
}
