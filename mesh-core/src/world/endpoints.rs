//! Where the endpoints of a service's port are. It decides which addresses count (ready ones, of a family that can be
//! reached, each pod once), whose labels they carry and where they stand; which subset they belong to is `translate`'s affair.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Cell, Entry, Reads, Resolution, Service, ServicePort, Source, TargetPort, World, in_namespace, selects};
use crate::api::kube::{self, EndpointSlice, Pod, Service as KubeService};
use crate::api::{ServiceEntry, WorkloadEntry};
use crate::identity::SpiffeId;
use crate::model::{EndpointAddress, IpFamilies, Workload};
use crate::object::ObjectRef;

type Labels = BTreeMap<String, String>;

static NO_LABELS: Labels = Labels::new();

/// One endpoint of one port, before subsets.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance<'a> {
    pub address: EndpointAddress,
    pub weight: u32,
    /// `region/zone/subzone`, empty when unknown.
    pub locality: Arc<str>,
    /// Name of the node that it runs on, empty when unknown.
    pub node: &'a str,
    pub labels: &'a Labels,
    pub workload: Option<Arc<Workload>>,
}

impl World {
    /// All endpoints that may get requests for this port from somebody with these families, each address once, in a stable
    /// order.
    pub fn instances<'a>(
        &'a self,
        service: &'a Service,
        port: &ServicePort,
        families: IpFamilies,
        reads: &mut Reads,
    ) -> Vec<Instance<'a>> {
        let mut found = Found { world: self, families, instances: Vec::new(), seen: HashSet::new(), reads };
        if let Resolution::Alias(target) = &service.resolution {
            found.alias(service, target, port);
        } else {
            for source in &service.sources {
                match source {
                    Source::Kubernetes(entry) => found.kubernetes(entry, port),
                    Source::Entry(entry) => found.service_entry(entry, port, &service.host),
                }
            }
        }
        found.instances
    }

    /// Number behind a port of a Kubernetes Service: its `targetPort`, of which a name is looked up in the slices, then in
    /// the pods that the Service selects.
    pub fn target_port(
        &self,
        service: &Entry<KubeService>,
        port: &crate::api::kube::ServicePort,
        reads: &mut Reads,
    ) -> Option<u16> {
        use crate::api::kube::IntOrString;
        let name = match &port.target_port {
            None | Some(IntOrString::Int(0)) => return Some(port.port),
            Some(IntOrString::Int(number)) => return Some(*number),
            Some(IntOrString::String(name)) => name,
        };
        let slices = self.slices(service, reads);
        let of_slice = |slice: &Arc<Entry<EndpointSlice>>| slice.spec.ports.iter().find(|p| p.name == port.name)?.port;
        slices.iter().find_map(of_slice).or_else(|| {
            reads.note(Cell::Namespace("Pod", Arc::clone(service.namespace())));
            let pods = in_namespace(&self.objects().pods, service.namespace());
            let mut selected = pods.filter(|pod| selects(&service.spec.selector, &pod.meta.labels));
            selected.find_map(|pod| container_port(&pod.spec, name))
        })
    }

    fn slices(&self, service: &Entry<KubeService>, reads: &mut Reads) -> &[Arc<Entry<EndpointSlice>>] {
        let key = (Arc::clone(&service.reference.namespace), Arc::clone(&service.reference.name));
        reads.note(Cell::Slices(Arc::clone(&key.0), Arc::clone(&key.1)));
        self.index().slices.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Where a pod runs: `region/zone/subzone`, empty when unknown.
    pub fn locality_of_pod(&self, pod: &Entry<Pod>) -> Arc<str> {
        let own = locality(&pod.meta.labels);
        match pod.spec.node_name.as_deref().filter(|_| own.is_empty()) {
            Some(node) => self.locality_of_node(node, &mut Reads::default()),
            None => own,
        }
    }

    fn locality_of_node(&self, name: &str, reads: &mut Reads) -> Arc<str> {
        let name = ObjectRef::new("Node", "", name);
        reads.note(Cell::Object(name.clone()));
        let node = self.objects().nodes.get(&(name.namespace, name.name));
        node.map(|node| Arc::clone(&node.spec.locality)).unwrap_or_default()
    }

    /// A label of the pod counts first, then the node's labels (Istio's order), then what a slice says of the zone.
    pub(super) fn locality_of(
        &self,
        pod: Option<&Arc<Entry<Pod>>>,
        node: Option<&str>,
        zone: Option<&str>,
        reads: &mut Reads,
    ) -> Arc<str> {
        let own = pod.map(|pod| locality(&pod.meta.labels)).unwrap_or_default();
        if !own.is_empty() {
            return own;
        }
        let node = node.or_else(|| pod.and_then(|pod| pod.spec.node_name.as_deref()));
        let of_node = node.map(|node| self.locality_of_node(node, reads)).unwrap_or_default();
        match zone {
            Some(zone) if of_node.is_empty() && !zone.is_empty() => format!("/{zone}").into(),
            _ => of_node,
        }
    }

    /// Who runs in a pod.
    fn pod_workload(&self, pod: &Entry<Pod>) -> Arc<Workload> {
        let name = workload_name(&pod.reference.name, &pod.meta.labels);
        let account = pod.spec.service_account_name.as_deref();
        self.workload(name, pod.namespace(), &pod.meta.labels, account)
    }

    fn workload(&self, name: &str, namespace: &Arc<str>, labels: &Labels, account: Option<&str>) -> Arc<Workload> {
        let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).map(String::as_str);
        let label = |key: &str| Arc::from(first(&[key]).unwrap_or_default());
        let canonical = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
        let revision = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
        let id = |account| SpiffeId::new(&self.mesh().trust_domain, namespace, account).ok();
        let principal = account.and_then(id).map_or_else(String::new, |id| id.to_string());
        Arc::new(Workload {
            name: name.into(),
            namespace: Arc::clone(namespace),
            app: label("app"),
            version: label("version"),
            canonical_service: first(&canonical).unwrap_or(name).into(),
            canonical_revision: first(&revision).unwrap_or("latest").into(),
            principal: principal.into(),
            cluster: "Kubernetes".into(),
        })
    }
}

/// `reviews-v1` of the pod `reviews-v1-545db77b95-wjqzk`: what made the pod can be told from the labels that its
/// controller gave it.
fn workload_name<'a>(pod: &'a str, labels: &'a Labels) -> &'a str {
    let cut = |name: &'a str| name.rsplit_once('-').map_or(name, |(owner, _)| owner);
    if let Some(name) = labels.get("service.istio.io/workload-name") {
        return name;
    }
    if let Some(hash) = labels.get("pod-template-hash") {
        let owner = cut(pod);
        return owner.strip_suffix(hash.as_str()).and_then(|name| name.strip_suffix('-')).unwrap_or(owner);
    }
    for job in ["batch.kubernetes.io/job-name", "job-name"] {
        if let Some(name) = labels.get(job) {
            return name;
        }
    }
    let controlled = ["statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "controller-revision-hash"];
    if controlled.iter().any(|label| labels.contains_key(*label)) { cut(pod) } else { pod }
}

fn container_port(pod: &Pod, name: &str) -> Option<u16> {
    pod.ports.iter().find(|port| port.name == name).map(|port| port.container_port)
}

struct Found<'a, 'r> {
    world: &'a World,
    families: IpFamilies,
    instances: Vec<Instance<'a>>,
    seen: HashSet<EndpointAddress>,
    reads: &'r mut Reads,
}

impl<'a> Found<'a, '_> {
    fn add(&mut self, instance: Instance<'a>) {
        if self.seen.insert(instance.address.clone()) {
            self.instances.push(instance);
        }
    }

    /// Another service of the registry, or a name to resolve.
    fn alias(&mut self, service: &Service, target: &Arc<str>, port: &ServicePort) {
        let registry = &self.world.index().registry;
        self.reads.note(Cell::Host(Arc::clone(target)));
        let other = registry.find(target, &service.namespace, &service.namespace);
        // One step only: aliases of aliases could go in circles.
        let other = other.filter(|other| !matches!(other.resolution, Resolution::Alias(_)));
        match other.and_then(|other| Some((other, other.port(port.number)?))) {
            Some((other, port)) => {
                self.instances.extend(self.world.instances(other, port, self.families, self.reads));
            }
            None => self.add(Instance {
                address: address(target, port.number),
                weight: 1,
                locality: "".into(),
                node: "",
                labels: &NO_LABELS,
                workload: None,
            }),
        }
    }

    /// EndpointSlices; without any, the pods that the Service selects (in files nobody makes the slices). WorkloadEntries
    /// that it selects come on top.
    fn kubernetes(&mut self, service: &'a Arc<Entry<KubeService>>, port: &ServicePort) {
        let slices = self.world.slices(service, self.reads);
        self.slices(slices, port, service.spec.publish_not_ready_addresses == Some(true));
        let selector = &service.spec.selector;
        if selector.is_empty() {
            return;
        }
        if slices.is_empty() {
            self.pods(service.namespace(), selector, |pod| match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => container_port(pod, name),
            });
        }
        self.workload_entries(service.namespace(), selector, |entry| {
            match (entry.ports.get(&*port.name), &port.target) {
                (Some(number), _) => u16::try_from(*number).ok(),
                (None, TargetPort::Number(number)) => Some(*number),
                (None, TargetPort::Name(_)) => Some(port.number),
            }
        });
    }

    /// A dual-stack Service has slices of both families, with the same pods: those of the family that comes first count, and
    /// of the other one the pods that have no address in the first. A pod that is ready in one of them only is on its way:
    /// the other one follows, and it must not come and go with its second address in between.
    fn slices(&mut self, slices: &'a [Arc<Entry<EndpointSlice>>], port: &ServicePort, unready_too: bool) {
        let rank = |slice: &EndpointSlice| self.families.rank(is_v6(slice));
        let mut ranked: Vec<_> = slices.iter().filter_map(|slice| Some((rank(&slice.spec)?, slice))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let first = ranked.first().map(|(rank, _)| *rank);
        let split = ranked.iter().position(|(rank, _)| Some(*rank) != first).unwrap_or(ranked.len());
        let (main, rest) = ranked.split_at(split);
        for (_, slice) in main {
            self.slice(slice, port, unready_too, &HashSet::new());
        }
        if rest.is_empty() {
            return;
        }
        let listed = main.iter().flat_map(|(_, slice)| &slice.spec.endpoints).filter_map(target).collect();
        for (_, slice) in rest {
            self.slice(slice, port, unready_too, &listed);
        }
    }

    /// Adds the usable endpoints of a slice, but for those whose pods are listed.
    fn slice(
        &mut self,
        slice: &'a Entry<EndpointSlice>,
        port: &ServicePort,
        unready_too: bool,
        listed: &HashSet<Target<'a>>,
    ) {
        let tcp = |name: &Option<String>| name.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("tcp"));
        let wanted = slice.spec.ports.iter().find(|p| p.name == *port.name && tcp(&p.protocol));
        let Some(number) = wanted.and_then(|port| port.port) else { return };
        for endpoint in &slice.spec.endpoints {
            let ready = unready_too || endpoint.conditions.is_ready();
            if !ready || target(endpoint).is_some_and(|target| listed.contains(&target)) {
                continue;
            }
            let pod = self.pod_of(slice, endpoint);
            let workload = pod.map(|pod| self.world.pod_workload(pod));
            let locality = self.locality(pod, endpoint.node_name.as_deref(), endpoint.zone.as_deref());
            let node = endpoint.node_name.as_deref().or_else(|| pod?.spec.node_name.as_deref()).unwrap_or_default();
            for text in &endpoint.addresses {
                let Ok(ip) = text.parse::<IpAddr>() else { continue };
                self.add(Instance {
                    address: EndpointAddress::Socket(SocketAddr::new(ip, number)),
                    weight: 1,
                    locality: Arc::clone(&locality),
                    node,
                    labels: pod.map_or(&NO_LABELS, |pod| &pod.meta.labels),
                    workload: workload.clone(),
                });
            }
        }
    }

    fn locality(&mut self, pod: Option<&Arc<Entry<Pod>>>, node: Option<&str>, zone: Option<&str>) -> Arc<str> {
        self.world.locality_of(pod, node, zone, self.reads)
    }

    fn pod_of(&mut self, slice: &Entry<EndpointSlice>, endpoint: &kube::Endpoint) -> Option<&'a Arc<Entry<Pod>>> {
        let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
        let namespace = target.namespace.as_deref().unwrap_or(slice.namespace());
        let name = ObjectRef::new("Pod", namespace, target.name.as_deref()?);
        self.reads.note(Cell::Object(name.clone()));
        self.world.objects().pods.get(&(name.namespace, name.name))
    }

    fn pods(&mut self, namespace: &str, selector: &Labels, port: impl Fn(&Pod) -> Option<u16>) {
        self.reads.note(Cell::Namespace("Pod", namespace.into()));
        for pod in in_namespace(&self.world.objects().pods, namespace) {
            let usable = pod.spec.ready && !pod.spec.terminating && selects(selector, &pod.meta.labels);
            let Some(number) = port(&pod.spec).filter(|_| usable) else { continue };
            let Some(ip) = self.families.choose(pod.spec.addresses()) else { continue };
            let locality = self.locality(Some(pod), None, None);
            self.add(Instance {
                address: EndpointAddress::Socket(SocketAddr::new(ip, number)),
                weight: 1,
                locality,
                node: pod.spec.node_name.as_deref().unwrap_or_default(),
                labels: &pod.meta.labels,
                workload: Some(self.world.pod_workload(pod)),
            });
        }
    }

    fn workload_entries(&mut self, namespace: &str, selector: &Labels, port: impl Fn(&WorkloadEntry) -> Option<u16>) {
        self.reads.note(Cell::Namespace("WorkloadEntry", namespace.into()));
        for entry in in_namespace(&self.world.objects().workload_entries, namespace) {
            if !selects(selector, &entry.spec.labels) {
                continue;
            }
            if let Some(number) = port(&entry.spec) {
                self.workload_entry(&entry.spec, &entry.reference.name, namespace, number);
            }
        }
    }

    fn workload_entry(&mut self, entry: &'a WorkloadEntry, name: &str, namespace: &str, port: u16) {
        if entry.address.is_empty() || entry.address.starts_with("unix:") {
            return;
        }
        let account = entry.service_account.as_deref();
        let labels = &entry.labels;
        let name = labels.get("service.istio.io/workload-name").map_or(name, String::as_str);
        let workload = self.world.workload(name, &namespace.into(), labels, account);
        self.add(Instance {
            address: address(&entry.address, port),
            weight: entry.weight.filter(|weight| *weight > 0).unwrap_or(1),
            locality: entry
                .locality
                .as_deref()
                .filter(|text| !text.is_empty())
                .map_or_else(|| locality(labels), Arc::from),
            node: "",
            labels,
            workload: Some(workload),
        });
    }

    fn service_entry(&mut self, entry: &'a Arc<Entry<ServiceEntry>>, port: &ServicePort, host: &str) {
        let spec = &entry.spec;
        let Some(own) = spec.ports.iter().find(|own| own.number == u32::from(port.number)) else { return };
        let default = own.target_port.unwrap_or(own.number);
        let number = |workload: &WorkloadEntry| {
            u16::try_from(workload.ports.get(&own.name).copied().unwrap_or(default)).ok().filter(|port| *port != 0)
        };
        let Ok(default_number) = u16::try_from(default) else { return };
        if let Some(selector) = &spec.workload_selector {
            self.pods(entry.namespace(), &selector.labels, |_| Some(default_number));
            self.workload_entries(entry.namespace(), &selector.labels, number);
            return;
        }
        let dns = matches!(
            spec.resolution.unwrap_or_default(),
            crate::api::Resolution::Dns | crate::api::Resolution::DnsRoundRobin
        );
        let usable = |workload: &&WorkloadEntry| dns || workload.address.parse::<IpAddr>().is_ok();
        for workload in spec.endpoints.iter().filter(usable) {
            if let Some(port) = number(workload) {
                // Nobody says what runs there, if not its labels.
                self.workload_entry(workload, "", entry.namespace(), port);
            }
        }
        if dns && spec.endpoints.is_empty() && !host.starts_with('*') {
            self.add(Instance {
                address: address(host, default_number),
                weight: 1,
                locality: "".into(),
                node: "",
                labels: &NO_LABELS,
                workload: None,
            });
        }
    }
}

/// Kind, namespace and name of what an endpoint is.
type Target<'a> = (Option<&'a str>, Option<&'a str>, &'a str);

fn target(endpoint: &kube::Endpoint) -> Option<Target<'_>> {
    let target = endpoint.target_ref.as_ref()?;
    Some((target.kind.as_deref(), target.namespace.as_deref(), target.name.as_deref()?))
}

/// Files may leave the type out.
fn is_v6(slice: &EndpointSlice) -> bool {
    match slice.address_type.as_deref() {
        Some(family) => family == "IPv6",
        None => slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).any(|address| address.contains(':')),
    }
}

/// An IP, or a name that the proxy resolves.
fn address(text: &str, port: u16) -> EndpointAddress {
    match text.parse::<IpAddr>() {
        Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip, port)),
        Err(_) => EndpointAddress::Dns { host: text.to_ascii_lowercase().into(), port },
    }
}

/// Label `istio-locality`: `region.zone.subzone`, since labels cannot hold a `/`.
fn locality(labels: &Labels) -> Arc<str> {
    match labels.get("istio-locality") {
        Some(text) if text.contains('/') => text.as_str().into(),
        Some(text) => text.replace('.', "/").into(),
        None => "".into(),
    }
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
