//! Rules of a host that an earlier one leaves no request: there is no sort by specificity, so `/api` before `/api/v1`
//! takes everything (Istio's order, observed).

use std::collections::{BTreeSet, HashMap};

use super::Context;
use crate::diag;
use crate::model::{HostPattern, PathMatch, Predicate, Rule};

/// Paths that earlier rules take without any other condition, with the rule that does.
#[derive(Default)]
struct Taken<'r> {
    exact: HashMap<&'r str, &'r Rule>,
    prefixes: HashMap<&'r str, &'r Rule>,
    /// Lengths of the prefixes: what a path is tried with.
    lengths: BTreeSet<usize>,
}

pub(super) fn report(context: &mut Context<'_>, host: &HostPattern, rules: &[Rule]) {
    let mut taken = Taken::default();
    for rule in rules {
        if let Some(earlier) = taken.by(&rule.predicate) {
            let message = format!("for host `{host}`, rule {} takes all of its requests before it", earlier.source);
            let help = "rules are tried in order: put the narrower path first".to_owned();
            unreachable(context, rule, message, help);
        }
        taken.add(rule);
    }
}

/// Said of the object that the rule was written in.
pub(super) fn unreachable(context: &mut Context<'_>, rule: &Rule, message: String, help: String) {
    let source = &rule.source;
    let world = context.world;
    let Some(entry) = world.virtual_service(&source.object.namespace, &source.object.name) else { return };
    let field = match source.r#match {
        Some(index) => format!("spec.http[{}].match[{index}]", source.http),
        None => format!("spec.http[{}]", source.http),
    };
    context.findings.report(diag::RULE_UNREACHABLE, entry, &field, message, Some(help));
}

impl<'r> Taken<'r> {
    fn by(&self, predicate: &Predicate) -> Option<&'r Rule> {
        let (path, exact) = match &predicate.path {
            PathMatch::Exact { value, ignore_case: false } => (value, self.exact.get(value.as_str())),
            PathMatch::Prefix { value, ignore_case: false } => (value, None),
            _ => return None,
        };
        let prefixes = self.lengths.iter().map_while(|length| path.get(..*length));
        exact.copied().or_else(|| prefixes.filter_map(|prefix| self.prefixes.get(prefix).copied()).next())
    }

    fn add(&mut self, rule: &'r Rule) {
        let predicate = &rule.predicate;
        let bare = Predicate { path: predicate.path.clone(), ..Predicate::default() };
        match &predicate.path {
            PathMatch::Exact { value, ignore_case: false } if *predicate == bare => {
                self.exact.entry(value).or_insert(rule);
            }
            PathMatch::Prefix { value, ignore_case: false } if *predicate == bare => {
                self.prefixes.entry(value).or_insert(rule);
                self.lengths.insert(value.len());
            }
            _ => {}
        }
    }
}
