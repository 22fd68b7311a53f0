//! Why an object is of no proxy that is connected: who wrote it sees nothing happen, and wants to know what is in the way. What is
//! not known for sure is not said.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::mesh_rules::is_for_mesh;
use super::server::ServerHost;
use super::virtual_service::{exported, names};
use crate::api::{Gateway, VirtualService};
use crate::model::{ProxyInfo, Role};
use crate::object::ObjectRef;
use crate::world::{Entry, ExportTo, World, hostname, selects};

/// Most Gateways or hosts that are told of.
const MOST: usize = 4;

/// What is in the way, as a sentence without a full stop. Of two answers, for different proxies, the greater one is of those that
/// are nearer to having the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unconcerned {
    /// A number, so that replicas of two versions understand each other.
    step: u8,
    text: String,
}

impl fmt::Display for Unconcerned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How near an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// What it is for does not exist, or is not connected.
    Nobody = 0,
    /// Hidden by `exportTo`.
    Hidden = 1,
    /// A Gateway does not open its hosts.
    Closed = 2,
    /// All is there, and nothing of it counts.
    Idle = 3,
    /// It counts for whoever asks, and nobody did yet.
    OnDemand = 4,
}

impl Unconcerned {
    /// Whether it will be in force as soon as a proxy needs it.
    #[must_use]
    pub fn is_on_demand(&self) -> bool {
        self.step == Step::OnDemand as u8
    }
}

fn because(step: Step, text: String) -> Unconcerned {
    Unconcerned { step: step as u8, text }
}

/// Of an object that none of these proxies has. None: it is not looked at, it is of no kind that proxies have by itself, or why is
/// not known.
#[must_use]
pub fn unconcerned(world: &World, proxies: &[&ProxyInfo], object: &ObjectRef) -> Option<Unconcerned> {
    let (namespace, name) = (&*object.namespace, &*object.name);
    let mesh = &world.mesh().config;
    match &*object.kind {
        "Gateway" => Some(gateway(proxies, world.gateway(namespace, name)?)),
        "VirtualService" => Some(virtual_service(world, proxies, world.virtual_service(namespace, name)?)),
        "DestinationRule" => {
            let spec = &world.destination_rule(namespace, name)?.spec;
            let default = &mesh.default_destination_rule_export_to;
            let export = ExportTo::read(spec.export_to.iter().map(String::as_str), default, namespace);
            let idle = || format!("no destination of connected proxies (host `{}`) uses it", spec.host);
            let host = hostname::expand(&spec.host, namespace);
            let on_demand = || on_demand(proxies, &export).filter(|_| world.index().registry.any_matches(&host));
            Some(hidden(proxies, &export).or_else(on_demand).unwrap_or_else(|| because(Step::Idle, idle())))
        }
        "PeerAuthentication" => {
            world.peer_authentications(namespace).find(|entry| *entry.reference.name == *name)?;
            let (step, text) = if proxies.iter().any(|proxy| proxy.role == Role::Sidecar) {
                (Step::Idle, "it is for no connected sidecar, or an older one counts there")
            } else {
                (Step::Nobody, "it is for sidecars, of which none is connected")
            };
            Some(because(step, text.to_owned()))
        }
        "Sidecar" => {
            world.sidecar(namespace, name)?;
            let (step, text) = if proxies.iter().any(|proxy| proxy.role == Role::Sidecar) {
                (Step::Idle, "it is for no connected sidecar, or another one counts there")
            } else {
                (Step::Nobody, "it is for sidecars, of which none is connected")
            };
            Some(because(step, text.to_owned()))
        }
        "ServiceEntry" => {
            let spec = &world.service_entry(namespace, name)?.spec;
            let export =
                ExportTo::read(spec.export_to.iter().map(String::as_str), &mesh.default_service_export_to, namespace);
            // Of several objects for a host the first one stands for all of them.
            let registry = &world.index().registry;
            let is_shared = |host: &String| {
                let service = registry.find(&hostname::expand(host, namespace), namespace, namespace);
                service.is_some_and(|service| service.sources.len() > 1)
            };
            if spec.hosts.iter().any(is_shared) {
                return None;
            }
            let hosts: Vec<String> = spec.hosts.iter().map(|host| format!("`{host}`")).collect();
            let idle = || format!("no destination of connected proxies ({}) comes from it", listed(&hosts));
            Some(
                hidden(proxies, &export)
                    .or_else(|| on_demand(proxies, &export))
                    .unwrap_or_else(|| because(Step::Idle, idle())),
            )
        }
        _ => None,
    }
}

fn hidden(proxies: &[&ProxyInfo], export: &ExportTo) -> Option<Unconcerned> {
    let hidden = !proxies.is_empty() && !proxies.iter().any(|proxy| export.allows(&proxy.namespace));
    hidden
        .then(|| because(Step::Hidden, "`spec.exportTo` leaves out the namespaces of all connected proxies".to_owned()))
}

/// If sidecars see it: they are told of it when they call its hosts.
fn on_demand(proxies: &[&ProxyInfo], export: &ExportTo) -> Option<Unconcerned> {
    let mut sidecars = proxies.iter().filter(|proxy| proxy.role == Role::Sidecar);
    let text = "no workload has called its hosts yet; the sidecar of one that does is told of it first";
    sidecars.any(|proxy| export.allows(&proxy.namespace)).then(|| because(Step::OnDemand, text.to_owned()))
}

fn gateway(proxies: &[&ProxyInfo], entry: &Entry<Gateway>) -> Unconcerned {
    let selector = &entry.spec.selector;
    match fitting(proxies, selector).next() {
        None if selector.is_empty() => because(Step::Nobody, "no gateway is connected".to_owned()),
        None => because(Step::Nobody, format!("`spec.selector` selects no connected proxy ({})", labels(selector))),
        Some(_) => because(Step::Idle, "none of its servers is in force at the proxies that it selects".to_owned()),
    }
}

fn virtual_service(world: &World, proxies: &[&ProxyInfo], entry: &Entry<VirtualService>) -> Unconcerned {
    if entry.spec.hosts.is_empty() {
        let text = "it has no hosts, and no VirtualService that connected proxies have brings a rule of it into force by `delegate`";
        return because(Step::Nobody, text.to_owned());
    }
    if names(entry).next().is_none()
        && is_for_mesh(entry)
        && let Some(on_demand) = on_demand(proxies, &exported(world, entry))
    {
        return on_demand;
    }
    let gateways: Vec<Unconcerned> = names(entry).map(|(_, name)| at_gateway(world, proxies, entry, &name)).collect();
    let Some(step) = gateways.iter().map(|at| at.step).max() else {
        let written = !entry.spec.gateways.is_empty();
        let names = if written { "names `mesh` only" } else { "is empty, which means `mesh` only" };
        return match proxies.iter().any(|proxy| proxy.role == Role::Sidecar) {
            true => because(
                Step::Hidden,
                format!("`spec.gateways` {names}, and `spec.exportTo` leaves out all connected sidecars"),
            ),
            false => because(Step::Nobody, format!("`spec.gateways` {names}, and no sidecar is connected")),
        };
    };
    Unconcerned { step, text: listed(&gateways) }
}

/// That a Gateway of another namespace exists, and what it selects, is told: VirtualServices are bound across namespaces, and a
/// Gateway says itself (`hosts`) to which it opens what. It is no secret.
fn at_gateway(world: &World, proxies: &[&ProxyInfo], entry: &Entry<VirtualService>, name: &str) -> Unconcerned {
    let found = name.split_once('/').and_then(|(namespace, name)| world.gateway(namespace, name));
    let Some(found) = found else { return because(Step::Nobody, format!("gateway {name} does not exist")) };
    let selector = &found.spec.selector;
    let fitting: Vec<&ProxyInfo> = fitting(proxies, selector).collect();
    if fitting.is_empty() {
        return because(
            Step::Nobody,
            match selector.is_empty() {
                true => format!("gateway {name} selects every gateway, and none is connected"),
                false => format!("gateway {name} selects no connected proxy ({})", labels(selector)),
            },
        );
    }
    let export = exported(world, entry);
    if !fitting.iter().any(|proxy| export.allows(&proxy.namespace)) {
        let text = format!("`spec.exportTo` leaves out the namespaces of the proxies of gateway {name}");
        return because(Step::Hidden, text);
    }
    if !opens(found, entry) {
        return because(Step::Closed, format!("no server of gateway {name} opens its hosts"));
    }
    because(Step::Idle, format!("gateway {name} opens its hosts, and none of its rules is in force there"))
}

/// Whether a server of the Gateway has a host in common with the VirtualService, and admits its namespace.
pub(crate) fn opens(gateway: &Entry<Gateway>, entry: &Entry<VirtualService>) -> bool {
    let hosts = entry.spec.hosts.iter().map(|host| hostname::pattern(&hostname::expand(host, entry.namespace())));
    let wanted: Vec<_> = hosts.collect();
    let servers = gateway.spec.servers.iter().flat_map(|server| &server.hosts);
    servers.map(|host| ServerHost::read(host, gateway.namespace())).any(|host| {
        let meets = |wanted| hostname::covers(&host.pattern, wanted) || hostname::covers(wanted, &host.pattern);
        host.admits(entry.namespace()) && wanted.iter().any(meets)
    })
}

fn fitting<'p>(
    proxies: &'p [&'p ProxyInfo],
    selector: &'p BTreeMap<String, String>,
) -> impl Iterator<Item = &'p ProxyInfo> {
    proxies.iter().copied().filter(|proxy| proxy.role == Role::Edge && selects(selector, &proxy.labels))
}

fn labels(selector: &BTreeMap<String, String>) -> String {
    selector.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
}

fn listed<T: fmt::Display>(all: &[T]) -> String {
    let few: Vec<String> = all.iter().take(MOST).map(ToString::to_string).collect();
    match all.len().saturating_sub(MOST) {
        0 => few.join(", "),
        more => format!("{} and {more} more", few.join(", ")),
    }
}

#[cfg(test)]
#[path = "unconcerned_tests.rs"]
mod tests;
