//! The rules of one virtual host: the first in order that matches wins.

use std::sync::Arc;

use super::{CompiledAction, CompiledRule, Decision, ExplainedRule, HostEntry, Pattern, Request};
use crate::model::{Key, PathMatch, VirtualHost};

#[derive(Debug)]
pub(crate) struct RouteTable {
    pub(crate) model: Arc<VirtualHost>,
    pub(crate) rules: Vec<Arc<CompiledRule>>,
    pub(crate) patterns: Vec<Option<Arc<Pattern>>>,
    /// Destinations that the splits name, by slot; none: one that translation did not know.
    pub(crate) slots: Vec<Option<Key>>,
}

impl RouteTable {
    /// Tells of every rule, up to the winner, whether it matched and if not why.
    pub(crate) fn consider(&self, request: &Request<'_>, told: &mut Vec<ExplainedRule>) -> Option<&CompiledRule> {
        let candidates = self.model.rules.iter().zip(&self.rules).zip(&self.patterns);
        for ((rule, compiled), pattern) in candidates {
            let failed = if path_matches(&rule.predicate.path, pattern.as_deref(), request.path) {
                compiled.conditions.iter().find(|condition| !condition.holds(request)).map(ToString::to_string)
            } else {
                Some(format!("uri: {:?}", rule.predicate.path))
            };
            let matched = failed.is_none();
            told.push(ExplainedRule {
                rule: compiled.source.to_string(),
                object: compiled.source.object.clone(),
                http: compiled.source.http,
                r#match: compiled.source.r#match,
                name: compiled.name.as_deref().map(str::to_owned),
                matched,
                failed,
            });
            if matched {
                return Some(compiled);
            }
        }
        None
    }

    pub(crate) fn find(&self, request: &Request<'_>) -> Option<&CompiledRule> {
        let candidates = self.model.rules.iter().zip(&self.rules).zip(&self.patterns);
        candidates
            .filter(|((rule, _), pattern)| path_matches(&rule.predicate.path, pattern.as_deref(), request.path))
            .map(|((_, compiled), _)| compiled.as_ref())
            .find(|compiled| compiled.conditions.iter().all(|condition| condition.holds(request)))
    }
}

fn path_matches(path: &PathMatch, pattern: Option<&Pattern>, text: &str) -> bool {
    match path {
        PathMatch::Any => true,
        PathMatch::Exact { value, ignore_case: false } => value == text,
        PathMatch::Exact { value, ignore_case: true } => value.eq_ignore_ascii_case(text),
        PathMatch::Prefix { value, ignore_case: false } => text.starts_with(value.as_str()),
        PathMatch::Prefix { value, ignore_case: true } => {
            text.as_bytes().get(..value.len()).is_some_and(|start| start.eq_ignore_ascii_case(value.as_bytes()))
        }
        PathMatch::Regex(_) => pattern.is_some_and(|pattern| pattern.is_match(text.as_bytes())),
    }
}

impl HostEntry {
    pub(crate) fn decide<'a>(&'a self, rule: &'a CompiledRule, random: &mut dyn FnMut(u32) -> u32) -> Decision<'a> {
        match rule.action.as_ref() {
            CompiledAction::Redirect(redirect) => Decision::Redirect { rule, redirect },
            CompiledAction::Respond(response) => Decision::Respond { rule, response },
            CompiledAction::Forward(forward) => match forward.choose(random) {
                Some(split) => {
                    let cluster = self.clusters.get(split.slot as usize).copied().flatten();
                    Decision::Forward { rule, forward, split, cluster }
                }
                None => Decision::NoRoute,
            },
        }
    }
}
