//! What a workload is called for: a port for each target of a Service that selects it, or those that its Sidecar names, with what
//! it demands of its clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Context;
use super::concerned::{self, Composite, Concerned};
use super::destination_rule::Policy;
use super::findings::Said;
use super::http_action::NO_RETRIES;
use super::ingress::{Ingress, LeadsTo};
use super::ports::{selects_proxy, stands_before, wildcard};
use crate::api::{ConnectionPool, Sidecar};
use crate::model::{
    Balancing, Destination, DestinationRef, Endpoint, EndpointAddress, Endpoints, HostPattern, INBOUND_PASSTHROUGH,
    Inbound as InboundListener, InboundPort, InboundProtocol, Key, ListenAddress, Listener, ListenerProtocol, MtlsMode,
    Reach, ResourceSet, RetryPolicy, RouteSet, UpstreamProtocol, UpstreamTls, VirtualHost,
};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, Protocol, Reads, Service, ServicePort, hostname};

/// Where redirected connections to the workload arrive.
const PORT: u16 = 15006;

/// What arrives at a workload.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    listener: Option<Arc<Listener>>,
    /// To which nothing is redirected.
    own: Vec<Arc<Listener>>,
    /// The PeerAuthentications that the listener follows.
    demands: Vec<ObjectRef>,
    ports: Vec<Served>,
    pub findings: Vec<Said>,
    pub reads: Reads,
}

/// The resources of a port, all with one key.
#[derive(Debug)]
struct Served {
    routes: Arc<RouteSet>,
    destination: Arc<Destination>,
    endpoints: Arc<Endpoints>,
}

/// The service that a port is one of, and what the port speaks.
pub(super) struct Target<'a> {
    pub host: Arc<str>,
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub protocol: Protocol,
    pub origin: ObjectRef,
    /// What the service's DestinationRule says of connections here too, and that rule.
    pub pool: Option<(&'a ConnectionPool, ObjectRef)>,
}

impl Inbound {
    pub fn read(context: &mut Context<'_>) -> Inbound {
        let mut targets = targets(context);
        let (namespace, labels) = (&context.proxy.namespace, &context.proxy.labels);
        let modes = context.peer_modes(namespace, labels);
        let scope = Arc::clone(&context.scope);
        let entry = scope.entry.as_deref();
        let mut listener = InboundListener { ports: BTreeMap::new(), others: unserved(modes.others), direct: false };
        let mut ports = vec![context.unserved_port()];
        let mut own = Vec::new();
        let mut serve = |context: &Context<'_>, ingress: &Ingress<'_>, target: &Target<'_>| {
            let key: Key = format!("inbound|{}||", ingress.number).into();
            ports.push(context.served(&key, ingress, target));
            let mtls = modes.of(ingress.number);
            let protocol = protocol(ingress.protocol);
            let (routes, tls) = (Arc::clone(&key), ingress.tls.clone());
            let port = InboundPort { protocol, mtls, routes, destination: key, tls };
            listener.ports.insert(ingress.number, port.clone());
            port
        };
        match entry.and_then(|entry| Some((entry, context.ingress(entry, &modes)?))) {
            Some((entry, all)) => {
                for ingress in &all {
                    let target = targets.remove(&ingress.number).unwrap_or_else(|| Target::of_sidecar(entry));
                    let port = serve(context, ingress, &target);
                    own.extend(ingress.own.map(|address| Arc::new(context.own_port(address, port, entry))));
                }
            }
            None => {
                let pool = entry.and_then(|entry| entry.spec.inbound_connection_pool.as_ref());
                for (number, target) in &targets {
                    serve(context, &Ingress::of_service(*number, target.protocol, pool), target);
                }
            }
        }
        for (number, mode) in &modes.ports {
            // Some port of the workload that no Service has.
            listener.ports.entry(*number).or_insert_with(|| unserved(*mode));
        }
        Inbound {
            demands: modes.origins,
            listener: Some(Arc::new(context.captured(PORT, ListenerProtocol::Inbound(listener)))),
            own,
            ports,
            findings: context.findings.take(),
            reads: std::mem::take(&mut context.reads),
        }
    }

    pub fn put(&self, set: &mut ResourceSet) {
        for listener in self.listener.iter().chain(&self.own) {
            set.listeners.insert(Arc::clone(&listener.key), Arc::clone(listener));
        }
        for port in &self.ports {
            set.routes.insert(Arc::clone(&port.routes.key), Arc::clone(&port.routes));
            set.destinations.insert(Arc::clone(&port.destination.key), Arc::clone(&port.destination));
            set.endpoints.insert(Arc::clone(&port.endpoints.key), Arc::clone(&port.endpoints));
        }
    }

    pub fn note(&self, concerned: &mut Concerned) {
        if let Some(listener) = &self.listener {
            concerned::note(concerned, Composite::Listener(Arc::clone(&listener.key)), self.demands.clone());
        }
    }

    pub fn take_out(&self, set: &mut ResourceSet) {
        for listener in &self.own {
            set.listeners.remove(&listener.key);
        }
        for port in &self.ports {
            // All have one key.
            set.routes.remove(&port.routes.key);
            set.destinations.remove(&port.routes.key);
            set.endpoints.remove(&port.routes.key);
        }
    }
}

fn protocol(protocol: Protocol) -> InboundProtocol {
    match protocol {
        Protocol::Auto => InboundProtocol::Detect,
        Protocol::Https | Protocol::Tls | Protocol::Tcp => InboundProtocol::Tcp,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => InboundProtocol::Http,
    }
}

fn unserved(mtls: MtlsMode) -> InboundPort {
    let key: Key = INBOUND_PASSTHROUGH.into();
    InboundPort { protocol: InboundProtocol::Detect, mtls, routes: Arc::clone(&key), destination: key, tls: None }
}

/// By port of the workload. Of several Services for a port the oldest counts, and before ServiceEntries.
fn targets<'a>(context: &mut Context<'a>) -> BTreeMap<u16, Target<'a>> {
    let (world, proxy) = (context.world, context.proxy);
    let namespace: Arc<str> = proxy.namespace.as_str().into();
    context.reads.note(Cell::Namespace("Service", Arc::clone(&namespace)));
    context.reads.note(Cell::Namespace("ServiceEntry", Arc::clone(&namespace)));
    let mut targets = BTreeMap::new();
    let registry = &world.index().registry;
    let mut services: Vec<_> =
        world.kube_services(&namespace).filter(|service| selects_proxy(&service.spec, proxy)).collect();
    services.sort_by(|a, b| a.age().cmp(&b.age()));
    for service in services {
        let host = hostname::service(&service.reference.name, &namespace);
        let Some(known) = registry.of_namespace(&host, &namespace) else { continue };
        for port in &service.spec.ports {
            let Some(spoken) = known.port(port.port).filter(|own| *own.name == *port.name) else { continue };
            if let Some(number) = world.target_port(service, port, &mut context.reads) {
                targets.entry(number).or_insert_with(|| context.target(known, spoken));
            }
        }
    }
    let mut entries: Vec<_> =
        world.service_entries(&namespace).filter(|entry| stands_before(&entry.spec, proxy)).collect();
    entries.sort_by(|a, b| a.age().cmp(&b.age()));
    for entry in entries {
        let host = entry.spec.hosts.first().map(|host| host.to_ascii_lowercase()).unwrap_or_default();
        let Some(known) = registry.of_namespace(&host, &namespace) else { continue };
        for port in &entry.spec.ports {
            let target = port.target_port.filter(|target| *target != 0).unwrap_or(port.number);
            let (Ok(number), Ok(target)) = (u16::try_from(port.number), u16::try_from(target)) else { continue };
            if let Some(spoken) = known.port(number) {
                targets.entry(target).or_insert_with(|| context.target(known, spoken));
            }
        }
    }
    targets
}

impl<'a> Context<'a> {
    fn target(&mut self, service: &Service, port: &ServicePort) -> Target<'a> {
        // Its rules, too.
        self.reads.note(Cell::Host(Arc::clone(&service.host)));
        let rule = self.rule_of_own(service);
        Target {
            host: Arc::clone(&service.host),
            name: Arc::clone(&service.name),
            namespace: Arc::clone(&service.namespace),
            protocol: port.protocol,
            origin: service.origin.clone(),
            pool: rule.and_then(|rule| Some((Policy::own_pool(&rule, port.number)?, rule.first.reference.clone()))),
        }
    }
}

impl Context<'_> {
    /// Key of a listener of redirected connections.
    pub(super) fn listener_key(&self, port: u16) -> Key {
        SocketAddr::new(wildcard(self.proxy), port).to_string().into()
    }

    /// A listener of redirected connections.
    pub(super) fn captured(&self, port: u16, protocol: ListenerProtocol) -> Listener {
        self.listener(SocketAddr::new(wildcard(self.proxy), port), protocol, settings_of_mesh())
    }

    pub(super) fn listener(
        &self,
        address: impl Into<ListenAddress>,
        protocol: ListenerProtocol,
        origin: ObjectRef,
    ) -> Listener {
        let address = address.into();
        Listener {
            key: address.to_string().into(),
            port: address.port(),
            address,
            protocol,
            path_normalization: self.world.mesh().path_normalization,
            origin,
            server: None,
        }
    }

    /// Where clients come to a port of the workload by themselves.
    fn own_port(&self, address: SocketAddr, port: InboundPort, entry: &Entry<Sidecar>) -> Listener {
        let ports = BTreeMap::from([(address.port(), port.clone())]);
        let inbound = InboundListener { ports, others: port, direct: true };
        self.listener(address, ListenerProtocol::Inbound(inbound), entry.reference.clone())
    }

    fn served(&self, key: &Key, ingress: &Ingress<'_>, target: &Target<'_>) -> Served {
        let grpc = matches!(ingress.protocol, Protocol::Grpc | Protocol::GrpcWeb);
        // A call may be streaming what cannot be sent twice.
        let retry = if grpc { Arc::clone(&NO_RETRIES) } else { self.inbound_retries() };
        self.workload(key, ingress, target, retry)
    }

    /// Ports that no Service has.
    fn unserved_port(&self) -> Served {
        let key: Key = INBOUND_PASSTHROUGH.into();
        let target = Target {
            host: Arc::clone(&key),
            name: Arc::clone(&key),
            namespace: self.proxy.namespace.as_str().into(),
            protocol: Protocol::Auto,
            origin: settings_of_mesh(),
            pool: None,
        };
        let entry = self.scope.entry.as_deref();
        let pool = entry.and_then(|entry| entry.spec.inbound_connection_pool.as_ref());
        self.workload(&key, &Ingress::of_service(0, Protocol::Auto, pool), &target, Arc::clone(&NO_RETRIES))
    }

    /// The way to the workload.
    fn workload(&self, key: &Key, ingress: &Ingress<'_>, target: &Target<'_>, retry: Arc<RetryPolicy>) -> Served {
        let known = DestinationRef::Known(Arc::clone(key));
        let (to, reach) = match &ingress.leads_to {
            LeadsTo::Same => (known, Reach::OwnWorkload),
            LeadsTo::Port(port) => (known, Reach::OwnPort(*port)),
            LeadsTo::Address(_) => (known, Reach::Discovered),
        };
        let host = VirtualHost {
            host: HostPattern::Any,
            aliases: Vec::new(),
            https_redirect: false,
            rules: vec![self.forward_all("default", to, retry, &target.origin)],
            origin: target.origin.clone(),
        };
        let routes = RouteSet {
            key: Arc::clone(key),
            virtual_hosts: vec![Arc::new(host)],
            tcp: Vec::new(),
            origin: target.origin.clone(),
        };
        // What the Sidecar says of its ports counts before what their services say.
        let of_rule = target.pool.as_ref().filter(|_| ingress.pool.is_none());
        let policy = Policy::of_pool(ingress.pool.or(of_rule.map(|(pool, _)| *pool)));
        let mesh = self.world.mesh();
        let destination = Destination {
            key: Arc::clone(key),
            host: Arc::clone(&target.host),
            service_name: Arc::clone(&target.name),
            service_namespace: Arc::clone(&target.namespace),
            port: ingress.number,
            subset: None,
            protocol: match ingress.protocol {
                _ if policy.is_as_client(mesh) => UpstreamProtocol::AsClient,
                Protocol::Auto => UpstreamProtocol::AsClient,
                protocol if protocol.is_http2() => UpstreamProtocol::Http2,
                _ => UpstreamProtocol::Http1,
            },
            balancing: Balancing::default(),
            locality: None,
            warmup: None,
            outlier: None,
            tls: UpstreamTls::Disable,
            limits: policy.limits(mesh),
            connections: policy.connections(mesh),
            connect_timeout: policy.connect_timeout(mesh),
            idle_timeout: policy.idle_timeout(mesh),
            reach,
            origin: target.origin.clone(),
            rule: of_rule.map(|(_, rule)| rule.clone()),
        };
        let mut endpoints = no_endpoints(&destination);
        if let LeadsTo::Address(address) = &ingress.leads_to {
            endpoints.endpoints.push(at(address.clone()));
        }
        Served { routes: Arc::new(routes), destination: Arc::new(destination), endpoints: Arc::new(endpoints) }
    }
}

/// The workload, where it listens.
fn at(address: EndpointAddress) -> Endpoint {
    Endpoint { address, weight: 1, locality: Arc::default(), workload: None, mtls: false, priority_labels: None }
}

/// Of a destination that is reached where the client was going.
pub(super) fn no_endpoints(destination: &Destination) -> Endpoints {
    Endpoints { key: Arc::clone(&destination.key), endpoints: Vec::new(), origin: destination.origin.clone() }
}

/// Origin of what comes from no object of its own.
pub(super) fn settings_of_mesh() -> ObjectRef {
    ObjectRef::new("ConfigMap", "istio-system", "istio")
}
