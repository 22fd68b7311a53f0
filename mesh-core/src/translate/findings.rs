//! Diagnostics of one translation. A rule is looked at once per listener; what is wrong with it is said once.

use std::collections::{BTreeSet, HashMap};

use crate::diag::{Code, Diagnostic};
use crate::world::{Entry, Registry, hostname};

/// Looking for a similar host costs a pass over all of them: it is done for so many findings, the first ones.
const SUGGESTIONS: usize = 50;

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    diagnostic: Diagnostic,
    /// A host that does not exist: what it may have been meant to be is the help.
    host: Option<String>,
}

impl From<Diagnostic> for Said {
    fn from(diagnostic: Diagnostic) -> Said {
        Said { diagnostic, host: None }
    }
}

impl Said {
    /// Whether its help depends on which hosts there are.
    pub fn suggests(&self) -> bool {
        self.host.is_some()
    }
}

/// What is found out in one part of a translation.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeSet<Said>);

impl Findings {
    pub fn report<T>(&mut self, code: Code, entry: &Entry<T>, field: &str, message: String, help: Option<String>) {
        let mut diagnostic =
            Diagnostic::new(code, message).object(&entry.reference).field(field).at(entry.position(field));
        diagnostic.help = help;
        self.0.insert(diagnostic.into());
    }

    /// A host that does not exist.
    pub fn report_host<T>(&mut self, code: Code, entry: &Entry<T>, field: &str, message: String, host: &str) {
        let diagnostic = Diagnostic::new(code, message).object(&entry.reference).field(field).at(entry.position(field));
        self.0.insert(Said { diagnostic, host: Some(host.to_owned()) });
    }

    pub fn take(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.0).into_iter().collect()
    }
}

/// `did you mean …?`, if a name is close.
pub(super) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    hostname::nearest(wanted, names).map(|name| format!("did you mean `{name}`?"))
}

/// Each once, in the order of the files, else of the objects.
pub(super) fn arrange<'s>(said: impl Iterator<Item = &'s Said>, registry: &Registry) -> Vec<Diagnostic> {
    let mut all: Vec<&Said> = said.collect();
    let order = |said: &&'s Said| (&said.diagnostic.position, &said.diagnostic.object, &said.diagnostic.field, *said);
    all.sort_by(|a, b| order(a).cmp(&order(b)));
    all.dedup();
    let mut near: HashMap<&str, Option<String>> = HashMap::new();
    let finish = |said: &'s Said| {
        let mut diagnostic = said.diagnostic.clone();
        if let Some(host) = said.host.as_deref()
            && (near.len() < SUGGESTIONS || near.contains_key(host))
        {
            diagnostic.help = near.entry(host).or_insert_with(|| nearest(host, registry.hosts())).clone();
        }
        diagnostic
    };
    all.into_iter().map(finish).collect()
}
