//! Which hosts a sidecar is told of. It decides what a name or an address that was asked for may mean, and which hosts nobody can ask
//! for; it does not look at what the hosts are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::Context;
use crate::model::{Key, OnDemand, asked_address};
use crate::world::{Protocol, Service, hostname};

/// Most labels of a pattern that a name is looked for in: names are made up by those who ask.
const LABELS: usize = 16;

/// Hosts that were asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// What was asked for, with what it may mean.
    names: BTreeMap<Key, Meaning>,
    addresses: BTreeSet<IpAddr>,
    /// How many of `names` may mean a host.
    hosts: HashMap<Arc<str>, usize>,
}

/// What a name or an address may mean.
#[derive(Debug, Default)]
struct Meaning {
    hosts: BTreeSet<Arc<str>>,
    /// Other names that mean no host besides.
    others: BTreeSet<Key>,
    /// Hosts of services at the address that this is.
    at: Vec<Arc<str>>,
}

impl Wanted {
    /// These are asked for now. The hosts about which something may be different.
    pub fn exchange(&mut self, context: &Context<'_>, asked: &BTreeSet<Key>) -> BTreeSet<Arc<str>> {
        let gone: Vec<Key> = self.names.keys().filter(|name| !asked.contains(*name)).cloned().collect();
        let news: Vec<Key> = asked.iter().filter(|name| !self.names.contains_key(*name)).cloned().collect();
        let mut touched = BTreeSet::new();
        gone.iter().for_each(|name| self.release(name, &mut touched));
        news.into_iter().for_each(|name| self.take(name, context, &mut touched));
        touched
    }

    /// Other services than before may have the addresses that were asked for. The hosts about which something may be different.
    pub fn look_again(&mut self, context: &Context<'_>) -> BTreeSet<Arc<str>> {
        let extent = context.world.index().registry.extent();
        let is_other = |address: &&IpAddr| {
            let known = self.names.get(&asked_address(**address)).map(|meaning| &meaning.at);
            known.is_some_and(|known| !known.iter().eq(extent.hosts_at(**address)))
        };
        let others: Vec<Key> = self.addresses.iter().filter(is_other).map(|address| asked_address(*address)).collect();
        let mut touched = BTreeSet::new();
        for name in others {
            self.release(&name, &mut touched);
            self.take(name, context, &mut touched);
        }
        touched
    }

    fn take(&mut self, name: Key, context: &Context<'_>, touched: &mut BTreeSet<Arc<str>>) {
        let meaning = Meaning::of(&name, context);
        for host in &meaning.hosts {
            let count = self.hosts.entry(Arc::clone(host)).or_default();
            *count += 1;
            if *count == 1 {
                touched.insert(Arc::clone(host));
            }
        }
        touched.extend(meaning.at.iter().cloned());
        self.addresses.extend(name.parse::<IpAddr>().ok());
        self.names.insert(name, meaning);
    }

    fn release(&mut self, name: &Key, touched: &mut BTreeSet<Arc<str>>) {
        let Some(meaning) = self.names.remove(name) else { return };
        for host in &meaning.hosts {
            if let Some(count) = self.hosts.get_mut(host) {
                *count -= 1;
                if *count == 0 {
                    self.hosts.remove(host);
                    touched.insert(Arc::clone(host));
                }
            }
        }
        touched.extend(meaning.at);
        if let Ok(address) = name.parse() {
            self.addresses.remove(&address);
        }
    }

    /// Whether just these are asked for.
    pub fn is_for(&self, asked: &BTreeSet<Key>) -> bool {
        self.names.keys().eq(asked)
    }

    /// Whether the proxy is to know the host.
    pub fn has(&self, context: &Context<'_>, host: &str) -> bool {
        self.hosts.contains_key(host) || self.has_service_of(context, host)
    }

    fn has_service_of(&self, context: &Context<'_>, host: &str) -> bool {
        let (own, scope) = (&context.proxy.namespace, &context.scope);
        let registry = &context.world.index().registry;
        let Some(service) = registry.find_among(host, own, own, |service| scope.sees(service)) else { return false };
        cannot_be_asked_for(service)
            || !self.addresses.is_empty() && service.addresses().any(|address| self.addresses.contains(&address))
    }

    /// What the proxy has to know before it asks.
    pub fn terms(&self, context: &Context<'_>) -> OnDemand {
        let networks = context.world.index().registry.extent().networks(&context.proxy.namespace);
        let answered = self.names.iter().flat_map(|(name, meaning)| std::iter::once(name).chain(&meaning.others));
        OnDemand { networks: networks.into_iter().collect(), answered: answered.cloned().collect() }
    }
}

impl Meaning {
    fn of(name: &str, context: &Context<'_>) -> Meaning {
        let namespace = &context.proxy.namespace;
        let mut meaning = Meaning::default();
        meaning.add(name, namespace);
        if let Ok(address) = name.parse() {
            // Who calls a service at its address most likely calls it by a name of it, too.
            meaning.at = context.world.index().registry.extent().hosts_at(address).cloned().collect();
            for host in meaning.at.clone() {
                meaning.add(&host, namespace);
                meaning.others.insert(host);
            }
        }
        meaning
    }

    fn add(&mut self, name: &str, namespace: &str) {
        self.hosts.extend(meanings(name, namespace).into_iter().map(Arc::from));
        if name.parse::<IpAddr>().is_ok() {
            return;
        }
        let short = in_cluster(name, namespace).map(|(service, of)| names(service, of, namespace));
        self.others.extend(short.into_iter().flatten().map(Key::from));
    }
}

/// What a Kubernetes Service is called by clients in `namespace`.
fn names(service: &str, of: &str, namespace: &str) -> Vec<String> {
    let mut all = vec![hostname::service(service, of), format!("{service}.{of}.svc"), format!("{service}.{of}")];
    all.extend((of == namespace).then(|| service.to_owned()));
    all
}

/// Bytes go to a service by its address. Where it has none of its own, or a block of them, the sidecar could not say whom it means.
fn cannot_be_asked_for(service: &Service) -> bool {
    let is_bytes = |protocol: Protocol| !protocol.is_http();
    service.ports.iter().any(|port| is_bytes(port.protocol)) && {
        let networks = service.networks();
        networks.is_empty() || networks.iter().any(|network| network.prefix_len() < network.max_prefix_len())
    }
}

/// Hosts that a client in `namespace` may mean by a name: full names of services, shorter ones, what pods of headless services are
/// called, and patterns. And those that have this name too, so that it is known whose it is.
fn meanings(name: &str, namespace: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([name.to_owned()]);
    if name.parse::<IpAddr>().is_ok() {
        return all;
    }
    let below = name.split_once('.').map(|(_, below)| below);
    for name in std::iter::once(name).chain(below) {
        if let Some((service, of)) = in_cluster(name, namespace) {
            all.extend(names(service, of, namespace));
        }
    }
    let exact: Vec<String> = all.iter().cloned().collect();
    for name in &exact {
        let patterns = name.rmatch_indices('.').take(LABELS);
        all.extend(patterns.filter_map(|(dot, _)| Some(format!("*{}", name.get(dot..)?))));
    }
    all
}

/// Name and namespace of the service that may be called so.
fn in_cluster<'n>(name: &'n str, namespace: &'n str) -> Option<(&'n str, &'n str)> {
    let short = name.strip_suffix(hostname::CLUSTER_DOMAIN).and_then(|short| short.strip_suffix('.')).unwrap_or(name);
    let short = short.strip_suffix(".svc").unwrap_or(short);
    match short.split_once('.') {
        None => Some((short, namespace)),
        Some((service, of)) if !of.contains('.') => Some((service, of)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_may_mean() {
        let has = |name: &str, host: &str| meanings(name, "shop").contains(host);
        for name in ["reviews", "reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local"] {
            assert!(has(name, "reviews.shop.svc.cluster.local"), "{name}");
            // Somebody may have a host of just this name.
            assert!(has(name, "reviews"), "{name}");
        }
        assert!(has("reviews.other", "reviews.other.svc.cluster.local"));
        assert!(!has("reviews.other", "reviews"));
        // A pod of a headless service.
        assert!(has("db-0.db", "db.shop.svc.cluster.local"));
        assert!(has("db-0.db.shop.svc.cluster.local", "db.shop.svc.cluster.local"));
        // Patterns.
        assert!(has("a.b.example", "*.b.example"));
        assert!(has("a.b.example", "*.example"));
        assert!(has("reviews", "*.shop.svc.cluster.local"));
        assert!(!has("a.b.example", "*.a.b.example"));
        assert_eq!(meanings("10.0.0.1", "shop"), BTreeSet::from(["10.0.0.1".to_owned()]));
    }
}
