//! All objects of the users, indexed, with a generation number.
//!
//! Decides: which of two objects of one name counts, what is older, which names mean the same service, where a service's
//! endpoints come from. Must not know: proxies, visibility, routing.

mod around;
mod automatic;
mod discovery;
mod endpoints;
mod entry;
mod extent;
pub mod hostname;
mod index;
mod journal;
mod mesh;
mod places;
mod rules;
mod services;
mod sidecars;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

pub use discovery::fits;
pub use endpoints::Instance;
pub use entry::{Entry, selects};
pub use extent::Extent;
pub use index::{Index, MESH, gateway_name};
pub use journal::{Cell, Reads};
pub use mesh::{Mesh, with_topology};
pub use rules::{Consolidated, RuleTables};
pub use services::{ExportTo, Protocol, Registry, Resolution, Service, ServicePort, Source, TargetPort, network};
pub use sidecars::Candidates;

use crate::api::kube::{ConfigMap, EndpointSlice, Namespace, Node, Pod, Secret};
use crate::api::{
    ApiObject, AuthorizationPolicy, DestinationRule, Gateway, PeerAuthentication, RateLimit, RequestAuthentication,
    ServiceEntry, Sidecar, Spec, VirtualService, WorkloadEntry, kube::Service as KubeService,
};
use crate::diag::{self, Diagnostic};
use crate::object::ObjectRef;
use discovery::Discovery;
use index::Touched;
use journal::Journal;

/// Objects of one kind by namespace and name.
pub type Shelf<T> = BTreeMap<(Arc<str>, Arc<str>), Arc<Entry<T>>>;

/// Cheap to clone: objects are shared.
#[derive(Clone, Debug, Default)]
pub struct World {
    generation: u64,
    /// What counts.
    objects: Objects,
    /// What is in namespaces that are not looked at.
    hidden: Objects,
    discovery: Discovery,
    index: Index,
    journal: Journal,
    /// Found while objects were put in.
    diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub gateways: Shelf<Gateway>,
    pub virtual_services: Shelf<VirtualService>,
    pub destination_rules: Shelf<DestinationRule>,
    pub service_entries: Shelf<ServiceEntry>,
    pub workload_entries: Shelf<WorkloadEntry>,
    pub sidecars: Shelf<Sidecar>,
    pub authorization_policies: Shelf<AuthorizationPolicy>,
    pub request_authentications: Shelf<RequestAuthentication>,
    pub peer_authentications: Shelf<PeerAuthentication>,
    pub rate_limits: Shelf<RateLimit>,
    pub services: Shelf<KubeService>,
    pub endpoint_slices: Shelf<EndpointSlice>,
    pub secrets: Shelf<Secret>,
    pub pods: Shelf<Pod>,
    pub config_maps: Shelf<ConfigMap>,
    pub nodes: Shelf<Node>,
    pub namespaces: Shelf<Namespace>,
}

impl World {
    /// A world of these objects and no others.
    pub fn from_objects(objects: Vec<ApiObject>) -> World {
        let mut world = World::default();
        world.apply(objects);
        world
    }

    /// Adds objects, or replaces those of the same kind, namespace and name. If a name comes twice in `objects`, the later
    /// one counts.
    pub fn apply(&mut self, objects: Vec<ApiObject>) {
        let mut touched = Touched::default();
        self.put(objects, &mut touched);
        self.changed(touched);
    }

    fn put(&mut self, objects: Vec<ApiObject>, touched: &mut Touched) {
        let mut seen: HashSet<ObjectRef> = HashSet::with_capacity(objects.len());
        self.diagnostics.clear();
        for object in objects {
            let reference = object.object_ref();
            if seen.contains(&reference) {
                self.duplicate(&reference, &object);
            }
            // Its namespace may have changed sides a moment ago, in the same turn: nothing older of it must stay behind.
            touched.touch(&self.objects, &reference);
            if self.discovery.shows(&self.objects, &reference) {
                self.hidden.take(&reference);
                self.objects.put(reference.clone(), object);
                touched.touch(&self.objects, &reference);
            } else {
                self.objects.take(&reference);
                self.hidden.put(reference.clone(), object);
            }
            seen.insert(reference);
        }
    }

    /// Takes objects out; names that are not there are ignored.
    pub fn remove(&mut self, names: &[ObjectRef]) {
        self.diagnostics.clear();
        let mut touched = Touched::default();
        for name in names {
            touched.touch(&self.objects, name);
            self.objects.take(name);
            self.hidden.take(name);
        }
        self.changed(touched);
    }

    /// The same world with other objects: for sources that read everything again. The generation goes on.
    pub fn replace(&mut self, objects: Vec<ApiObject>) {
        self.objects = Objects::default();
        self.hidden = Objects::default();
        self.put(objects, &mut Touched::default());
        self.everything();
    }

    /// These namespaces are looked at even if `discoverySelectors` leave them out: gateways run there, and would lose their
    /// ports and certificates.
    pub fn always_look_at<'n>(&mut self, namespaces: impl IntoIterator<Item = &'n str>) {
        self.discovery.always_look_at(namespaces.into_iter().map(Arc::from));
        self.everything();
    }

    /// Namespaces of objects that `discoverySelectors` leave out.
    pub fn hidden_namespaces(&self) -> BTreeSet<Arc<str>> {
        self.hidden.all_namespaces()
    }

    /// Grows with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Settings of the mesh, defaults filled in.
    pub fn mesh(&self) -> &Mesh {
        &self.index.mesh
    }

    /// What changed after that generation of this world; none if that is too long ago, or if it may be everything.
    pub fn changes_since(&self, generation: u64) -> Option<impl Iterator<Item = &Cell>> {
        self.journal.since(generation)
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What was wrong with the objects among each other, whoever asks.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().chain(&self.index.diagnostics)
    }

    pub fn gateway(&self, namespace: &str, name: &str) -> Option<&Arc<Entry<Gateway>>> {
        self.objects.gateways.get(&(namespace.into(), name.into()))
    }

    pub fn virtual_service(&self, namespace: &str, name: &str) -> Option<&Arc<Entry<VirtualService>>> {
        self.objects.virtual_services.get(&(namespace.into(), name.into()))
    }

    pub fn virtual_services(&self) -> impl Iterator<Item = &Arc<Entry<VirtualService>>> {
        self.objects.virtual_services.values()
    }

    pub fn destination_rules(&self) -> impl Iterator<Item = &Arc<Entry<DestinationRule>>> {
        self.objects.destination_rules.values()
    }

    pub fn destination_rule(&self, namespace: &str, name: &str) -> Option<&Arc<Entry<DestinationRule>>> {
        self.objects.destination_rules.get(&(namespace.into(), name.into()))
    }

    pub fn service_entry(&self, namespace: &str, name: &str) -> Option<&Arc<Entry<ServiceEntry>>> {
        self.objects.service_entries.get(&(namespace.into(), name.into()))
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Arc<Entry<Secret>>> {
        self.objects.secrets.get(&(namespace.into(), name.into()))
    }

    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Entry<Secret>>> {
        self.objects.secrets.values()
    }

    /// In any namespace: who somebody is does not depend on what is looked at. So a proxy in a namespace that
    /// `discoverySelectors` leave out is served as with Istio, by its labels, with what others write; Services of its own
    /// namespace, which say what its ports mean, are left out like all objects there.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Entry<Pod>>> {
        let key = (namespace.into(), name.into());
        self.objects.pods.get(&key).or_else(|| self.hidden.pods.get(&key))
    }

    /// Whether the world holds the object just as it is: to put it in again would change nothing.
    pub fn has(&self, object: &ApiObject) -> bool {
        self.objects.has(object) || self.hidden.has(object)
    }

    /// Kubernetes Services of a namespace.
    pub fn kube_services(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry<KubeService>>> {
        in_namespace(&self.objects.services, namespace)
    }

    /// ServiceEntries of a namespace.
    pub fn service_entries(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry<ServiceEntry>>> {
        in_namespace(&self.objects.service_entries, namespace)
    }

    /// AuthorizationPolicies of a namespace, by name.
    pub fn authorization_policies(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry<AuthorizationPolicy>>> {
        in_namespace(&self.objects.authorization_policies, namespace)
    }

    /// RequestAuthentications of a namespace, by name.
    pub fn request_authentications(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry<RequestAuthentication>>> {
        in_namespace(&self.objects.request_authentications, namespace)
    }

    /// PeerAuthentications of a namespace, by name. Of several for the same workloads, the oldest counts ([`Entry::age`]).
    pub fn peer_authentications(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry<PeerAuthentication>>> {
        in_namespace(&self.objects.peer_authentications, namespace)
    }

    /// RateLimits of a namespace, by name.
    pub fn rate_limits(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry<RateLimit>>> {
        in_namespace(&self.objects.rate_limits, namespace)
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    fn changed(&mut self, mut touched: Touched) {
        if touched.mesh() {
            return self.everything();
        }
        self.discovery.follow(&mut self.objects, &mut self.hidden, &mut touched);
        self.generation += 1;
        self.index.update(&self.objects, &mut touched);
        self.journal.note(touched.cells);
    }

    fn everything(&mut self) {
        self.discovery.read(&self.objects);
        self.discovery.sort(&mut self.objects, &mut self.hidden);
        self.generation += 1;
        self.index = Index::build(&self.objects);
        self.journal.everything(self.generation);
    }

    fn duplicate(&mut self, reference: &ObjectRef, later: &ApiObject) {
        let earlier = self.objects.position(reference).or_else(|| self.hidden.position(reference));
        let place = earlier.map_or_else(|| "it is given twice".to_owned(), |at| format!("it is already given at {at}"));
        self.diagnostics.push(
            Diagnostic::new(diag::DUPLICATE_OBJECT, format!("{place}; this one counts"))
                .object(reference)
                .at(later.position(""))
                .help("remove one of them, or give it another name"),
        );
    }
}

/// Objects of one namespace, by name.
pub(crate) fn in_namespace<'a, T>(shelf: &'a Shelf<T>, namespace: &str) -> impl Iterator<Item = &'a Arc<Entry<T>>> {
    let namespace: Arc<str> = namespace.into();
    shelf
        .range((Arc::clone(&namespace), Arc::from(""))..)
        .take_while(move |((at, _), _)| *at == namespace)
        .map(|(_, entry)| entry)
}

impl Objects {
    fn put(&mut self, reference: ObjectRef, object: ApiObject) {
        fn shelve<T>(
            shelf: &mut Shelf<T>,
            reference: ObjectRef,
            parts: (crate::api::Meta, crate::api::Positions),
            spec: T,
        ) {
            let key = (Arc::clone(&reference.namespace), Arc::clone(&reference.name));
            shelf.insert(key, Arc::new(Entry { reference, meta: parts.0, spec, positions: parts.1 }));
        }
        let parts = (object.meta, object.positions);
        match object.spec {
            Spec::Gateway(spec) => shelve(&mut self.gateways, reference, parts, spec),
            Spec::VirtualService(spec) => shelve(&mut self.virtual_services, reference, parts, spec),
            Spec::DestinationRule(spec) => shelve(&mut self.destination_rules, reference, parts, spec),
            Spec::ServiceEntry(spec) => shelve(&mut self.service_entries, reference, parts, spec),
            Spec::WorkloadEntry(spec) => shelve(&mut self.workload_entries, reference, parts, spec),
            Spec::Sidecar(spec) => shelve(&mut self.sidecars, reference, parts, spec),
            Spec::AuthorizationPolicy(spec) => shelve(&mut self.authorization_policies, reference, parts, spec),
            Spec::RequestAuthentication(spec) => shelve(&mut self.request_authentications, reference, parts, spec),
            Spec::PeerAuthentication(spec) => shelve(&mut self.peer_authentications, reference, parts, spec),
            Spec::RateLimit(spec) => shelve(&mut self.rate_limits, reference, parts, spec),
            Spec::Service(spec) => shelve(&mut self.services, reference, parts, spec),
            Spec::EndpointSlice(spec) => shelve(&mut self.endpoint_slices, reference, parts, spec),
            Spec::Secret(spec) => shelve(&mut self.secrets, reference, parts, spec),
            Spec::Pod(spec) => shelve(&mut self.pods, reference, parts, spec),
            Spec::ConfigMap(spec) => shelve(&mut self.config_maps, reference, parts, spec),
            Spec::Node(spec) => shelve(&mut self.nodes, reference, parts, spec),
            Spec::Namespace(spec) => shelve(&mut self.namespaces, reference, parts, spec),
        }
    }

    fn has(&self, object: &ApiObject) -> bool {
        fn same<T: PartialEq>(shelf: &Shelf<T>, meta: &crate::api::Meta, spec: &T) -> bool {
            let had = shelf.get(&(meta.namespace.as_str().into(), meta.name.as_str().into()));
            had.is_some_and(|had| had.meta == *meta && had.spec == *spec)
        }
        let meta = &object.meta;
        match &object.spec {
            Spec::Gateway(spec) => same(&self.gateways, meta, spec),
            Spec::VirtualService(spec) => same(&self.virtual_services, meta, spec),
            Spec::DestinationRule(spec) => same(&self.destination_rules, meta, spec),
            Spec::ServiceEntry(spec) => same(&self.service_entries, meta, spec),
            Spec::WorkloadEntry(spec) => same(&self.workload_entries, meta, spec),
            Spec::Sidecar(spec) => same(&self.sidecars, meta, spec),
            Spec::AuthorizationPolicy(spec) => same(&self.authorization_policies, meta, spec),
            Spec::RequestAuthentication(spec) => same(&self.request_authentications, meta, spec),
            Spec::PeerAuthentication(spec) => same(&self.peer_authentications, meta, spec),
            Spec::RateLimit(spec) => same(&self.rate_limits, meta, spec),
            Spec::Service(spec) => same(&self.services, meta, spec),
            Spec::EndpointSlice(spec) => same(&self.endpoint_slices, meta, spec),
            Spec::Secret(spec) => same(&self.secrets, meta, spec),
            Spec::Pod(spec) => same(&self.pods, meta, spec),
            Spec::ConfigMap(spec) => same(&self.config_maps, meta, spec),
            Spec::Node(spec) => same(&self.nodes, meta, spec),
            Spec::Namespace(spec) => same(&self.namespaces, meta, spec),
        }
    }

    fn take(&mut self, name: &ObjectRef) {
        let key = (Arc::clone(&name.namespace), Arc::clone(&name.name));
        match &*name.kind {
            "Gateway" => drop(self.gateways.remove(&key)),
            "VirtualService" => drop(self.virtual_services.remove(&key)),
            "DestinationRule" => drop(self.destination_rules.remove(&key)),
            "ServiceEntry" => drop(self.service_entries.remove(&key)),
            "WorkloadEntry" => drop(self.workload_entries.remove(&key)),
            "Sidecar" => drop(self.sidecars.remove(&key)),
            "AuthorizationPolicy" => drop(self.authorization_policies.remove(&key)),
            "RequestAuthentication" => drop(self.request_authentications.remove(&key)),
            "PeerAuthentication" => drop(self.peer_authentications.remove(&key)),
            "RateLimit" => drop(self.rate_limits.remove(&key)),
            "Service" => drop(self.services.remove(&key)),
            "EndpointSlice" => drop(self.endpoint_slices.remove(&key)),
            "Secret" => drop(self.secrets.remove(&key)),
            "Pod" => drop(self.pods.remove(&key)),
            "ConfigMap" => drop(self.config_maps.remove(&key)),
            "Node" => drop(self.nodes.remove(&key)),
            "Namespace" => drop(self.namespaces.remove(&key)),
            _ => {}
        }
    }

    fn position(&self, name: &ObjectRef) -> Option<crate::object::Position> {
        let key = (Arc::clone(&name.namespace), Arc::clone(&name.name));
        match &*name.kind {
            "Gateway" => self.gateways.get(&key)?.position(""),
            "VirtualService" => self.virtual_services.get(&key)?.position(""),
            "DestinationRule" => self.destination_rules.get(&key)?.position(""),
            "ServiceEntry" => self.service_entries.get(&key)?.position(""),
            "WorkloadEntry" => self.workload_entries.get(&key)?.position(""),
            "Sidecar" => self.sidecars.get(&key)?.position(""),
            "AuthorizationPolicy" => self.authorization_policies.get(&key)?.position(""),
            "RequestAuthentication" => self.request_authentications.get(&key)?.position(""),
            "PeerAuthentication" => self.peer_authentications.get(&key)?.position(""),
            "RateLimit" => self.rate_limits.get(&key)?.position(""),
            "Service" => self.services.get(&key)?.position(""),
            "EndpointSlice" => self.endpoint_slices.get(&key)?.position(""),
            "Secret" => self.secrets.get(&key)?.position(""),
            "Pod" => self.pods.get(&key)?.position(""),
            "ConfigMap" => self.config_maps.get(&key)?.position(""),
            "Node" => self.nodes.get(&key)?.position(""),
            "Namespace" => self.namespaces.get(&key)?.position(""),
            _ => None,
        }
    }
}

#[cfg(test)]
mod world_tests;
