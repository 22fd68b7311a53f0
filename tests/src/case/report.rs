//! What a runner made of the case files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::ensure;
use mesh_core::testing::{Case, Runner};

use super::{Outcome, find, load};

/// The cases of a runner, by name. `CASE=merge/` leaves those whose path contains it.
pub struct Selection {
    pub cases: Vec<(String, Case)>,
    /// Cases that name other runners.
    pub others: Vec<String>,
    /// Nothing was left out by `CASE`.
    whole: bool,
}

impl Selection {
    pub fn new(runner: Runner) -> anyhow::Result<Selection> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
        let filter = std::env::var("CASE").unwrap_or_default();
        let mut selection = Selection { cases: Vec::new(), others: Vec::new(), whole: filter.is_empty() };
        for path in find(&folder)? {
            let name = path.strip_prefix(&folder)?.to_string_lossy().into_owned();
            if !name.contains(&filter) {
                continue;
            }
            let case = load(&path)?;
            let fits = if case.runners.is_empty() { runner.knows(&case.proxy) } else { case.runners.contains(&runner) };
            if fits {
                selection.cases.push((name, case));
            } else {
                selection.others.push(name);
            }
        }
        Ok(selection)
    }
}

/// Outcomes, and what could not be seen.
#[derive(Default)]
pub struct Report {
    held: u32,
    /// Cases of which something was seen.
    seen: usize,
    cases: usize,
    failed: Vec<String>,
    /// Key -> cases that have it.
    unseen: BTreeMap<String, BTreeSet<String>>,
}

impl Report {
    pub fn add(&mut self, name: &str, outcome: anyhow::Result<Outcome>) {
        self.cases += 1;
        match outcome {
            Ok(outcome) => {
                self.held += outcome.held;
                self.seen += usize::from(outcome.held > 0);
                for key in outcome.unseen {
                    self.unseen.entry(key).or_default().insert(name.to_owned());
                }
                if !outcome.failures.is_empty() {
                    self.failed.push(format!("{name}\n    {}", outcome.failures.join("\n    ")));
                }
            }
            Err(error) => self.failed.push(format!("{name}\n    {error:#}")),
        }
    }

    /// Prints it. An error: a case failed, or the runner saw something of fewer than `least` cases, if it was to run all.
    pub fn finish(&self, runner: &str, selection: &Selection, least: usize) -> anyhow::Result<()> {
        let Report { held, seen, cases, failed, unseen } = self;
        crate::say(&format!("{runner}: {} of {cases} cases passed, {held} expectations held", cases - failed.len()));
        if let Some(example) = selection.others.first() {
            crate::say(&format!(
                "{runner}: not run: {} cases for others, {example} for example",
                selection.others.len()
            ));
        }
        for (key, names) in unseen {
            // All cases of an area are less telling than one of them.
            let example = names.first().map_or("", String::as_str);
            crate::say(&format!("{runner}: not seen: {key} in {} cases, {example} for example", names.len()));
        }
        ensure!(failed.is_empty(), "{} of {cases} cases failed ({runner}):\n{}", failed.len(), failed.join("\n"));
        ensure!(
            *seen >= least || !selection.whole,
            "{runner}: something was seen of {seen} cases only, {least} are the least"
        );
        Ok(())
    }
}
