//! `metadata` of an object.

use std::collections::BTreeMap;

/// Name, namespace and what else of `metadata` has a meaning here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    /// Those of Istio.
    pub annotations: BTreeMap<String, String>,
    /// As written: RFC 3339 in UTC sorts as text. Absent in most files.
    pub creation_timestamp: Option<String>,
}
