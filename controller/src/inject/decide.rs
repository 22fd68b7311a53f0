//! Whether a pod gets a sidecar: Istio's table of labels of the namespace and of the pod.

use std::collections::BTreeMap;
use std::fmt;

use super::pod::Pod;
use super::selection::{SETTINGS, Said, Selection};

/// Of namespaces.
pub const NAMESPACE_LABEL: &str = "istio-injection";
/// Of namespaces and pods: which control plane is asked. Ours is `default`.
pub const REVISION_LABEL: &str = "istio.io/rev";
/// Of pods; the annotation of that name counts where there is no label.
pub const POD_LABEL: &str = "sidecar.istio.io/inject";
/// What injection writes into a pod: so it is known again.
pub const STATUS: &str = "sidecar.istio.io/status";
/// The only revision that there is.
pub const REVISION: &str = "default";

/// Nobody in there gets a sidecar, whatever labels say: what the cluster and the controller themselves need.
pub const NEVER: &[&str] = &["kube-system", "kube-public", "kube-node-lease", "local-path-storage", "meshgate-system"];

/// Where the pod is to be.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    pub name: &'a str,
    /// None: somebody else has looked at them already, and at the pod's; for the webhook that is the API server.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Inject,
    Leave(Reason),
}

/// Why a pod stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    HostNetwork,
    Namespace(String),
    AlreadyInjected,
    /// The label or the annotation, and that it says `false`.
    PodSaysNo(&'static str),
    /// The label of the namespace, and its value.
    NamespaceSaysNo(&'static str, String),
    /// The pod asks for it, of another control plane.
    OtherRevision(String),
    NotAsked,
    /// Number of the selector of the injector's settings that says so.
    NeverSelected(usize),
    /// The injector's settings want to be asked by the pod itself.
    PolicyDisabled,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::HostNetwork => f.write_str("it has `hostNetwork: true`, so its connections are those of the node"),
            Reason::Namespace(name) => write!(f, "pods of namespace {name} are never injected"),
            Reason::AlreadyInjected => write!(f, "it has a sidecar already (annotation `{STATUS}`)"),
            Reason::PodSaysNo(what) => write!(f, "the pod has the {what} `{POD_LABEL}: \"false\"`"),
            Reason::NamespaceSaysNo(label, value) => write!(f, "its namespace has the label `{label}: {value}`"),
            Reason::OtherRevision(revision) => {
                write!(f, "the pod has the label `{REVISION_LABEL}: {revision}`; the revision here is `{REVISION}`")
            }
            Reason::NeverSelected(number) => {
                write!(
                    f,
                    "the injector's settings (ConfigMap `{SETTINGS}`) leave it out: neverInjectSelector[{number}]"
                )
            }
            Reason::PolicyDisabled => write!(
                f,
                "the injector's settings (ConfigMap `{SETTINGS}`) say `policy: disabled`; the pod can ask by the label `{POD_LABEL}: \"true\"`"
            ),
            Reason::NotAsked => write!(
                f,
                "nobody asks for it: neither the namespace (label `{NAMESPACE_LABEL}: enabled`) nor the pod (label `{POD_LABEL}: \"true\"`)"
            ),
        }
    }
}

/// Whether somebody has added a sidecar to it.
#[must_use]
pub fn is_injected(pod: &Pod) -> bool {
    pod.metadata.annotations.contains_key(STATUS)
}

/// See the module.
#[must_use]
pub fn decide(namespace: Namespace<'_>, pod: &Pod, selection: &Selection) -> Decision {
    match obstacle(namespace, pod, selection) {
        Some(reason) => Decision::Leave(reason),
        None => Decision::Inject,
    }
}

fn obstacle(namespace: Namespace<'_>, pod: &Pod, selection: &Selection) -> Option<Reason> {
    if pod.spec.host_network == Some(true) {
        return Some(Reason::HostNetwork);
    }
    if NEVER.contains(&namespace.name) {
        return Some(Reason::Namespace(namespace.name.to_owned()));
    }
    if is_injected(pod) {
        return Some(Reason::AlreadyInjected);
    }
    let label = pod.metadata.label(POD_LABEL);
    if label == Some("false") {
        return Some(Reason::PodSaysNo("label"));
    }
    if let Some(reason) = namespace.labels.and_then(|labels| unselected(labels, pod)) {
        return Some(reason);
    }
    match label.or_else(|| pod.metadata.annotation(POD_LABEL)) {
        Some("true") => None,
        Some("false") => Some(Reason::PodSaysNo("annotation")),
        // Whatever is neither counts as if it were not there.
        _ => match selection.of(&pod.metadata.labels) {
            Said::Yes => None,
            Said::Never(number) => Some(Reason::NeverSelected(number)),
            Said::No => Some(Reason::PolicyDisabled),
        },
    }
}

/// What the selectors of the webhook's configuration do, for those who are not called by it.
fn unselected(labels: &BTreeMap<String, String>, pod: &Pod) -> Option<Reason> {
    match (labels.get(NAMESPACE_LABEL), labels.get(REVISION_LABEL)) {
        (Some(value), _) if value == "enabled" => None,
        (Some(value), _) => Some(Reason::NamespaceSaysNo(NAMESPACE_LABEL, value.clone())),
        (None, Some(revision)) if revision == REVISION => None,
        (None, Some(revision)) => Some(Reason::NamespaceSaysNo(REVISION_LABEL, revision.clone())),
        (None, None) => match (pod.metadata.label(REVISION_LABEL), pod.metadata.label(POD_LABEL)) {
            (Some(REVISION), _) | (None, Some("true")) => None,
            (Some(revision), _) => Some(Reason::OtherRevision(revision.to_owned())),
            (None, _) => Some(Reason::NotAsked),
        },
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
