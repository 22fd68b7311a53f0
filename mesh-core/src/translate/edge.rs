//! What a gateway at the edge gets: a change of the world is followed by looking again at what it touches, not at everything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Context;
use super::auto_passthrough::{self, Names};
use super::concerned::{self, Composite, Concerned};
use super::edge_tcp::{self, Passage, Passages};
use super::findings::{Said, arrange};
use super::gateway::Frame;
use super::named::Destinations;
use super::policies::Policies;
use super::readers::{Readers, Unit};
use super::rule_checks::RuleChecks;
use super::virtual_hosts::Hosts;
use super::virtual_service::{self, Meeting};
use crate::diag::Diagnostic;
use crate::model::{HostPattern, Key, ResourceSet, Resources, RouteSet};
use crate::world::Cell;

/// The translation for one gateway, of one world that goes on.
#[derive(Debug, Default)]
pub(super) struct Edge {
    /// What was wrong with the objects among each other, whoever asks.
    world: Vec<Said>,
    frame: Frame,
    policies: Policies,
    /// Hosts of the frame's tables.
    hosts: Vec<Hosts>,
    /// Of the frame's tables.
    passages: Vec<Passages>,
    /// By host, of servers that pass on by themselves.
    names: BTreeMap<Arc<str>, Names>,
    /// By namespace and name.
    services: HashMap<(Arc<str>, Arc<str>), ServicePart>,
    rules: RuleChecks,
    destinations: Destinations,
    readers: Readers,
    pub concerned: Concerned,
    pub set: Arc<ResourceSet>,
    pub diagnostics: Arc<[Diagnostic]>,
}

/// What is remembered of a VirtualService.
#[derive(Debug)]
struct ServicePart {
    meetings: Vec<Meeting>,
    passages: Vec<Meeting>,
    destinations: Vec<Key>,
    findings: Vec<Said>,
}

/// What has to be done.
#[derive(Debug, Default)]
struct Work {
    units: BTreeSet<Unit>,
    /// Hosts of tables.
    hosts: BTreeSet<(usize, HostPattern)>,
    /// Whose routes of bytes changed.
    tables: BTreeSet<usize>,
    destinations: BTreeSet<Key>,
    findings: bool,
}

impl Edge {
    /// Looks at everything, or again at what has to do with these cells.
    pub fn update(&mut self, context: &mut Context<'_>, cells: Option<&BTreeSet<Cell>>) {
        match cells {
            Some(cells) => self.follow(context, cells),
            None => self.everything(context),
        }
    }

    fn everything(&mut self, context: &mut Context<'_>) {
        let before = Arc::clone(&self.set);
        let frame = Frame::read(context);
        let world = context.world.diagnostics().cloned().map(Said::from).collect();
        let policies = Policies::read(context);
        *self = Edge { frame, policies, world, ..Edge::default() };
        concerned::note_tables(&mut self.concerned, &self.frame.tables);
        self.hosts.resize_with(self.frame.tables.len(), Hosts::default);
        self.passages.resize_with(self.frame.tables.len(), Passages::default);
        let mut work = Work { findings: true, ..Work::default() };
        for (number, table) in self.frame.tables.iter().enumerate() {
            work.hosts.extend(Hosts::redirected(table).map(|pattern| (number, pattern)));
        }
        for entry in context.world.virtual_services() {
            let name = &entry.reference;
            work.units.insert(Unit::VirtualService(Arc::clone(&name.namespace), Arc::clone(&name.name)));
        }
        for (namespace, host) in context.world.index().rules.hosts() {
            work.units.insert(Unit::Rules(namespace, host));
        }
        if self.passes_by_name() {
            work.units.extend(context.world.index().registry.hosts().map(|host| Unit::Host(host.into())));
        }
        let mut set = ResourceSet { listeners: self.frame.listeners.clone(), ..ResourceSet::default() };
        set.secrets.clone_from(&self.frame.secrets);
        set.challenges.clone_from(&self.frame.challenges);
        self.policies.put(&mut set);
        work.destinations.extend(self.destinations.exchange(&Resources::new(), &self.policies.destinations));
        for number in 0..self.frame.tables.len() {
            self.route_set(number, &mut set);
        }
        self.do_all(context, work, &mut set);
        set.reuse(&before);
        self.adopt(&set);
        self.set = Arc::new(set);
    }

    /// What was taken over from an earlier set is remembered as it is there.
    fn adopt(&mut self, set: &ResourceSet) {
        for (table, hosts) in self.frame.tables.iter().zip(&mut self.hosts) {
            if let Some(routes) = set.routes.get(&table.key) {
                hosts.adopt(&routes.virtual_hosts);
            }
        }
        self.destinations.adopt(set);
    }

    fn follow(&mut self, context: &mut Context<'_>, cells: &BTreeSet<Cell>) {
        let mut set = None;
        let mut work = Work::default();
        if cells.iter().any(|cell| self.frame.reads.has(cell)) {
            let frame = Frame::read(context);
            if !frame.is_like(&self.frame) {
                return self.everything(context);
            }
            let edited: &mut ResourceSet = set.get_or_insert_with(|| ResourceSet::clone(&self.set));
            edited.listeners.clone_from(&frame.listeners);
            edited.secrets = self.destinations.with_secrets(frame.secrets.clone(), &self.set);
            edited.challenges.clone_from(&frame.challenges);
            edited.reuse(&self.set);
            work.findings |= frame.findings != self.frame.findings;
            self.frame = frame;
            concerned::note_tables(&mut self.concerned, &self.frame.tables);
        }
        if cells.iter().any(|cell| self.policies.reads.has(cell)) {
            let policies = Policies::read(context);
            let edited: &mut ResourceSet = set.get_or_insert_with(|| ResourceSet::clone(&self.set));
            policies.put(edited);
            edited.reuse(&self.set);
            work.findings |= policies.findings != self.policies.findings;
            work.destinations.extend(self.destinations.exchange(&self.policies.destinations, &policies.destinations));
            self.policies = policies;
        }
        for cell in cells {
            work.units.extend(self.readers.of(cell).cloned());
            match cell {
                Cell::Object(name) if &*name.kind == "VirtualService" => {
                    work.units.insert(Unit::VirtualService(Arc::clone(&name.namespace), Arc::clone(&name.name)));
                }
                Cell::Rules(namespace, host) => {
                    work.units.insert(Unit::Rules(Arc::clone(namespace), Arc::clone(host)));
                }
                Cell::Host(host) if self.passes_by_name() => drop(work.units.insert(Unit::Host(Arc::clone(host)))),
                // Names that may have been meant.
                Cell::Hosts => work.findings |= self.said().any(Said::suggests),
                _ => {}
            }
        }
        let found: Vec<Said> = context.world.diagnostics().cloned().map(Said::from).collect();
        work.findings |= found != self.world;
        self.world = found;
        if work.units.is_empty() && set.is_none() && !work.findings {
            return;
        }
        let mut set = set.unwrap_or_else(|| ResourceSet::clone(&self.set));
        self.do_all(context, work, &mut set);
        self.set = Arc::new(set);
    }

    fn do_all(&mut self, context: &mut Context<'_>, mut work: Work, set: &mut ResourceSet) {
        for unit in std::mem::take(&mut work.units) {
            match &unit {
                Unit::VirtualService(namespace, name) => self.service(context, &unit, (namespace, name), &mut work),
                Unit::Rules(namespace, host) => {
                    work.findings |= self.rules.check(context, &mut self.readers, namespace, host);
                }
                Unit::Endpoints(key) => drop(work.destinations.insert(Arc::clone(key))),
                Unit::Host(host) => self.name(context, &unit, host, &mut work),
            }
        }
        let mut tables = std::mem::take(&mut work.tables);
        for (number, pattern) in std::mem::take(&mut work.hosts) {
            let (Some(hosts), Some(table)) = (self.hosts.get_mut(number), self.frame.tables.get(number)) else {
                continue;
            };
            let built = hosts.build(context, table, &pattern);
            work.findings |= built.findings;
            let composite = Composite::Host(Arc::clone(&table.key), pattern.clone());
            concerned::note(&mut self.concerned, composite, hosts.only_delegating(&pattern));
            if built.host {
                tables.insert(number);
            }
        }
        for number in tables {
            self.route_set(number, set);
        }
        for key in std::mem::take(&mut work.destinations) {
            self.destinations.put(context, &key, &mut self.readers, &mut self.concerned, set);
        }
        if work.findings {
            let all = arrange(self.said(), &context.world.index().registry);
            if *all != *self.diagnostics {
                self.diagnostics = all.into();
            }
        }
    }

    fn said(&self) -> impl Iterator<Item = &Said> {
        let services = self.services.values().flat_map(|service| &service.findings);
        let hosts = self.hosts.iter().flat_map(Hosts::findings);
        let own = self.frame.findings.iter().chain(&self.policies.findings);
        self.world.iter().chain(own).chain(services).chain(hosts).chain(self.rules.findings())
    }

    fn service(&mut self, context: &mut Context<'_>, unit: &Unit, name: (&Arc<str>, &Arc<str>), work: &mut Work) {
        let key = (Arc::clone(name.0), Arc::clone(name.1));
        let before = self.services.remove(&key);
        for meeting in before.iter().flat_map(|before| &before.meetings) {
            if let Some(hosts) = self.hosts.get_mut(meeting.table) {
                hosts.take(&meeting.pattern, &meeting.turn);
            }
            work.hosts.insert((meeting.table, meeting.pattern.clone()));
        }
        let mut gone = self.take_passages(before.iter().flat_map(|before| &before.passages));
        for key in before.iter().flat_map(|before| &before.destinations) {
            self.destinations.release(key);
            work.destinations.insert(Arc::clone(key));
        }
        let Some(entry) = context.world.virtual_service(name.0, name.1) else {
            work.findings |= before.is_some_and(|before| !before.findings.is_empty());
            work.tables.extend(gone.keys().map(|meeting| meeting.table));
            return self.readers.forget(unit);
        };
        let virtual_service::Yield { meetings, passages, destinations, findings, reads } =
            virtual_service::read(context, &self.frame, entry);
        self.readers.set(unit, reads);
        work.findings |= before.map_or_else(|| !findings.is_empty(), |before| before.findings != findings);
        let part = ServicePart {
            meetings: meetings.keys().cloned().collect(),
            passages: passages.keys().cloned().collect(),
            destinations: destinations.keys().cloned().collect(),
            findings,
        };
        for (Meeting { table, pattern, turn }, rules) in meetings {
            if let Some(hosts) = self.hosts.get_mut(table) {
                hosts.add(&pattern, turn, rules);
            }
            work.hosts.insert((table, pattern));
        }
        for (meeting, routes) in passages {
            if gone.remove(&meeting).is_none_or(|before| before != routes) {
                work.tables.insert(meeting.table);
            }
            if let Some(passages) = self.passages.get_mut(meeting.table) {
                passages.insert((meeting.turn, meeting.pattern), routes);
            }
        }
        work.tables.extend(gone.keys().map(|meeting| meeting.table));
        for (key, destination) in destinations {
            self.destinations.name(&key, destination);
            work.destinations.insert(key);
        }
        self.services.insert(key, part);
    }

    fn passes_by_name(&self) -> bool {
        self.frame.tables.iter().any(auto_passthrough::is_in)
    }

    /// What server names say of a service.
    fn name(&mut self, context: &mut Context<'_>, unit: &Unit, host: &Arc<str>, work: &mut Work) {
        let before = self.names.remove(host).unwrap_or_default();
        for key in &before.destinations {
            self.destinations.release(key);
            work.destinations.insert(Arc::clone(key));
        }
        let opening: Vec<usize> = (0..)
            .zip(&self.frame.tables)
            .filter(|(_, table)| auto_passthrough::opens(table, host))
            .map(|(number, _)| number)
            .collect();
        if opening.is_empty() {
            return self.readers.forget(unit);
        }
        let auto_passthrough::Yield { routes, destinations, reads } = auto_passthrough::read(context, host);
        self.readers.set(unit, reads);
        if routes != before.routes {
            work.tables.extend(opening);
        }
        let names = Names { routes, destinations: destinations.keys().cloned().collect() };
        for (key, destination) in &destinations {
            self.destinations.name(key, Arc::clone(destination));
            work.destinations.insert(Arc::clone(key));
        }
        if !names.routes.is_empty() {
            self.names.insert(Arc::clone(host), names);
        }
    }

    /// What was said so far of connections that are not looked into.
    fn take_passages<'m>(&mut self, meetings: impl Iterator<Item = &'m Meeting>) -> BTreeMap<Meeting, Arc<[Passage]>> {
        let mut taken = BTreeMap::new();
        for meeting in meetings {
            let key = (meeting.turn.clone(), meeting.pattern.clone());
            let passages = self.passages.get_mut(meeting.table).and_then(|passages| passages.remove(&key));
            taken.extend(passages.map(|passages| (meeting.clone(), passages)));
        }
        taken
    }

    fn route_set(&self, number: usize, set: &mut ResourceSet) {
        let (Some(table), Some(hosts)) = (self.frame.tables.get(number), self.hosts.get(number)) else { return };
        let mut tcp = self.passages.get(number).map(edge_tcp::routes).unwrap_or_default();
        if auto_passthrough::is_in(table) {
            let opened = self.names.iter().filter(|(host, _)| auto_passthrough::opens(table, host));
            tcp.extend(opened.flat_map(|(_, names)| names.routes.iter().cloned()));
        }
        let routes = RouteSet {
            key: Arc::clone(&table.key),
            virtual_hosts: hosts.built().cloned().collect(),
            tcp,
            origin: table.origin.clone(),
        };
        set.routes.insert(Arc::clone(&table.key), Arc::new(routes));
    }
}
