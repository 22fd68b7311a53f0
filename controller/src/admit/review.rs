//! `AdmissionReview` of admission.k8s.io/v1: what is read of it, and the answer. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Verdict;
use crate::kube::KINDS;

/// The API server cuts longer warnings, and drops all that follow after so many bytes.
const WARNING: usize = 250;
const WARNINGS: usize = 3500;

#[derive(Debug, Deserialize)]
pub struct Review {
    pub request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub uid: String,
    pub kind: Kind,
    #[serde(default)]
    pub sub_resource: String,
    #[serde(default)]
    pub namespace: String,
    pub operation: String,
    #[serde(default)]
    pub object: Value,
    #[serde(default)]
    pub old_object: Value,
}

#[derive(Debug, Deserialize)]
pub struct Kind {
    pub group: String,
    pub kind: String,
}

impl Kind {
    fn is_ours(&self) -> bool {
        KINDS.iter().any(|known| known.kind == self.kind && known.group == self.group && known.is_ours())
    }
}

impl Request {
    /// Whether a pod is to be created.
    #[must_use]
    pub fn is_new_pod(&self) -> bool {
        let pod = self.kind.group.is_empty() && self.kind.kind == "Pod" && self.sub_resource.is_empty();
        pod && self.operation == "CREATE"
    }

    /// Whether it is about something that can be judged: what makes an object new or different.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        let writes = matches!(self.operation.as_str(), "CREATE" | "UPDATE");
        let ending = self.object.pointer("/metadata/deletionTimestamp").is_some();
        // Labels, annotations and finalizers of an object can be changed though its spec became invalid.
        let same = self.operation == "UPDATE" && self.object.get("spec") == self.old_object.get("spec");
        writes && self.kind.is_ours() && self.sub_resource.is_empty() && !ending && !same
    }
}

/// The answer's body.
#[must_use]
pub fn answer(uid: &str, verdict: &Verdict) -> Value {
    let mut response = json!({ "uid": uid, "allowed": verdict.denied.is_empty() });
    if let Some(fields) = response.as_object_mut()
        && !verdict.denied.is_empty()
    {
        let status = json!({ "code": 422, "reason": "Invalid", "message": verdict.denied.join("\n") });
        fields.insert("status".to_owned(), status);
    }
    envelope(response, &verdict.warnings)
}

/// The response with warnings, as the API server wants it.
#[must_use]
pub fn envelope(mut response: Value, warnings: &[String]) -> Value {
    let warnings = clipped(warnings);
    if let Some(fields) = response.as_object_mut().filter(|_| !warnings.is_empty()) {
        fields.insert("warnings".to_owned(), warnings.into());
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}

fn clipped(warnings: &[String]) -> Vec<String> {
    let (mut clipped, mut length) = (Vec::new(), 0);
    for (number, warning) in warnings.iter().enumerate() {
        let mut text = warning.clone();
        if text.len() > WARNING {
            let end = (0..=WARNING).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        length += text.len();
        if length > WARNINGS {
            clipped.push(format!("and {} more", warnings.len() - number));
            break;
        }
        clipped.push(text);
    }
    clipped
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
