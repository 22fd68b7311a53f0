//! Route tables as the search for requests sees them: how requests arrive there, and which names a host has to itself.

use std::collections::HashMap;

use crate::model::{
    HostPattern, Key, Listener, ListenerProtocol, PathNormalization, ResourceSet, RouteSet, RuleSource, VirtualHost,
};
use crate::reach::{Example, Place};
use crate::snapshot::{Decision, HostTable, route_keys};

/// How requests arrive at tables: scheme and form of paths, by key of the routes.
pub(super) type Arrivals = HashMap<Key, (&'static str, PathNormalization)>;

pub(super) fn arrivals(set: &ResourceSet) -> Arrivals {
    let mut arrivals = Arrivals::new();
    for listener in set.listeners.values() {
        let mut note = |key: &Key, scheme| {
            arrivals.entry(Key::clone(key)).or_insert((scheme, listener.path_normalization));
        };
        keys(listener, &mut note);
    }
    arrivals
}

fn keys(listener: &Listener, note: &mut dyn FnMut(&Key, &'static str)) {
    match &listener.protocol {
        ListenerProtocol::Http { routes } | ListenerProtocol::Tcp { routes } => note(routes, "http"),
        ListenerProtocol::Tls { servers } => servers.iter().for_each(|server| note(&server.routes, "https")),
        ListenerProtocol::Outbound(outbound) => route_keys(outbound).for_each(|key| note(key, "http")),
        ListenerProtocol::Inbound(inbound) => inbound.ports.values().for_each(|port| note(&port.routes, "http")),
    }
}

/// Of a host of a table.
pub(super) fn place(arrivals: &Arrivals, routes: &RouteSet, host: &VirtualHost) -> Place {
    let (scheme, normalization) = arrivals.get(&routes.key).copied().unwrap_or(("http", PathNormalization::Base));
    let hosts: Vec<HostPattern> = std::iter::once(&host.host).chain(&host.aliases).cloned().collect();
    let narrower = |other: &&HostPattern| hosts.iter().any(|own| own != *other && is_within(other, own));
    let all = routes.virtual_hosts.iter().flat_map(|other| std::iter::once(&other.host).chain(&other.aliases));
    let is_exact = hosts.iter().all(|own| matches!(own, HostPattern::Exact(_)));
    let others = if is_exact { Vec::new() } else { all.filter(narrower).cloned().collect() };
    Place { hosts, others, scheme, normalization }
}

pub(super) fn is_within(narrow: &HostPattern, wide: &HostPattern) -> bool {
    match (narrow, wide) {
        (HostPattern::Exact(name) | HostPattern::Suffix(name), HostPattern::Suffix(suffix)) => {
            name.len() > suffix.len() && name.ends_with(&**suffix)
        }
        (_, HostPattern::Any) => true,
        (_, HostPattern::Exact(_)) | (HostPattern::Any, HostPattern::Suffix(_)) => false,
    }
}

/// The rule that a decision is of.
pub(super) fn source<'d>(decision: &Decision<'d>) -> Option<&'d RuleSource> {
    match decision {
        Decision::Forward { rule, .. } | Decision::Redirect { rule, .. } | Decision::Respond { rule, .. } => {
            Some(&rule.source)
        }
        Decision::HttpsRedirect | Decision::NoRoute => None,
    }
}

/// The rule that an example reaches in a table. None: it is no request.
pub(super) fn reached(table: &HostTable, example: &Example) -> Option<Option<RuleSource>> {
    example.ask(|request| source(&table.route(request, &mut |_| 0)).cloned())
}
