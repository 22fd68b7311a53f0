//! The rules of one virtual host: the first in order that matches wins.

use std::collections::HashMap;
use std::sync::Arc;

use super::candidates::{Candidates, every};
use super::{
    CompiledAction, CompiledRule, Decision, ExplainedRule, Explanation, HostEntry, PathIndex, Pieces, Request,
};
use crate::model::{Key, PathMatch, VirtualHost};

/// Rules have slots, which they keep when rules before them come and go; their order stands apart. So an edit changes
/// little of a large table.
#[derive(Clone, Debug)]
pub(crate) struct RouteTable {
    pub(crate) rules: Pieces<CompiledRule>,
    /// Slot by rank.
    pub(crate) order: Vec<u32>,
    /// Rank by slot; `u32::MAX` for a slot without rule.
    pub(crate) ranks: Vec<u32>,
    pub(crate) exact_case: PathIndex,
    /// Of rules that ignore case.
    pub(crate) any_case: Option<PathIndex>,
    pub(crate) destinations: Arc<Destinations>,
}

/// Destinations that splits name, by slot. Slots are never reused, so a rule may stay as it is while others change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Destinations {
    pub(crate) keys: Vec<Key>,
    /// Only of more than a few: most hosts have one.
    by_key: HashMap<Key, u32, foldhash::fast::RandomState>,
}

/// So many keys are looked through.
const FEW: usize = 8;

impl Destinations {
    pub(crate) fn slot(&self, key: &Key) -> Option<u32> {
        if self.by_key.is_empty() {
            return self.keys.iter().zip(0..).find(|(known, _)| *known == key).map(|(_, slot)| slot);
        }
        self.by_key.get(key).copied()
    }

    /// The key must not be there yet.
    pub(crate) fn add(&mut self, key: &Key) -> u32 {
        let slot = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        if self.keys.len() < FEW {
            self.keys.reserve_exact(1);
        }
        self.keys.push(key.clone());
        if self.by_key.is_empty() && self.keys.len() > FEW {
            self.by_key = self.keys.iter().cloned().zip(0..).collect();
        } else if !self.by_key.is_empty() {
            self.by_key.insert(key.clone(), slot);
        }
        slot
    }
}

/// How many rules an explanation tells of before it leaves out those for other paths.
const TOLD: usize = 200;

impl Default for RouteTable {
    fn default() -> RouteTable {
        RouteTable {
            rules: Pieces::default(),
            order: Vec::new(),
            ranks: Vec::new(),
            exact_case: PathIndex::new(false),
            any_case: None,
            destinations: Arc::default(),
        }
    }
}

impl RouteTable {
    pub(crate) fn find(&self, request: &Request<'_>) -> Option<&CompiledRule> {
        let mut candidates = Candidates::new(&self.ranks);
        let path = request.path.as_bytes();
        self.exact_case.visit(path, |node, at_end| candidates.visit(node, at_end, request));
        if let Some(any_case) = &self.any_case {
            any_case.visit(path, |node, at_end| candidates.visit(node, at_end, request));
        }
        let winner = candidates.first(|entry| self.rules.get(entry.slot()).is_some_and(|rule| rule.holds(request)))?;
        self.rules.get(winner.slot())
    }

    /// Tells of every rule, up to the winner, whether it matched and if not why.
    pub(crate) fn consider(
        &self,
        host: &VirtualHost,
        request: &Request<'_>,
        explanation: &mut Explanation,
    ) -> Option<&CompiledRule> {
        let mut reached = vec![false; self.ranks.len()];
        let mut reach = |slot: u32| {
            if let Some(place) = reached.get_mut(slot as usize) {
                *place = true;
            }
        };
        let path = request.path.as_bytes();
        self.exact_case.visit(path, |node, end| every(node, end, request.path, &mut |e| reach(e.slot())));
        if let Some(any_case) = &self.any_case {
            any_case.visit(path, |node, end| every(node, end, request.path, &mut |e| reach(e.slot())));
        }
        for (model, slot) in host.rules.iter().zip(&self.order) {
            let Some(rule) = self.rules.get(*slot) else { continue };
            let reached = reached.get(*slot as usize) == Some(&true);
            let failed = if let Some(refused) = &rule.refused {
                Some(format!("{refused} is refused, so the rule never matches"))
            } else if !reached {
                Some(path_text(&model.predicate.path))
            } else {
                rule.conditions.iter().find(|condition| !condition.holds(request)).map(ToString::to_string)
            };
            let matched = failed.is_none();
            if reached || explanation.rules.len() < TOLD {
                explanation.rules.push(ExplainedRule::new(rule, failed));
            } else {
                explanation.omitted += 1;
            }
            if matched {
                return Some(rule);
            }
        }
        None
    }
}

impl CompiledRule {
    fn holds(&self, request: &Request<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(request))
    }
}

fn path_text(path: &PathMatch) -> String {
    let note = |ignore_case: &bool| if *ignore_case { ", any case" } else { "" };
    match path {
        PathMatch::Any => "uri: any".to_owned(),
        PathMatch::Exact { value, ignore_case } => format!("uri: exact {value:?}{}", note(ignore_case)),
        PathMatch::Prefix { value, ignore_case } => format!("uri: prefix {value:?}{}", note(ignore_case)),
        PathMatch::Regex(text) => format!("uri: regex {text:?}"),
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
                    Decision::Forward { rule, forward, split, cluster, clusters: &self.clusters }
                }
                None => Decision::NoRoute,
            },
        }
    }
}
