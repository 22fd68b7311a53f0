//! Long lists of rules for the same path, told apart by the value of a header.

use std::collections::HashMap;

use http::HeaderName;

use crate::snapshot::{Buckets, CompiledRule, Condition, Entry, HeaderKey, Node, Pieces, Place, TextMatch};

/// Length at which a list is worth sorting.
pub(super) const WORTH: usize = 32;

/// Makes, or takes away, the buckets of one list of the node.
pub(super) fn sort(node: &mut Node, place: Place, rules: &Pieces<CompiledRule>) {
    let list = if place == Place::Exact { &node.exact } else { &node.prefix };
    let buckets = if list.len() < WORTH { None } else { buckets(list, rules) };
    if buckets.is_none() && node.rare.is_none() {
        return;
    }
    let rare = node.rare_mut();
    if place == Place::Exact {
        rare.exact_buckets = buckets;
    } else {
        rare.prefix_buckets = buckets;
    }
}

/// By the header that most rules ask for, if at least half of them ask for it.
fn buckets(list: &[Entry], rules: &Pieces<CompiledRule>) -> Option<Buckets> {
    let mut counts: HashMap<&HeaderName, usize> = HashMap::new();
    for entry in list {
        for (name, _) in exact_headers(*entry, rules) {
            *counts.entry(name).or_default() += 1;
        }
    }
    // The name decides among equals, so that the choice does not depend on the order of the map.
    let (header, count) = counts.into_iter().max_by_key(|(name, count)| (*count, name.as_str()))?;
    if count * 2 < list.len() {
        return None;
    }
    let mut buckets = Buckets { header: header.clone(), by_value: HashMap::default(), rest: Vec::new() };
    for entry in list {
        match exact_headers(*entry, rules).find(|(name, _)| *name == header) {
            Some((_, value)) => buckets.by_value.entry(value.as_bytes().into()).or_default().push(*entry),
            None => buckets.rest.push(*entry),
        }
    }
    Some(buckets)
}

/// Header lines that must have one value for the rule to match.
fn exact_headers(entry: Entry, rules: &Pieces<CompiledRule>) -> impl Iterator<Item = (&HeaderName, &str)> {
    let conditions = rules.get(entry.slot()).map_or(&[][..], |rule| rule.conditions.as_ref());
    conditions.iter().filter_map(|condition| match condition {
        Condition::Header { name: HeaderKey::Line(name), value: TextMatch::Exact(value), invert: false } => {
            Some((name, value.as_ref()))
        }
        _ => None,
    })
}
