//! One VirtualService at the proxy's Gateways: where it is visible, which of their servers open its hosts, which rules it
//! has there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Context;
use super::edge_tcp::Passage;
use super::findings::{Said, nearest};
use super::gateway::{Frame, OwnGateway};
use super::rules::Rules;
use super::server::Kind;
use crate::api::{Gateway, VirtualService};
use crate::diag;
use crate::model::{Destination, HostPattern, Resources};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, ExportTo, MESH, Reads, World, gateway_name, hostname, selects};

/// What a VirtualService yields.
#[derive(Debug, Default)]
pub(super) struct Yield {
    pub meetings: BTreeMap<Meeting, Arc<Rules>>,
    /// The same at servers whose bytes are not looked into.
    pub passages: BTreeMap<Meeting, Arc<[Passage]>>,
    pub destinations: Resources<Destination>,
    pub findings: Vec<Said>,
    pub reads: Reads,
}

/// A host of a VirtualService is opened by a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Meeting {
    /// Index of the table.
    pub table: usize,
    pub pattern: HostPattern,
    pub turn: Turn,
}

/// When the rules of a VirtualService are tried among those of a host: by server, then by visibility, then by age (Istio's
/// order, observed).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    /// Index in the table.
    pub slot: usize,
    visibility: Visibility,
    created: Option<Arc<str>>,
    name: Arc<str>,
    namespace: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Visibility {
    /// Private, in the proxy's namespace.
    Private,
    /// Exported to the proxy's namespace by name.
    Named,
    Public,
}

pub(super) fn read(context: &mut Context<'_>, frame: &Frame, entry: &Arc<Entry<VirtualService>>) -> Yield {
    unknown_gateways(context, entry);
    let named: BTreeSet<String> = names(entry).map(|(_, name)| name).collect();
    let own: Vec<&OwnGateway> = frame.gateways.iter().filter(|gateway| named.contains(&gateway.name)).collect();
    let mut met = Met::default();
    match visibility(context, entry) {
        None => own.iter().for_each(|gateway| hidden(context, entry, gateway)),
        Some(visibility) => {
            for gateway in &own {
                meet(context, frame, entry, visibility, gateway, &mut met);
            }
            if !own.is_empty() && context.only_here(entry) {
                let missing = (0..entry.spec.hosts.len()).filter(|host| !met.hosts.contains(host));
                missing.for_each(|host| host_not_opened(context, entry, host, &own));
            }
        }
    }
    Yield {
        meetings: met.meetings,
        passages: met.passages,
        destinations: std::mem::take(&mut context.destinations),
        findings: context.findings.take(),
        reads: std::mem::take(&mut context.reads),
    }
}

/// The Gateways that it names, with their indices; not the mesh.
pub(super) fn names(entry: &Entry<VirtualService>) -> impl Iterator<Item = (usize, String)> {
    let names = entry.spec.gateways.iter().enumerate().filter(|(_, name)| *name != MESH);
    names.map(|(index, written)| (index, gateway_name(written, entry.namespace())))
}

/// The namespaces that may use it.
pub(super) fn exported(world: &World, entry: &Entry<VirtualService>) -> ExportTo {
    let default = &world.mesh().config.default_virtual_service_export_to;
    ExportTo::read(entry.spec.export_to.iter().map(String::as_str), default, entry.namespace())
}

/// None: it is not exported to the proxy's namespace.
pub(super) fn visibility(context: &Context<'_>, entry: &Entry<VirtualService>) -> Option<Visibility> {
    let export = exported(context.world, entry);
    match export {
        ExportTo::All => Some(Visibility::Public),
        ExportTo::Namespaces(_) if context.sees_all => Some(Visibility::Public),
        ExportTo::Namespaces(_) if !export.allows(&context.proxy.namespace) => None,
        ExportTo::Namespaces(_) if **entry.namespace() == *context.proxy.namespace => Some(Visibility::Private),
        ExportTo::Namespaces(_) => Some(Visibility::Named),
    }
}

/// What a VirtualService met.
#[derive(Default)]
struct Met {
    meetings: BTreeMap<Meeting, Arc<Rules>>,
    passages: BTreeMap<Meeting, Arc<[Passage]>>,
    /// Numbers of its hosts that met any server.
    hosts: BTreeSet<usize>,
}

/// Adds the meetings with the servers of one Gateway.
fn meet(
    context: &mut Context<'_>,
    frame: &Frame,
    entry: &Arc<Entry<VirtualService>>,
    visibility: Visibility,
    gateway: &OwnGateway,
    met: &mut Met,
) {
    // Rules depend on Gateway and port, which servers often share.
    let mut known: HashMap<u16, Arc<Rules>> = HashMap::new();
    for (number, host) in entry.spec.hosts.iter().enumerate() {
        let pattern = hostname::pattern(&hostname::expand(host, entry.namespace()));
        for meeting in gateway.index.meet(&pattern) {
            let Some(opened) = gateway.hosts.get(meeting.number) else { continue };
            if !opened.host.admits(entry.namespace()) {
                continue;
            }
            met.hosts.insert(number);
            for (table, slot) in &opened.places {
                let Some(server) = frame.tables.get(*table).and_then(|table| table.slots.get(*slot)) else { continue };
                // There nobody but the server name says where it goes.
                if server.kind == Kind::AutoPassthrough {
                    continue;
                }
                let port = server.number();
                let turn = Turn::new(*slot, visibility, entry);
                let pattern = meeting.pattern.clone();
                if server.kind.is_bytes() {
                    let (pattern, passages) = match server.kind {
                        Kind::Passthrough => {
                            let passages = context.names_at(entry, &gateway.name, port, &pattern);
                            (pattern, passages)
                        }
                        // Whatever the name is.
                        _ => (HostPattern::Any, context.bytes_at(entry, &gateway.name, port)),
                    };
                    if !passages.is_empty() {
                        met.passages.insert(Meeting { table: *table, pattern, turn }, passages);
                    }
                    continue;
                }
                let rules = known.entry(port).or_insert_with(|| Arc::new(context.rules(entry, &gateway.name, port)));
                met.meetings.insert(Meeting { table: *table, pattern, turn }, Arc::clone(rules));
            }
        }
    }
}

impl Turn {
    pub fn new(slot: usize, visibility: Visibility, entry: &Entry<VirtualService>) -> Turn {
        Turn {
            slot,
            visibility,
            created: entry.meta.creation_timestamp.as_deref().map(Arc::from),
            name: Arc::clone(&entry.reference.name),
            namespace: Arc::clone(&entry.reference.namespace),
        }
    }
}

fn unknown_gateways(context: &mut Context<'_>, entry: &Entry<VirtualService>) {
    let world = context.world;
    for (index, name) in names(entry) {
        let Some((namespace, short)) = name.split_once('/') else { continue };
        context.reads.note(Cell::Object(ObjectRef::new("Gateway", namespace, short)));
        if world.gateway(namespace, short).is_some() {
            continue;
        }
        context.reads.note(Cell::Kind("Gateway"));
        let message = format!("there is no Gateway `{name}`; the rules do not apply there");
        let gateways = &world.index().gateways;
        let help = match gateways.iter().find(|gateway| *gateway.reference.name == *short) {
            Some(other) => Some(format!(
                "a Gateway of another namespace is named with it: `{}/{short}`",
                other.reference.namespace
            )),
            None => nearest(short, gateways.iter().map(|gateway| &*gateway.reference.name)),
        };
        let field = format!("spec.gateways[{index}]");
        context.findings.report(diag::GATEWAY_UNKNOWN, entry, &field, message, help);
    }
}

fn hidden(context: &mut Context<'_>, entry: &Entry<VirtualService>, gateway: &OwnGateway) {
    let own = &context.proxy.namespace;
    let message = format!("Gateway `{}` runs in namespace `{own}`, to which this is not exported", gateway.name);
    let help = "add that namespace or `*` to `exportTo`".to_owned();
    context.findings.report(diag::NOT_EXPORTED, entry, "spec.exportTo", message, Some(help));
}

impl Context<'_> {
    /// Whether all Gateways that it names are this proxy's: its hosts are not meant for the mesh or for another proxy.
    fn only_here(&self, entry: &Entry<VirtualService>) -> bool {
        entry.spec.gateways.iter().all(|written| {
            let name = gateway_name(written, entry.namespace());
            let gateway = name.split_once('/').and_then(|(namespace, name)| self.world.gateway(namespace, name));
            written != MESH && gateway.is_none_or(|gateway| selects(&gateway.spec.selector, &self.proxy.labels))
        })
    }
}

/// Whether more servers are written than are read. One behind the last that is read is known by its line alone, which objects of a
/// cluster lack.
pub(crate) fn has_lost_server(gateway: &Entry<Gateway>) -> bool {
    let kept: Vec<_> = gateway.spec.servers.iter().map(|server| server.index).collect();
    let Some(last) = kept.iter().max() else { return true };
    let first_gap = (0..).find(|index| !kept.contains(index));
    first_gap.is_some_and(|gap| gap < *last || gateway.positions.has(&format!("spec.servers[{gap}]")))
}

/// No server of its Gateways opens this host.
fn host_not_opened(context: &mut Context<'_>, entry: &Entry<VirtualService>, host: usize, gateways: &[&OwnGateway]) {
    // A server that is left out may be the one, and what is wrong with it was said.
    if gateways.iter().any(|gateway| has_lost_server(&gateway.entry)) {
        return;
    }
    let written = entry.spec.hosts.get(host).map(String::as_str).unwrap_or_default();
    let servers = gateways.iter().flat_map(|gateway| &gateway.entry.spec.servers);
    let mut opens: Vec<&str> = servers.flat_map(|server| &server.hosts).map(String::as_str).collect();
    opens.sort_unstable();
    opens.dedup();
    let more = opens.len().saturating_sub(5);
    opens.truncate(5);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let opens = if opens.is_empty() { "no hosts".to_owned() } else { opens.join(", ") };
    let names: Vec<&str> = gateways.iter().map(|gateway| gateway.name.as_str()).collect();
    let message = format!(
        "no server of Gateway {} opens `{written}` to namespace `{}` (it has {opens}{more}); requests for it are answered 404",
        names.join(", "),
        entry.namespace(),
    );
    let help = "add the host to a server of the Gateway, or correct it here".to_owned();
    let field = format!("spec.hosts[{host}]");
    context.findings.report(diag::HOST_NOT_IN_GATEWAY, entry, &field, message, Some(help));
}
