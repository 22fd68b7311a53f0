//! What becomes of a request on one side of a comparison, and in what two such outcomes differ.

use serde::Serialize;

use super::Side;
use super::dead_rules::field;
use crate::model::{Action, Destination, DestinationRef, Rule, RuleSource, TcpRoute, WeightedDestination};
use crate::object::ObjectRef;

/// What a table does with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect<'a> {
    Rule(&'a Rule),
    /// Of bytes that are not looked into.
    Bytes(&'a TcpRoute),
    HttpsRedirect,
    /// No rule, or no host: 404.
    NotFound,
    /// No route of bytes: the connection is closed.
    Closed,
    /// No server has the name.
    NoHandshake,
    /// Nobody listens.
    NotOpen,
}

/// An outcome, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Outcome {
    /// `forward to 90 % outbound|80|v1|reviews…, 10 % …`, `redirect 301`, `respond 200`, `404: no rule matches`
    pub decision: String,
    /// The rule as `namespace/name[http]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl<'a> Effect<'a> {
    pub(super) fn source(&self) -> Option<&'a RuleSource> {
        match self {
            Effect::Rule(rule) => Some(&rule.source),
            _ => None,
        }
    }

    pub(super) fn describe(&self, side: &Side<'_>) -> Outcome {
        let decision = match self {
            Effect::Rule(rule) => action(&rule.action),
            Effect::Bytes(route) => format!("connect to {}", weighted(&route.destinations)),
            Effect::HttpsRedirect => "redirect 301 to https".to_owned(),
            Effect::NotFound => "404: no rule matches".to_owned(),
            Effect::Closed => "closed: no route for the connection".to_owned(),
            Effect::NoHandshake => "the handshake fails: no server has this name".to_owned(),
            Effect::NotOpen => "nobody listens".to_owned(),
        };
        let none = Outcome { decision, rule: None, object: None, field: None, file: None, line: None };
        let written = |object: &ObjectRef, field: String| {
            let entry = side.world.virtual_service(&object.namespace, &object.name);
            let position = entry.and_then(|entry| entry.position(&field)).filter(|position| !position.file.is_empty());
            let (file, line) = position.map(|position| (position.file.to_string(), position.line)).unzip();
            Outcome { object: Some(object.to_string()), field: Some(field), file, line, ..none.clone() }
        };
        match self {
            Effect::Rule(rule) => {
                let source = &rule.source;
                let outcome = written(&source.object, field(source.http, source.r#match));
                Outcome { rule: Some(source.to_string()), ..outcome }
            }
            Effect::Bytes(route) => written(&route.origin, "spec".to_owned()),
            _ => none,
        }
    }
}

/// In what they differ; empty: in nothing.
pub(super) fn aspects(old: (&Effect<'_>, &Side<'_>), new: (&Effect<'_>, &Side<'_>)) -> Vec<&'static str> {
    match (old.0, new.0) {
        (Effect::Rule(before), Effect::Rule(after)) => {
            let mut found = actions(&before.action, &after.action);
            if before.headers != after.headers {
                found.push("headers");
            }
            let (before, after) = (destinations(before), destinations(after));
            if before == after {
                found.extend(settings(&before, old.1, new.1));
            }
            found
        }
        (Effect::Bytes(before), Effect::Bytes(after)) => {
            let keys =
                |route: &TcpRoute| route.destinations.iter().map(|one| one.destination.clone()).collect::<Vec<_>>();
            if before.destinations != after.destinations {
                return vec!["destinations"];
            }
            settings(&keys(before), old.1, new.1)
        }
        (Effect::HttpsRedirect, Effect::HttpsRedirect)
        | (Effect::NotFound, Effect::NotFound)
        | (Effect::Closed, Effect::Closed)
        | (Effect::NoHandshake, Effect::NoHandshake)
        | (Effect::NotOpen, Effect::NotOpen) => Vec::new(),
        _ => vec!["decision"],
    }
}

fn actions(old: &Action, new: &Action) -> Vec<&'static str> {
    let (old, new) = match (old, new) {
        (Action::Forward(old), Action::Forward(new)) => (old, new),
        (Action::Redirect(old), Action::Redirect(new)) if old == new => return Vec::new(),
        (Action::Respond(old), Action::Respond(new)) if old == new => return Vec::new(),
        (Action::Redirect(_), Action::Redirect(_)) => return vec!["redirect"],
        (Action::Respond(_), Action::Respond(_)) => return vec!["response"],
        _ => return vec!["decision"],
    };
    let pairs = [
        ("destinations", old.splits == new.splits),
        ("rewrite", old.rewrite == new.rewrite),
        ("timeout", old.timeout == new.timeout),
        ("retries", old.retry == new.retry),
        ("fault", old.fault == new.fault),
        ("mirrors", old.mirrors == new.mirrors),
        ("cors", old.cors == new.cors),
    ];
    pairs.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

fn destinations(rule: &Rule) -> Vec<DestinationRef> {
    match &*rule.action {
        Action::Forward(forward) => forward.splits.iter().map(|split| split.destination.clone()).collect(),
        Action::Redirect(_) | Action::Respond(_) => Vec::new(),
    }
}

/// Of the same destinations, whether they are what they were, whoever says so.
fn settings(keys: &[DestinationRef], old: &Side<'_>, new: &Side<'_>) -> Vec<&'static str> {
    let nobody = ObjectRef::new("", "", "");
    let known = |side: &Side<'_>, key: &str| {
        let found = side.set.destinations.get(key);
        found.map(|found| Destination { origin: nobody.clone(), rule: None, ..(**found).clone() })
    };
    let mut found = Vec::new();
    for key in keys {
        let (DestinationRef::Known(key) | DestinationRef::Unknown(key)) = key;
        if known(old, key) != known(new, key) {
            found.push("destination settings");
        }
        if old.set.endpoints.get(key).map(|found| &found.endpoints)
            != new.set.endpoints.get(key).map(|found| &found.endpoints)
        {
            found.push("endpoints");
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn action(action: &Action) -> String {
    match action {
        Action::Forward(forward) => {
            let splits = forward.splits.iter().map(|split| (&split.destination, split.weight));
            format!("forward to {}", shares(splits.collect()))
        }
        Action::Redirect(redirect) => format!("redirect {}", redirect.status),
        Action::Respond(response) => format!("respond {}", response.status),
    }
}

fn weighted(destinations: &[WeightedDestination]) -> String {
    shares(destinations.iter().map(|one| (&one.destination, one.weight)).collect())
}

fn shares(destinations: Vec<(&DestinationRef, u32)>) -> String {
    let total: u64 = destinations.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let one = destinations.len() == 1;
    let texts = destinations.into_iter().map(|(destination, weight)| {
        let (key, note) = match destination {
            DestinationRef::Known(key) => (key, ""),
            DestinationRef::Unknown(key) => (key, " (unknown: 503)"),
        };
        if one {
            return format!("{key}{note}");
        }
        format!("{:.0} % {key}{note}", f64::from(weight) * 100.0 / (total.max(1) as f64))
    });
    texts.collect::<Vec<_>>().join(", ")
}
