//! The hosts of one route table and the order of their rules (Istio's order, observed): the rules of all VirtualServices of a host one
//! after another, catch-all rules last. Exact and wildcard hosts are separate: no rule falls through from one to the other.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::findings::Said;
use super::gateway::Table;
use super::rules::Rules;
use super::server::Slot;
use super::virtual_service::Turn;
use super::{Context, shadows};
use crate::diag;
use crate::model::{HostPattern, Rule, VirtualHost};
use crate::object::ObjectRef;

/// Hosts of a table.
#[derive(Debug, Default)]
pub(super) struct Hosts(BTreeMap<HostPattern, Host>);

#[derive(Debug, Default)]
struct Host {
    /// Rules of the VirtualServices that are opened here, also of those of which nothing applies; by turn. Mostly one.
    lists: Vec<(Turn, Arc<Rules>)>,
    findings: Vec<Said>,
    built: Option<Arc<VirtualHost>>,
}

/// What is different about a host.
pub(super) struct Changed {
    pub host: bool,
    pub findings: bool,
}

impl Hosts {
    pub fn add(&mut self, pattern: &HostPattern, turn: Turn, rules: Arc<Rules>) {
        let lists = &mut self.0.entry(pattern.clone()).or_default().lists;
        match lists.binary_search_by(|(known, _)| known.cmp(&turn)) {
            Ok(place) => lists.get_mut(place).into_iter().for_each(|list| list.1 = Arc::clone(&rules)),
            Err(place) => {
                lists.reserve_exact(1);
                lists.insert(place, (turn, rules));
            }
        }
    }

    pub fn take(&mut self, pattern: &HostPattern, turn: &Turn) {
        if let Some(host) = self.0.get_mut(pattern) {
            host.lists.retain(|(known, _)| known != turn);
        }
    }

    /// Hosts of servers that redirect are there without any VirtualService.
    pub fn redirected(table: &Table) -> impl Iterator<Item = HostPattern> {
        let slots = table.slots.iter().filter(|slot| slot.redirects());
        slots.flat_map(|slot| &slot.hosts).map(|host| host.pattern.clone())
    }

    /// Builds a host anew.
    pub fn build(&mut self, context: &mut Context<'_>, table: &Table, pattern: &HostPattern) -> Changed {
        let mut host = self.0.remove(pattern).unwrap_or_default();
        let built = host.finish(context, table, pattern).map(Arc::new);
        let findings = context.findings.take();
        let changed = Changed { host: built != host.built, findings: findings != host.findings };
        host.findings = findings;
        if changed.host {
            host.built = built;
        }
        if !host.lists.is_empty() || host.built.is_some() {
            self.0.insert(pattern.clone(), host);
        }
        changed
    }

    /// VirtualServices that are opened here and have no rule of their own here: those that they have are delegates'.
    pub fn only_delegating(&self, pattern: &HostPattern) -> Vec<ObjectRef> {
        let lists = self.0.get(pattern).filter(|host| host.built.is_some()).map(|host| &host.lists);
        let full = lists.into_iter().flatten().map(|(_, rules)| rules).filter(|rules| !rules.is_empty());
        full.filter(|rules| !rules.has_own()).map(|rules| rules.entry.reference.clone()).collect()
    }

    /// Sorted by host.
    pub fn built(&self) -> impl Iterator<Item = &Arc<VirtualHost>> {
        self.0.values().filter_map(|host| host.built.as_ref())
    }

    /// Takes equal hosts in place of its own; in the order of [`Hosts::built`].
    pub fn adopt(&mut self, equal: &[Arc<VirtualHost>]) {
        let own = self.0.values_mut().filter_map(|host| host.built.as_mut());
        own.zip(equal).for_each(|(own, equal)| own.clone_from(equal));
    }

    pub fn findings(&self) -> impl Iterator<Item = &Said> {
        self.0.values().flat_map(|host| &host.findings)
    }
}

impl Host {
    /// None: no rule applies here, and nothing is redirected.
    fn finish(&self, context: &mut Context<'_>, table: &Table, pattern: &HostPattern) -> Option<VirtualHost> {
        let own = |slot: &&Arc<Slot>| slot.redirects() && slot.hosts.iter().any(|host| host.pattern == *pattern);
        let redirecting = table.slots.iter().position(|slot| own(&slot));
        let full = || self.lists.iter().filter(|(_, rules)| !rules.is_empty());
        let opening = full().map(|(turn, _)| turn.slot).min();
        let first = redirecting.into_iter().chain(opening).min()?;
        let origin = table.slots.get(first)?.gateway.reference.clone();
        // `httpsRedirect` holds for the narrower hosts that VirtualServices opened through the server, too.
        let through = |turn: &Turn| table.slots.get(turn.slot).is_some_and(|slot| slot.redirects());
        let https_redirect = redirecting.is_some() || self.lists.iter().any(|(turn, _)| through(turn));
        let lists: Vec<&Arc<Rules>> = full().map(|(_, rules)| rules).collect();
        let rules = join(context, pattern, &lists);
        shadows::report(context, pattern, &rules);
        Some(VirtualHost { host: pattern.clone(), aliases: Vec::new(), https_redirect, rules, origin })
    }
}

fn join(context: &mut Context<'_>, pattern: &HostPattern, lists: &[&Arc<Rules>]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut last: Option<&Rule> = None;
    let mut seen = HashSet::new();
    let several = lists.len() > 1;
    let mut first: Option<&Rules> = None;
    for list in lists {
        // The same rules through two servers: the second time they can only lose.
        let fresh = |rule: &&Rule| !several || !seen.contains(&rule.source);
        let added: Vec<&Rule> = list.ordinary.iter().filter(fresh).collect();
        rules.extend(added.iter().map(|rule| (*rule).clone()));
        if several {
            seen.extend(added.iter().map(|rule| rule.source.clone()));
        }
        match (&list.catch_all, last) {
            (Some(rule), None) => last = Some(rule),
            (Some(rule), Some(winner)) if rule.source != winner.source => shadowed(context, pattern, rule, winner),
            _ => {}
        }
        match first {
            None => first = Some(list),
            Some(older) if older.entry.reference != list.entry.reference => shared(context, pattern, older, list),
            Some(_) => {}
        }
    }
    rules.extend(last.cloned());
    rules.shrink_to_fit();
    rules
}

fn shadowed(context: &mut Context<'_>, host: &HostPattern, rule: &Rule, winner: &Rule) {
    let message = format!("for host `{host}`, rule {} answers every request before this one", winner.source);
    let help =
        "two VirtualServices of a host cannot both have a rule for everything; the older one's counts".to_owned();
    shadows::unreachable(context, rule, message, help);
}

fn shared(context: &mut Context<'_>, host: &HostPattern, older: &Rules, list: &Rules) {
    let reference = &older.entry.reference;
    let message = format!(
        "VirtualService {}/{} has rules for host `{host}` too; they are tried before these",
        reference.namespace, reference.name
    );
    context.findings.report(diag::HOST_SHARED, &list.entry, "spec.hosts", message, None);
}

#[cfg(test)]
#[path = "virtual_hosts_tests.rs"]
mod tests;
