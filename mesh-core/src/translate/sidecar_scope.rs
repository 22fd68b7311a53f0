//! What a workload sees of the mesh: what the Sidecar says that is for it; without one, all that is exported to its namespace.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Context;
use super::concerned::{self, Composite, Concerned};
use super::findings::Said;
use super::mesh_rules::hosts;
use crate::api::{self, EgressListener, OutboundMode, SidecarOutboundMode, VirtualService};
use crate::diag;
use crate::model::{HostPattern, Key, UnknownDestination};
use crate::world::{Cell, Entry, Protocol, Reads, Service, ServicePort, World, hostname};

/// The Sidecar of a workload, as far as it is about what the workload calls.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// None: nothing is restricted.
    pub entry: Option<Arc<Entry<api::Sidecar>>>,
    /// In the order written; one without a port is the last. None: everything is seen.
    egress: Option<Vec<Egress>>,
    pub findings: Vec<Said>,
    pub reads: Reads,
}

/// A listener of `egress`.
#[derive(Debug)]
struct Egress {
    /// None: all that the others do not have.
    port: Option<u16>,
    protocol: Option<api::Protocol>,
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
        let entry = found.first().cloned();
        let written = entry.as_ref().map(|entry| &entry.spec.egress).filter(|egress| !egress.is_empty());
        Scope {
            egress: written.map(|egress| egress.iter().map(|one| Egress::read(one, &proxy.namespace)).collect()),
            entry,
            findings: context.findings.take(),
            reads: std::mem::take(&mut context.reads),
        }
    }

    /// Whether it means the same.
    pub fn is_like(&self, other: &Scope) -> bool {
        match (&self.entry, &other.entry) {
            (None, None) => true,
            (Some(one), Some(other)) => one.reference == other.reference && one.spec == other.spec,
            _ => false,
        }
    }

    /// That the listener of what leaves the workload is as the Sidecar wants it.
    pub fn note(&self, concerned: &mut Concerned, listener: Key) {
        let objects = self.entry.iter().map(|entry| entry.reference.clone());
        concerned::note(concerned, Composite::Listener(listener), objects.collect());
    }

    /// Whether the workload can call the service, on one of its ports at least.
    pub fn sees(&self, service: &Service) -> bool {
        let Some(egress) = &self.egress else { return true };
        egress.iter().any(|one| one.port.is_none_or(|port| service.port(port).is_some()) && one.hosts.have(service))
    }

    /// Whether the workload can call a port of the service.
    pub fn serves(&self, service: &Service, port: u16) -> bool {
        self.egress.is_none() || self.listener(port).is_some_and(|listener| listener.hosts.have(service))
    }

    /// Whether a VirtualService counts for what the workload calls on a port.
    pub fn follows(&self, entry: &Entry<VirtualService>, port: u16) -> bool {
        self.egress.is_none() || self.listener(port).is_some_and(|listener| listener.hosts.follow(entry))
    }

    /// The same on any port.
    pub fn follows_anywhere(&self, entry: &Entry<VirtualService>) -> bool {
        self.egress.as_ref().is_none_or(|egress| egress.iter().any(|one| one.hosts.follow(entry)))
    }

    /// What is spoken on a port of a service: a listener that says it of its port is believed, as far as HTTP is told from bytes.
    pub fn spoken(&self, port: &ServicePort) -> Protocol {
        let said = self.listener(port.number).filter(|listener| listener.port.is_some());
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
        if refuse { UnknownDestination::Refuse } else { UnknownDestination::Passthrough }
    }

    /// That of the port, else the one for all others.
    fn listener(&self, port: u16) -> Option<&Egress> {
        let all = self.egress.as_deref().unwrap_or_default();
        all.iter().find(|one| one.port == Some(port)).or_else(|| all.iter().find(|one| one.port.is_none()))
    }
}

impl Egress {
    fn read(listener: &EgressListener, own: &str) -> Egress {
        let port = listener.port.as_ref();
        let mut hosts = Hosts::default();
        for text in &listener.hosts {
            hosts.add(text, own);
        }
        Egress {
            port: port.map(|port| u16::try_from(port.number()).unwrap_or_default()),
            protocol: port.and_then(|port| port.protocol),
            hosts,
        }
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
