//! The VirtualServices of one Gateway, found by host. A gateway may have ten thousand servers and as many VirtualServices:
//! who meets whom is looked up, not tried.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Context;
use super::server::ServerHost;
use crate::api::VirtualService;
use crate::model::HostPattern;
use crate::world::{Entry, ExportTo, hostname};

/// The VirtualServices that name a Gateway and are visible to the proxy, in the order in which their rules are tried.
pub(super) struct Bound<'a> {
    pub services: Vec<&'a Arc<Entry<VirtualService>>>,
    /// Not exported to the proxy's namespace.
    pub hidden: Vec<&'a Arc<Entry<VirtualService>>>,
    /// Host patterns read backwards (a suffix ends in `*`), with service and host index: a suffix is a range.
    hosts: BTreeMap<String, Vec<(usize, usize)>>,
    patterns: Vec<Vec<HostPattern>>,
}

/// A server host and a VirtualService host have names in common.
pub(super) struct Meeting {
    /// Index in `services`.
    pub service: usize,
    /// Index in the VirtualService's `spec.hosts`.
    pub host: usize,
    /// The narrower of the two.
    pub pattern: HostPattern,
}

impl<'a> Context<'a> {
    pub(super) fn bound(&mut self, gateway: &str) -> Rc<Bound<'a>> {
        if let Some(bound) = self.bound.get(gateway) {
            return Rc::clone(bound);
        }
        let bound = Rc::new(self.bind(gateway));
        self.bound.insert(gateway.to_owned(), Rc::clone(&bound));
        bound
    }

    /// Private ones of the proxy's namespace first, then those exported to it by name, then public ones; oldest first in each
    /// class (Istio's order, observed).
    fn bind(&self, gateway: &str) -> Bound<'a> {
        let world = self.world;
        let all = world.index().virtual_services.get(gateway).map(Vec::as_slice).unwrap_or_default();
        let default = &world.mesh().config.default_virtual_service_export_to;
        let mut classes: [Vec<&'a Arc<Entry<VirtualService>>>; 4] = Default::default();
        let [private, named, public, hidden] = &mut classes;
        for entry in all {
            let export = ExportTo::read(entry.spec.export_to.iter().map(String::as_str), default, entry.namespace());
            match &export {
                ExportTo::All => public.push(entry),
                ExportTo::Namespaces(_) if !export.allows(&self.proxy.namespace) => hidden.push(entry),
                ExportTo::Namespaces(_) if **entry.namespace() == *self.proxy.namespace => private.push(entry),
                ExportTo::Namespaces(_) => named.push(entry),
            }
        }
        let [private, named, public, hidden] = classes;
        Bound::new([private, named, public].concat(), hidden)
    }
}

impl<'a> Bound<'a> {
    fn new(services: Vec<&'a Arc<Entry<VirtualService>>>, hidden: Vec<&'a Arc<Entry<VirtualService>>>) -> Bound<'a> {
        let mut hosts: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        let mut patterns = Vec::with_capacity(services.len());
        for (service, entry) in services.iter().enumerate() {
            let read = |host: &String| hostname::pattern(&hostname::expand(host, entry.namespace()));
            let own: Vec<HostPattern> = entry.spec.hosts.iter().map(read).collect();
            for (host, pattern) in own.iter().enumerate() {
                hosts.entry(backwards(pattern)).or_default().push((service, host));
            }
            patterns.push(own);
        }
        Bound { services, hidden, hosts, patterns }
    }

    /// Host patterns of a service, in the order of `spec.hosts`.
    pub fn patterns(&self, service: usize) -> &[HostPattern] {
        self.patterns.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    /// All that have names in common with a host of a server, and may use it.
    pub fn meet(&self, host: &ServerHost) -> Vec<Meeting> {
        let mut found = Vec::new();
        let mut add = |places: &[(usize, usize)], pattern: Option<&HostPattern>| {
            for (service, index) in places {
                let allowed = self.services.get(*service).is_some_and(|entry| host.admits(entry.namespace()));
                let pattern = pattern.or_else(|| self.patterns.get(*service)?.get(*index));
                if let Some(pattern) = pattern.filter(|_| allowed) {
                    found.push(Meeting { service: *service, host: *index, pattern: pattern.clone() });
                }
            }
        };
        match &host.pattern {
            HostPattern::Any => self.hosts.values().for_each(|places| add(places, None)),
            HostPattern::Exact(name) => {
                self.at(&backwards(&host.pattern), |places| add(places, Some(&host.pattern)));
                self.wider(name, |places| add(places, Some(&host.pattern)));
            }
            HostPattern::Suffix(suffix) => {
                let start: String = suffix.chars().rev().collect();
                let inside = self.hosts.range(start.clone()..).take_while(|(key, _)| key.starts_with(&start));
                for (_, places) in inside.filter(|(key, _)| **key != start) {
                    add(places, None);
                }
                self.wider(suffix, |places| add(places, Some(&host.pattern)));
            }
        }
        found
    }

    fn at(&self, key: &str, mut add: impl FnMut(&[(usize, usize)])) {
        if let Some(places) = self.hosts.get(key) {
            add(places);
        }
    }

    /// `*` and all `*.suffix` that cover the name and are not the name itself.
    fn wider(&self, name: &str, mut add: impl FnMut(&[(usize, usize)])) {
        self.at("*", &mut add);
        for (at, _) in name.char_indices().skip(1).filter(|(_, c)| matches!(c, '.' | '-')) {
            if let Some(suffix) = name.get(at..) {
                self.at(&backwards(&HostPattern::Suffix(suffix.into())), &mut add);
            }
        }
    }
}

fn backwards(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.chars().rev().collect(),
        HostPattern::Suffix(suffix) => suffix.chars().rev().chain(['*']).collect(),
        HostPattern::Any => "*".to_owned(),
    }
}
