//! DestinationRules by namespace and host. It decides which rules merge into one and which host pattern is the most
//! specific; in which namespaces to look is `translate`'s affair.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::entry::{by_age, selects};
use super::{Entry, ExportTo, Objects, hostname};
use crate::api::{DestinationRule, Subset, TrafficPolicy};
use crate::model::HostPattern;
use crate::object::ObjectRef;

#[derive(Clone, Debug, Default)]
pub struct RuleTables {
    namespaces: HashMap<Arc<str>, RuleTable>,
}

#[derive(Clone, Debug, Default)]
struct RuleTable {
    exact: HashMap<Arc<str>, Vec<Rule>>,
    /// Longest first; `*` last.
    wildcard: Vec<(HostPattern, Vec<Rule>)>,
}

#[derive(Clone, Debug)]
struct Rule {
    entry: Arc<Entry<DestinationRule>>,
    export_to: ExportTo,
}

/// One or several DestinationRules of one host and namespace, merged: subsets are joined, the first of a
/// name counts; the first traffic policy that is not empty counts.
#[derive(Clone, Debug)]
pub struct Consolidated<'a> {
    /// The oldest.
    pub first: &'a Arc<Entry<DestinationRule>>,
    /// The rest of them, oldest first.
    pub others: Vec<&'a Arc<Entry<DestinationRule>>>,
    pub policy: Option<&'a TrafficPolicy>,
    pub subsets: Vec<(&'a Subset, &'a Arc<Entry<DestinationRule>>)>,
}

impl Consolidated<'_> {
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().map(|(subset, _)| *subset).find(|subset| subset.name == name)
    }
}

impl RuleTables {
    /// Builds what a namespace says about a host anew: of the rules it was made of, and of those named.
    pub(super) fn update(
        &mut self,
        namespace: &Arc<str>,
        host: &str,
        mut names: BTreeSet<ObjectRef>,
        objects: &Objects,
        default_export_to: &[String],
    ) {
        let table = self.namespaces.entry(Arc::clone(namespace)).or_default();
        names.extend(table.take(host).into_iter().map(|rule| rule.entry.reference.clone()));
        let found = names.into_iter().filter_map(|name| objects.destination_rules.get(&(name.namespace, name.name)));
        let same = |entry: &&Arc<Entry<DestinationRule>>| hostname::expand(&entry.spec.host, namespace) == *host;
        let rules = by_age(found.filter(same).cloned().collect()).into_iter().map(|entry| Rule {
            export_to: ExportTo::read(entry.spec.export_to.iter().map(String::as_str), default_export_to, namespace),
            entry,
        });
        table.put(host, rules.collect());
        if table.exact.is_empty() && table.wildcard.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Namespaces, and the hosts that their rules are written for.
    pub fn hosts(&self) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
        self.namespaces.iter().flat_map(|(namespace, table)| {
            let patterns = table.wildcard.iter().map(|(pattern, _)| pattern.to_string().into());
            table.exact.keys().cloned().chain(patterns).map(|host| (Arc::clone(namespace), host))
        })
    }

    /// The rules of a namespace for a host as it is written, oldest first.
    pub fn of<'a>(&'a self, namespace: &str, host: &str) -> impl Iterator<Item = &'a Arc<Entry<DestinationRule>>> {
        let table = self.namespaces.get(namespace);
        table.map(|table| table.get(host)).unwrap_or_default().iter().map(|rule| &rule.entry)
    }

    /// The rule for `host` in `namespace` that somebody in namespace `viewer` with `labels` gets: the most specific host
    /// with a visible rule.
    pub fn find<'a>(
        &'a self,
        namespace: &str,
        host: &str,
        viewer: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Consolidated<'a>> {
        let table = self.namespaces.get(namespace)?;
        let exact = table.exact.get(host).map(Vec::as_slice).unwrap_or_default();
        if let Some(found) = consolidate(exact, viewer, labels) {
            return Some(found);
        }
        let wanted = hostname::pattern(host);
        let covering = table.wildcard.iter().filter(|(pattern, _)| hostname::covers(pattern, &wanted));
        covering.map(|(_, rules)| rules).find_map(|rules| consolidate(rules, viewer, labels))
    }
}

impl RuleTable {
    fn get(&self, host: &str) -> &[Rule] {
        let rules = match hostname::pattern(host) {
            HostPattern::Exact(host) => self.exact.get(&host),
            pattern => self.wildcard.iter().find(|(known, _)| *known == pattern).map(|(_, rules)| rules),
        };
        rules.map(Vec::as_slice).unwrap_or_default()
    }

    fn take(&mut self, host: &str) -> Vec<Rule> {
        match hostname::pattern(host) {
            HostPattern::Exact(host) => self.exact.remove(&host).unwrap_or_default(),
            pattern => match self.wildcard.iter().position(|(known, _)| *known == pattern) {
                Some(at) => self.wildcard.remove(at).1,
                None => Vec::new(),
            },
        }
    }

    fn put(&mut self, host: &str, rules: Vec<Rule>) {
        if rules.is_empty() {
            return;
        }
        match hostname::pattern(host) {
            HostPattern::Exact(host) => drop(self.exact.insert(host, rules)),
            pattern => {
                let at = self.wildcard.partition_point(|(known, _)| rank(known) <= rank(&pattern));
                self.wildcard.insert(at, (pattern, rules));
            }
        }
    }
}

/// Longest first; those of one length in any order that is always the same.
fn rank(pattern: &HostPattern) -> (std::cmp::Reverse<usize>, &HostPattern) {
    (std::cmp::Reverse(length(pattern)), pattern)
}

fn length(pattern: &HostPattern) -> usize {
    match pattern {
        HostPattern::Exact(host) | HostPattern::Suffix(host) => host.len(),
        HostPattern::Any => 0,
    }
}

/// A rule whose workloadSelector picks the viewer wins; else the oldest without one. Only rules with the same exportTo and
/// workloadSelector as that one are merged into it.
fn consolidate<'a>(rules: &'a [Rule], viewer: &str, labels: &BTreeMap<String, String>) -> Option<Consolidated<'a>> {
    let visible = || rules.iter().filter(|rule| rule.export_to.allows(viewer));
    let selected = visible().find(|rule| match &rule.entry.spec.workload_selector {
        Some(selector) => !selector.match_labels.is_empty() && selects(&selector.match_labels, labels),
        None => false,
    });
    let first = selected.or_else(|| visible().find(|rule| rule.entry.spec.workload_selector.is_none()))?;
    let mut merged = Consolidated { first: &first.entry, others: Vec::new(), policy: None, subsets: Vec::new() };
    let same = |rule: &&Rule| {
        rule.export_to == first.export_to && rule.entry.spec.workload_selector == first.entry.spec.workload_selector
    };
    for rule in rules.iter().filter(same) {
        if rule.entry.reference != first.entry.reference {
            merged.others.push(&rule.entry);
        }
        merged.policy = merged.policy.or(rule.entry.spec.traffic_policy.as_ref());
        for subset in &rule.entry.spec.subsets {
            if merged.subset(&subset.name).is_none() {
                merged.subsets.push((subset, &rule.entry));
            }
        }
    }
    Some(merged)
}
