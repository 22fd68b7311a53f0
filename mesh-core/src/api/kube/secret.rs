//! `Secret` (v1).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::api::Bytes;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// `kubernetes.io/tls`, `Opaque`
    #[serde(default, rename = "type")]
    pub kind: String,
    /// `stringData` is merged into it, as the API server does.
    #[serde(default)]
    pub data: BTreeMap<String, Bytes>,
}
