//! Nodes to the types of the API, by serde. Decides: what a value of each type looks like (protojson's rules: numbers may
//! be texts, `snake_case` names are known too, null is absent), and what is reported where. Must not know: kinds.
//!
//! A serde error ends a deserialisation, but users want all that is wrong at once and only the broken part dropped.
//! So a part ([`scope`](super::scope)) is read again and again: each error is recorded and the value it is about is taken
//! as absent in the next attempt, until an attempt succeeds; then a part with errors is left out.

mod access;
mod error;
mod scalar;
mod source;

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::yaml::{Entry, Mark, Node};
pub(super) use access::camel_case;
use error::Error;
use error::{nearest, suggestion};
use source::{Path, Source};

/// Attempts to read one part: enough for whoever repairs a file by hand, and a bound for whoever sends garbage.
const MAX_ERRORS: usize = 20;

/// Name of the newtype by which a type asks to be read in attempts; see [`scope`](super::scope).
pub(super) const PART: &str = "$part";

/// Name of a field that is not in the text: the place in the list around it.
const INDEX: &str = "$index";

/// Something found while reading one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub kind: FindingKind,
    /// `spec.http[0].match`
    pub field: String,
    pub at: Mark,
    pub message: String,
    pub help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FindingKind {
    Invalid,
    Missing,
    Unknown,
}

/// Which fields that a type does not have are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// All: the type has every field of the API.
    All,
    /// Those that look like a spelling mistake: the type has the greater part of the API's fields.
    NearMiss,
    /// None: the type is a view of a few fields.
    View,
}

/// State of the reading of one object.
pub(super) struct Context {
    strictness: Strictness,
    /// Values are secret: never show them.
    secret: bool,
    findings: RefCell<Vec<Finding>>,
    /// Addresses of nodes that are taken as absent. The tree does not change while it is read.
    skipped: RefCell<HashSet<usize>>,
    unknown_seen: RefCell<HashSet<usize>>,
}

impl Context {
    pub fn new(strictness: Strictness, secret: bool) -> Self {
        Self {
            strictness,
            secret,
            findings: RefCell::default(),
            skipped: RefCell::default(),
            unknown_seen: RefCell::default(),
        }
    }

    /// Reads a whole value in attempts; none: it has errors, which are among the findings. `at`: where its key is.
    pub fn read<T: DeserializeOwned>(&self, node: &Node, at: Mark, root: &str) -> Option<T> {
        let path = Path::Root(root);
        let source = Source::new(self, node, at, &path);
        let mut errors = 0;
        loop {
            match T::deserialize(source) {
                Ok(value) => return (errors == 0).then_some(value),
                Err(error) => {
                    errors += 1;
                    if !self.record(source.locate(error), node) || errors > MAX_ERRORS {
                        return None;
                    }
                }
            }
        }
    }

    pub fn into_findings(self) -> Vec<Finding> {
        self.findings.into_inner()
    }

    fn push(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }

    fn is_skipped(&self, node: &Node) -> bool {
        let skipped = self.skipped.borrow();
        !skipped.is_empty() && skipped.contains(&address(node))
    }

    /// Notes an error in a part and takes its value as absent from now on. False: another attempt at the part is
    /// pointless.
    fn record(&self, error: Error, part: &Node) -> bool {
        let Some((finding, culprit)) = error.into_finding() else { return false };
        if let Some(finding) = finding {
            self.push(finding);
        }
        culprit != address(part) && self.skipped.borrow_mut().insert(culprit)
    }

    /// Reports a field that the type does not have, once.
    fn unknown(&self, entry: &Entry, path: &Path<'_>, known: &[&'static str]) {
        let known = known.iter().copied().filter(|name| *name != INDEX);
        let reported = match self.strictness {
            Strictness::All => true,
            Strictness::NearMiss => nearest(&entry.key, known.clone()).is_some(),
            Strictness::View => false,
        };
        if !reported || !self.unknown_seen.borrow_mut().insert(address(&entry.value)) {
            return;
        }
        self.push(Finding {
            kind: FindingKind::Unknown,
            field: Path::Field(path, &entry.key).to_string(),
            at: entry.key_at,
            message: format!("there is no field `{}` here; it is ignored", entry.key),
            help: suggestion(&entry.key, known, "the fields here"),
        });
    }
}

/// What identifies a node while its tree stands still.
fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

#[cfg(test)]
#[path = "../decode_tests.rs"]
mod tests;
