//! `Node` (v1): where it stands. Nothing else of it is kept, so that the status that its kubelet writes all the time is no
//! change.

use std::sync::Arc;

use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `region/zone/subzone` by its labels; empty if they do not say.
    pub locality: Arc<str>,
}

/// The object as it is written.
#[derive(Deserialize)]
pub(in crate::api) struct NodeObject {
    #[serde(default)]
    metadata: NodeMeta,
}

#[derive(Default, Deserialize)]
struct NodeMeta {
    #[serde(default)]
    labels: NodeLabels,
}

/// The older names are those that Istio still reads.
#[derive(Default, Deserialize)]
struct NodeLabels {
    #[serde(rename = "topology.kubernetes.io/region")]
    region: Option<String>,
    #[serde(rename = "failure-domain.beta.kubernetes.io/region")]
    old_region: Option<String>,
    #[serde(rename = "topology.kubernetes.io/zone")]
    zone: Option<String>,
    #[serde(rename = "failure-domain.beta.kubernetes.io/zone")]
    old_zone: Option<String>,
    #[serde(rename = "topology.istio.io/subzone")]
    subzone: Option<String>,
}

impl From<NodeObject> for Node {
    fn from(object: NodeObject) -> Self {
        let labels = object.metadata.labels;
        let parts = [labels.region.or(labels.old_region), labels.zone.or(labels.old_zone), labels.subzone];
        let parts = parts.map(Option::unwrap_or_default);
        Self { locality: parts.join("/").trim_end_matches('/').into() }
    }
}
