//! Compares what was seen with what a step expects.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_core::diag::Diagnostic;
use mesh_core::testing::{Copies, Expect, ExpectedDiagnostic, Matcher};

use super::Outcome;
use super::exchange::saw_values;
use crate::backend::Saw;

/// `None`: this runner cannot see it.
pub type Seen<T> = Option<T>;
pub type Look<'a> = Box<dyn Fn(&str) -> Seen<Vec<String>> + Send + Sync + 'a>;

/// What a runner saw of one request.
pub struct Observation<'a> {
    pub status: Seen<u16>,
    /// `none` where the gateway answered by itself.
    pub backend: Seen<String>,
    pub rule: Seen<String>,
    /// How the connection failed.
    pub error: Option<String>,
    pub flags: Seen<String>,
    pub details: Seen<String>,
    /// Name of the route, `-` where it has none.
    pub route: Seen<String>,
    pub took: Seen<Duration>,
    pub saw: Look<'a>,
    pub reply: Look<'a>,
}

impl Default for Observation<'_> {
    fn default() -> Self {
        Observation {
            status: None,
            backend: None,
            rule: None,
            error: None,
            flags: None,
            details: None,
            route: None,
            took: None,
            saw: Box::new(|_| None),
            reply: Box::new(|_| None),
        }
    }
}

pub fn check(at: &str, expect: &Expect, seen: &Observation<'_>, outcome: &mut Outcome) {
    match (&expect.error, &seen.error) {
        (Some(expected), Some(error)) => {
            // Where a handshake fails depends on the version of TLS, so a client may see either.
            let alike = |error: &str| matches!(error, "tls" | "closed");
            let holds = expected == error || (alike(expected) && alike(error));
            outcome.check(holds, || format!("{at}: the connection fails with `{error}`, not `{expected}`"));
            return;
        }
        (Some(expected), None) => {
            let answer = seen.status.map_or_else(|| "an answer".to_owned(), |status| format!("status {status}"));
            outcome.check(false, || format!("{at}: {answer}, but the connection should fail with `{expected}`"));
            return;
        }
        (None, Some(error)) => {
            outcome.check(false, || format!("{at}: the connection fails: {error}"));
            return;
        }
        (None, None) => {}
    }
    scalar(at, "status", expect.status.as_ref(), seen.status.as_ref(), outcome);
    scalar(at, "backend", expect.backend.as_ref(), seen.backend.as_ref(), outcome);
    scalar(at, "rule", expect.rule.as_ref(), seen.rule.as_ref(), outcome);
    scalar(at, "flags", expect.flags.as_ref(), seen.flags.as_ref(), outcome);
    scalar(at, "details", expect.details.as_ref(), seen.details.as_ref(), outcome);
    scalar(at, "route", expect.route.as_ref(), seen.route.as_ref(), outcome);
    texts(at, "saw", &expect.saw, &seen.saw, outcome);
    texts(at, "reply", &expect.reply, &seen.reply, outcome);
    if let Some(least) = expect.after_ms.map(Duration::from_millis) {
        match seen.took {
            Some(took) => {
                outcome.check(took >= least, || format!("{at}: took {took:?}, should take {least:?} at least"))
            }
            None => outcome.unseen("after_ms"),
        }
    }
    if let Some(most) = expect.within_ms.map(Duration::from_millis) {
        match seen.took {
            Some(took) => outcome.check(took <= most, || format!("{at}: took {took:?}, should take {most:?} at most")),
            None => outcome.unseen("within_ms"),
        }
    }
}

fn scalar<T: PartialEq + std::fmt::Display>(
    at: &str,
    key: &str,
    expected: Option<&T>,
    seen: Seen<&T>,
    outcome: &mut Outcome,
) {
    match (expected, seen) {
        (None, _) => {}
        (Some(_), None) => outcome.unseen(key),
        (Some(expected), Some(seen)) => {
            outcome.check(expected == seen, || format!("{at}: {key} is `{seen}`, not `{expected}`"));
        }
    }
}

pub fn texts(at: &str, of: &str, expected: &BTreeMap<String, Matcher>, look: &Look<'_>, outcome: &mut Outcome) {
    for (key, matcher) in expected {
        let Some(values) = look(key) else {
            outcome.unseen(format!("{of}.{key}"));
            continue;
        };
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        outcome.check(matcher.accepts(&values), || format!("{at}: {of}.{key} is {values:?}, not {matcher:?}"));
    }
}

/// Shares of backends over many requests.
pub fn check_split(at: &str, expect: &Expect, counts: &BTreeMap<String, u32>, outcome: &mut Outcome) {
    let total: u32 = counts.values().sum();
    for (backend, share) in &expect.split {
        let count = counts.get(backend).copied().unwrap_or_default();
        outcome.check(share.accepts(count, total), || {
            format!("{at}: `{backend}` got {count} of {total}, should get {}±{}", share.share, share.tolerance)
        });
    }
}

/// Shares of statuses over many requests.
pub fn check_statuses(at: &str, expect: &Expect, counts: &BTreeMap<u16, u32>, outcome: &mut Outcome) {
    let total: u32 = counts.values().sum();
    for (status, share) in &expect.statuses {
        let count = counts.get(status).copied().unwrap_or_default();
        outcome.check(share.accepts(count, total), || {
            format!("{at}: {count} of {total} were answered {status}, should be {}±{}", share.share, share.tolerance)
        });
    }
}

/// All requests at one backend, where that is expected.
pub fn check_one_backend(at: &str, expect: &Expect, counts: &BTreeMap<String, u32>, outcome: &mut Outcome) {
    if expect.one_backend {
        outcome.check(counts.len() == 1, || format!("{at}: several backends got requests: {counts:?}"));
    }
}

/// How many copies a backend got, of how many requests, and what it saw last.
pub fn check_copies(
    at: &str,
    (name, copies): (&str, &Copies),
    (got, of): (u32, u32),
    saw: Option<Saw>,
    outcome: &mut Outcome,
) {
    outcome.check(copies.share.accepts(got, of), || {
        format!("{at}: `{name}` got {got} copies of {of} requests, should get {:?}", copies.share)
    });
    let look: Look<'_> = Box::new(move |key| Some(saw_values(saw.as_ref(), key)));
    texts(at, &format!("copies.{name}.saw"), &copies.saw, &look, outcome);
}

/// How many connections a backend got.
pub fn check_connections(at: &str, (name, expected): (&str, u32), got: u32, outcome: &mut Outcome) {
    outcome.check(got == expected, || format!("{at}: `{name}` got {got} connections, should get {expected}"));
}

/// A finding, as a runner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: String,
    pub severity: String,
    pub object: String,
    pub field: String,
    pub line: Option<u32>,
    pub message: String,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        Finding {
            code: diagnostic.code.to_owned(),
            severity: diagnostic.severity.as_str().to_owned(),
            object: diagnostic.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            field: diagnostic.field.clone(),
            line: diagnostic.position.as_ref().map(|position| position.line),
            message: diagnostic.message.clone(),
        }
    }
}

/// Each expected finding once, and no other error or warning. Info may come on top.
pub fn check_findings(expected: &[ExpectedDiagnostic], found: &[Finding], outcome: &mut Outcome) {
    let mut left: Vec<&Finding> = found.iter().collect();
    for expected in expected {
        match left.iter().position(|finding| fits(expected, finding)) {
            Some(at) => {
                left.remove(at);
                outcome.held += 1;
            }
            None => outcome.check(false, || format!("diagnostics: nothing fits {expected:?}; there is {found:#?}")),
        }
    }
    left.retain(|finding| finding.severity != "info");
    outcome.check(left.is_empty(), || format!("diagnostics: not expected: {left:#?}"));
}

fn fits(expected: &ExpectedDiagnostic, finding: &Finding) -> bool {
    let same = |expected: &Option<String>, found: &str| expected.as_ref().is_none_or(|expected| expected == found);
    same(&expected.code, &finding.code)
        && same(&expected.object, &finding.object)
        && same(&expected.field, &finding.field)
        && same(&expected.severity, &finding.severity)
        && (expected.line.is_none() || expected.line == finding.line)
        && expected.message.as_ref().is_none_or(|message| message.accepts(&[&finding.message]))
}
