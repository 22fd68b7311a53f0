//! The hosts of one route table and the order of their rules (Istio's order, observed): the rules of all VirtualServices of a host one
//! after another, catch-all rules last. Exact and wildcard hosts are separate: no rule falls through from one to the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::rules::Rules;
use super::server::{Kind, Slot};
use super::{Context, shadows};
use crate::diag;
use crate::model::{HostPattern, Rule, VirtualHost};
use crate::object::ObjectRef;

struct Host<'a> {
    origin: ObjectRef,
    redirect: bool,
    lists: Vec<Rc<Rules<'a>>>,
}

pub(super) fn of(context: &mut Context<'_>, slots: &[Slot<'_>]) -> Vec<Arc<VirtualHost>> {
    let mut hosts: BTreeMap<HostPattern, Host<'_>> = BTreeMap::new();
    // Rules depend on Gateway and port, and two servers of one Gateway often share them.
    let mut known: HashMap<(String, u16, usize), Rc<Rules<'_>>> = HashMap::new();
    for slot in slots {
        let gateway = slot.gateway_name();
        let bound = context.bound(&gateway);
        let mut meetings: BTreeMap<usize, BTreeSet<HostPattern>> = BTreeMap::new();
        for meeting in slot.hosts.iter().flat_map(|host| bound.meet(host)) {
            meetings.entry(meeting.service).or_default().insert(meeting.pattern);
        }
        for (service, patterns) in meetings {
            let Some(entry) = bound.services.get(service) else { continue };
            let at = (gateway.clone(), slot.number(), service);
            let rules = known.entry(at).or_insert_with(|| Rc::new(context.rules(entry, &gateway, slot.number())));
            if rules.is_empty() {
                continue;
            }
            for pattern in patterns {
                host(&mut hosts, pattern, slot).lists.push(Rc::clone(rules));
            }
        }
        if slot.kind == Kind::Http && slot.server.tls.as_ref().is_some_and(|tls| tls.https_redirect == Some(true)) {
            redirect(&mut hosts, slot, &bound);
        }
    }
    hosts.into_iter().map(|(pattern, host)| Arc::new(finish(context, pattern, host))).collect()
}

fn host<'m, 'a>(
    hosts: &'m mut BTreeMap<HostPattern, Host<'a>>,
    pattern: HostPattern,
    slot: &Slot<'_>,
) -> &'m mut Host<'a> {
    let new = || Host { origin: slot.gateway.reference.clone(), redirect: false, lists: Vec::new() };
    hosts.entry(pattern).or_insert_with(new)
}

/// `httpsRedirect` holds for the server's hosts with or without a VirtualService, and for the narrower hosts that
/// VirtualServices opened through it.
fn redirect(hosts: &mut BTreeMap<HostPattern, Host<'_>>, slot: &Slot<'_>, bound: &super::bound::Bound<'_>) {
    for server_host in &slot.hosts {
        host(hosts, server_host.pattern.clone(), slot).redirect = true;
        for meeting in bound.meet(server_host) {
            if let Some(narrow) = hosts.get_mut(&meeting.pattern) {
                narrow.redirect = true;
            }
        }
    }
}

fn finish(context: &mut Context<'_>, pattern: HostPattern, host: Host<'_>) -> VirtualHost {
    let mut rules: Vec<Rule> = Vec::new();
    let mut last: Option<&Rule> = None;
    let mut seen = HashSet::new();
    let several = host.lists.len() > 1;
    let mut first: Option<&Rc<Rules<'_>>> = None;
    for list in &host.lists {
        // The same rules through two servers: the second time they can only lose.
        let fresh = |rule: &&Rule| !several || !seen.contains(&rule.source);
        let added: Vec<&Rule> = list.ordinary.iter().filter(fresh).collect();
        rules.extend(added.iter().map(|rule| (*rule).clone()));
        if several {
            seen.extend(added.iter().map(|rule| rule.source.clone()));
        }
        match (&list.catch_all, last) {
            (Some(rule), None) => last = Some(rule),
            (Some(rule), Some(winner)) if rule.source != winner.source => shadowed(context, &pattern, rule, winner),
            _ => {}
        }
        match first {
            None => first = Some(list),
            Some(older) if older.entry.reference != list.entry.reference => shared(context, &pattern, older, list),
            Some(_) => {}
        }
    }
    rules.extend(last.cloned());
    shadows::report(context, &pattern, &rules);
    VirtualHost { host: pattern, https_redirect: host.redirect, rules, origin: host.origin }
}

fn shadowed(context: &mut Context<'_>, host: &HostPattern, rule: &Rule, winner: &Rule) {
    let message = format!("for host `{host}`, rule {} answers every request before this one", winner.source);
    let help =
        "two VirtualServices of a host cannot both have a rule for everything; the older one's counts".to_owned();
    shadows::unreachable(context, rule, message, help);
}

fn shared(context: &mut Context<'_>, host: &HostPattern, older: &Rules<'_>, list: &Rules<'_>) {
    let reference = &older.entry.reference;
    let message = format!(
        "VirtualService {}/{} has rules for host `{host}` too; they are tried before these",
        reference.namespace, reference.name
    );
    context.findings.report(diag::HOST_SHARED, list.entry, "spec.hosts", message, None);
}

#[cfg(test)]
#[path = "virtual_hosts_tests.rs"]
mod tests;
