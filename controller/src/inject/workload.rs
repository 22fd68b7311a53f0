//! Whose pod it is: the name that metrics and pages of the mesh have for it.

use super::pod::{Metadata, Pod};

/// Labels of a pod by which the mesh calls a workload, whoever owns it.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// Of a label's value.
const LONGEST: usize = 63;
/// A CronJob's Jobs end with the minute or second that they were due at.
const DUE: std::ops::RangeInclusive<usize> = 8..=11;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

impl Workload {
    /// Of a pod that somebody creates.
    #[must_use]
    pub fn of_pod(metadata: &Metadata, namespace: &str) -> Workload {
        let owner = metadata.owner_references.iter().find(|owner| owner.controller == Some(true));
        let (api_version, kind, name) = match owner {
            Some(owner) => match (&*owner.kind, metadata.label("pod-template-hash")) {
                ("ReplicaSet", Some(hash)) if without(&owner.name, hash).is_some() => {
                    ("apps/v1", "Deployment", without(&owner.name, hash).unwrap_or_default())
                }
                ("Job", _) if of_cron_job(&owner.name).is_some() => {
                    ("batch/v1", "CronJob", of_cron_job(&owner.name).unwrap_or_default())
                }
                _ => (&*owner.api_version, &*owner.kind, &*owner.name),
            },
            None => {
                let generated = metadata.generate_name.as_deref().map(|name| name.trim_end_matches('-'));
                ("v1", "Pod", metadata.name.as_deref().or(generated).unwrap_or_default())
            }
        };
        Workload {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    /// As Istio's proxies say it.
    #[must_use]
    pub fn owner(&self) -> String {
        let Workload { api_version, kind, name, namespace } = self;
        format!("kubernetes://apis/{api_version}/namespaces/{namespace}/{}s/{name}", kind.to_lowercase())
    }

    /// Name and revision, of labels that many have.
    #[must_use]
    pub fn canonical(&self, pod: &Pod) -> (String, String) {
        let first =
            |names: &[&str]| names.iter().find_map(|name| pod.metadata.label(name)).filter(|text| !text.is_empty());
        let name = first(&[CANONICAL_NAME, "app.kubernetes.io/name", "app"]).unwrap_or(&self.name);
        let revision = first(&[CANONICAL_REVISION, "app.kubernetes.io/version", "version"]).unwrap_or("latest");
        (label_value(name), revision.to_owned())
    }
}

/// Names of objects may be longer than labels, which end with a letter or a digit.
fn label_value(name: &str) -> String {
    let cut: String = name.chars().take(LONGEST).collect();
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn without<'n>(name: &'n str, hash: &str) -> Option<&'n str> {
    name.strip_suffix(hash)?.strip_suffix('-').filter(|name| !name.is_empty())
}

fn of_cron_job(job: &str) -> Option<&str> {
    let (name, due) = job.rsplit_once('-')?;
    (DUE.contains(&due.len()) && due.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(metadata: serde_json::Value) -> Pod {
        Pod::read(&json!({ "metadata": metadata })).unwrap()
    }

    fn owned(kind: &str, name: &str) -> String {
        let owner = json!([{ "apiVersion": "x/v1", "kind": kind, "name": name, "controller": true }]);
        let pod = pod(json!({ "labels": { "pod-template-hash": "5d4f" }, "ownerReferences": owner }));
        Workload::of_pod(&pod.metadata, "shop").owner()
    }

    #[test]
    fn a_pod_belongs_to_what_its_owner_was_made_by() {
        assert_eq!(owned("ReplicaSet", "web-v1-5d4f"), "kubernetes://apis/apps/v1/namespaces/shop/deployments/web-v1");
        assert_eq!(owned("ReplicaSet", "web-v1"), "kubernetes://apis/x/v1/namespaces/shop/replicasets/web-v1");
        assert_eq!(owned("Job", "nightly-29012345"), "kubernetes://apis/batch/v1/namespaces/shop/cronjobs/nightly");
        assert_eq!(owned("Job", "once-7"), "kubernetes://apis/x/v1/namespaces/shop/jobs/once-7");
        assert_eq!(owned("StatefulSet", "db"), "kubernetes://apis/x/v1/namespaces/shop/statefulsets/db");
        let alone = pod(json!({ "generateName": "probe-" }));
        let alone = Workload::of_pod(&alone.metadata, "shop");
        assert_eq!(alone.owner(), "kubernetes://apis/v1/namespaces/shop/pods/probe");
    }

    #[test]
    fn canonical_names_are_those_of_labels_else_of_the_workload() {
        let named = |labels: serde_json::Value, name: &str| {
            let pod = pod(json!({ "name": name, "labels": labels }));
            Workload::of_pod(&pod.metadata, "shop").canonical(&pod)
        };
        let is = |name: &str, revision: &str| (name.to_owned(), revision.to_owned());
        assert_eq!(named(json!({}), "a"), is("a", "latest"));
        assert_eq!(named(json!({ "app": "b", "version": "v2" }), "a"), is("b", "v2"));
        assert_eq!(named(json!({ "app": "b", "app.kubernetes.io/name": "c" }), "a"), is("c", "latest"));
        assert_eq!(named(json!({ CANONICAL_NAME: "d", CANONICAL_REVISION: "r" }), "a"), is("d", "r"));
        let long = format!("{}.-b", "a".repeat(61));
        assert_eq!(named(json!({}), &long), is(&"a".repeat(61), "latest"));
    }
}
