//! What is looked up by something else than its own name. Each part is built anew when an object changed that it is made
//! of: a pass over them costs milliseconds, and nothing can get out of step.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::entry::by_age;
use super::{Entry, Mesh, Objects, Registry, RuleTables, services};
use crate::api::kube::EndpointSlice;
use crate::api::{Gateway, VirtualService};
use crate::diag::Diagnostic;

type ByGateway = HashMap<String, Vec<Arc<Entry<VirtualService>>>>;
type Slices = HashMap<(Arc<str>, Arc<str>), Vec<Arc<Entry<EndpointSlice>>>>;

#[derive(Clone, Debug, Default)]
pub struct Index {
    pub mesh: Mesh,
    /// Oldest first.
    pub gateways: Vec<Arc<Entry<Gateway>>>,
    /// By `namespace/name` of a Gateway that they name, whether it exists or not; oldest first.
    pub virtual_services: ByGateway,
    pub registry: Registry,
    pub rules: RuleTables,
    /// By namespace and name of the service.
    pub slices: Slices,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Index {
    /// Builds the parts again that are made of these kinds.
    pub(super) fn update(&mut self, objects: &Objects, kinds: &Kinds) {
        // Defaults of the mesh are part of nearly everything.
        let all = kinds.has("ConfigMap") || kinds.all;
        let touched = |kind: &str| all || kinds.has(kind);
        if all {
            self.diagnostics.clear();
            self.mesh = Mesh::read(objects, &mut self.diagnostics);
        }
        if touched("Gateway") {
            self.gateways = by_age(objects.gateways.values().cloned().collect());
        }
        if touched("VirtualService") {
            self.virtual_services = by_gateway(objects);
        }
        if touched("Service") || touched("ServiceEntry") {
            self.registry = services::registry(objects, &self.mesh);
        }
        if touched("DestinationRule") {
            self.rules = RuleTables::build(objects, &self.mesh.config.default_destination_rule_export_to);
        }
        if touched("EndpointSlice") {
            self.slices = slices(objects);
        }
    }
}

/// Kinds of the objects that changed.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    names: HashSet<Arc<str>>,
    all: bool,
}

impl Kinds {
    /// Where nobody knows what went.
    pub fn all() -> Kinds {
        Kinds { all: true, ..Kinds::default() }
    }

    pub fn add(&mut self, kind: &Arc<str>) {
        if !self.names.contains(kind) {
            self.names.insert(Arc::clone(kind));
        }
    }

    fn has(&self, kind: &str) -> bool {
        self.names.contains(kind)
    }
}

fn by_gateway(objects: &Objects) -> ByGateway {
    let mut bound = ByGateway::new();
    for entry in by_age(objects.virtual_services.values().cloned().collect()) {
        let mut names: Vec<String> = Vec::with_capacity(entry.spec.gateways.len());
        for name in entry.spec.gateways.iter().filter(|name| *name != "mesh") {
            let name = gateway_name(name, entry.namespace());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for name in names {
            bound.entry(name).or_default().push(Arc::clone(&entry));
        }
    }
    bound
}

/// `name` is a Gateway of the VirtualService's namespace, `./name` too; `namespace/name` any. The old form
/// `name.namespace[.svc.cluster.local]` is understood as well.
pub fn gateway_name(name: &str, namespace: &str) -> String {
    if let Some((before, after)) = name.split_once('/') {
        return if before == "." { format!("{namespace}/{after}") } else { name.to_owned() };
    }
    match name.split_once('.') {
        Some((short, rest)) => format!("{}/{short}", rest.split('.').next().unwrap_or_default()),
        None => format!("{namespace}/{name}"),
    }
}

fn slices(objects: &Objects) -> Slices {
    let mut slices = Slices::new();
    for entry in objects.endpoint_slices.values() {
        if let Some(service) = entry.meta.labels.get("kubernetes.io/service-name") {
            let key = (Arc::clone(entry.namespace()), Arc::from(service.as_str()));
            slices.entry(key).or_default().push(Arc::clone(entry));
        }
    }
    slices
}
