//! DestinationRules by namespace and host. It decides which rules merge into one and which host pattern is the most
//! specific; in which namespaces to look is `translate`'s affair.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::entry::{by_age, selects};
use super::{Entry, ExportTo, Objects, Shelf, hostname};
use crate::api::{DestinationRule, Subset, TrafficPolicy};
use crate::model::HostPattern;

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
    pub policy: Option<&'a TrafficPolicy>,
    pub subsets: Vec<(&'a Subset, &'a Arc<Entry<DestinationRule>>)>,
}

impl Consolidated<'_> {
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().map(|(subset, _)| *subset).find(|subset| subset.name == name)
    }
}

impl RuleTables {
    pub(super) fn build(objects: &Objects, default_export_to: &[String]) -> RuleTables {
        let shelf: &Shelf<DestinationRule> = &objects.destination_rules;
        let mut tables = RuleTables::default();
        for entry in by_age(shelf.values().cloned().collect()) {
            let spec = &entry.spec;
            let namespace = Arc::clone(entry.namespace());
            let list = spec.export_to.iter().map(String::as_str);
            let export_to = ExportTo::read(list, default_export_to, &namespace);
            let host = hostname::expand(&spec.host, &namespace);
            tables.namespaces.entry(namespace).or_default().add(&host, Rule { entry, export_to });
        }
        for table in tables.namespaces.values_mut() {
            table.wildcard.sort_by_key(|(pattern, _)| std::cmp::Reverse(length(pattern)));
        }
        tables
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
    fn add(&mut self, host: &str, rule: Rule) {
        match hostname::pattern(host) {
            HostPattern::Exact(host) => self.exact.entry(host).or_default().push(rule),
            pattern => match self.wildcard.iter_mut().find(|(known, _)| *known == pattern) {
                Some((_, rules)) => rules.push(rule),
                None => self.wildcard.push((pattern, vec![rule])),
            },
        }
    }
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
    let mut merged = Consolidated { first: &first.entry, policy: None, subsets: Vec::new() };
    let same = |rule: &&Rule| {
        rule.export_to == first.export_to && rule.entry.spec.workload_selector == first.entry.spec.workload_selector
    };
    for rule in rules.iter().filter(same) {
        merged.policy = merged.policy.or(rule.entry.spec.traffic_policy.as_ref());
        for subset in &rule.entry.spec.subsets {
            if merged.subset(&subset.name).is_none() {
                merged.subsets.push((subset, &rule.entry));
            }
        }
    }
    Some(merged)
}
