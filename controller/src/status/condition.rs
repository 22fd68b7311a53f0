//! From the tallies of all replicas to what a status should say. Pure.

use std::collections::HashMap;

use mesh_core::diag::{self, Severity};
use mesh_core::object::ObjectRef;
use mesh_core::translate::Unconcerned;
use serde::Serialize;

use super::{Finding, Progress, RefusedBy, Tally};

/// Longest message of a condition.
const LONGEST: usize = 1024;
/// Most findings that a status lists.
const MOST: usize = 32;

/// An object's progress at all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    pub generation: i64,
    pub stale: bool,
    pub proxies: usize,
    pub programmed: usize,
    pub refused: Vec<RefusedBy>,
    pub findings: Vec<Finding>,
    /// Why there are no proxies, as the replica says that is nearest to having some.
    pub unconcerned: Option<Unconcerned>,
}

/// A condition of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub status: bool,
    pub reason: String,
    pub message: String,
}

/// An element of `status.validationMessages`, in Istio's shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ValidationMessage {
    pub r#type: MessageType,
    /// `ERROR`, `WARNING`, `INFO`
    pub level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MessageType {
    pub name: String,
    /// `MESH0103`
    pub code: String,
}

/// What a status should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub generation: i64,
    pub accepted: Condition,
    pub programmed: Condition,
    pub messages: Vec<ValidationMessage>,
    /// What is wrong, for an event: reason and note.
    pub trouble: Option<(String, String)>,
}

/// Adds up. Of an object that replicas saw in different generations, only those with the newest count as having it.
#[must_use]
pub fn merge<'t>(tallies: impl IntoIterator<Item = &'t Tally>) -> HashMap<&'t ObjectRef, Merged> {
    let mut all: HashMap<&ObjectRef, Merged> = HashMap::new();
    for progress in tallies.into_iter().flat_map(|tally| &tally.objects) {
        match all.get_mut(&progress.object) {
            Some(merged) => merged.add(progress),
            None => drop(all.insert(&progress.object, Merged::from(progress))),
        }
    }
    all
}

impl From<&Progress> for Merged {
    fn from(progress: &Progress) -> Merged {
        Merged {
            generation: progress.generation,
            stale: progress.stale,
            proxies: progress.proxies,
            programmed: progress.programmed,
            refused: progress.refused.clone(),
            findings: progress.findings.clone(),
            unconcerned: progress.unconcerned.clone(),
        }
    }
}

impl Merged {
    fn add(&mut self, progress: &Progress) {
        if progress.generation > self.generation {
            let older = std::mem::replace(self, Merged::from(progress));
            self.proxies += older.proxies;
            return;
        }
        self.proxies += progress.proxies;
        if progress.generation == self.generation {
            self.programmed += progress.programmed;
            self.refused.extend(progress.refused.iter().cloned());
            self.refused.sort();
            let news: Vec<Finding> =
                progress.findings.iter().filter(|finding| !self.findings.contains(finding)).cloned().collect();
            self.findings.extend(news);
            self.findings.sort_by(|a, b| a.rank().cmp(&b.rank()));
            if self.unconcerned < progress.unconcerned {
                self.unconcerned.clone_from(&progress.unconcerned);
            }
        }
    }
}

/// What the status should say.
#[must_use]
pub fn desired(merged: &Merged) -> Desired {
    let errors: Vec<&Finding> = merged.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let told = errors.first().map(|first| clip(&first.sentence(), errors.len()));
    let accepted = match (&told, merged.stale) {
        (Some(told), true) => condition(false, "Invalid", told),
        (None, true) => condition(false, "Invalid", "this version cannot be used"),
        (Some(told), false) => condition(true, "PartiallyInvalid", told),
        (None, false) => condition(true, "Accepted", "the object is valid"),
    };
    let programmed = programmed(merged);
    let trouble = match (errors.first(), merged.refused.first()) {
        (Some(first), _) => Some((name(&first.code), accepted.message.clone())),
        (None, Some(_)) => Some(("Refused".to_owned(), programmed.message.clone())),
        (None, None) => None,
    };
    let mut messages: Vec<ValidationMessage> = merged.findings.iter().map(ValidationMessage::from).collect();
    messages.dedup();
    messages.truncate(MOST);
    Desired { generation: merged.generation, accepted, programmed, messages, trouble }
}

fn programmed(merged: &Merged) -> Condition {
    let count = format!("{}/{} proxies", merged.programmed, merged.proxies);
    if merged.stale {
        return condition(false, "Invalid", &count);
    }
    if let Some(first) = merged.refused.first() {
        let told = format!("{count}; {} refuses it: {}", first.proxy, first.message);
        return condition(false, "Refused", &clip(&told, merged.refused.len()));
    }
    match merged.proxies {
        0 if merged.unconcerned.as_ref().is_some_and(Unconcerned::is_on_demand) => {
            let why = merged.unconcerned.as_ref().map(ToString::to_string).unwrap_or_default();
            condition(true, "OnDemand", &clip(&format!("{count}; {why}"), 1))
        }
        0 => {
            let why = merged.unconcerned.as_ref().map_or_else(String::new, |why| format!("; {why}"));
            condition(false, "NoProxies", &clip(&format!("{count}{why}"), 1))
        }
        proxies if proxies == merged.programmed => condition(true, "Programmed", &count),
        _ => condition(false, "Pending", &count),
    }
}

fn condition(status: bool, reason: &str, message: &str) -> Condition {
    Condition { status, reason: reason.to_owned(), message: message.to_owned() }
}

/// One of `count` such things, and that there are more.
fn clip(text: &str, count: usize) -> String {
    let mut text = text.to_owned();
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    match count {
        0 | 1 => text,
        more => format!("{text} (and {} more)", more - 1),
    }
}

impl From<&Finding> for ValidationMessage {
    fn from(finding: &Finding) -> ValidationMessage {
        let level = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Info => "INFO",
        };
        let r#type = MessageType { name: name(&finding.code), code: finding.code.clone() };
        ValidationMessage { r#type, level: level.to_owned() }
    }
}

/// `MESH0103` is `DestinationHostUnknown`.
fn name(code: &str) -> String {
    let Some(code) = diag::ALL.iter().find(|known| known.id == code) else { return code.to_owned() };
    let words = code.name.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect::<String>()
    });
    words.collect()
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
