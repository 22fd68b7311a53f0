//! What a workload is called for: a port for each target of a Service that selects it, with what it demands of its clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Context;
use super::concerned::{self, Composite, Concerned};
use super::destination_rule::IDLE_TIMEOUT;
use super::findings::Said;
use super::http_action::read_retries;
use super::ports::{selects_proxy, stands_before, wildcard};
use crate::model::{
    Balancing, Destination, DestinationRef, Endpoints, HostPattern, INBOUND_PASSTHROUGH, Inbound as InboundListener,
    InboundPort, InboundProtocol, Key, Listener, ListenerProtocol, MtlsMode, Reach, ResourceSet, RetryPolicy, RouteSet,
    UpstreamProtocol, UpstreamTls, VirtualHost,
};
use crate::object::ObjectRef;
use crate::world::{Cell, Protocol, Reads, Service, hostname};

/// Where redirected connections to the workload arrive.
const PORT: u16 = 15006;

/// What arrives at a workload.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    listener: Option<Arc<Listener>>,
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
struct Target {
    host: Arc<str>,
    name: Arc<str>,
    namespace: Arc<str>,
    protocol: Protocol,
    origin: ObjectRef,
}

impl Inbound {
    pub fn read(context: &mut Context<'_>) -> Inbound {
        let targets = targets(context);
        let (namespace, labels) = (&context.proxy.namespace, &context.proxy.labels);
        let modes = context.peer_modes(namespace, labels);
        let mut listener = InboundListener { ports: BTreeMap::new(), others: unserved(modes.others) };
        let mut ports = vec![context.unserved_port()];
        for (number, target) in &targets {
            let key: Key = format!("inbound|{number}||").into();
            ports.push(context.served(&key, *number, target));
            let port = InboundPort {
                protocol: protocol(target.protocol),
                mtls: modes.of(*number),
                routes: Arc::clone(&key),
                destination: key,
            };
            listener.ports.insert(*number, port);
        }
        for (number, mode) in &modes.ports {
            // Some port of the workload that no Service has.
            listener.ports.entry(*number).or_insert_with(|| unserved(*mode));
        }
        Inbound {
            demands: context.peer_origins(namespace, labels),
            listener: Some(Arc::new(context.captured(PORT, ListenerProtocol::Inbound(listener)))),
            ports,
            findings: context.findings.take(),
            reads: std::mem::take(&mut context.reads),
        }
    }

    pub fn put(&self, set: &mut ResourceSet) {
        if let Some(listener) = &self.listener {
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
        for port in &self.ports {
            set.routes.remove(&port.routes.key);
            set.destinations.remove(&port.destination.key);
            set.endpoints.remove(&port.endpoints.key);
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
    InboundPort { protocol: InboundProtocol::Detect, mtls, routes: Arc::clone(&key), destination: key }
}

/// By port of the workload. Of several Services for a port the oldest counts, and before ServiceEntries.
fn targets(context: &mut Context<'_>) -> BTreeMap<u16, Target> {
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
                targets.entry(number).or_insert_with(|| Target::of(known, spoken.protocol));
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
                targets.entry(target).or_insert_with(|| Target::of(known, spoken.protocol));
            }
        }
    }
    targets
}

impl Target {
    fn of(service: &Service, protocol: Protocol) -> Target {
        Target {
            host: Arc::clone(&service.host),
            name: Arc::clone(&service.name),
            namespace: Arc::clone(&service.namespace),
            protocol,
            origin: service.origin.clone(),
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
        let address = SocketAddr::new(wildcard(self.proxy), port);
        Listener {
            key: self.listener_key(port),
            address,
            port,
            protocol,
            path_normalization: self.world.mesh().path_normalization,
            origin: settings_of_mesh(),
        }
    }

    fn served(&self, key: &Key, port: u16, target: &Target) -> Served {
        let grpc = matches!(target.protocol, Protocol::Grpc | Protocol::GrpcWeb);
        let config = &self.world.mesh().config;
        let retry = match grpc {
            // A call may be streaming what cannot be sent twice.
            true => RetryPolicy::default(),
            false => read_retries(config.default_inbound_http_retry_policy.as_ref()),
        };
        let protocol = match target.protocol {
            Protocol::Auto => UpstreamProtocol::AsClient,
            protocol if protocol.is_http2() => UpstreamProtocol::Http2,
            _ => UpstreamProtocol::Http1,
        };
        self.own_port(key, port, target, protocol, retry)
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
        };
        self.own_port(&key, 0, &target, UpstreamProtocol::AsClient, RetryPolicy::default())
    }

    fn own_port(
        &self,
        key: &Key,
        port: u16,
        target: &Target,
        protocol: UpstreamProtocol,
        retry: RetryPolicy,
    ) -> Served {
        let rule = self.forward_all("default", DestinationRef::Known(Arc::clone(key)), retry, &target.origin);
        let host = VirtualHost {
            host: HostPattern::Any,
            aliases: Vec::new(),
            https_redirect: false,
            rules: vec![rule],
            origin: target.origin.clone(),
        };
        let routes =
            RouteSet { key: Arc::clone(key), virtual_hosts: vec![Arc::new(host)], origin: target.origin.clone() };
        let destination = Destination {
            key: Arc::clone(key),
            host: Arc::clone(&target.host),
            service_name: Arc::clone(&target.name),
            service_namespace: Arc::clone(&target.namespace),
            port,
            subset: None,
            protocol,
            balancing: Balancing::default(),
            tls: UpstreamTls::Disable,
            connect_timeout: self.world.mesh().connect_timeout,
            idle_timeout: IDLE_TIMEOUT,
            reach: Reach::OwnWorkload,
            origin: target.origin.clone(),
            rule: None,
        };
        Served {
            endpoints: Arc::new(no_endpoints(&destination)),
            routes: Arc::new(routes),
            destination: Arc::new(destination),
        }
    }
}

/// Of a destination that is reached where the client was going.
pub(super) fn no_endpoints(destination: &Destination) -> Endpoints {
    Endpoints { key: Arc::clone(&destination.key), endpoints: Vec::new(), origin: destination.origin.clone() }
}

/// Origin of what comes from no object of its own.
pub(super) fn settings_of_mesh() -> ObjectRef {
    ObjectRef::new("ConfigMap", "istio-system", "istio")
}
