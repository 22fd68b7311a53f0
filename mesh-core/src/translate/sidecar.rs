//! What a sidecar gets: what its workload may call, all of it or what was asked for, and what its workload is called for. As at the
//! edge, a change of the world is followed by looking again at what it touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Context;
use super::concerned::{self, Composite, Concerned};
use super::dns;
use super::doors::Door;
use super::findings::{Said, arrange};
use super::inbound::{Inbound, no_endpoints, settings_of_mesh};
use super::known_host::{self, Yield};
use super::mesh_rules::MeshRules;
use super::named::Destinations;
use super::on_demand::Wanted;
use super::outbound_tcp::whole;
use super::policies::Policies;
use super::port_table::{PortTable, passthrough, unknown_hosts};
use super::readers::{Readers, Unit};
use super::rule_checks::RuleChecks;
use super::sidecar_scope::Scope;
use crate::diag::Diagnostic;
use crate::model::{
    BLACK_HOLE, DestinationRef, HostPattern, Key, ListenAddress, Listener, ListenerProtocol, Outbound, OutboundHttp,
    OutboundTcp, ResourceSet, Resources, RouteSet, UnknownDestination,
};
use crate::object::ObjectRef;
use crate::world::{Cell, hostname};

/// Where redirected connections of the workload arrive.
const PORT: u16 = 15001;

/// The translation for one sidecar, of one world that goes on.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
    /// What was wrong with the objects among each other, whoever asks.
    world: Vec<Said>,
    scope: Arc<Scope>,
    policies: Policies,
    inbound: Inbound,
    mesh: MeshRules,
    hosts: BTreeMap<Arc<str>, Part>,
    tables: BTreeMap<Door, PortTable>,
    /// Keys of listeners to which nothing is redirected.
    own: BTreeSet<Key>,
    rules: RuleChecks,
    destinations: Destinations,
    readers: Readers,
    told: Told,
    pub concerned: Concerned,
    pub set: Arc<ResourceSet>,
    pub diagnostics: Arc<[Diagnostic]>,
}

/// Which hosts are looked at.
#[derive(Debug, Default)]
enum Told {
    #[default]
    Everything,
    OnDemand {
        asked: BTreeSet<Key>,
        wanted: Wanted,
        /// Doors at which HTTP is looked for, whoever speaks it there.
        doors: BTreeSet<Door>,
    },
    /// Those that VirtualServices say something about, for what is wrong with it.
    Findings,
}

/// What is remembered of a host.
#[derive(Debug, Default)]
struct Part {
    /// Doors in whose tables it is.
    tables: Vec<Door>,
    doors: BTreeMap<Door, bool>,
    own: Vec<Key>,
    tcp: Vec<OutboundTcp>,
    own_tcp: Vec<(ListenAddress, OutboundTcp)>,
    created: Option<Arc<str>>,
    destinations: Vec<Key>,
    findings: Vec<Said>,
}

/// What has to be done.
#[derive(Debug, Default)]
struct Work {
    units: BTreeSet<Unit>,
    /// Tables of doors.
    tables: BTreeSet<Door>,
    destinations: BTreeSet<Key>,
    listener: bool,
    findings: bool,
}

impl Sidecar {
    pub fn on_demand() -> Sidecar {
        let told = Told::OnDemand { asked: BTreeSet::new(), wanted: Wanted::default(), doors: BTreeSet::new() };
        Sidecar { told, ..Sidecar::default() }
    }

    pub fn of_nobody() -> Sidecar {
        Sidecar { told: Told::Findings, ..Sidecar::default() }
    }

    /// Whether others were asked for. [`Sidecar::update`] follows.
    pub fn ask(&mut self, names: BTreeSet<Key>) -> bool {
        match &mut self.told {
            Told::OnDemand { asked, .. } => std::mem::replace(asked, names.clone()) != names,
            Told::Everything | Told::Findings => false,
        }
    }

    /// Whether something that it is told is made of a secret.
    pub fn names_secrets(&self) -> bool {
        self.destinations.name_secrets()
    }

    /// Looks at everything, or again at what has to do with these cells.
    pub fn update(&mut self, context: &mut Context<'_>, cells: Option<&BTreeSet<Cell>>) {
        context.sees_all = matches!(self.told, Told::Findings);
        match cells {
            Some(cells) => self.follow(context, cells),
            None => self.everything(context),
        }
    }

    fn everything(&mut self, context: &mut Context<'_>) {
        let before = Arc::clone(&self.set);
        let world = context.world.diagnostics().cloned().map(Said::from).collect();
        let scope = Arc::new(Scope::read(context));
        context.scope = Arc::clone(&scope);
        let policies = Policies::read(context);
        let inbound = Inbound::read(context);
        let mut told = std::mem::take(&mut self.told);
        if let Told::OnDemand { wanted, .. } = &mut told {
            *wanted = Wanted::default();
        }
        *self = Sidecar { scope, policies, inbound, world, told, ..Sidecar::default() };
        let mut work = Work { findings: true, listener: true, ..Work::default() };
        self.assume(context, &mut work);
        self.answer(context, &mut work);
        let index = context.world.index();
        let hosts = index.registry.hosts().filter(|host| self.wants(context, host));
        work.units.extend(hosts.map(|host| Unit::Host(host.into())));
        for entry in context.world.virtual_services() {
            let name = &entry.reference;
            work.units.insert(Unit::VirtualService(Arc::clone(&name.namespace), Arc::clone(&name.name)));
        }
        work.units.extend(index.rules.hosts().map(|(namespace, host)| Unit::Rules(namespace, host)));
        let mut set = ResourceSet::default();
        self.policies.put(&mut set);
        for named in [&self.scope.destinations, &self.policies.destinations] {
            work.destinations.extend(self.destinations.exchange(&Resources::new(), named));
        }
        self.inbound.put(&mut set);
        self.inbound.note(&mut self.concerned);
        self.scope.note(&mut self.concerned, context.listener_key(PORT));
        if context.scope.unknown(context.world) == UnknownDestination::Passthrough {
            let destination = passthrough(context);
            set.endpoints.insert(Arc::clone(&destination.key), Arc::new(no_endpoints(&destination)));
            set.destinations.insert(Arc::clone(&destination.key), Arc::new(destination));
        }
        self.do_all(context, work, &mut set);
        dns::put(&mut set, dns::all(context));
        set.reuse(&before);
        self.adopt(&set);
        self.set = Arc::new(set);
    }

    /// What was taken over from an earlier set is remembered as it is there.
    fn adopt(&mut self, set: &ResourceSet) {
        for (door, table) in &mut self.tables {
            if let Some(routes) = set.routes.get(&door.key()) {
                table.adopt(&routes.virtual_hosts);
            }
        }
        self.destinations.adopt(set);
    }

    fn follow(&mut self, context: &mut Context<'_>, cells: &BTreeSet<Cell>) {
        let mut set = None;
        let mut work = Work::default();
        if cells.iter().any(|cell| self.scope.reads.has(cell)) {
            let scope = Scope::read(context);
            if !scope.is_like(&self.scope) {
                return self.everything(context);
            }
            work.findings |= scope.findings != self.scope.findings;
            self.scope = Arc::new(scope);
        }
        context.scope = Arc::clone(&self.scope);
        if cells.iter().any(|cell| self.policies.reads.has(cell)) {
            let policies = Policies::read(context);
            let edited: &mut ResourceSet = set.get_or_insert_with(|| ResourceSet::clone(&self.set));
            policies.put(edited);
            edited.reuse(&self.set);
            work.findings |= policies.findings != self.policies.findings;
            work.destinations.extend(self.destinations.exchange(&self.policies.destinations, &policies.destinations));
            self.policies = policies;
        }
        if cells.iter().any(|cell| self.inbound.reads.has(cell)) {
            let inbound = Inbound::read(context);
            let edited: &mut ResourceSet = set.get_or_insert_with(|| ResourceSet::clone(&self.set));
            self.inbound.take_out(edited);
            inbound.put(edited);
            edited.reuse(&self.set);
            work.findings |= inbound.findings != self.inbound.findings;
            self.inbound = inbound;
            self.inbound.note(&mut self.concerned);
        }
        let names = dns::changes(context, cells, &self.set);
        if !names.is_empty() {
            dns::put(set.get_or_insert_with(|| ResourceSet::clone(&self.set)), names);
        }
        self.find_work(cells, &mut work);
        if cells.contains(&Cell::Extent) {
            self.assume(context, &mut work);
        }
        self.answer(context, &mut work);
        if cells.iter().any(|cell| matches!(cell, Cell::Host(_))) {
            self.look_again(context, &mut work);
        }
        let found: Vec<Said> = context.world.diagnostics().cloned().map(Said::from).collect();
        work.findings |= found != self.world;
        self.world = found;
        if work.units.is_empty() && set.is_none() && !work.findings && !work.listener {
            return;
        }
        let mut set = set.unwrap_or_else(|| ResourceSet::clone(&self.set));
        self.do_all(context, work, &mut set);
        self.set = Arc::new(set);
    }

    /// Looks for HTTP wherever anybody may speak it: who calls a host that is not here yet is asked for its name.
    fn assume(&mut self, context: &Context<'_>, work: &mut Work) {
        let Told::OnDemand { doors, .. } = &mut self.told else { return };
        // What was assumed before everything was looked at again is not in the tables.
        let had: BTreeSet<Door> = doors.iter().filter(|door| self.tables.contains_key(door)).cloned().collect();
        let mut ports = context.world.index().registry.extent().http_ports(&context.proxy.namespace);
        // Hosts that only VirtualServices have.
        ports.insert(known_host::HTTP);
        let ways = ports.into_iter().flat_map(|port| context.scope.ways(port)).map(|way| way.door);
        *doors = ways.filter(|door| matches!(door, Door::Port(_))).collect();
        for door in had.symmetric_difference(doors) {
            self.tables.entry(door.clone()).or_default().assume(doors.contains(door));
            work.tables.insert(door.clone());
        }
        work.listener = true;
    }

    /// Takes in what is asked for.
    fn answer(&mut self, context: &Context<'_>, work: &mut Work) {
        let Told::OnDemand { asked, wanted, .. } = &mut self.told else { return };
        if !wanted.is_for(asked) {
            work.units.extend(wanted.exchange(context, asked).into_iter().map(Unit::Host));
            work.listener = true;
        }
    }

    /// What has the addresses that were asked for may be different.
    fn look_again(&mut self, context: &Context<'_>, work: &mut Work) {
        let Told::OnDemand { wanted, .. } = &mut self.told else { return };
        let touched = wanted.look_again(context);
        work.listener |= !touched.is_empty();
        work.units.extend(touched.into_iter().map(Unit::Host));
    }

    /// Whether a host is looked at.
    fn wants(&self, context: &Context<'_>, host: &str) -> bool {
        match &self.told {
            Told::Everything => true,
            Told::OnDemand { wanted, .. } => wanted.has(context, host) || self.scope.lists_by_address(context, host),
            Told::Findings => !self.mesh.of(&hostname::pattern(host)).is_empty(),
        }
    }

    fn find_work(&self, cells: &BTreeSet<Cell>, work: &mut Work) {
        for cell in cells {
            work.units.extend(self.readers.of(cell).cloned());
            match cell {
                Cell::Object(name) if &*name.kind == "VirtualService" => {
                    work.units.insert(Unit::VirtualService(Arc::clone(&name.namespace), Arc::clone(&name.name)));
                }
                Cell::Rules(namespace, host) => {
                    work.units.insert(Unit::Rules(Arc::clone(namespace), Arc::clone(host)));
                }
                Cell::Host(host) => drop(work.units.insert(Unit::Host(Arc::clone(host)))),
                // Names that may have been meant.
                Cell::Hosts => work.findings |= self.said().any(Said::suggests),
                _ => {}
            }
        }
    }

    fn do_all(&mut self, context: &mut Context<'_>, mut work: Work, set: &mut ResourceSet) {
        // Hosts follow VirtualServices.
        let mut units = std::mem::take(&mut work.units);
        for unit in units.clone() {
            if let Unit::VirtualService(namespace, name) = &unit {
                for pattern in self.mesh.update(context, namespace, name) {
                    units.extend(self.hosts_of(context, &pattern));
                }
            }
        }
        for unit in units {
            match &unit {
                Unit::Host(host) => self.host(context, &unit, host, &mut work, set),
                // What is wrong with them is told once for all.
                Unit::Rules(..) if matches!(self.told, Told::OnDemand { .. }) => {}
                Unit::Rules(namespace, host) => {
                    work.findings |= self.rules.check(context, &mut self.readers, namespace, host);
                }
                Unit::Endpoints(key) => drop(work.destinations.insert(Arc::clone(key))),
                Unit::VirtualService(..) => {}
            }
        }
        for door in std::mem::take(&mut work.tables) {
            self.table(context, &door, set);
        }
        for key in std::mem::take(&mut work.destinations) {
            self.destinations.put(context, &key, &mut self.readers, &mut self.concerned, set);
        }
        if work.listener {
            self.listeners(context, set);
        }
        if work.findings {
            let all = arrange(self.said(), &context.world.index().registry);
            if *all != *self.diagnostics {
                self.diagnostics = all.into();
            }
        }
    }

    /// What a VirtualService for this pattern may be for.
    fn hosts_of(&self, context: &Context<'_>, pattern: &HostPattern) -> Vec<Unit> {
        let mut units = vec![Unit::Host(pattern.to_string().into())];
        if !matches!(pattern, HostPattern::Exact(_)) {
            let known = context.world.index().registry.hosts();
            let covered = known.filter(|host| hostname::covers(pattern, &hostname::pattern(host)));
            units.extend(covered.map(|host| Unit::Host(host.into())));
        }
        units
    }

    fn said(&self) -> impl Iterator<Item = &Said> {
        let hosts = self.hosts.values().flat_map(|host| &host.findings);
        let own = self.scope.findings.iter().chain(&self.policies.findings).chain(&self.inbound.findings);
        self.world.iter().chain(own).chain(hosts).chain(self.rules.findings())
    }

    /// What is wanted of a host.
    fn look(&self, context: &mut Context<'_>, host: &str, wanted: bool) -> Yield {
        let found = if wanted { known_host::read(context, &self.mesh, host) } else { Yield::default() };
        match self.told {
            Told::Everything | Told::OnDemand { .. } => found,
            Told::Findings => {
                let Yield { findings, reads, is_seen, .. } = found;
                Yield { findings, reads, is_seen, ..Yield::default() }
            }
        }
    }

    fn host(
        &mut self,
        context: &mut Context<'_>,
        unit: &Unit,
        host: &Arc<str>,
        work: &mut Work,
        set: &mut ResourceSet,
    ) {
        let pattern = hostname::pattern(host);
        let before = self.hosts.remove(host).unwrap_or_default();
        let wanted = self.wants(context, host);
        let Yield { tables, doors, own, tcp, own_tcp, created, delegating, destinations, findings, reads, is_seen } =
            self.look(context, host, wanted);
        let exists = !tables.is_empty() || !tcp.is_empty() || !own_tcp.is_empty() || !findings.is_empty();
        if wanted && (exists || is_seen || !self.mesh.at(&pattern).is_empty()) {
            self.readers.set(unit, reads);
        } else {
            self.readers.forget(unit);
        }
        for door in before.tables.iter().filter(|door| !tables.contains_key(door)) {
            if self.tables.entry(door.clone()).or_default().take(&pattern) {
                work.tables.insert(door.clone());
            }
            self.delegating(door, &pattern, Vec::new());
        }
        let mut delegating = delegating;
        let part = Part {
            tables: tables.keys().cloned().collect(),
            own: own.keys().cloned().collect(),
            destinations: destinations.keys().cloned().collect(),
            doors,
            tcp,
            own_tcp,
            created,
            findings,
        };
        for (door, host) in tables {
            let objects = delegating.remove(&door).unwrap_or_default();
            self.delegating(&door, &pattern, objects);
            if self.tables.entry(door.clone()).or_default().put(host) {
                work.tables.insert(door);
            }
        }
        self.listen(&before, &part, work);
        put_own(&before.own, own, set);
        for key in &before.destinations {
            self.destinations.release(key);
            work.destinations.insert(Arc::clone(key));
        }
        for (key, destination) in destinations {
            self.destinations.name(&key, destination);
            work.destinations.insert(key);
        }
        work.findings |= before.findings != part.findings;
        if exists {
            self.hosts.insert(Arc::clone(host), part);
        }
    }

    fn delegating(&mut self, door: &Door, pattern: &HostPattern, objects: Vec<ObjectRef>) {
        concerned::note(&mut self.concerned, Composite::Host(door.key(), pattern.clone()), objects);
    }

    /// Notes where HTTP is looked for.
    fn listen(&mut self, before: &Part, now: &Part, work: &mut Work) {
        work.listener |= before.tcp != now.tcp || before.own_tcp != now.own_tcp || before.created != now.created;
        if before.doors == now.doors {
            return;
        }
        work.listener = true;
        for (door, detect) in &before.doors {
            self.tables.entry(door.clone()).or_default().leave(*detect);
            work.tables.insert(door.clone());
        }
        for (door, detect) in &now.doors {
            self.tables.entry(door.clone()).or_default().enter(*detect);
            work.tables.insert(door.clone());
        }
    }

    /// Puts the routes of a door into the set, or takes them out.
    fn table(&mut self, context: &Context<'_>, door: &Door, set: &mut ResourceSet) {
        let key = door.key();
        let Some(table) = self.tables.get(door).filter(|table| table.is_needed()) else {
            set.routes.remove(&key);
            if self.tables.get(door).is_some_and(PortTable::is_empty) {
                self.tables.remove(door);
            }
            return;
        };
        let known = set.routes.get(&key).and_then(|routes| routes.virtual_hosts.last());
        let unknown = match (door, context.scope.unknown(context.world)) {
            // What it does not have the door has around it.
            (Door::Within(..), _) => None,
            // There is no other address than that of the listener.
            (Door::Own(_), UnknownDestination::Passthrough) => Some(UnknownDestination::Refuse),
            (_, unknown) => Some(unknown),
        };
        let last = unknown.map(|unknown| {
            let last = unknown_hosts(context, &unknown);
            known.filter(|known| ***known == last).cloned().unwrap_or_else(|| Arc::new(last))
        });
        let routes = RouteSet {
            key: Arc::clone(&key),
            virtual_hosts: table.hosts().cloned().chain(last).collect(),
            tcp: Vec::new(),
            origin: settings_of_mesh(),
        };
        if set.routes.get(&key).is_none_or(|known| **known != routes) {
            set.routes.insert(key, Arc::new(routes));
        }
    }

    fn listeners(&mut self, context: &Context<'_>, set: &mut ResourceSet) {
        let redirected = context.captured(PORT, ListenerProtocol::Outbound(self.redirected(context)));
        let own: Vec<Listener> =
            self.own_doors().into_iter().map(|address| self.own_listener(context, address)).collect();
        let keys: BTreeSet<Key> = own.iter().map(|listener| Arc::clone(&listener.key)).collect();
        for key in self.own.difference(&keys) {
            set.listeners.remove(key);
        }
        self.own = keys;
        for listener in own.into_iter().chain([redirected]) {
            if set.listeners.get(&listener.key).is_none_or(|known| **known != listener) {
                set.listeners.insert(Arc::clone(&listener.key), Arc::new(listener));
            }
        }
    }

    /// Tables of doors where HTTP is looked for.
    fn needed(&self) -> impl Iterator<Item = (&Door, &PortTable)> {
        self.tables.iter().filter(|(_, table)| table.is_needed())
    }

    /// What is done with HTTP that comes in by a door.
    fn http(&self, door: &Door, table: &PortTable) -> OutboundHttp {
        let by_port = self.needed().filter_map(|(within, _)| match within {
            Door::Within(outer, port) if **outer == *door => Some((*port, within.key())),
            _ => None,
        });
        OutboundHttp { routes: door.key(), detect: table.detects(), by_port: by_port.collect() }
    }

    /// What is redirected.
    fn redirected(&self, context: &Context<'_>) -> Outbound {
        let http: BTreeMap<u16, OutboundHttp> = self
            .needed()
            .filter_map(|(door, table)| match door {
                Door::Port(port) => Some((*port, self.http(door, table))),
                Door::Address(_) | Door::Own(_) | Door::Within(..) => None,
            })
            .collect();
        let mut tcp: Vec<OutboundTcp> = self.by_age().into_iter().flat_map(|(_, part)| &part.tcp).cloned().collect();
        for entry in &mut tcp {
            // Where anybody's port is HTTP to others, what is HTTP is theirs.
            if entry.networks.is_empty() && entry.sni.is_empty() && entry.routes.is_none() {
                entry.routes = http.get(&entry.port).map(|http| Arc::clone(&http.routes));
            }
        }
        // What speaks no HTTP where nothing else is spoken goes nowhere.
        tcp.extend(self.needed().filter_map(|(door, _)| match door {
            Door::Address(address) => Some(OutboundTcp {
                networks: vec![address.ip().into()],
                port: address.port(),
                sni: Vec::new(),
                destinations: vec![whole(DestinationRef::Unknown(BLACK_HOLE.into()))],
                routes: Some(door.key()),
                origin: context.scope.origin(),
            }),
            Door::Port(_) | Door::Own(_) | Door::Within(..) => None,
        }));
        let on_demand = match &self.told {
            Told::OnDemand { wanted, .. } => Some(wanted.terms(context)),
            Told::Everything | Told::Findings => None,
        };
        Outbound { http, tcp, unknown: context.scope.unknown(context.world), on_demand, direct: false }
    }

    /// Where the sidecar listens without that anything is redirected there.
    fn own_doors(&self) -> BTreeSet<ListenAddress> {
        let http = self.needed().filter_map(|(door, _)| match door {
            Door::Own(address) => Some(address.clone()),
            Door::Port(_) | Door::Address(_) | Door::Within(..) => None,
        });
        let tcp = self.hosts.values().flat_map(|part| &part.own_tcp).map(|(address, _)| address.clone());
        http.chain(tcp).collect()
    }

    fn own_listener(&self, context: &Context<'_>, address: ListenAddress) -> Listener {
        let door = Door::Own(address.clone());
        let http = self.needed().filter(|(own, _)| **own == door);
        let http = http.map(|(_, table)| (address.port(), self.http(&door, table))).collect();
        let tcp = self.by_age().into_iter().flat_map(|(_, part)| &part.own_tcp);
        let tcp = tcp.filter(|(own, _)| *own == address).map(|(_, tcp)| tcp.clone()).collect();
        let unknown = UnknownDestination::Refuse;
        // Its hosts are here whether they were asked for or not.
        let outbound = Outbound { http, tcp, unknown, on_demand: None, direct: true };
        context.listener(address, ListenerProtocol::Outbound(outbound), context.scope.origin())
    }

    /// Hosts with bytes, oldest first: where addresses are the same they come first.
    fn by_age(&self) -> Vec<(&Arc<str>, &Part)> {
        let with_bytes = |part: &Part| !(part.tcp.is_empty() && part.own_tcp.is_empty());
        let mut parts: Vec<(&Arc<str>, &Part)> = self.hosts.iter().filter(|(_, part)| with_bytes(part)).collect();
        parts.sort_by(|(a_host, a), (b_host, b)| (&a.created, a_host).cmp(&(&b.created, b_host)));
        parts
    }
}

/// Tables that are a host's own.
fn put_own(before: &[Key], own: BTreeMap<Key, RouteSet>, set: &mut ResourceSet) {
    for key in before.iter().filter(|key| !own.contains_key(*key)) {
        set.routes.remove(key);
    }
    for (key, routes) in own {
        if set.routes.get(&key).is_none_or(|known| **known != routes) {
            set.routes.insert(key, Arc::new(routes));
        }
    }
}

#[cfg(test)]
#[path = "sidecar_tests.rs"]
mod tests;
