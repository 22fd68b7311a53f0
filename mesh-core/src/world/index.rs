//! What is looked up by something else than its own name. Only what a changed object stands for is built anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::automatic::AutomaticAddresses;
use super::entry::by_age;
use super::journal::Cell;
use super::{Entry, Mesh, Objects, Registry, RuleTables, hostname};
use crate::api::Gateway;
use crate::api::kube::EndpointSlice;
use crate::diag::Diagnostic;
use crate::object::ObjectRef;

type Slices = HashMap<(Arc<str>, Arc<str>), Vec<Arc<Entry<EndpointSlice>>>>;

#[derive(Clone, Debug, Default)]
pub struct Index {
    pub mesh: Mesh,
    /// Oldest first.
    pub gateways: Vec<Arc<Entry<Gateway>>>,
    pub registry: Registry,
    pub rules: RuleTables,
    /// By namespace and name of the service.
    pub slices: Slices,
    pub automatic: AutomaticAddresses,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Objects that came, changed or went, by what they stood for and stand for.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub cells: BTreeSet<Cell>,
    hosts: BTreeMap<Arc<str>, BTreeSet<ObjectRef>>,
    rules: BTreeMap<(Arc<str>, Arc<str>), BTreeSet<ObjectRef>>,
    slices: BTreeMap<(Arc<str>, Arc<str>), BTreeSet<ObjectRef>>,
    gateways: bool,
    mesh: bool,
}

const KINDS: [&str; 17] = [
    "Gateway",
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "WorkloadEntry",
    "Sidecar",
    "AuthorizationPolicy",
    "RequestAuthentication",
    "PeerAuthentication",
    "RateLimit",
    "Service",
    "EndpointSlice",
    "Secret",
    "Pod",
    "ConfigMap",
    "Node",
    "Namespace",
];

impl Touched {
    /// To be called before and after the object is exchanged.
    pub fn touch(&mut self, objects: &Objects, name: &ObjectRef) {
        let key = (Arc::clone(&name.namespace), Arc::clone(&name.name));
        let Some(kind) = KINDS.into_iter().find(|kind| **kind == *name.kind) else { return };
        self.cells.insert(Cell::Object(name.clone()));
        self.cells.insert(Cell::Namespace(kind, Arc::clone(&name.namespace)));
        self.cells.insert(Cell::Kind(kind));
        match kind {
            "Gateway" => self.gateways = true,
            "ConfigMap" => self.mesh = true,
            "Service" => self.host(&hostname::service(&name.name, &name.namespace), name),
            "ServiceEntry" => {
                for host in objects.service_entries.get(&key).iter().flat_map(|entry| &entry.spec.hosts) {
                    self.host(&host.to_ascii_lowercase(), name);
                }
            }
            "DestinationRule" => {
                if let Some(entry) = objects.destination_rules.get(&key) {
                    let host = hostname::expand(&entry.spec.host, &name.namespace).into();
                    self.rules.entry((Arc::clone(&name.namespace), host)).or_default().insert(name.clone());
                }
            }
            "EndpointSlice" => {
                let slice = objects.endpoint_slices.get(&key);
                if let Some(service) = slice.and_then(|slice| service_of(slice)) {
                    let service = (Arc::clone(&name.namespace), service);
                    self.slices.entry(service).or_default().insert(name.clone());
                }
            }
            _ => {}
        }
    }

    fn host(&mut self, host: &str, name: &ObjectRef) {
        self.hosts.entry(host.into()).or_default().insert(name.clone());
    }

    /// All objects there are.
    pub fn all(objects: &Objects) -> Touched {
        let mut touched = Touched { gateways: true, mesh: true, ..Touched::default() };
        let services = objects.services.values().map(|entry| &entry.reference);
        let entries = objects.service_entries.values().map(|entry| &entry.reference);
        let rules = objects.destination_rules.values().map(|entry| &entry.reference);
        let slices = objects.endpoint_slices.values().map(|entry| &entry.reference);
        services.chain(entries).chain(rules).chain(slices).for_each(|name| touched.touch(objects, name));
        touched
    }

    /// Namespaces whose objects came, changed or went.
    pub fn namespaces(&self) -> Vec<Arc<str>> {
        let name = |cell: &Cell| match cell {
            Cell::Object(name) if &*name.kind == "Namespace" => Some(Arc::clone(&name.name)),
            _ => None,
        };
        self.cells.iter().filter_map(name).collect()
    }

    /// Whether defaults of the mesh may be different, which are part of nearly everything.
    pub fn mesh(&self) -> bool {
        self.mesh
    }
}

impl Index {
    /// Of these objects and no others.
    pub(super) fn build(objects: &Objects) -> Index {
        let mut index = Index::default();
        index.mesh = Mesh::read(objects, &mut index.diagnostics);
        index.update(objects, &mut Touched::all(objects));
        index
    }

    /// Builds again what the touched objects are part of, and notes what can be looked up there.
    pub(super) fn update(&mut self, objects: &Objects, touched: &mut Touched) {
        if touched.gateways {
            self.gateways = by_age(objects.gateways.values().cloned().collect());
        }
        for (host, names) in std::mem::take(&mut touched.hosts) {
            let beyond = self.registry.update(&host, names, objects, &self.mesh);
            touched.cells.extend(beyond.hosts.then_some(Cell::Hosts));
            touched.cells.extend(beyond.extent.then_some(Cell::Extent));
            let moved = self.automatic.update(&host, self.registry.of_host(&host));
            touched.cells.extend(moved.into_iter().map(Cell::Host));
            touched.cells.insert(Cell::Host(host));
        }
        for ((namespace, host), names) in std::mem::take(&mut touched.rules) {
            self.rules.update(&namespace, &host, names, objects, &self.mesh.config.default_destination_rule_export_to);
            let meaning = if host.starts_with('*') { Cell::RulePatterns } else { Cell::Host(Arc::clone(&host)) };
            touched.cells.insert(meaning);
            touched.cells.insert(Cell::Rules(namespace, host));
        }
        for (service, mut names) in std::mem::take(&mut touched.slices) {
            names.extend(self.slices.remove(&service).into_iter().flatten().map(|slice| slice.reference.clone()));
            let found = names.into_iter().filter_map(|name| objects.endpoint_slices.get(&(name.namespace, name.name)));
            let slices: Vec<_> =
                found.filter(|slice| service_of(slice).as_ref() == Some(&service.1)).cloned().collect();
            touched.cells.insert(Cell::Slices(Arc::clone(&service.0), Arc::clone(&service.1)));
            if !slices.is_empty() {
                self.slices.insert(service, slices);
            }
        }
    }
}

/// What stands for all sidecars where Gateways are named.
pub const MESH: &str = "mesh";

/// `name` is a Gateway of the VirtualService's namespace, `./name` too; `namespace/name` any. The old form
/// `name.namespace[.svc.cluster.local]` is understood as well. `mesh` stays.
pub fn gateway_name(name: &str, namespace: &str) -> String {
    if name == MESH {
        return name.to_owned();
    }
    if let Some((before, after)) = name.split_once('/') {
        return if before == "." { format!("{namespace}/{after}") } else { name.to_owned() };
    }
    match name.split_once('.') {
        Some((short, rest)) => format!("{}/{short}", rest.split('.').next().unwrap_or_default()),
        None => format!("{namespace}/{name}"),
    }
}

/// Name of the Service in the slice's namespace that it is a part of.
fn service_of(slice: &Entry<EndpointSlice>) -> Option<Arc<str>> {
    slice.meta.labels.get("kubernetes.io/service-name").map(|name| name.as_str().into())
}
