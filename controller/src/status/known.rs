//! What the status of an object says now, and the text that makes it say something else. Pure.

use serde_json::{Value, json};

use super::{Condition, Desired, ValidationMessage};

/// Conditions of ours; those of others are left alone.
const ACCEPTED: &str = "Accepted";
const PROGRAMMED: &str = "Programmed";
/// Codes of ours in `validationMessages`.
const CODE: &str = "MESH";

/// Our part of a status, as the API server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ours {
    pub generation: Option<i64>,
    pub accepted: Option<(Condition, String)>,
    pub programmed: Option<(Condition, String)>,
    /// Code, name and level.
    pub messages: Vec<(String, String, String)>,
}

/// A status as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    pub ours: Ours,
    /// Conditions and messages of others, as they stand there.
    pub conditions: Vec<Value>,
    pub messages: Vec<Value>,
}

impl Known {
    /// Of the field `status`.
    #[must_use]
    pub fn read(status: &Value) -> Known {
        let mut known = Known::default();
        // Istio's CRDs allow a number and a text.
        known.ours.generation = match status.get("observedGeneration") {
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_i64(),
            None => None,
        };
        for condition in list(status, "conditions") {
            match text(condition, "type") {
                ACCEPTED => known.ours.accepted = Some(read(condition)),
                PROGRAMMED => known.ours.programmed = Some(read(condition)),
                _ => known.conditions.push(condition.clone()),
            }
        }
        for message in list(status, "validationMessages") {
            let kind = message.get("type").unwrap_or(&Value::Null);
            if text(kind, "code").starts_with(CODE) {
                let ours = [text(kind, "code"), text(kind, "name"), text(message, "level")].map(str::to_owned);
                known.ours.messages.push(ours.into());
            } else {
                known.messages.push(message.clone());
            }
        }
        known
    }

    /// Whether it says all that is desired already.
    #[must_use]
    pub fn says(&self, desired: &Desired) -> bool {
        let same = |known: &Option<(Condition, String)>, desired: &Condition| {
            known.as_ref().is_some_and(|(known, _)| known == desired)
        };
        let messages = desired.messages.iter().map(triple);
        self.ours.generation == Some(desired.generation)
            && same(&self.ours.accepted, &desired.accepted)
            && same(&self.ours.programmed, &desired.programmed)
            && messages.eq(self.ours.messages.iter().cloned())
    }

    /// The status to apply. `whole`: lists belong to one writer as a whole, so that the others' entries must be in
    /// ours.
    #[must_use]
    pub fn to_apply(&self, desired: &Desired, whole: bool, now: &str) -> Value {
        let others = |list: &[Value]| if whole { list.to_vec() } else { Vec::new() };
        let mut conditions = others(&self.conditions);
        let since = |known: &Option<(Condition, String)>, desired: &Condition| match known {
            Some((known, since)) if known.status == desired.status && !since.is_empty() => since.clone(),
            _ => now.to_owned(),
        };
        for (name, known, desired_one) in [
            (ACCEPTED, &self.ours.accepted, &desired.accepted),
            (PROGRAMMED, &self.ours.programmed, &desired.programmed),
        ] {
            conditions.push(json!({
                "type": name,
                "status": if desired_one.status { "True" } else { "False" },
                "reason": desired_one.reason,
                "message": desired_one.message,
                "observedGeneration": desired.generation,
                "lastTransitionTime": since(known, desired_one),
            }));
        }
        // Messages have no key by which lists could be merged.
        let mut messages = self.messages.clone();
        messages.extend(desired.messages.iter().filter_map(|message| serde_json::to_value(message).ok()));
        let mut status = json!({ "observedGeneration": desired.generation, "conditions": conditions });
        if let Some(fields) = status.as_object_mut()
            && !desired.messages.is_empty()
        {
            fields.insert("validationMessages".to_owned(), messages.into());
        }
        status
    }
}

fn triple(message: &ValidationMessage) -> (String, String, String) {
    (message.r#type.code.clone(), message.r#type.name.clone(), message.level.clone())
}

fn read(condition: &Value) -> (Condition, String) {
    let read = Condition {
        status: text(condition, "status") == "True",
        reason: text(condition, "reason").to_owned(),
        message: text(condition, "message").to_owned(),
    };
    (read, text(condition, "lastTransitionTime").to_owned())
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
