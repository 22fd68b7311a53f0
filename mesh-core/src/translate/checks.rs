//! Findings across objects that no other file comes upon while it works: bindings that lead nowhere, and
//! DestinationRules that nobody can use.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Context;
use super::bound::Bound;
use super::server::Slot;
use crate::api::{DestinationRule, Gateway, VirtualService};
use crate::diag;
use crate::object::ObjectRef;
use crate::world::{Entry, gateway_name, hostname, selects};

pub(super) fn run(context: &mut Context<'_>) {
    unknown_gateways(context);
    hosts_without_server(context);
    destination_rules(context);
}

fn unknown_gateways(context: &mut Context<'_>) {
    let world = context.world;
    for entry in world.virtual_services() {
        for (index, written) in entry.spec.gateways.iter().enumerate().filter(|(_, name)| *name != "mesh") {
            let name = gateway_name(written, entry.namespace());
            let (namespace, short) = name.split_once('/').unwrap_or((entry.namespace(), written));
            if world.gateway(namespace, short).is_some() {
                continue;
            }
            let message = format!("there is no Gateway `{name}`; the rules do not apply there");
            let gateways = &world.index().gateways;
            let help = match gateways.iter().find(|gateway| *gateway.reference.name == *short) {
                Some(other) => Some(format!(
                    "a Gateway of another namespace is named with it: `{}/{short}`",
                    other.reference.namespace
                )),
                None => context.findings.nearest(short, gateways.iter().map(|gateway| &*gateway.reference.name)),
            };
            let field = format!("spec.gateways[{index}]");
            context.findings.report(diag::GATEWAY_UNKNOWN, entry, &field, message, help);
        }
    }
}

/// A VirtualService and the index of a host of it.
type Host<'a> = (&'a ObjectRef, usize);

/// Hosts of a VirtualService that no server of its Gateways opens. Those of a VirtualService that is for the mesh or for another
/// proxy's Gateway too may be meant for that.
fn hosts_without_server(context: &mut Context<'_>) {
    let mut missing: BTreeMap<Host<'_>, (&Entry<VirtualService>, Vec<String>)> = BTreeMap::new();
    let mut met: HashSet<Host<'_>> = HashSet::new();
    for gateway in context.own_gateways() {
        let name = format!("{}/{}", gateway.reference.namespace, gateway.reference.name);
        let bound = context.bound(&name);
        let opened = opened(gateway, &bound);
        for (service, entry) in bound.services.iter().enumerate() {
            for host in 0..bound.patterns(service).len() {
                if opened.contains(&(service, host)) {
                    met.insert((&entry.reference, host));
                } else {
                    let new = || (&***entry, Vec::new());
                    missing.entry((&entry.reference, host)).or_insert_with(new).1.push(name.clone());
                }
            }
        }
        for entry in &bound.hidden {
            let own = &context.proxy.namespace;
            let message = format!("Gateway `{name}` runs in namespace `{own}`, to which this is not exported");
            let help = "add that namespace or `*` to `exportTo`".to_owned();
            context.findings.report(diag::NOT_EXPORTED, entry, "spec.exportTo", message, Some(help));
        }
    }
    for ((reference, host), (entry, gateways)) in missing {
        if !met.contains(&(reference, host)) && context.only_here(entry) {
            host_not_opened(context, entry, host, &gateways);
        }
    }
}

/// VirtualServices and hosts that some server of the Gateway opens.
fn opened(gateway: &Arc<Entry<Gateway>>, bound: &Bound<'_>) -> HashSet<(usize, usize)> {
    let hosts = gateway.spec.servers.iter().flat_map(|server| Slot::new(gateway, server).hosts);
    hosts.flat_map(|host| bound.meet(&host)).map(|meeting| (meeting.service, meeting.host)).collect()
}

impl<'a> Context<'a> {
    fn own_gateways(&self) -> impl Iterator<Item = &'a Arc<Entry<Gateway>>> + use<'a> {
        let labels = &self.proxy.labels;
        self.world.index().gateways.iter().filter(move |gateway| selects(&gateway.spec.selector, labels))
    }

    /// Whether all Gateways that it names are this proxy's.
    fn only_here(&self, entry: &Entry<VirtualService>) -> bool {
        entry.spec.gateways.iter().all(|written| {
            let name = gateway_name(written, entry.namespace());
            let gateway = name.split_once('/').and_then(|(namespace, name)| self.world.gateway(namespace, name));
            written != "mesh" && gateway.is_none_or(|gateway| selects(&gateway.spec.selector, &self.proxy.labels))
        })
    }
}

fn host_not_opened(context: &mut Context<'_>, entry: &Entry<VirtualService>, host: usize, gateways: &[String]) {
    let written = entry.spec.hosts.get(host).map(String::as_str).unwrap_or_default();
    let mut opens: Vec<&str> = Vec::new();
    for name in gateways {
        let gateway = name.split_once('/').and_then(|(namespace, name)| context.world.gateway(namespace, name));
        let servers = gateway.iter().flat_map(|gateway| &gateway.spec.servers);
        opens.extend(servers.flat_map(|server| &server.hosts).map(String::as_str));
    }
    opens.sort_unstable();
    opens.dedup();
    let more = opens.len().saturating_sub(5);
    opens.truncate(5);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let opens = if opens.is_empty() { "no hosts".to_owned() } else { opens.join(", ") };
    let message = format!(
        "no server of Gateway {} opens `{written}` to namespace `{}` (it has {opens}{more}); requests for it are answered 404",
        gateways.join(", "),
        entry.namespace(),
    );
    let help = "add the host to a server of the Gateway, or correct it here".to_owned();
    let field = format!("spec.hosts[{host}]");
    context.findings.report(diag::HOST_NOT_IN_GATEWAY, entry, &field, message, Some(help));
}

fn destination_rules(context: &mut Context<'_>) {
    let world = context.world;
    let registry = &world.index().registry;
    let mut by_host: BTreeMap<(&str, String), Vec<&Arc<Entry<DestinationRule>>>> = BTreeMap::new();
    for entry in world.destination_rules() {
        let host = hostname::expand(&entry.spec.host, entry.namespace());
        if !registry.any_matches(&host) {
            let message = format!("no Service or ServiceEntry is called `{host}`; the rule has no effect");
            let help = context.findings.nearest(&host, registry.hosts());
            context.findings.report(diag::RULE_HOST_UNKNOWN, entry, "spec.host", message, help);
        }
        if let Some(service) = registry.find(&host, entry.namespace(), entry.namespace()) {
            context.subsets(entry, service);
        }
        by_host.entry((entry.namespace(), host)).or_default().push(entry);
    }
    for rules in by_host.values_mut() {
        rules.sort_by(|a, b| a.age().cmp(&b.age()));
        merged_rules(context, rules);
    }
}

/// Of rules that are merged, what is lost: subsets whose name is taken, and a second traffic policy.
fn merged_rules(context: &mut Context<'_>, rules: &[&Arc<Entry<DestinationRule>>]) {
    let mut subsets: HashMap<&str, &Entry<DestinationRule>> = HashMap::new();
    let mut policy: Option<&Entry<DestinationRule>> = None;
    for entry in rules {
        for subset in &entry.spec.subsets {
            if let Some(first) = subsets.get(subset.name.as_str()) {
                let message =
                    format!("subset `{}` is defined in {} already; that one counts", subset.name, first.reference);
                let field = format!("spec.subsets[{}].name", subset.index);
                context.findings.report(diag::SUBSET_DUPLICATE, entry, &field, message, None);
            } else {
                subsets.insert(&subset.name, entry);
            }
        }
        match policy {
            Some(first) if entry.spec.traffic_policy.is_some() => {
                let message = format!("{} has a traffic policy for this host; this one has no effect", first.reference);
                let help = "put everything about a host in one DestinationRule".to_owned();
                context.findings.report(diag::RULE_IGNORED, entry, "spec.trafficPolicy", message, Some(help));
            }
            None if entry.spec.traffic_policy.is_some() => policy = Some(entry),
            _ => {}
        }
    }
}
