//! One registry of everything that can be a destination: Kubernetes Services and ServiceEntries, by host name. It decides
//! what a service's ports, protocols and kind of resolution are; where its endpoints come from is `endpoints`' affair, and who may
//! see it is `translate`'s.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::entry::by_age;
use super::{Entry, Extent, Mesh, Objects, hostname};
use crate::api::kube::{IntOrString, Service as KubeService};
use crate::api::{Location, Protocol as ApiProtocol, Resolution as ApiResolution, ServiceEntry};
use crate::model::HostPattern;
use crate::object::ObjectRef;

/// What a port speaks, as far as its name or `appProtocol` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Tcp,
    /// Found out from the first bytes.
    Auto,
}

impl Protocol {
    /// Speaks HTTP/2 by prior knowledge.
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb)
    }

    pub fn is_http(self) -> bool {
        self.is_http2() || self == Protocol::Http
    }

    /// The word before the first `-`, in any case. None: no protocol that we know.
    fn from_word(word: &str) -> Option<Protocol> {
        Some(match word.to_ascii_lowercase().as_str() {
            "http" => Protocol::Http,
            "http2" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "grpc-web" => Protocol::GrpcWeb,
            "https" => Protocol::Https,
            "tls" => Protocol::Tls,
            "tcp" | "mongo" | "redis" | "mysql" => Protocol::Tcp,
            _ => return None,
        })
    }

    /// `appProtocol` wins over the port's name; without either, well-known ports of protocols in which the server speaks
    /// first are TCP.
    pub fn select(app_protocol: Option<&str>, name: &str, port: u16) -> Protocol {
        match app_protocol.unwrap_or(name) {
            "kubernetes.io/h2c" => Protocol::Http2,
            "kubernetes.io/ws" => Protocol::Http,
            "kubernetes.io/wss" => Protocol::Https,
            name => Protocol::from_name(name).unwrap_or(match port {
                25 | 53 | 3306 | 27017 => Protocol::Tcp,
                _ => Protocol::Auto,
            }),
        }
    }

    fn from_name(name: &str) -> Option<Protocol> {
        let lower = name.to_ascii_lowercase();
        if lower == "grpc-web" || lower.starts_with("grpc-web-") {
            return Some(Protocol::GrpcWeb);
        }
        Protocol::from_word(lower.split('-').next().unwrap_or_default())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    Number(u16),
    /// Name of a container's port; only the endpoints tell its number.
    Name(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub number: u16,
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub target: TargetPort,
}

/// How a service's endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Addresses are known.
    Static,
    /// Names that the proxy resolves.
    Dns,
    /// ExternalName: another name for that host, which may be a service of the registry.
    Alias(Arc<str>),
    /// The address that the client dialled: means nothing at a gateway.
    Original,
    /// The host of the request (`DYNAMIC_DNS`).
    Dynamic,
}

/// Namespaces that may see an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTo {
    All,
    /// Names; `.` is already replaced. Empty: nobody (`~`).
    Namespaces(Vec<Arc<str>>),
}

impl ExportTo {
    /// `exportTo` of an object in `namespace`; an empty list takes the mesh's default, and that is `*` if empty too.
    pub fn read<'a>(list: impl Iterator<Item = &'a str>, default: &[String], namespace: &str) -> ExportTo {
        let mut words: Vec<&str> = list.map(str::trim).filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            words = default.iter().map(String::as_str).collect();
        }
        if words.is_empty() || words.contains(&"*") {
            return ExportTo::All;
        }
        let own = |word: &&str| if *word == "." { namespace.into() } else { (*word).into() };
        ExportTo::Namespaces(words.iter().filter(|word| **word != "~").map(own).collect())
    }

    pub fn allows(&self, namespace: &str) -> bool {
        match self {
            ExportTo::All => true,
            ExportTo::Namespaces(list) => list.iter().any(|name| &**name == namespace),
        }
    }

    /// Whether some namespace may see both.
    pub fn meets(&self, other: &ExportTo) -> bool {
        match (self, other) {
            (ExportTo::All, ExportTo::All) => true,
            (ExportTo::All, ExportTo::Namespaces(list)) | (ExportTo::Namespaces(list), ExportTo::All) => {
                !list.is_empty()
            }
            (ExportTo::Namespaces(list), other) => list.iter().any(|name| other.allows(name)),
        }
    }
}

/// An object that gives a host ports and endpoints.
#[derive(Clone, Debug)]
pub enum Source {
    Kubernetes(Arc<Entry<KubeService>>),
    Entry(Arc<Entry<ServiceEntry>>),
}

impl Source {
    fn reference(&self) -> &ObjectRef {
        match self {
            Source::Kubernetes(entry) => &entry.reference,
            Source::Entry(entry) => &entry.reference,
        }
    }
}

/// One host in one namespace, of one or several objects.
#[derive(Clone, Debug)]
pub struct Service {
    /// Full name, lower case.
    pub host: Arc<str>,
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    /// TCP ports, in the order written.
    pub ports: Vec<ServicePort>,
    pub resolution: Resolution,
    pub export_to: ExportTo,
    /// The objects that it was made of; the first one gave it its name.
    pub sources: Vec<Source>,
    pub origin: ObjectRef,
}

impl Service {
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Its name is that of its endpoints, not of an address in front of them.
    pub fn is_headless(&self) -> bool {
        self.sources.iter().any(|source| match source {
            Source::Kubernetes(entry) => {
                let ip = entry.spec.cluster_ips.first().or(entry.spec.cluster_ip.as_ref());
                ip.is_some_and(|ip| ip == "None") && entry.spec.kind.as_deref() != Some("ExternalName")
            }
            Source::Entry(_) => false,
        })
    }

    /// Addresses that stand for the service, and blocks of them, each once.
    pub fn networks(&self) -> Vec<IpNet> {
        let mut networks: Vec<IpNet> = Vec::new();
        for source in &self.sources {
            let texts: Vec<&String> = match source {
                Source::Kubernetes(entry) if entry.spec.cluster_ips.is_empty() => {
                    entry.spec.cluster_ip.iter().collect()
                }
                Source::Kubernetes(entry) => entry.spec.cluster_ips.iter().collect(),
                Source::Entry(entry) => entry.spec.addresses.iter().collect(),
            };
            for network in texts.into_iter().filter_map(|text| network(text)) {
                if !networks.contains(&network) {
                    networks.push(network);
                }
            }
        }
        networks
    }

    /// Whether it is given an address of its own, so that its clients have one to connect to: ServiceEntries alone that name no
    /// address, and whose endpoints do not depend on the one that the client calls. A label of any of them keeps it out.
    pub fn wants_address(&self) -> bool {
        const LABEL: &str = "networking.istio.io/enable-autoallocate-ip";
        let wants = |source: &Source| match source {
            Source::Kubernetes(_) => false,
            Source::Entry(entry) => {
                let label = entry.meta.labels.get(LABEL);
                entry.spec.addresses.is_empty() && !label.is_some_and(|label| label.eq_ignore_ascii_case("false"))
            }
        };
        let fits = matches!(self.resolution, Resolution::Static | Resolution::Dns) && !self.host.starts_with('*');
        fits && !self.ports.is_empty() && self.sources.iter().all(wants)
    }

    /// Made of ServiceEntries alone: Kubernetes knows nothing of its name.
    pub fn is_of_entries(&self) -> bool {
        self.sources.iter().all(|source| matches!(source, Source::Entry(_)))
    }

    /// Single addresses that stand for the service.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let single = |network: &IpNet| network.prefix_len() == network.max_prefix_len();
        self.networks().into_iter().filter(single).map(|network| network.addr())
    }

    /// When the object was made that gave it its name; objects of files were always there.
    pub fn created(&self) -> Option<&str> {
        match self.sources.first()? {
            Source::Kubernetes(entry) => entry.meta.creation_timestamp.as_deref(),
            Source::Entry(entry) => entry.meta.creation_timestamp.as_deref(),
        }
    }

    /// Outside of the mesh: ServiceEntries alone, and all of them say so (`location`, which they say by default).
    pub fn is_external(&self) -> bool {
        self.sources.iter().all(|source| match source {
            Source::Kubernetes(_) => false,
            Source::Entry(entry) => entry.spec.location.unwrap_or_default() == Location::MeshExternal,
        })
    }
}

/// All services, by host (`*.suffix` of a ServiceEntry as written) and then by namespace.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    hosts: HashMap<Arc<str>, Vec<Arc<Service>>>,
    extent: Extent,
}

/// What an update of a host changed beyond the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beyond {
    /// The host came or went.
    pub hosts: bool,
    /// See [`Registry::extent`].
    pub extent: bool,
}

impl Registry {
    /// Builds the services of a host anew: of the objects it was made of, and of those named.
    pub(super) fn update(
        &mut self,
        host: &Arc<str>,
        mut names: BTreeSet<ObjectRef>,
        objects: &Objects,
        mesh: &Mesh,
    ) -> Beyond {
        let old = self.hosts.remove(host);
        names
            .extend(old.iter().flatten().flat_map(|service| &service.sources).map(|source| source.reference().clone()));
        let new = services_of(host, names, objects, &mesh.config.default_service_export_to);
        let hosts = old.is_some() == new.is_empty();
        let extent = self.extent.exchange(old.as_deref().unwrap_or_default(), &new);
        if !new.is_empty() {
            self.hosts.insert(Arc::clone(host), new);
        }
        Beyond { hosts, extent }
    }

    /// Where services are, whoever may see them.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Of all namespaces.
    pub(super) fn of_host(&self, host: &str) -> &[Arc<Service>] {
        self.hosts.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// The service that `host` means to somebody in `namespace` if `viewer` is the namespace that must see it: the
    /// namespace's own, else the first visible one.
    pub fn find(&self, host: &str, namespace: &str, viewer: &str) -> Option<&Arc<Service>> {
        self.find_among(host, namespace, viewer, |_| true)
    }

    /// The same among the services that somebody may want.
    pub fn find_among(
        &self,
        host: &str,
        namespace: &str,
        viewer: &str,
        wanted: impl Fn(&Service) -> bool,
    ) -> Option<&Arc<Service>> {
        let all = self.hosts.get(host)?;
        let visible = |service: &&Arc<Service>| service.export_to.allows(viewer) && wanted(service);
        all.iter().filter(visible).find(|service| &*service.namespace == namespace).or_else(|| all.iter().find(visible))
    }

    /// The service of `namespace`, else the first of any, whoever may see it.
    pub fn first(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.of_namespace(host, namespace).or_else(|| self.hosts.get(host)?.first())
    }

    /// The service of a namespace, whoever may see it.
    pub fn of_namespace(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.hosts.get(host)?.iter().find(|service| &*service.namespace == namespace)
    }

    /// Whether anybody has a service of this name.
    pub fn contains(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// Whether the pattern of a DestinationRule can mean any service.
    pub fn any_matches(&self, host: &str) -> bool {
        if self.contains(host) {
            return true;
        }
        let pattern = hostname::pattern(host);
        host.starts_with('*')
            && self.hosts.keys().any(|known| hostname::covers(&pattern, &HostPattern::Exact(Arc::clone(known))))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.hosts.values().flatten()
    }

    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(|host| &**host)
    }
}

impl Service {
    fn merge(&mut self, other: Service) {
        for port in other.ports {
            if self.port(port.number).is_none() {
                self.ports.push(port);
            }
        }
        self.sources.extend(other.sources);
    }
}

/// An address or a block of them.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// In order of precedence: a Kubernetes Service first, then ServiceEntries by age. One that names the host again in the same
/// namespace adds its ports and endpoints to the first.
fn services_of(
    host: &Arc<str>,
    names: BTreeSet<ObjectRef>,
    objects: &Objects,
    default_export_to: &[String],
) -> Vec<Arc<Service>> {
    let mut found: Vec<Service> = Vec::new();
    let mut entries = Vec::new();
    for name in names {
        let key = (Arc::clone(&name.namespace), Arc::clone(&name.name));
        if &*name.kind == "Service" {
            found.extend(objects.services.get(&key).map(|entry| kubernetes(entry, default_export_to)));
        } else {
            entries.extend(objects.service_entries.get(&key).cloned());
        }
    }
    let entries = by_age(entries);
    found.extend(entries.iter().flat_map(|entry| of_entry(entry, host, default_export_to)));
    let mut services: Vec<Arc<Service>> = Vec::with_capacity(found.len());
    for service in found {
        match services.iter_mut().find(|other| other.namespace == service.namespace) {
            Some(first) => Arc::make_mut(first).merge(service),
            None => services.push(Arc::new(service)),
        }
    }
    services
}

fn kubernetes(entry: &Arc<Entry<KubeService>>, default_export_to: &[String]) -> Service {
    let spec = &entry.spec;
    let reference = &entry.reference;
    let tcp = |protocol: &Option<String>| protocol.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("tcp"));
    let ports = spec.ports.iter().filter(|port| tcp(&port.protocol)).map(|port| ServicePort {
        number: port.port,
        name: port.name.as_str().into(),
        protocol: Protocol::select(port.app_protocol.as_deref(), &port.name, port.port),
        target: match &port.target_port {
            None | Some(IntOrString::Int(0)) => TargetPort::Number(port.port),
            Some(IntOrString::Int(number)) => TargetPort::Number(*number),
            Some(IntOrString::String(name)) => TargetPort::Name(name.as_str().into()),
        },
    });
    let external = spec.external_name.as_deref().filter(|_| spec.kind.as_deref() == Some("ExternalName"));
    let export_to = entry.meta.annotations.get("networking.istio.io/exportTo").map(String::as_str).unwrap_or_default();
    Service {
        host: hostname::service(&reference.name, &reference.namespace).into(),
        name: Arc::clone(&reference.name),
        namespace: Arc::clone(&reference.namespace),
        ports: ports.collect(),
        resolution: external.map_or(Resolution::Static, |host| {
            Resolution::Alias(host.trim_end_matches('.').to_ascii_lowercase().into())
        }),
        export_to: ExportTo::read(export_to.split(','), default_export_to, &reference.namespace),
        sources: vec![Source::Kubernetes(Arc::clone(entry))],
        origin: reference.clone(),
    }
}

/// One service for each time that the entry names the host.
fn of_entry<'a>(
    entry: &'a Arc<Entry<ServiceEntry>>,
    host: &'a Arc<str>,
    default_export_to: &'a [String],
) -> impl Iterator<Item = Service> + 'a {
    let spec = &entry.spec;
    let reference = &entry.reference;
    spec.hosts.iter().filter(|own| own.eq_ignore_ascii_case(host)).map(move |_| Service {
        name: Arc::clone(host),
        host: Arc::clone(host),
        namespace: Arc::clone(&reference.namespace),
        ports: spec.ports.iter().filter_map(entry_port).collect(),
        resolution: match spec.resolution.unwrap_or_default() {
            ApiResolution::None => Resolution::Original,
            ApiResolution::Static => Resolution::Static,
            ApiResolution::Dns | ApiResolution::DnsRoundRobin => Resolution::Dns,
            ApiResolution::DynamicDns => Resolution::Dynamic,
        },
        export_to: ExportTo::read(spec.export_to.iter().map(String::as_str), default_export_to, &reference.namespace),
        sources: vec![Source::Entry(Arc::clone(entry))],
        origin: reference.clone(),
    })
}

fn entry_port(port: &crate::api::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(port.number).ok()?;
    let protocol = match port.protocol {
        Some(ApiProtocol::Udp) => return None,
        Some(ApiProtocol::Http | ApiProtocol::HttpProxy) => Protocol::Http,
        Some(ApiProtocol::Http2) => Protocol::Http2,
        Some(ApiProtocol::Grpc) => Protocol::Grpc,
        Some(ApiProtocol::GrpcWeb) => Protocol::GrpcWeb,
        Some(ApiProtocol::Https) => Protocol::Https,
        Some(ApiProtocol::Tls) => Protocol::Tls,
        Some(ApiProtocol::Tcp | ApiProtocol::Mongo | ApiProtocol::Redis | ApiProtocol::Mysql) => Protocol::Tcp,
        None => Protocol::select(None, "", number),
    };
    let target = port.target_port.and_then(|target| u16::try_from(target).ok()).filter(|target| *target != 0);
    Some(ServicePort {
        number,
        name: port.name.as_str().into(),
        protocol,
        target: TargetPort::Number(target.unwrap_or(number)),
    })
}
