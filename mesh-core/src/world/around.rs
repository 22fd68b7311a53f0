//! The part of the world that matters for what can be said about one object: small, so that an object is judged in
//! milliseconds among thousands.

use std::collections::HashSet;
use std::sync::Arc;

use super::index::{Touched, gateway_name};
use super::{Entry, Shelf, World, hostname};
use crate::api::{ApiObject, Destination, ServiceEntry, Spec, VirtualService};

impl World {
    /// A world with `object` in it, and with all that it refers to or shares a host with. What translation finds out about
    /// `object` there is what it would find out in the whole world; if its namespace is not looked at, as if it were.
    #[must_use]
    pub fn around(&self, object: ApiObject) -> World {
        let reference = object.object_ref();
        if !self.discovery.shows(&self.objects, &reference) {
            let mut world = self.clone();
            world.always_look_at([&*reference.namespace]);
            return world.around(object);
        }
        let named = Named::of(self, &object);
        let (all, mut part) = (&self.objects, World::default());
        part.discovery.always_as(&self.discovery);
        let objects = &mut part.objects;
        objects.config_maps.clone_from(&all.config_maps);
        objects.namespaces.clone_from(&all.namespaces);
        objects.gateways.clone_from(&all.gateways);
        objects.authorization_policies.clone_from(&all.authorization_policies);
        objects.request_authentications.clone_from(&all.request_authentications);
        objects.peer_authentications.clone_from(&all.peer_authentications);
        objects.rate_limits.clone_from(&all.rate_limits);
        objects.sidecars.clone_from(&all.sidecars);
        objects.secrets.clone_from(&all.secrets);
        // Names that nobody has are told what is near them: that takes all names.
        let lost = named.hosts.iter().any(|host| !self.index.registry.any_matches(host));
        let service = |entry: &Entry<_>| {
            lost || named.any || named.hosts.contains(&hostname::service(&entry.meta.name, &entry.meta.namespace))
        };
        objects.services = chosen(&all.services, service);
        let has = |host: &str| named.hosts.contains(&host.to_ascii_lowercase());
        let entry = |entry: &Entry<ServiceEntry>| {
            lost || named.any || entry.spec.hosts.iter().any(|host| host.starts_with('*') || has(host))
        };
        objects.service_entries = chosen(&all.service_entries, entry);
        objects.destination_rules = chosen(&all.destination_rules, |entry| {
            let host = &entry.spec.host;
            host.starts_with('*') || named.hosts.contains(&hostname::expand(host, &entry.meta.namespace))
        });
        objects.virtual_services = chosen(&all.virtual_services, |entry| named.virtual_service(entry));
        part.put(vec![object], &mut Touched::default());
        part.everything();
        part
    }
}

fn chosen<T>(shelf: &Shelf<T>, wanted: impl Fn(&Entry<T>) -> bool) -> Shelf<T> {
    shelf.iter().filter(|(_, entry)| wanted(entry)).map(|(name, entry)| (name.clone(), Arc::clone(entry))).collect()
}

/// What an object names.
#[derive(Default)]
struct Named {
    /// Full names of destinations.
    hosts: HashSet<String>,
    /// Pattern of hosts: any may be meant.
    any: bool,
    /// Hosts that a VirtualService is for.
    served: HashSet<String>,
    /// `namespace/name`
    delegates: HashSet<String>,
    itself: String,
}

impl Named {
    fn of(world: &World, object: &ApiObject) -> Named {
        let meta = &object.meta;
        let mut named = Named { itself: format!("{}/{}", meta.namespace, meta.name), ..Named::default() };
        match &object.spec {
            Spec::VirtualService(spec) => {
                named.served = spec.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
                named.destinations(spec, &meta.namespace);
                named.delegates = delegates(spec, &meta.namespace).collect();
                for name in named.delegates.clone() {
                    if let Some(entry) =
                        name.split_once('/').and_then(|(namespace, name)| world.virtual_service(namespace, name))
                    {
                        named.destinations(&entry.spec, &entry.meta.namespace);
                    }
                }
            }
            Spec::DestinationRule(spec) => {
                named.any = spec.host.starts_with('*');
                named.hosts.insert(hostname::expand(&spec.host, &meta.namespace));
            }
            Spec::ServiceEntry(spec) => named.hosts.extend(spec.hosts.iter().map(|host| host.to_ascii_lowercase())),
            _ => {}
        }
        named
    }

    fn destinations(&mut self, spec: &VirtualService, namespace: &str) {
        let http = spec.http.iter().flat_map(|rule| {
            let mirrors = rule.mirrors.iter().map(|mirror| &mirror.destination);
            rule.route.iter().map(|route| &route.destination).chain(rule.mirror.as_deref()).chain(mirrors)
        });
        let tls = spec.tls.iter().flat_map(|rule| &rule.route);
        let others = tls.chain(spec.tcp.iter().flat_map(|rule| &rule.route)).map(|route| &route.destination);
        let expand = |destination: &Destination| hostname::expand(&destination.host, namespace);
        self.hosts.extend(http.chain(others).map(expand));
    }

    fn virtual_service(&self, entry: &Entry<VirtualService>) -> bool {
        let name = format!("{}/{}", entry.meta.namespace, entry.meta.name);
        self.delegates.contains(&name)
            || entry.spec.hosts.iter().any(|host| self.served.contains(&host.to_ascii_lowercase()))
            || delegates(&entry.spec, &entry.meta.namespace).any(|delegate| delegate == self.itself)
    }
}

fn delegates(spec: &VirtualService, namespace: &str) -> impl Iterator<Item = String> {
    let names = spec.http.iter().filter_map(|rule| rule.delegate.as_ref());
    names.map(move |delegate| {
        let at = delegate.namespace.as_deref().filter(|at| !at.is_empty()).unwrap_or(namespace);
        gateway_name(&format!("{at}/{}", delegate.name.as_deref().unwrap_or_default()), namespace)
    })
}

#[cfg(test)]
#[path = "around_tests.rs"]
mod tests;
