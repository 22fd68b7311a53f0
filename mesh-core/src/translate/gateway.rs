//! Gateways of an edge proxy: which ones are its own, and how their servers share ports, by Istio's merging rules.
//! Older Gateways come first, and whoever comes first has the port.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Context;
use super::findings::Said;
use super::host_index::HostIndex;
use super::ports::{FrontPorts, wildcard};
use super::server::{Kind, ServerHost, Slot};
use crate::api::Gateway;
use crate::diag;
use crate::model::{
    Challenge, HostPattern, Key, ListenAddress, Listener, ListenerProtocol, Resources, Secret, Serves, TlsServer,
};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, Reads, selects};

/// What the Gateways of a proxy make of it, before any VirtualService.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub listeners: Resources<Listener>,
    pub secrets: Resources<Secret>,
    pub challenges: Resources<Challenge>,
    pub tables: Vec<Table>,
    /// The proxy's own, oldest first.
    pub gateways: Vec<OwnGateway>,
    pub findings: Vec<Said>,
    pub reads: Reads,
}

/// A route set that is to be filled.
#[derive(Debug)]
pub(super) struct Table {
    pub key: Key,
    pub origin: ObjectRef,
    /// Servers whose hosts are in it, in the order in which their rules are tried.
    pub slots: Vec<Arc<Slot>>,
}

#[derive(Debug)]
pub(super) struct OwnGateway {
    pub entry: Arc<Entry<Gateway>>,
    /// `namespace/name`
    pub name: String,
    /// Of all servers, whether they are served or not.
    pub hosts: Vec<OpenedHost>,
    /// Numbers are those of `hosts`.
    pub index: HostIndex,
}

/// A host of a server.
#[derive(Debug)]
pub(super) struct OpenedHost {
    pub host: ServerHost,
    /// Where it is served: indices of the table, and of the server there.
    pub places: Vec<(usize, usize)>,
}

impl Frame {
    pub fn read(context: &mut Context<'_>) -> Frame {
        context.reads.note(Cell::Kind("Gateway"));
        let front = FrontPorts::of(context.world, context.proxy, &mut context.reads);
        let mut ports = Ports::new();
        let mut names = HashSet::new();
        let mut frame = Frame::default();
        for gateway in &context.world.index().gateways {
            if !selects(&gateway.spec.selector, &context.proxy.labels) {
                not_selected(context, gateway);
                continue;
            }
            for server in &gateway.spec.servers {
                let slot = Arc::new(Slot::new(gateway, server));
                match admit(context, &mut names, &slot) {
                    Some(Door::Ip(ip)) => {
                        let numbers = front.listened(slot.number());
                        let addresses = numbers.into_iter().map(|port| (port, SocketAddr::new(ip, port).into()));
                        place(context, &mut ports, addresses, &slot);
                    }
                    Some(Door::Unix(path)) => {
                        place(context, &mut ports, std::iter::once((0, ListenAddress::Unix(path))), &slot);
                    }
                    None => {}
                }
            }
        }
        for ((_, address), shared) in &ports {
            frame.listener(context, address, &shared.slots);
        }
        frame.open(context);
        frame.secrets = std::mem::take(&mut context.secrets);
        frame.challenges = std::mem::take(&mut context.challenges);
        frame.findings = context.findings.take();
        frame.reads = std::mem::take(&mut context.reads);
        frame
    }

    /// Whether VirtualServices meet the same servers at the same places.
    pub fn is_like(&self, other: &Frame) -> bool {
        let slots =
            |a: &Table, b: &Table| a.slots.len() == b.slots.len() && a.slots.iter().zip(&b.slots).all(|(a, b)| a.is(b));
        self.tables.len() == other.tables.len()
            && self.tables.iter().zip(&other.tables).all(|(a, b)| a.key == b.key && slots(a, b))
            && self.gateways.len() == other.gateways.len()
            && self.gateways.iter().zip(&other.gateways).all(|(a, b)| Arc::ptr_eq(&a.entry, &b.entry))
    }

    fn listener(&mut self, context: &mut Context<'_>, address: &ListenAddress, slots: &[Arc<Slot>]) {
        let Some(first) = slots.iter().find(|slot| slot.kind.is_served()) else { return };
        let protocol = if first.kind.is_tls() {
            ListenerProtocol::Tls { servers: slots.iter().map(|slot| self.tls_server(context, slot)).collect() }
        } else {
            let routes = routes_key(first, address.port());
            self.table(&routes, slots, first);
            if first.kind == Kind::Tcp { ListenerProtocol::Tcp { routes } } else { ListenerProtocol::Http { routes } }
        };
        let key: Key = address.to_string().into();
        let listener = Listener {
            key: Arc::clone(&key),
            address: address.clone(),
            port: first.number(),
            protocol,
            path_normalization: context.world.mesh().path_normalization,
            origin: first.gateway.reference.clone(),
            server: u32::try_from(first.server.index).ok(),
        };
        self.listeners.insert(key, Arc::new(listener));
    }

    fn tls_server(&mut self, context: &mut Context<'_>, slot: &Arc<Slot>) -> TlsServer {
        let routes = routes_key(slot, 0);
        // Behind names that are closed there are no routes.
        let open = if slot.kind.is_served() { std::slice::from_ref(slot) } else { &[] };
        self.table(&routes, open, slot);
        let mut hosts: Vec<HostPattern> = slot.hosts.iter().map(|host| host.pattern.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        TlsServer {
            hosts,
            serves: match slot.kind {
                Kind::Passthrough => Serves::Passthrough,
                Kind::AutoPassthrough => Serves::MeshPassthrough,
                Kind::TlsBytes => Serves::Bytes,
                _ => Serves::Http,
            },
            tls: context.termination(slot),
            routes,
            origin: slot.gateway.reference.clone(),
            server_index: u32::try_from(slot.server.index).unwrap_or(u32::MAX),
        }
    }

    fn table(&mut self, key: &Key, slots: &[Arc<Slot>], first: &Slot) {
        let origin = first.gateway.reference.clone();
        self.tables.push(Table { key: Arc::clone(key), origin, slots: slots.to_vec() });
    }

    /// Lists the hosts of the proxy's own Gateways, with the places where they are served.
    fn open(&mut self, context: &Context<'_>) {
        // A server on several ports has one route table.
        let mut seen = HashSet::new();
        self.tables.retain(|table| seen.insert(Arc::clone(&table.key)));
        let mut places: HashMap<(ObjectRef, usize), Vec<(usize, usize)>> = HashMap::new();
        for (table, slots) in self.tables.iter().enumerate() {
            for (slot, server) in slots.slots.iter().enumerate() {
                let server = (server.gateway.reference.clone(), server.server.index);
                places.entry(server).or_default().push((table, slot));
            }
        }
        let world = context.world;
        let own = world.index().gateways.iter().filter(|own| selects(&own.spec.selector, &context.proxy.labels));
        for entry in own {
            let name = format!("{}/{}", entry.reference.namespace, entry.reference.name);
            let mut gateway =
                OwnGateway { entry: Arc::clone(entry), name, hosts: Vec::new(), index: HostIndex::default() };
            for server in &entry.spec.servers {
                let places = places.remove(&(entry.reference.clone(), server.index)).unwrap_or_default();
                for host in Slot::new(entry, server).hosts {
                    gateway.index.add(host.pattern.clone());
                    gateway.hosts.push(OpenedHost { host, places: places.clone() });
                }
            }
            self.gateways.push(gateway);
        }
    }
}

/// Servers that share an address.
struct Shared {
    slots: Vec<Arc<Slot>>,
    /// TLS names that are taken, by which server.
    names: HashMap<HostPattern, String>,
}

/// By port, which a Unix socket has none of.
type Ports = BTreeMap<(u16, ListenAddress), Shared>;

/// Where a server listens.
enum Door {
    /// At its ports.
    Ip(IpAddr),
    Unix(Arc<str>),
}

fn not_selected(context: &mut Context<'_>, gateway: &Entry<Gateway>) {
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

/// Where to listen, unless the server cannot be served anywhere.
fn admit(context: &mut Context<'_>, names: &mut HashSet<Key>, slot: &Slot) -> Option<Door> {
    let door = match slot.server.bind.as_deref().filter(|bind| !bind.is_empty()) {
        None => Door::Ip(wildcard(context.proxy)),
        Some(bind) => match (bind.strip_prefix("unix://"), bind.parse()) {
            (Some(path), _) => Door::Unix(path.into()),
            (None, Ok(ip)) => Door::Ip(ip),
            (None, Err(_)) => {
                not_built(context, slot, ".bind", &format!("an address such as `{bind}`"));
                return None;
            }
        },
    };
    match slot.kind {
        Kind::Http | Kind::Https | Kind::TlsBytes | Kind::Passthrough | Kind::AutoPassthrough | Kind::Tcp => {}
        Kind::WithoutTls => {
            let message = "the server's protocol needs `tls`".to_owned();
            let field = slot.field("");
            context.findings.report(diag::SERVER_WITHOUT_CERTIFICATE, &slot.gateway, &field, message, None);
            return None;
        }
    }
    // Two such servers of one Gateway with the same port name would be the same route table.
    if slot.kind.is_tls() && !names.insert(routes_key(slot, 0)) {
        let message = format!("the Gateway has another TLS server with the port name `{}`", slot.server.port.name);
        let help = "port names must differ within a Gateway".to_owned();
        let field = slot.field(".port.name");
        context.findings.report(diag::SERVER_CONFLICT, &slot.gateway, &field, message, Some(help));
        return None;
    }
    (slot.number() != 0 || matches!(door, Door::Unix(_))).then_some(door)
}

/// Puts a server where it listens, unless it conflicts with one that is there already.
fn place(
    context: &mut Context<'_>,
    ports: &mut Ports,
    addresses: impl Iterator<Item = (u16, ListenAddress)>,
    slot: &Arc<Slot>,
) {
    for address in addresses {
        let shared = ports.entry(address).or_insert_with(|| Shared { slots: Vec::new(), names: HashMap::new() });
        join(context, shared, slot);
    }
}

fn join(context: &mut Context<'_>, shared: &mut Shared, slot: &Arc<Slot>) {
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
            return context.findings.report(diag::SERVER_CONFLICT, &slot.gateway, &field, message, Some(help));
        }
    }
    if slot.kind.is_tls() {
        for (index, host) in slot.hosts.iter().enumerate() {
            if let Some(other) = shared.names.get(&host.pattern) {
                let message = format!("`{}` is served by {other} already; this server is left out", host.pattern);
                let help = "a TLS host can be in one server of a port only; remove it from one of them".to_owned();
                let field = slot.field(&format!(".hosts[{index}]"));
                return context.findings.report(diag::TLS_HOST_DUPLICATE, &slot.gateway, &field, message, Some(help));
            }
        }
        shared.names.extend(slot.hosts.iter().map(|host| (host.pattern.clone(), slot.title())));
    }
    shared.slots.push(Arc::clone(slot));
}

fn not_built(context: &mut Context<'_>, slot: &Slot, field: &str, what: &str) {
    let message = format!("a server with {what} is not served yet; connections to it are closed");
    context.findings.report(diag::SERVER_NOT_BUILT, &slot.gateway, &slot.field(field), message, None);
}

/// `http.<port where it listens>`, the same with `tcp`, or `https.<port>.<port name>.<gateway>.<namespace>`; and `.<bind>`.
fn routes_key(slot: &Slot, port: u16) -> Key {
    let bind = slot.server.bind.as_deref().filter(|bind| !bind.is_empty());
    let bind = bind.map_or_else(String::new, |bind| format!(".{bind}"));
    let reference = &slot.gateway.reference;
    match slot.kind {
        Kind::Http => format!("http.{port}{bind}").into(),
        Kind::Tcp => format!("tcp.{port}{bind}").into(),
        _ => format!(
            "https.{}.{}.{}.{}{bind}",
            slot.server.port.number, slot.server.port.name, reference.name, reference.namespace
        )
        .into(),
    }
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
