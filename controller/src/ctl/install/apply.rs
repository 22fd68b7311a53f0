//! One object to the API server, and what that changed.

use anyhow::Context as _;
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::Status;
use serde_json::Value;

use crate::ctl::installed::MANAGER;
use crate::ctl::manifests::Name;
use crate::ctl::trouble::said;

/// What the API server does, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Created,
    /// Each field as `path: before -> after`.
    Changed(Vec<String>),
    Unchanged,
}

/// It is not done, for somebody else has set something of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("somebody else has set {}; --force-conflicts takes it over", fields(.0))]
pub struct Clashes(pub Vec<Clash>);

fn fields(clashes: &[Clash]) -> String {
    clashes.iter().map(|clash| clash.field.as_str()).collect::<Vec<_>>().join(", ")
}

/// A field that somebody else has set otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    pub manager: String,
    /// `.spec.replicas`
    pub field: String,
}

#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The API server checks it and stores nothing.
    pub dry_run: bool,
    /// Takes over fields that belong to somebody else.
    pub force: bool,
}

/// Server-side apply: fields that are not named stay as they are.
pub async fn apply(client: &Client, object: &DynamicObject, manner: Manner) -> anyhow::Result<Outcome> {
    let name = Name::of(object)?;
    let api = name.api(client);
    let before = api.get_opt(&name.name).await.map_err(said).with_context(|| name.to_string())?;
    let mut params = PatchParams::apply(MANAGER).validation_strict();
    params.dry_run = manner.dry_run;
    params.force = manner.force;
    let after = match api.patch(&name.name, &params, &Patch::Apply(object)).await {
        Ok(after) => after,
        Err(kube::Error::Api(status)) if status.is_conflict() && !manner.force => {
            return Err(Clashes(clashes(&status))).with_context(|| name.to_string());
        }
        Err(error) => return Err(said(error)).with_context(|| name.to_string()),
    };
    Ok(match before {
        None => Outcome::Created,
        Some(before) => match changes(&written(&before)?, &written(&after)?) {
            fields if fields.is_empty() => Outcome::Unchanged,
            fields => Outcome::Changed(fields),
        },
    })
}

/// What a conflict is about. Each cause says `conflict with "MANAGER" using VERSION`.
pub(super) fn clashes(status: &Status) -> Vec<Clash> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut clashes: Vec<Clash> = causes
        .map(|cause| {
            let manager = cause.message.split('"').nth(1).unwrap_or("somebody");
            Clash { manager: manager.to_owned(), field: cause.field.clone() }
        })
        .collect();
    if clashes.is_empty() {
        clashes.push(Clash { manager: "somebody".to_owned(), field: status.message.trim().to_owned() });
    }
    clashes
}

/// Without what the API server keeps itself.
fn written(object: &DynamicObject) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(object)?;
    if let Some(map) = value.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"] {
            metadata.remove(key);
        }
    }
    Ok(value)
}

/// A longer value is cut.
const WIDTH: usize = 60;

/// Every field that differs.
#[must_use]
pub fn changes(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<String>) {
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, before.get(key), after.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for at in 0..before.len().max(after.len()) {
                compare(&format!("{path}[{at}]"), before.get(at), after.get(at), found);
            }
        }
        (before, after) if before != after => found.push(format!("{path}: {} -> {}", short(before), short(after))),
        _ => {}
    }
}

fn short(value: Option<&Value>) -> String {
    let text = match value {
        None => return "(none)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() < text.chars().count() || line.chars().count() > WIDTH {
        let start: String = line.chars().take(WIDTH).collect();
        return format!("{start}...");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_named_by_their_field() {
        let before = json!({ "spec": { "replicas": 1, "ports": [{ "port": 80 }], "gone": true }, "same": [1] });
        let after = json!({ "spec": { "replicas": 2, "ports": [{ "port": 80 }, { "port": 443 }] }, "same": [1] });
        insta::assert_snapshot!(changes(&before, &after).join("\n"), @r#"
        spec.replicas: 1 -> 2
        spec.ports[1]: (none) -> {"port":443}
        spec.gone: true -> (none)
        "#);
        assert!(changes(&before, &before).is_empty());
    }

    #[test]
    fn long_values_are_cut() {
        let text = "a".repeat(WIDTH + 1);
        assert_eq!(changes(&json!({}), &json!({ "a": text })), [format!("a: (none) -> {}...", "a".repeat(WIDTH))]);
        assert_eq!(changes(&json!({}), &json!({ "a": "one\ntwo" })), ["a: (none) -> one..."]);
    }
}
