//! Destinations: from a host as a rule names it to a key, with the settings and endpoints behind it. Only what some rule
//! names is emitted, and of a sidecar what needs no rule; what does not exist is `Unknown` and a diagnostic.

use std::sync::Arc;

use super::destination_rule::Policy;
use super::findings::nearest;
use super::locality;
use super::{Context, auto_passthrough};
use crate::api::{self, ClientTlsMode, DestinationRule, Subset, VirtualService};
use crate::diag;
use crate::model::{
    Destination, DestinationRef, Endpoint, EndpointAddress, Endpoints, Key, MtlsMode, Reach, Role, UpstreamProtocol,
    UpstreamTls,
};
use crate::object::ObjectRef;
use crate::world::{
    Cell, Consolidated, Entry, Instance, Protocol, Resolution, Service, ServicePort, TargetPort, hostname, selects,
};

/// Label of pods that speak the mesh's mutual TLS: the injection sets it.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// `outbound|9080|v1|reviews.default.svc.cluster.local`
fn key(port: u16, subset: &str, host: &str) -> Key {
    format!("outbound|{port}|{subset}|{host}").into()
}

/// A destination as a rule names it, with the place where it does.
struct Named<'n, T> {
    entry: &'n Arc<Entry<T>>,
    field: &'n str,
    host: &'n str,
    subset: &'n str,
}

impl<'a> Context<'a> {
    /// `field` is the destination's place; `listener_port` counts where a service has several ports and none is named.
    pub(super) fn destination<T>(
        &mut self,
        entry: &Arc<Entry<T>>,
        destination: &api::Destination,
        field: &str,
        listener_port: u16,
    ) -> DestinationRef {
        let host = hostname::expand(&destination.host, entry.namespace());
        let subset = destination.subset.as_deref().unwrap_or_default();
        let named = Named { entry, field, host: &host, subset };
        let wanted =
            destination.port.map(|port| u16::try_from(port.number).unwrap_or_default()).filter(|port| *port != 0);
        let Some(service) = self.service(&host) else {
            self.unknown_host(&named, &destination.host);
            return DestinationRef::Unknown(key(wanted.unwrap_or(listener_port), subset, &host));
        };
        let number = match (wanted, service.ports.as_slice()) {
            (Some(number), _) => number,
            (None, [only]) => only.number,
            (None, _) => listener_port,
        };
        let key = key(number, subset, &host);
        if self.destinations.contains_key(&key) {
            return DestinationRef::Known(key);
        }
        let Some(port) = service.port(number) else {
            self.unknown_port(&named, service, wanted, number);
            return DestinationRef::Unknown(key);
        };
        if self.emit(Some(&named), &key, service, port) {
            DestinationRef::Known(key)
        } else {
            DestinationRef::Unknown(key)
        }
    }

    /// A port of a service that needs no rule.
    pub(super) fn default_destination(&mut self, service: &'a Arc<Service>, port: &ServicePort) -> DestinationRef {
        let key = key(port.number, "", &service.host);
        if self.destinations.contains_key(&key) || self.emit::<VirtualService>(None, &key, service, port) {
            DestinationRef::Known(key)
        } else {
            DestinationRef::Unknown(key)
        }
    }

    /// A subset of a port of a service, which its rule has.
    pub(super) fn subset_destination(
        &mut self,
        service: &'a Arc<Service>,
        port: &ServicePort,
        (subset, rule): (&Subset, &Arc<Entry<DestinationRule>>),
    ) -> DestinationRef {
        let key = key(port.number, &subset.name, &service.host);
        let field = format!("spec.subsets[{}]", subset.index);
        let named = Named { entry: rule, field: &field, host: &service.host, subset: &subset.name };
        if self.destinations.contains_key(&key) || self.emit(Some(&named), &key, service, port) {
            DestinationRef::Known(key)
        } else {
            DestinationRef::Unknown(key)
        }
    }

    /// What a host means to the proxy, whoever names it: what the workload itself would reach by it; what only rules name need
    /// not be in its Sidecar.
    pub(super) fn service(&mut self, host: &str) -> Option<&'a Arc<Service>> {
        let own = self.proxy.namespace.as_str();
        self.seen(host).or_else(|| self.world.index().registry.find(host, own, own))
    }

    /// What a host means to the workload: one of the proxy's own namespace, else the first visible one.
    pub(super) fn seen(&mut self, host: &str) -> Option<&'a Arc<Service>> {
        self.reads.note(Cell::Host(host.into()));
        let (own, scope) = (self.proxy.namespace.as_str(), &self.scope);
        if self.sees_all {
            return self.world.index().registry.first(host, own);
        }
        self.world.index().registry.find_among(host, own, own, |service| scope.sees(service))
    }

    /// The service of that name that a namespace has itself.
    pub(super) fn service_of(&mut self, namespace: &str, host: &str) -> Option<&'a Arc<Service>> {
        self.reads.note(Cell::Host(host.into()));
        self.world.index().registry.of_namespace(host, namespace)
    }

    /// Whether the destination exists and can be reached as its rule demands.
    fn emit<T>(
        &mut self,
        named: Option<&Named<'_, T>>,
        key: &Key,
        service: &'a Arc<Service>,
        port: &ServicePort,
    ) -> bool {
        let rule = self.rule_of(service);
        let wanted = named.filter(|named| !named.subset.is_empty());
        let subset = rule.as_ref().zip(wanted).and_then(|(rule, named)| rule.subset(named.subset));
        if let Some(named) = wanted.filter(|_| subset.is_none()) {
            self.unknown_subset(named, service, rule.as_ref());
            return false;
        }
        let top = rule.as_ref().and_then(|rule| rule.policy);
        let policy = Policy::merge(top, subset.and_then(|subset| subset.traffic_policy.as_ref()), port.number);
        let tls = match policy.tls().map(|tls| (tls, tls.mode.unwrap_or_default())) {
            None => self.auto_tls(),
            Some((_, ClientTlsMode::Disable)) => UpstreamTls::Disable,
            Some((_, ClientTlsMode::IstioMutual)) => UpstreamTls::Mutual,
            Some((tls, ClientTlsMode::Simple | ClientTlsMode::Mutual)) => {
                let origination = rule.as_ref().and_then(|rule| self.origination(tls, service, rule.first));
                let Some(origination) = origination else { return false };
                UpstreamTls::Originate(Arc::new(origination))
            }
        };
        let mut reach = self.reach(service, port);
        if policy.passes_through() {
            if self.proxy.role == Role::Edge {
                rule.iter().for_each(|rule| self.no_original(rule, service));
                return false;
            }
            reach = Some(Reach::Original);
        }
        if let (Some(named), None) = (named, reach) {
            self.unreachable_host(named, service);
        }
        let mesh = self.world.mesh();
        let outlier = policy.outlier(mesh);
        let locality = self.locality_rule(&policy, rule.as_ref(), service, outlier.is_some());
        let destination = Destination {
            key: Arc::clone(key),
            host: Arc::clone(&service.host),
            service_name: Arc::clone(&service.name),
            service_namespace: Arc::clone(&service.namespace),
            port: port.number,
            subset: wanted.map(|named| named.subset.into()),
            protocol: self.upstream_protocol(policy.protocol(mesh, port), port),
            balancing: policy.balancing(),
            locality,
            warmup: policy.warmup(),
            outlier: outlier.map(Box::new),
            tls,
            limits: policy.limits(mesh),
            connections: policy.connections(mesh),
            connect_timeout: policy.connect_timeout(mesh),
            idle_timeout: policy.idle_timeout(mesh),
            reach: reach.unwrap_or_default(),
            origin: service.origin.clone(),
            rule: rule.as_ref().map(|rule| rule.first.reference.clone()),
        };
        if let Some(rule) = &rule {
            self.doubt_connections(rule, (service, port), &policy, &destination);
        }
        self.destinations.insert(Arc::clone(key), Arc::new(destination));
        true
    }

    /// How connections to a service find their way. None: the proxy does not know any.
    fn reach(&self, service: &Service, port: &ServicePort) -> Option<Reach> {
        match (&service.resolution, self.proxy.role) {
            (Resolution::Original, Role::Edge) => None,
            (Resolution::Dynamic, _) => Some(Reach::Named(match port.target {
                TargetPort::Number(number) => number,
                TargetPort::Name(_) => port.number,
            })),
            (Resolution::Original, Role::Sidecar) => Some(Reach::Original),
            _ if self.proxy.role == Role::Sidecar && service.is_headless() => Some(Reach::Addressed),
            _ => Some(Reach::Discovered),
        }
    }

    /// A gateway speaks HTTP/1.1 where nobody says what is spoken; a sidecar is in nobody's way.
    fn upstream_protocol(&self, protocol: UpstreamProtocol, port: &ServicePort) -> UpstreamProtocol {
        let open = protocol == UpstreamProtocol::Http1 && port.protocol == Protocol::Auto;
        if open && self.proxy.role == Role::Sidecar { UpstreamProtocol::AsClient } else { protocol }
    }

    fn unreachable_host<T>(&mut self, named: &Named<'_, T>, service: &Service) {
        let help = "use resolution DNS, STATIC or DYNAMIC_DNS for services that a gateway shall reach";
        let message = format!(
            "the ServiceEntry {} of `{}` resolves to what the client asked for, which a gateway does not do yet",
            service.origin, service.host
        );
        let field = format!("{}.host", named.field);
        self.findings.report(diag::DESTINATION_NOT_BUILT, named.entry, &field, message, Some(help.to_owned()));
    }

    fn no_original(&mut self, rule: &Consolidated<'_>, service: &Service) {
        let message = format!(
            "`PASSTHROUGH` is where the client of a workload was going, which a gateway does not know; \
             requests to `{}` are answered 503",
            service.host
        );
        let help = "use another algorithm; with `workloadSelector` a rule can be for some workloads only".to_owned();
        let field = "spec.trafficPolicy.loadBalancer.simple";
        self.findings.report(diag::DESTINATION_NOT_BUILT, rule.first, field, message, Some(help));
    }

    /// Where no rule says it.
    fn auto_tls(&self) -> UpstreamTls {
        let off = self.world.mesh().config.enable_auto_mtls == Some(false);
        if off { UpstreamTls::Disable } else { UpstreamTls::Auto }
    }

    /// The endpoints of a destination that was found before.
    pub(super) fn endpoints(&mut self, destination: &Destination) -> Option<Endpoints> {
        let service = self.service(&destination.host)?;
        let port = service.port(destination.port)?;
        let mut instances = self.world.instances(service, port, self.proxy.families, &mut self.reads);
        if let Some(name) = &destination.subset {
            let rule = self.rule_of(service)?;
            let subset = rule.subset(name)?;
            instances.retain(|instance| selects(&subset.labels, instance.labels));
        }
        let inside = !service.is_external();
        let endpoints = instances.into_iter().map(|instance| Endpoint {
            mtls: inside && self.speaks_mtls(&instance, service),
            priority_labels: locality::priority_labels(destination, &instance),
            address: instance.address,
            weight: instance.weight,
            locality: instance.locality,
            workload: instance.workload,
        });
        let mut endpoints: Vec<Endpoint> = endpoints.collect();
        if auto_passthrough::is_for(&destination.key) {
            endpoints.retain(|endpoint| endpoint.mtls);
        }
        endpoints.shrink_to_fit();
        Some(Endpoints { key: Arc::clone(&destination.key), endpoints, origin: service.origin.clone() })
    }

    /// Whether an endpoint takes mutual TLS: its proxy knows it, and no PeerAuthentication switches it off.
    pub(super) fn speaks_mtls(&mut self, instance: &Instance<'_>, service: &Service) -> bool {
        if instance.labels.get(TLS_MODE).is_none_or(|mode| mode != "istio") {
            return false;
        }
        let port = match &instance.address {
            EndpointAddress::Socket(address) => address.port(),
            EndpointAddress::Dns { port, .. } => *port,
            EndpointAddress::Unix(_) => return false,
        };
        let namespace = instance.workload.as_ref().map_or(&service.namespace, |workload| &workload.namespace);
        self.peer_modes(namespace, instance.labels).of(port) != MtlsMode::Disable
    }

    /// DestinationRules that are merged behind the one that a destination names.
    pub(super) fn merged_rules(&mut self, destination: &Destination) -> Vec<ObjectRef> {
        let rule = destination.rule.as_ref().and_then(|_| self.service(&destination.host));
        let rule = rule.and_then(|service| self.rule_of(service));
        rule.iter().flat_map(|rule| &rule.others).map(|entry| entry.reference.clone()).collect()
    }

    /// Subsets of a rule that select none of the service's endpoints, whether a route names them or not.
    pub(super) fn subsets(&mut self, entry: &Entry<DestinationRule>, service: &Service) {
        let Some(port) = service.ports.first().filter(|_| !entry.spec.subsets.is_empty()) else { return };
        let instances = self.world.instances(service, port, self.proxy.families, &mut self.reads);
        for subset in &entry.spec.subsets {
            if instances.is_empty() || instances.iter().any(|instance| selects(&subset.labels, instance.labels)) {
                continue;
            }
            let labels: Vec<String> = subset.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message = format!(
                "none of the {} endpoints of `{}` has the labels {} of subset `{}`; it answers 503",
                instances.len(),
                service.host,
                labels.join(","),
                subset.name
            );
            let field = format!("spec.subsets[{}].labels", subset.index);
            self.findings.report(diag::SUBSET_WITHOUT_ENDPOINTS, entry, &field, message, None);
        }
    }

    fn unknown_host<T>(&mut self, named: &Named<'_, T>, written: &str) {
        let registry = &self.world.index().registry;
        let in_cluster = format!("{}.svc.{}", named.host, hostname::CLUSTER_DOMAIN);
        self.reads.note(Cell::Host(in_cluster.as_str().into()));
        let help = if registry.contains(named.host) {
            Some("it exists, but is not exported to the proxy's namespace".to_owned())
        } else if registry.contains(&in_cluster) {
            Some(format!("names with a dot are taken as they are: write `{in_cluster}`"))
        } else {
            None
        };
        let host = named.host;
        let message = if written == host {
            format!("no Service or ServiceEntry is called `{host}`; its share of requests is answered 503")
        } else {
            format!("`{written}` is `{host}`, and no Service or ServiceEntry is called so; its share is answered 503")
        };
        let (code, field) = (diag::DESTINATION_HOST_UNKNOWN, format!("{}.host", named.field));
        match help {
            None => self.findings.report_host(code, named.entry, &field, message, host),
            help => self.findings.report(code, named.entry, &field, message, help),
        }
    }

    fn unknown_port<T>(&mut self, named: &Named<'_, T>, service: &Service, wanted: Option<u16>, number: u16) {
        let has: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
        let has = if has.is_empty() { "no ports".to_owned() } else { format!("ports {}", has.join(", ")) };
        let (field, message) = match wanted {
            Some(number) => (
                format!("{}.port.number", named.field),
                format!("`{}` has {has}, not {number}; its share of requests is answered 503", named.host),
            ),
            None => (
                format!("{}.host", named.field),
                format!(
                    "`{}` has {has} and none is named, so the listener's port {number} is taken, which is none of them: 503",
                    named.host
                ),
            ),
        };
        let help = "set `destination.port.number` to one of the service's ports".to_owned();
        self.findings.report(diag::DESTINATION_PORT_UNKNOWN, named.entry, &field, message, Some(help));
    }

    fn unknown_subset<T>(&mut self, named: &Named<'_, T>, service: &Service, rule: Option<&Consolidated<'_>>) {
        let subset = named.subset;
        let (message, help) = match rule {
            Some(rule) => {
                let names: Vec<&str> = rule.subsets.iter().map(|(subset, _)| subset.name.as_str()).collect();
                let has =
                    if names.is_empty() { "no subsets".to_owned() } else { format!("subsets {}", names.join(", ")) };
                let message = format!(
                    "{} has {has} for `{}`, not `{subset}`; its share of requests is answered 503",
                    rule.first.reference, service.host
                );
                (message, nearest(subset, names.into_iter()))
            }
            None => {
                let message = format!(
                    "no DestinationRule for `{}` is in force, so there is no subset `{subset}`; its share is answered 503",
                    service.host
                );
                (message, Some(self.rule_elsewhere(service)))
            }
        };
        let field = format!("{}.subset", named.field);
        self.findings.report(diag::DESTINATION_SUBSET_UNKNOWN, named.entry, &field, message, help);
    }

    fn rule_elsewhere(&mut self, service: &Service) -> String {
        self.reads.note(Cell::Kind("DestinationRule"));
        let places = format!(
            "`{}` (the proxy's), `{}` (the service's) and `{}` (the mesh's root)",
            self.proxy.namespace,
            service.namespace,
            self.world.mesh().root_namespace
        );
        let same = |host: &str, namespace: &str| hostname::expand(host, namespace) == *service.host;
        let other = self.world.destination_rules().find(|entry| same(&entry.spec.host, entry.namespace()));
        match other {
            Some(entry) => {
                format!("{} is not looked up: only namespaces {places} are, if it is exported", entry.reference)
            }
            None => format!("define it in a DestinationRule in one of the namespaces {places}"),
        }
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
