//! `Secret` (v1).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::api::Bytes;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secret {
    /// `kubernetes.io/tls`, `Opaque`
    pub kind: String,
    /// With what `stringData` gave, as in the API server.
    pub data: BTreeMap<String, Bytes>,
}

/// The object as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct SecretObject {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, Bytes>,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
}

impl From<SecretObject> for Secret {
    fn from(object: SecretObject) -> Self {
        let mut data = object.data;
        data.extend(object.string_data.into_iter().map(|(key, text)| (key, Bytes(text.into_bytes()))));
        Self { kind: object.kind, data }
    }
}
