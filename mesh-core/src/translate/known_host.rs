//! What one host means to a sidecar: the service that it names, or the VirtualService that makes it up; on which ports it is
//! spoken to, by which rules, and where connections to its addresses go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Context;
use super::doors::{Door, Way};
use super::findings::Said;
use super::mesh_rules::{Candidate, MeshRules, hosts};
use super::outbound_tcp::Bytes;
use super::shadows;
use crate::api::VirtualService;
use crate::diag;
use crate::model::{
    Action, Destination, DestinationRef, EndpointAddress, Forward, HostPattern, Key, ListenAddress, OutboundTcp,
    Predicate, Resources, RetryPolicy, Rewrite, RouteSet, Rule, RuleSource, Split, VirtualHost,
};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, MESH, Protocol, Reads, Service, ServicePort, hostname};

/// Port of hosts that only VirtualServices name.
pub(super) const HTTP: u16 = 80;

/// What a host yields.
#[derive(Debug, Default)]
pub(super) struct Yield {
    /// The host in the tables of doors.
    pub tables: BTreeMap<Door, VirtualHost>,
    /// Where HTTP is looked for because of it, and whether its clients may wait there for the server to speak.
    pub doors: BTreeMap<Door, bool>,
    /// Tables of its own, of ports of which nobody says what they speak.
    pub own: BTreeMap<Key, RouteSet>,
    pub tcp: Vec<OutboundTcp>,
    /// The same at listeners of their own.
    pub own_tcp: Vec<(ListenAddress, OutboundTcp)>,
    /// When the service was made: older ones come first where addresses are the same.
    pub created: Option<Arc<str>>,
    /// VirtualServices whose rules in a table are all those of delegates.
    pub delegating: BTreeMap<Door, Vec<ObjectRef>>,
    pub destinations: Resources<Destination>,
    pub findings: Vec<Said>,
    pub reads: Reads,
    /// It is a service that the proxy sees.
    pub is_seen: bool,
}

pub(super) fn read(context: &mut Context<'_>, mesh: &MeshRules, host: &str) -> Yield {
    let mut found = Yield::default();
    let pattern = hostname::pattern(host);
    match context.seen(host) {
        Some(service) => {
            found.is_seen = true;
            let candidates = mesh.of(&pattern);
            let mut used = BTreeSet::new();
            let addresses = context.networks(service);
            for port in &service.ports {
                for way in context.scope.ways(port.number) {
                    if context.scope.serves(&way, service) {
                        Reader {
                            context,
                            found: &mut found,
                            service,
                            addresses: &addresses,
                            pattern: &pattern,
                            candidates: &candidates,
                            way,
                        }
                        .port(port, &mut used);
                    }
                }
            }
            found.created = service.created().map(Arc::from);
            overruled(context, &candidates, &used);
        }
        None => made_up(context, mesh, &pattern, &mut found),
    }
    found.destinations = std::mem::take(&mut context.destinations);
    found.findings = context.findings.take();
    found.reads = std::mem::take(&mut context.reads);
    found
}

/// Numbers of the candidates that say something.
type Used = BTreeSet<usize>;

struct Reader<'r, 'a> {
    context: &'r mut Context<'a>,
    found: &'r mut Yield,
    service: &'a Arc<Service>,
    /// Of the service, and blocks of them.
    addresses: &'r [IpNet],
    pattern: &'r HostPattern,
    candidates: &'r [Candidate<'r>],
    way: Way,
}

impl Reader<'_, '_> {
    fn port(&mut self, port: &ServicePort, used: &mut Used) {
        let protocol = self.context.scope.spoken(&self.way, port);
        let (door, outer) = (self.way.door.clone(), self.way.door.outer().clone());
        let detected = protocol == Protocol::Auto;
        let networks = match outer {
            Door::Port(_) if protocol.is_http() => Vec::new(),
            Door::Port(_) => self.networks(port),
            Door::Address(address) => vec![address.ip().into()],
            Door::Own(_) | Door::Within(..) => Vec::new(),
        };
        // It has no address at all, rather than none of its own.
        let by_address = matches!(door, Door::Port(_)) && !protocol.is_http();
        let nowhere = by_address && self.service.is_headless() && networks.is_empty();
        // Whoever calls the address means the service, whatever name he uses.
        let is_alone = detected && matches!(door, Door::Port(_)) && !networks.is_empty();
        if protocol.is_http() || detected {
            let host = self.http(port, used);
            if is_alone {
                self.alone(port, host.clone());
            } else if !nowhere {
                let detect = self.found.doors.entry(outer.clone()).or_default();
                *detect |= detected;
                self.found.doors.insert(door.clone(), detected);
            }
            if door != outer && self.is_only_one(port) {
                self.found.tables.insert(outer.clone(), host.clone());
            }
            // Others may share the port: its name is known there.
            self.found.tables.insert(door.clone(), host);
        }
        if !protocol.is_http() && !nowhere && self.context.scope.takes_bytes(&self.way) {
            // Where the port says nothing, it is the listener that has the tables.
            let has_routes = detected && !matches!(door, Door::Within(..));
            let routes = has_routes.then(|| if is_alone { self.own_key(port) } else { door.key() });
            let bytes = Bytes { port, protocol, way: &self.way, networks: &networks, routes };
            let tcp = self.context.tcp(self.service, bytes, self.candidates, used);
            match outer {
                Door::Own(address) => self.own_tcp(&address, port, tcp),
                Door::Port(_) | Door::Address(_) | Door::Within(..) => self.found.tcp.extend(tcp),
            }
        }
    }

    /// Bytes at a Unix socket, which has no port, are for the only port of a service, unless a rule says for which.
    fn own_tcp(&mut self, address: &ListenAddress, port: &ServicePort, tcp: Vec<OutboundTcp>) {
        let is_only = self.service.ports.len() == 1;
        for mut entry in tcp {
            if address.socket().is_none() {
                if !is_only && entry.origin == self.service.origin {
                    self.unclear(port);
                    continue;
                }
                entry.port = 0;
            }
            self.found.own_tcp.push((address.clone(), entry));
        }
    }

    /// Said once, at the first of the ports.
    fn unclear(&mut self, port: &ServicePort) {
        let is_first = self.service.ports.first().is_some_and(|first| first.number == port.number);
        let Some(entry) = self.context.scope.entry.clone().filter(|_| is_first) else { return };
        let Some(index) = self.context.scope.index(&self.way) else { return };
        let host = &self.service.host;
        let message = format!(
            "`{host}` has several ports, and a Unix socket does not say which is meant: its bytes do not go there"
        );
        let help = "a VirtualService with `tcp` routes of the host to one of its ports says it".to_owned();
        let field = format!("spec.egress[{index}].hosts");
        self.context.findings.report(diag::SIDECAR_PORT_UNCLEAR, &entry, &field, message, Some(help));
    }

    /// Whether no other port is HTTP to who comes by this way.
    fn is_only_one(&self, port: &ServicePort) -> bool {
        let is_http = |other: &&ServicePort| {
            let spoken = self.context.scope.spoken(&self.way, other);
            spoken.is_http() || spoken == Protocol::Auto
        };
        self.service.ports.iter().filter(is_http).all(|other| other.number == port.number)
    }

    /// Where its clients go, if they are told by the address: those of the service; without them, those of its endpoints.
    fn networks(&mut self, port: &ServicePort) -> Vec<IpNet> {
        if !self.service.is_headless() {
            return self.addresses.to_vec();
        }
        let context = &mut *self.context;
        let families = context.proxy.families;
        let instances = context.world.instances(self.service, port, families, &mut context.reads);
        let addresses = instances.iter().filter_map(|instance| match &instance.address {
            EndpointAddress::Socket(address) => Some(IpNet::from(address.ip())),
            EndpointAddress::Dns { .. } | EndpointAddress::Unix(_) => None,
        });
        addresses.collect()
    }

    fn own_key(&self, port: &ServicePort) -> Key {
        format!("{}:{}", self.service.host, port.number).into()
    }

    fn http(&mut self, port: &ServicePort, used: &mut Used) -> VirtualHost {
        VirtualHost {
            host: self.pattern.clone(),
            aliases: aliases(self.service, self.addresses, &self.context.proxy.namespace),
            https_redirect: false,
            rules: self.rules(port, used),
            origin: self.service.origin.clone(),
        }
    }

    /// A table of its own.
    fn alone(&mut self, port: &ServicePort, host: VirtualHost) {
        let any = VirtualHost { host: HostPattern::Any, aliases: Vec::new(), ..host };
        let key = self.own_key(port);
        let own = RouteSet {
            key: Arc::clone(&key),
            virtual_hosts: vec![Arc::new(any)],
            tcp: Vec::new(),
            origin: self.service.origin.clone(),
        };
        self.found.own.insert(key, own);
    }

    /// Those of the first VirtualService that has any for the port, else one that says where the service is.
    fn rules(&mut self, port: &ServicePort, used: &mut Used) -> Vec<Rule> {
        for (number, (pattern, entry)) in self.candidates.iter().enumerate() {
            if let Some(rules) = self.context.mesh_rules(pattern, entry, (&self.way, port.number), self.found) {
                used.insert(number);
                return rules;
            }
        }
        let destination = self.context.default_destination(self.service, port);
        vec![self.context.forward_all("default", destination, self.context.retries(None), &self.service.origin)]
    }
}

impl Context<'_> {
    /// None: nothing of it applies to the port, or to what comes in by this way.
    fn mesh_rules(
        &mut self,
        pattern: &HostPattern,
        entry: &Arc<Entry<VirtualService>>,
        (way, port): (&Way, u16),
        found: &mut Yield,
    ) -> Option<Vec<Rule>> {
        if !self.scope.follows(way, entry) {
            return None;
        }
        let rules = self.rules(entry, MESH, port);
        if rules.is_empty() {
            return None;
        }
        if !rules.has_own() {
            found.delegating.entry(way.door.clone()).or_default().push(entry.reference.clone());
        }
        let all = rules.all();
        shadows::report(self, pattern, &all);
        Some(all)
    }

    /// A rule for everything.
    pub(super) fn forward_all(
        &self,
        name: &str,
        destination: DestinationRef,
        retry: Arc<RetryPolicy>,
        origin: &ObjectRef,
    ) -> Rule {
        let splits = vec![Split { destination, weight: 1, headers: Arc::clone(&self.no_headers) }];
        let forward = Forward {
            splits,
            rewrite: Rewrite::default(),
            timeout: None,
            retry,
            fault: None,
            mirrors: Vec::new(),
            cors: None,
        };
        self.answer_all(name, Action::Forward(forward), origin)
    }

    pub(super) fn answer_all(&self, name: &str, action: Action, origin: &ObjectRef) -> Rule {
        Rule {
            source: RuleSource { object: origin.clone(), http: 0, r#match: None },
            name: Some(name.into()),
            stat_prefix: None,
            predicate: Predicate::default(),
            action: Arc::new(action),
            headers: Arc::clone(&self.no_headers),
        }
    }
}

/// A host that no service has is on the ports of those services that its VirtualService is for, too; without any, on that of
/// HTTP. A pattern is nothing by itself if there are services that it stands for.
fn made_up(context: &mut Context<'_>, mesh: &MeshRules, pattern: &HostPattern, found: &mut Yield) {
    let candidates = mesh.at(pattern);
    let is_pattern = !matches!(pattern, HostPattern::Exact(_));
    if candidates.is_empty() || (is_pattern && !services(context, pattern).is_empty()) {
        return;
    }
    let mut used = Used::new();
    for (number, (pattern, entry)) in candidates.iter().enumerate() {
        let ports = ports(context, entry);
        for port in &ports {
            for way in context.scope.ways(*port) {
                if found.tables.contains_key(&way.door) {
                    continue;
                }
                if let Some(rules) = context.mesh_rules(pattern, entry, (&way, *port), found) {
                    used.insert(number);
                    let host = VirtualHost {
                        host: (*pattern).clone(),
                        aliases: Vec::new(),
                        https_redirect: false,
                        rules,
                        origin: entry.reference.clone(),
                    };
                    if let (Door::Within(outer, _), 1) = (&way.door, ports.len()) {
                        found.tables.entry(Door::clone(outer)).or_insert_with(|| host.clone());
                    }
                    found.tables.insert(way.door, host);
                }
            }
        }
    }
    overruled(context, &candidates, &used);
}

/// Ports of HTTP of the services that a VirtualService is for.
fn ports(context: &mut Context<'_>, entry: &Entry<VirtualService>) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for host in hosts(entry) {
        let found = match &host {
            HostPattern::Exact(name) => context.seen(name).into_iter().collect(),
            pattern => services(context, pattern),
        };
        let http = |port: &&ServicePort| port.protocol.is_http() || port.protocol == Protocol::Auto;
        ports.extend(found.iter().flat_map(|service| &service.ports).filter(http).map(|port| port.number));
    }
    if ports.is_empty() {
        ports.insert(HTTP);
    }
    ports
}

/// Those that the pattern stands for and the proxy sees.
fn services<'a>(context: &mut Context<'a>, pattern: &HostPattern) -> Vec<&'a Arc<Service>> {
    context.reads.note(Cell::Hosts);
    let hosts = context.world.index().registry.hosts();
    let covered: Vec<&str> = hosts.filter(|host| hostname::covers(pattern, &hostname::pattern(host))).collect();
    covered.into_iter().filter_map(|host| context.seen(host)).collect()
}

/// VirtualServices for the same hosts as one that counts.
fn overruled(context: &mut Context<'_>, candidates: &[Candidate<'_>], used: &Used) {
    for (number, (pattern, entry)) in candidates.iter().enumerate() {
        let winner = used.iter().take_while(|winner| **winner < number).filter_map(|winner| candidates.get(*winner));
        let Some((_, winner)) = winner.last().filter(|(of, _)| of == pattern && !used.contains(&number)) else {
            continue;
        };
        let reference = &winner.reference;
        let message = format!(
            "VirtualService {}/{} has host `{pattern}` in the mesh already; this one has no effect there",
            reference.namespace, reference.name
        );
        let help = "sidecars follow the oldest VirtualService of a host; put the rules of the host into one".to_owned();
        context.findings.report(diag::HOST_TAKEN, entry, "spec.hosts", message, Some(help));
    }
}

/// Other names of a service to a client in `namespace`: shorter ones, that with a dot at its end, and its addresses.
fn aliases(service: &Service, addresses: &[IpNet], namespace: &str) -> Vec<HostPattern> {
    let exact = |name: &str| HostPattern::Exact(name.into());
    let host = &*service.host;
    if host.starts_with('*') {
        return Vec::new();
    }
    let mut names = vec![format!("{host}.")];
    let in_cluster = host.strip_suffix(hostname::CLUSTER_DOMAIN).and_then(|short| short.strip_suffix(".svc."));
    if let Some((name, of)) = in_cluster.and_then(|short| short.rsplit_once('.')) {
        names.extend([format!("{name}.{of}.svc"), format!("{name}.{of}")]);
        names.extend((of == namespace).then(|| name.to_owned()));
    }
    let mut all: Vec<HostPattern> = names.iter().map(|name| exact(name)).collect();
    if service.is_headless() {
        // Its pods have names below it.
        all.extend(
            std::iter::once(host)
                .chain(names.iter().map(String::as_str))
                .map(|name| HostPattern::Suffix(format!(".{name}").into())),
        );
    }
    let single = addresses.iter().filter(|network| network.prefix_len() == network.max_prefix_len());
    all.extend(single.map(|network| match network.addr() {
        IpAddr::V4(address) => exact(&address.to_string()),
        IpAddr::V6(address) => exact(&format!("[{address}]")),
    }));
    all
}
