//! Diagnostics of one translation. A rule is looked at once per listener; what is wrong with it is said once.

use std::collections::HashSet;

use crate::diag::{Code, Diagnostic};
use crate::world::{Entry, hostname};

/// Looking for a similar name costs a pass over all names: only so many times in a translation.
const SUGGESTIONS: u32 = 50;

pub(super) struct Findings {
    found: HashSet<Diagnostic>,
    suggestions: u32,
}

impl Findings {
    pub fn new(known: impl Iterator<Item = Diagnostic>) -> Findings {
        Findings { found: known.collect(), suggestions: SUGGESTIONS }
    }

    pub fn report<T>(&mut self, code: Code, entry: &Entry<T>, field: &str, message: String, help: Option<String>) {
        let mut diagnostic =
            Diagnostic::new(code, message).object(&entry.reference).field(field).at(entry.position(field));
        diagnostic.help = help;
        self.found.insert(diagnostic);
    }

    /// `did you mean …?`, if a name is close.
    pub fn nearest<'n>(&mut self, wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
        self.suggestions = self.suggestions.checked_sub(1)?;
        hostname::nearest(wanted, names).map(|name| format!("did you mean `{name}`?"))
    }

    /// In the order of the files, else of the objects.
    pub fn finish(self) -> Vec<Diagnostic> {
        let mut all: Vec<Diagnostic> = self.found.into_iter().collect();
        all.sort_by(|a, b| (&a.position, &a.object, &a.field, a).cmp(&(&b.position, &b.object, &b.field, b)));
        all
    }
}
