//! The rules of a virtual host become a route table: from nothing, or by editing the table of the previous generation
//! where few rules changed.

use std::collections::HashSet;
use std::sync::Arc;

use super::actions::Actions;
use super::regex::{Patterns, Shape};
use super::{buckets, rules};
use crate::model::{PathMatch, Rule};
use crate::snapshot::{Entry, Node, PathIndex, Place, RouteTable};

/// A table is edited if at most this many rules changed, or a share of them.
const FEW: usize = 64;
const SHARE: usize = 8;

/// Where the index keeps a rule.
struct Address {
    any_case: bool,
    place: Place,
    key: Vec<u8>,
}

/// Which rules differ: those behind the first `start` and before the last `end` ones.
pub(super) struct Difference {
    start: usize,
    end: usize,
}

impl Difference {
    pub(super) fn is_empty(&self, old: &[Rule], new: &[Rule]) -> bool {
        old.len() == new.len() && self.start + self.end == new.len()
    }
}

pub(super) fn difference(old: &[Rule], new: &[Rule]) -> Difference {
    let start = old.iter().zip(new).take_while(|(a, b)| same(a, b)).count();
    let left = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(left).take_while(|(a, b)| same(a, b)).count();
    Difference { start, end }
}

/// Equality that looks at shared parts by pointer first: most rules share their object's names, and all do that an
/// edit left alone.
fn same(a: &Rule, b: &Rule) -> bool {
    let text = |a: &Arc<str>, b: &Arc<str>| Arc::ptr_eq(a, b) || a == b;
    let (x, y) = (&a.source, &b.source);
    x.http == y.http
        && x.r#match == y.r#match
        && text(&x.object.name, &y.object.name)
        && text(&x.object.namespace, &y.object.namespace)
        && text(&x.object.kind, &y.object.kind)
        && (Arc::ptr_eq(&a.action, &b.action) || a.action == b.action)
        && (Arc::ptr_eq(&a.headers, &b.headers) || a.headers == b.headers)
        && a.predicate == b.predicate
        && a.name == b.name
}

pub(super) fn fresh(rules: &[Rule], patterns: &mut Patterns) -> RouteTable {
    Builder::new(RouteTable::default(), patterns).run(&[], rules, &Difference { start: 0, end: 0 })
}

/// The table of the old rules, edited; a fresh one if too many rules changed.
pub(super) fn edited(
    rules: &[Rule],
    old: &[Rule],
    table: &RouteTable,
    difference: &Difference,
    patterns: &mut Patterns,
) -> RouteTable {
    let changed = old.len() + rules.len() - 2 * (difference.start + difference.end);
    if changed > FEW.max(rules.len() / SHARE) {
        return fresh(rules, patterns);
    }
    Builder::new(table.clone(), patterns).run(old, rules, difference)
}

struct Builder<'p> {
    table: RouteTable,
    patterns: &'p mut Patterns,
    /// Lists that need more than a look at their entries: case, place, key.
    unfinished: HashSet<(bool, Place, Vec<u8>)>,
}

impl<'p> Builder<'p> {
    fn new(table: RouteTable, patterns: &'p mut Patterns) -> Builder<'p> {
        Builder { table, patterns, unfinished: HashSet::new() }
    }

    fn run(mut self, old: &[Rule], new: &[Rule], difference: &Difference) -> RouteTable {
        let removed = difference.start..old.len() - difference.end;
        let added = difference.start..new.len() - difference.end;
        let mut free = self.free_slots();
        let gone: Vec<u32> = self.table.order.get(removed.clone()).unwrap_or(&[]).to_vec();
        for (rule, slot) in old.get(removed.clone()).unwrap_or(&[]).iter().zip(&gone) {
            self.remove(rule, *slot);
        }
        free.extend(&gone);
        let mut actions = Actions::new(std::mem::take(&mut self.table.destinations));
        let mut fresh = Vec::with_capacity(added.len());
        let mut next = u32::try_from(self.table.ranks.len()).unwrap_or(u32::MAX);
        for rule in new.get(added.clone()).unwrap_or(&[]) {
            let slot = free.pop().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            self.table.rules.put(slot, rules::compiled_rule(rule, &mut actions, self.patterns));
            fresh.push(slot);
        }
        self.table.destinations = actions.destinations();
        self.table.order.splice(removed, fresh.iter().copied());
        self.rank(next);
        for (rule, slot) in new.get(added).unwrap_or(&[]).iter().zip(&fresh) {
            self.insert(rule, *slot);
        }
        self.finish(new);
        self.table
    }

    fn free_slots(&self) -> Vec<u32> {
        let ranks = self.table.ranks.iter().zip(0_u32..);
        ranks.filter(|(rank, _)| **rank == u32::MAX).map(|(_, slot)| slot).collect()
    }

    fn rank(&mut self, slots: u32) {
        self.table.ranks = vec![u32::MAX; slots as usize];
        for (slot, rank) in self.table.order.iter().zip(0_u32..) {
            if let Some(place) = self.table.ranks.get_mut(*slot as usize) {
                *place = rank;
            }
        }
    }

    fn insert(&mut self, rule: &Rule, slot: u32) {
        let Some(compiled) = self.table.rules.get(slot) else { return };
        if compiled.refused.is_some() {
            return;
        }
        let entry = Entry::new(slot, compiled.conditions.is_empty());
        let Some(address) = address(rule, self.patterns) else { return };
        let table = &mut self.table;
        let rank = |entry: &Entry| table.ranks.get(entry.slot() as usize).copied().unwrap_or(u32::MAX);
        let position = |list: &[Entry]| match list.last() {
            Some(last) if rank(last) > rank(&entry) => list.partition_point(|other| rank(other) < rank(&entry)),
            _ => list.len(),
        };
        let index = index(&mut table.exact_case, &mut table.any_case, address.any_case);
        let length = index.edit(&address.key, |node| match address.place {
            Place::Regex => {
                let regexes = &mut node.rare_mut().regex;
                regexes.insert(position(regexes), entry);
                usize::MAX
            }
            Place::Prefix => {
                node.prefix.insert(position(&node.prefix), entry);
                node.prefix.len()
            }
            Place::Exact => {
                node.exact.insert(position(&node.exact), entry);
                node.exact.len()
            }
        });
        self.unfinished(address, length.unwrap_or(0));
    }

    fn remove(&mut self, rule: &Rule, slot: u32) {
        let Some(address) = address(rule, self.patterns) else { return };
        let table = &mut self.table;
        index(&mut table.exact_case, &mut table.any_case, address.any_case).edit(&address.key, |node| {
            match address.place {
                Place::Regex => node.rare_mut().regex.retain(|entry| entry.slot() != slot),
                Place::Prefix => node.prefix.retain(|entry| entry.slot() != slot),
                Place::Exact => node.exact.retain(|entry| entry.slot() != slot),
            }
        });
        self.unfinished(address, usize::MAX);
    }

    fn unfinished(&mut self, address: Address, length: usize) {
        if length >= buckets::WORTH {
            self.unfinished.insert((address.any_case, address.place, address.key));
        }
    }

    fn finish(&mut self, rules: &[Rule]) {
        for (any_case, place, key) in std::mem::take(&mut self.unfinished) {
            let table = &mut self.table;
            let index = index(&mut table.exact_case, &mut table.any_case, any_case);
            index.edit(&key, |node| match place {
                Place::Regex => finish_regexes(node, rules, &table.ranks, self.patterns),
                Place::Prefix | Place::Exact => buckets::sort(node, place, &table.rules),
            });
        }
    }
}

fn index<'a>(exact_case: &'a mut PathIndex, any_case: &'a mut Option<PathIndex>, fold: bool) -> &'a mut PathIndex {
    if fold { any_case.get_or_insert_with(|| PathIndex::new(true)) } else { exact_case }
}

fn finish_regexes(node: &mut Node, rules: &[Rule], ranks: &[u32], patterns: &mut Patterns) {
    let Some(rare) = &node.rare else { return };
    let texts = rare.regex.iter().map(|entry| {
        let rank = ranks.get(entry.slot() as usize).copied().unwrap_or(u32::MAX);
        match rules.get(rank as usize).map(|rule| &rule.predicate.path) {
            Some(PathMatch::Regex(text)) => text.as_str().into(),
            _ => "".into(),
        }
    });
    let set = patterns.set(texts.collect());
    node.rare_mut().patterns = set;
}

/// None for a pattern that was refused.
fn address(rule: &Rule, patterns: &mut Patterns) -> Option<Address> {
    let plain = |place, value: &str, any_case: bool| {
        let key = if any_case { value.to_ascii_lowercase().into_bytes() } else { value.as_bytes().to_vec() };
        Some(Address { any_case, place, key })
    };
    match &rule.predicate.path {
        PathMatch::Any => plain(Place::Prefix, "", false),
        PathMatch::Prefix { value, ignore_case } => plain(Place::Prefix, value, *ignore_case),
        PathMatch::Exact { value, ignore_case } => plain(Place::Exact, value, *ignore_case),
        PathMatch::Regex(text) => {
            let parsed = patterns.parsed(text).ok()?;
            let place = match parsed.shape {
                Shape::Literal => Place::Exact,
                Shape::PrefixThenAny => Place::Prefix,
                Shape::Other => Place::Regex,
            };
            Some(Address { any_case: false, place, key: parsed.prefix.clone() })
        }
    }
}
