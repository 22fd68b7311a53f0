//! Gateways of an edge proxy: which ones are its own, and how their servers share ports, by Istio's merging rules.
//! Older Gateways come first, and whoever comes first has the port.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::ports::{FrontPorts, wildcard};
use super::server::{Kind, Slot};
use super::{Context, checks, virtual_hosts};
use crate::diag;
use crate::model::{HostPattern, Key, Listener, ListenerProtocol, RouteSet, TlsServer};
use crate::world::selects;

/// Servers that share an address.
struct Shared<'a> {
    slots: Vec<Slot<'a>>,
    /// TLS names that are taken, by which server.
    names: HashMap<HostPattern, String>,
}

type Ports<'a> = BTreeMap<(u16, IpAddr), Shared<'a>>;

pub(super) fn translate(context: &mut Context<'_>) {
    let front = FrontPorts::of(context.world, context.proxy);
    let mut ports = Ports::new();
    let mut names = HashSet::new();
    for gateway in &context.world.index().gateways {
        if !selects(&gateway.spec.selector, &context.proxy.labels) {
            not_selected(context, gateway);
            continue;
        }
        for server in &gateway.spec.servers {
            let slot = Slot::new(gateway, server);
            if let Some(ip) = admit(context, &mut names, &slot) {
                place(context, &mut ports, &front.listened(slot.number()), ip, &slot);
            }
        }
    }
    for ((port, ip), shared) in &ports {
        listener(context, SocketAddr::new(*ip, *port), &shared.slots);
    }
    checks::run(context);
}

fn not_selected(context: &mut Context<'_>, gateway: &crate::world::Entry<crate::api::Gateway>) {
    let show = |labels: &BTreeMap<String, String>| {
        let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if pairs.is_empty() { "none".to_owned() } else { pairs.join(",") }
    };
    let message = format!(
        "the selector {} does not fit the labels of this gateway ({})",
        show(&gateway.spec.selector),
        show(&context.proxy.labels)
    );
    let help = "if it is meant for this gateway, use its labels in the selector".to_owned();
    context.findings.report(diag::GATEWAY_NOT_SELECTED, gateway, "spec.selector", message, Some(help));
}

/// The address to listen on, unless the server cannot be served anywhere.
fn admit(context: &mut Context<'_>, names: &mut HashSet<Key>, slot: &Slot<'_>) -> Option<IpAddr> {
    let ip = match slot.server.bind.as_deref().filter(|bind| !bind.is_empty()) {
        None => wildcard(context.proxy),
        Some(bind) => match bind.parse() {
            Ok(ip) => ip,
            Err(_) => {
                not_built(context, slot, ".bind", &format!("an address such as `{bind}`"));
                return None;
            }
        },
    };
    match slot.kind {
        Kind::Http | Kind::Https => {}
        Kind::Tcp => not_built(context, slot, ".port.protocol", "a protocol other than HTTP"),
        Kind::ClosedTls(what) => not_built(context, slot, ".tls.mode", what),
        Kind::WithoutTls => {
            let message = "the server's protocol needs `tls`".to_owned();
            let field = slot.field("");
            context.findings.report(diag::SERVER_WITHOUT_CERTIFICATE, slot.gateway, &field, message, None);
            return None;
        }
    }
    // Two HTTPS servers of one Gateway with the same port name would be the same route table.
    if slot.kind.is_tls() && !names.insert(routes_key(slot, 0)) {
        let message = format!("the Gateway has another HTTPS server with the port name `{}`", slot.server.port.name);
        let help = "port names must differ within a Gateway".to_owned();
        let field = slot.field(".port.name");
        context.findings.report(diag::SERVER_CONFLICT, slot.gateway, &field, message, Some(help));
        return None;
    }
    (slot.number() != 0).then_some(ip)
}

/// Puts a server on its ports, unless it conflicts with one that has them already.
fn place<'a>(context: &mut Context<'a>, ports: &mut Ports<'a>, numbers: &[u16], ip: IpAddr, slot: &Slot<'a>) {
    for port in numbers {
        let shared = ports.entry((*port, ip)).or_insert_with(|| Shared { slots: Vec::new(), names: HashMap::new() });
        join(context, shared, slot);
    }
}

fn join<'a>(context: &mut Context<'a>, shared: &mut Shared<'a>, slot: &Slot<'a>) {
    if let Some(first) = shared.slots.first() {
        let together =
            (first.kind == Kind::Http && slot.kind == Kind::Http) || (first.kind.is_tls() && slot.kind.is_tls());
        if !together {
            let message = format!(
                "port {} is {} already ({}); this server ({}) is left out",
                slot.server.port.number,
                first.server.port.protocol.as_str(),
                first.title(),
                slot.server.port.protocol.as_str()
            );
            let help = "the older Gateway keeps the port; give this server another port or `bind`".to_owned();
            let field = slot.field(".port");
            return context.findings.report(diag::SERVER_CONFLICT, slot.gateway, &field, message, Some(help));
        }
    }
    if slot.kind.is_tls() {
        for (index, host) in slot.hosts.iter().enumerate() {
            if let Some(other) = shared.names.get(&host.pattern) {
                let message = format!("`{}` is served by {other} already; this server is left out", host.pattern);
                let help = "a TLS host can be in one server of a port only; remove it from one of them".to_owned();
                let field = slot.field(&format!(".hosts[{index}]"));
                return context.findings.report(diag::TLS_HOST_DUPLICATE, slot.gateway, &field, message, Some(help));
            }
        }
        shared.names.extend(slot.hosts.iter().map(|host| (host.pattern.clone(), slot.title())));
    }
    shared.slots.push(slot.clone());
}

fn not_built(context: &mut Context<'_>, slot: &Slot<'_>, field: &str, what: &str) {
    let message = format!("a server with {what} is not served yet; connections to it are closed");
    context.findings.report(diag::SERVER_NOT_BUILT, slot.gateway, &slot.field(field), message, None);
}

/// `http.<port where it listens>`, or `https.<port>.<port name>.<gateway>.<namespace>`; and `.<bind>`.
fn routes_key(slot: &Slot<'_>, port: u16) -> Key {
    let bind = slot.server.bind.as_deref().filter(|bind| !bind.is_empty());
    let bind = bind.map_or_else(String::new, |bind| format!(".{bind}"));
    let reference = &slot.gateway.reference;
    match slot.kind {
        Kind::Http => format!("http.{port}{bind}").into(),
        _ => format!(
            "https.{}.{}.{}.{}{bind}",
            slot.server.port.number, slot.server.port.name, reference.name, reference.namespace
        )
        .into(),
    }
}

fn listener(context: &mut Context<'_>, address: SocketAddr, slots: &[Slot<'_>]) {
    let Some(first) = slots.iter().find(|slot| matches!(slot.kind, Kind::Http | Kind::Https)) else { return };
    let protocol = if first.kind == Kind::Http {
        let routes = routes_key(first, address.port());
        routes_of(context, &routes, slots, first);
        ListenerProtocol::Http { routes }
    } else {
        ListenerProtocol::Tls { servers: slots.iter().map(|slot| tls_server(context, slot)).collect() }
    };
    let key: Key = address.to_string().into();
    let listener = Listener {
        key: Arc::clone(&key),
        address,
        port: first.number(),
        protocol,
        path_normalization: context.world.mesh().path_normalization,
        origin: first.gateway.reference.clone(),
    };
    context.set.listeners.insert(key, Arc::new(listener));
}

fn tls_server(context: &mut Context<'_>, slot: &Slot<'_>) -> TlsServer {
    let routes = routes_key(slot, 0);
    // Behind names that are closed there are no routes.
    let open = if slot.kind == Kind::Https { std::slice::from_ref(slot) } else { &[] };
    routes_of(context, &routes, open, slot);
    let mut hosts: Vec<HostPattern> = slot.hosts.iter().map(|host| host.pattern.clone()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    TlsServer {
        hosts,
        tls: context.termination(slot),
        routes,
        origin: slot.gateway.reference.clone(),
        server_index: u32::try_from(slot.server.index).unwrap_or(u32::MAX),
    }
}

/// A server on several ports has one route table.
fn routes_of(context: &mut Context<'_>, key: &Key, slots: &[Slot<'_>], first: &Slot<'_>) {
    if !context.set.routes.contains_key(key) {
        let origin = first.gateway.reference.clone();
        let set = RouteSet { key: Arc::clone(key), virtual_hosts: virtual_hosts::of(context, slots), origin };
        context.set.routes.insert(Arc::clone(key), Arc::new(set));
    }
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
