//! `AUTO_PASSTHROUGH` of a gateway between networks: the server name of TLS says to which port and subset of a service it is passed
//! on, as sidecars call it: `outbound_.80_.v1_.reviews.default.svc.cluster.local`. Only endpoints that speak the mesh's mutual TLS are
//! reached so: nobody gets to one that would believe anybody; and only by clients that offer the mesh's protocols (as with Istio): an
//! endpoint in PERMISSIVE mode would hand other TLS on to its application.

use std::sync::Arc;

use super::Context;
use super::gateway::Table;
use super::outbound_tcp::whole;
use super::server::Kind;
use crate::model::{
    Destination, DestinationRef, HostPattern, Key, Resources, SERVER_NAME, TcpRoute, UpstreamTls, server_name,
};
use crate::world::{Reads, hostname};

/// What a host yields.
#[derive(Debug, Default)]
pub(super) struct Yield {
    /// A server name each.
    pub routes: Vec<TcpRoute>,
    pub destinations: Resources<Destination>,
    pub reads: Reads,
}

/// What is remembered of a host.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub routes: Vec<TcpRoute>,
    pub destinations: Vec<Key>,
}

/// Whether it is a destination of such a server: its key is the name.
pub(super) fn is_for(key: &str) -> bool {
    key.starts_with(SERVER_NAME)
}

/// Whether any server of the table passes on by itself.
pub(super) fn is_in(table: &Table) -> bool {
    table.slots.iter().any(|slot| slot.kind == Kind::AutoPassthrough)
}

/// Whether such a server of the table opens the service of this name.
pub(super) fn opens(table: &Table, host: &str) -> bool {
    let host = hostname::pattern(host);
    let own = table.slots.iter().filter(|slot| slot.kind == Kind::AutoPassthrough);
    own.flat_map(|slot| &slot.hosts).any(|opened| hostname::covers(&opened.pattern, &host))
}

/// All ports of the host's service that the gateway sees, and the subsets that its rule has. Outside of the mesh nobody speaks its
/// TLS.
pub(super) fn read(context: &mut Context<'_>, host: &str) -> Yield {
    let mut routes = Vec::new();
    let mut destinations = Resources::new();
    if let Some(service) = context.seen(host).filter(|service| !host.starts_with('*') && !service.is_external()) {
        let rule = context.rule_of(service);
        for port in &service.ports {
            let mut found = vec![("", context.default_destination(service, port))];
            for (subset, entry) in rule.iter().flat_map(|rule| rule.subsets.iter().copied()) {
                found.push((&subset.name, context.subset_destination(service, port, (subset, entry))));
            }
            for (subset, destination) in found {
                let DestinationRef::Known(ordinary) = destination else { continue };
                let Some(settings) = context.destinations.get(&ordinary) else { continue };
                let name: Key = server_name(port.number, subset, &service.host).into();
                // The client and the endpoint speak TLS with each other: nothing is said before it, or around it.
                let mut passed = Destination::clone(settings);
                (passed.key, passed.tls) = (Arc::clone(&name), UpstreamTls::Disable);
                (passed.connections.proxy_header, passed.connections.tunnel) = (None, None);
                routes.push(TcpRoute {
                    sni: vec![HostPattern::Exact(name.to_ascii_lowercase().into())],
                    destinations: vec![whole(DestinationRef::Known(Arc::clone(&name)))],
                    origin: service.origin.clone(),
                });
                destinations.insert(name, Arc::new(passed));
            }
        }
    }
    context.destinations.clear();
    // What is said of rules is said where routes name them.
    drop(context.findings.take());
    Yield { routes, destinations, reads: std::mem::take(&mut context.reads) }
}

#[cfg(test)]
#[path = "auto_passthrough_tests.rs"]
mod tests;
