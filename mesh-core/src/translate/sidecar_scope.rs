//! What a workload sees of the mesh: what the Sidecar says that is for it; without one, all that is exported to its namespace.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Context;
use super::concerned::{self, Composite, Concerned};
use super::doors::{Door, Way};
use super::findings::Said;
use super::inbound::settings_of_mesh;
use super::mesh_rules::hosts;
use crate::api::{self, CaptureMode, EgressListener, OutboundMode, SidecarOutboundMode, VirtualService};
use crate::diag;
use crate::model::{Destination, DestinationRef, HostPattern, Key, ListenAddress, Resources, UnknownDestination};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, Protocol, Reads, Service, ServicePort, World, hostname};

/// Ports on which the sidecar listens itself.
pub(super) const TAKEN: [u16; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];

/// The Sidecar of a workload, as far as it is about what the workload calls.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// None: nothing is restricted.
    pub entry: Option<Arc<Entry<api::Sidecar>>>,
    /// In the order written; one without a port is the last. None: everything is seen.
    egress: Option<Vec<Egress>>,
    /// `egressProxy`
    proxy: Option<DestinationRef>,
    /// That one.
    pub destinations: Resources<Destination>,
    pub findings: Vec<Said>,
    pub reads: Reads,
}

/// A listener of `egress`.
#[derive(Debug)]
struct Egress {
    /// `spec.egress[index]`
    index: usize,
    /// None: all that the others do not have.
    port: Option<u16>,
    protocol: Option<api::Protocol>,
    bind: Option<IpAddr>,
    /// The Unix socket that it is.
    socket: Option<Arc<str>>,
    /// Nothing is redirected to it.
    is_own: bool,
    hosts: Hosts,
}

/// Its `hosts`.
#[derive(Debug, Default)]
struct Hosts {
    of_namespace: HashMap<String, Names>,
    anywhere: Names,
}

#[derive(Debug, Default)]
struct Names {
    exact: HashSet<Arc<str>>,
    wide: Vec<HostPattern>,
    /// Taken out, with `~` before the namespace.
    excluded: Vec<HostPattern>,
}

impl Scope {
    pub fn read(context: &mut Context<'_>) -> Scope {
        let (world, proxy) = (context.world, context.proxy);
        for namespace in [proxy.namespace.as_str(), world.mesh().root_namespace.as_str()] {
            context.reads.note(Cell::Namespace("Sidecar", namespace.into()));
        }
        let found = world.sidecars_for(&proxy.namespace, &proxy.labels);
        overlaps(context, &found.selecting);
        duplicates(context, &found.of_namespace);
        duplicates(context, &found.of_mesh);
        let entry = found.first().filter(|_| !context.sees_all).cloned();
        let egress = entry.as_ref().filter(|entry| !entry.spec.egress.is_empty()).map(|entry| egress(context, entry));
        let proxy = entry.as_ref().and_then(|entry| egress_proxy(context, entry));
        Scope {
            entry,
            egress,
            proxy,
            destinations: std::mem::take(&mut context.destinations),
            findings: context.findings.take(),
            reads: std::mem::take(&mut context.reads),
        }
    }

    /// Whether it means the same.
    pub fn is_like(&self, other: &Scope) -> bool {
        let same = match (&self.entry, &other.entry) {
            (None, None) => true,
            (Some(one), Some(other)) => one.reference == other.reference && one.spec == other.spec,
            _ => false,
        };
        same && self.proxy == other.proxy && self.destinations == other.destinations
    }

    /// That the listener of what leaves the workload is as the Sidecar wants it.
    pub fn note(&self, concerned: &mut Concerned, listener: Key) {
        let objects = self.entry.iter().map(|entry| entry.reference.clone());
        concerned::note(concerned, Composite::Listener(listener), objects.collect());
    }

    /// Where listeners come from that are there because of the Sidecar.
    pub fn origin(&self) -> ObjectRef {
        self.entry.as_ref().map_or_else(settings_of_mesh, |entry| entry.reference.clone())
    }

    /// Whether the workload can call the service, on one of its ports at least.
    pub fn sees(&self, service: &Service) -> bool {
        let Some(egress) = &self.egress else { return true };
        egress.iter().any(|one| one.may_lead_to(service) && one.hosts.have(service))
    }

    /// Whether the host is called at an address of a listener, which does not say whom it means: nobody is asked for it there.
    pub fn lists_by_address(&self, context: &Context<'_>, host: &str) -> bool {
        let is_asked_nothing = |one: &&Egress| one.is_own || one.bind.is_some() || one.is_proxy();
        let own = || self.egress.iter().flatten().filter(is_asked_nothing);
        let (registry, namespace) = (&context.world.index().registry, context.proxy.namespace.as_str());
        let wanted = |service: &Service| own().any(|one| one.hosts.have(service));
        own().next().is_some() && registry.find_among(host, namespace, namespace, wanted).is_some()
    }

    /// By which ways the workload calls a port of whom it sees.
    pub fn ways(&self, port: u16) -> Vec<Way> {
        let Some(egress) = &self.egress else { return vec![Way { door: Door::Port(port), listener: None }] };
        let all = || egress.iter().enumerate().map(|(number, one)| (Some(number), one));
        let redirected = || all().filter(|(_, one)| !one.is_own);
        let found = redirected().find(|(_, one)| one.port == Some(port));
        let found = found.or_else(|| redirected().find(|(_, one)| one.port.is_none()));
        let redirected = found.filter(|(_, one)| !one.is_proxy());
        let redirected = redirected.map(|(listener, one)| Way { door: one.redirected(port), listener });
        let is_free = !TAKEN.contains(&port);
        let own = all().filter(|(_, one)| is_free && one.is_own && !one.names_no_port());
        let own = own.filter(|(_, one)| one.port.is_none_or(|own| own == port));
        let own = own.map(|(listener, one)| Way { door: one.own(port), listener });
        let within = all().filter(|(_, one)| one.names_no_port()).map(|(listener, one)| {
            let number = one.port.unwrap_or_default();
            let outer = if one.is_own { one.own(number) } else { one.redirected(number) };
            Way { door: Door::Within(Arc::new(outer), port), listener }
        });
        redirected.into_iter().chain(own).chain(within).collect()
    }

    /// Whether bytes that are no HTTP come in by this way.
    pub fn takes_bytes(&self, way: &Way) -> bool {
        let listener = self.listener(way).filter(|listener| listener.names_no_port());
        listener
            .and_then(|listener| listener.protocol)
            .is_none_or(|protocol| !protocol.is_http() && protocol != api::Protocol::HttpProxy)
    }

    /// Whether the workload can call the service by this way.
    pub fn serves(&self, way: &Way, service: &Service) -> bool {
        self.listener(way).is_none_or(|listener| listener.hosts.have(service))
    }

    /// Whether a VirtualService counts for what the workload calls by this way.
    pub fn follows(&self, way: &Way, entry: &Entry<VirtualService>) -> bool {
        self.listener(way).is_none_or(|listener| listener.hosts.follow(entry))
    }

    /// The same by any way.
    pub fn follows_anywhere(&self, entry: &Entry<VirtualService>) -> bool {
        self.egress.as_ref().is_none_or(|egress| egress.iter().any(|one| one.hosts.follow(entry)))
    }

    /// What is spoken on a port of a service: a listener that says it of its port is believed, as far as HTTP is told from bytes.
    pub fn spoken(&self, way: &Way, port: &ServicePort) -> Protocol {
        let said = self.listener(way).filter(|listener| listener.port.is_some());
        match said.and_then(|listener| listener.protocol) {
            None | Some(api::Protocol::Udp) => port.protocol,
            Some(api::Protocol::Tcp | api::Protocol::Mongo | api::Protocol::Redis | api::Protocol::Mysql) => {
                Protocol::Tcp
            }
            Some(api::Protocol::Https | api::Protocol::Tls) => Protocol::Tls,
            Some(_) if port.protocol == Protocol::Auto => Protocol::Http,
            Some(_) => port.protocol,
        }
    }

    /// `outboundTrafficPolicy`, of the Sidecar before that of the mesh.
    pub fn unknown(&self, world: &World) -> UnknownDestination {
        let own = self.entry.as_ref().and_then(|entry| entry.spec.outbound_traffic_policy.as_ref());
        let of_mesh = world.mesh().config.outbound_traffic_policy;
        let refuse = match own {
            Some(policy) => policy.mode.unwrap_or_default() == SidecarOutboundMode::RegistryOnly,
            None => of_mesh.and_then(|policy| policy.mode).unwrap_or_default() == OutboundMode::RegistryOnly,
        };
        match &self.proxy {
            _ if refuse => UnknownDestination::Refuse,
            None => UnknownDestination::Passthrough,
            Some(DestinationRef::Known(key)) => UnknownDestination::Proxy(Arc::clone(key)),
            // Nothing goes past a proxy that is not there.
            Some(DestinationRef::Unknown(_)) => UnknownDestination::Refuse,
        }
    }

    /// Index of the listener in the Sidecar.
    pub fn index(&self, way: &Way) -> Option<usize> {
        self.listener(way).map(|listener| listener.index)
    }

    fn listener(&self, way: &Way) -> Option<&Egress> {
        self.egress.as_deref().unwrap_or_default().get(way.listener?)
    }
}

/// Where calls of unknown hosts go.
fn egress_proxy(context: &mut Context<'_>, entry: &Arc<Entry<api::Sidecar>>) -> Option<DestinationRef> {
    let proxy = entry.spec.outbound_traffic_policy.as_ref()?.egress_proxy.as_ref()?;
    Some(context.destination(entry, proxy, "spec.outboundTrafficPolicy.egressProxy", 0))
}

/// The listeners of `egress` that can be had.
fn egress(context: &mut Context<'_>, entry: &Entry<api::Sidecar>) -> Vec<Egress> {
    let mut all = Vec::with_capacity(entry.spec.egress.len());
    for listener in &entry.spec.egress {
        if let Some((field, message)) = not_built(listener) {
            let field = format!("spec.egress[{}].{field}", listener.index);
            let help =
                "the hosts of this listener are not reached by it; let connections to them be redirected".to_owned();
            context.findings.report(diag::SIDECAR_NOT_BUILT, entry, &field, message, Some(help));
        } else {
            all.push(Egress::read(listener, &context.proxy.namespace));
        }
    }
    all
}

/// What of a listener cannot be had: its field, and why.
fn not_built(listener: &EgressListener) -> Option<(&'static str, String)> {
    let port = listener.port.as_ref()?;
    let number = u16::try_from(port.number()).unwrap_or_default();
    let is_own = listener.capture_mode == Some(CaptureMode::None);
    (is_own && TAKEN.contains(&number)).then(|| {
        ("port.number", format!("{number} is a port of the sidecar itself, which cannot listen there for others"))
    })
}

impl Egress {
    fn read(listener: &EgressListener, own: &str) -> Egress {
        let port = listener.port.as_ref();
        let bind = listener.bind.as_deref().unwrap_or_default();
        let socket = bind.strip_prefix("unix://").map(Arc::from);
        let mut hosts = Hosts::default();
        for text in &listener.hosts {
            hosts.add(text, own);
        }
        Egress {
            index: listener.index,
            port: port.map(|port| u16::try_from(port.number()).unwrap_or_default()),
            protocol: port.and_then(|port| port.protocol),
            bind: bind.parse().ok(),
            // Nothing can be redirected to a file.
            is_own: listener.capture_mode == Some(CaptureMode::None) || socket.is_some(),
            socket,
            hosts,
        }
    }

    fn is_proxy(&self) -> bool {
        self.protocol == Some(api::Protocol::HttpProxy)
    }

    /// Its own port is none of those that are called.
    fn names_no_port(&self) -> bool {
        self.is_proxy() || self.socket.is_some()
    }

    fn may_lead_to(&self, service: &Service) -> bool {
        self.names_no_port() || self.port.is_none_or(|port| service.port(port).is_some())
    }

    /// Where what is going to this port comes in.
    fn redirected(&self, port: u16) -> Door {
        self.bind.map_or(Door::Port(port), |bind| Door::Address(SocketAddr::new(bind, port)))
    }

    fn own(&self, port: u16) -> Door {
        Door::Own(match &self.socket {
            Some(path) => ListenAddress::Unix(Arc::clone(path)),
            None => SocketAddr::new(self.bind.unwrap_or(Ipv4Addr::LOCALHOST.into()), port).into(),
        })
    }
}

impl Hosts {
    /// `namespace/host`, with `.` for the namespace of the workload: a Sidecar for the mesh means each one's own.
    fn add(&mut self, text: &str, own: &str) {
        let Some((namespace, host)) = text.split_once('/') else { return };
        let (excluded, namespace) = match namespace.strip_prefix('~') {
            Some("") => (true, "*"),
            Some(rest) => (true, rest),
            None => (false, namespace),
        };
        let names = match namespace {
            "*" => &mut self.anywhere,
            "." => self.of_namespace.entry(own.to_owned()).or_default(),
            name => self.of_namespace.entry(name.to_owned()).or_default(),
        };
        match hostname::pattern(host) {
            pattern if excluded => names.excluded.push(pattern),
            HostPattern::Exact(host) => drop(names.exact.insert(host)),
            pattern => names.wide.push(pattern),
        }
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &Names> {
        self.of_namespace.get(namespace).into_iter().chain([&self.anywhere])
    }

    fn have(&self, service: &Service) -> bool {
        let host = hostname::pattern(&service.host);
        let within = |pattern: &HostPattern| hostname::covers(pattern, &host);
        let excludes = |names: &Names| names.excluded.iter().any(within);
        let has = |names: &Names| names.exact.contains(&service.host) || names.wide.iter().any(within);
        !self.of(&service.namespace).any(excludes) && self.of(&service.namespace).any(has)
    }

    /// One of its hosts is enough, and it may be wider than what is seen.
    fn follow(&self, entry: &Entry<VirtualService>) -> bool {
        hosts(entry).any(|host| {
            let excludes = |names: &Names| names.excluded.iter().any(|pattern| hostname::covers(pattern, &host));
            let meets = |names: &Names| {
                let exact = |name: &Arc<str>| hostname::covers(&host, &HostPattern::Exact(Arc::clone(name)));
                names.wide.iter().any(|pattern| hostname::intersection(pattern, &host).is_some())
                    || match &host {
                        HostPattern::Exact(name) => names.exact.contains(name),
                        _ => names.exact.iter().any(exact),
                    }
            };
            !self.of(entry.namespace()).any(excludes) && self.of(entry.namespace()).any(meets)
        })
    }
}

/// Of several that select a workload the oldest counts; Istio calls it IST0110.
fn overlaps(context: &mut Context<'_>, selecting: &[Arc<Entry<api::Sidecar>>]) {
    let Some((winner, others)) = selecting.split_first() else { return };
    for entry in others {
        let message =
            format!("{} is older and selects a workload that this one selects, too: there it counts", winner.reference);
        let help = "let their selectors select different workloads (Istio: IST0110)".to_owned();
        context.findings.report(diag::SIDECAR_OVERLAP, entry, "spec.workloadSelector", message, Some(help));
    }
}

/// Of several for all workloads the oldest counts; Istio calls it IST0111.
fn duplicates(context: &mut Context<'_>, for_all: &[Arc<Entry<api::Sidecar>>]) {
    let Some((winner, others)) = for_all.split_first() else { return };
    for entry in others {
        let message =
            format!("{} is older and is for all workloads of the namespace, too: it counts", winner.reference);
        let help = "put both into one, or give this one a `workloadSelector` (Istio: IST0111)".to_owned();
        context.findings.report(diag::SIDECAR_DUPLICATE, entry, "", message, Some(help));
    }
}

#[cfg(test)]
#[path = "sidecar_scope_tests.rs"]
mod tests;
