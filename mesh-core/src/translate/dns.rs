//! Names that a sidecar answers: those that Kubernetes does not know, all of them, since nobody is asked for a name that he does not
//! have. And what a service is called at that has no address: where its name leads to one that was given to it, connections to
//! that one are the service's.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Context;
use crate::model::{DnsName, Key, ResourceSet};
use crate::world::{Cell, Reads, Service};

/// A name that is there, with what is answered, or not any more.
pub(super) type Name = (Key, Option<DnsName>);

/// Those that the proxy has to have.
pub(super) fn all(context: &mut Context<'_>) -> Vec<Name> {
    if !context.proxy.dns_capture {
        return Vec::new();
    }
    let hosts: Vec<Key> = context.world.index().registry.hosts().map(Arc::from).collect();
    let names = hosts.into_iter().map(|host| (Arc::clone(&host), context.dns_name(&host))).collect();
    // What was looked at for it, the hosts themselves tell of.
    context.reads = Reads::default();
    names
}

/// Those that are different from what the proxy has.
pub(super) fn changes(context: &mut Context<'_>, cells: &BTreeSet<Cell>, set: &ResourceSet) -> Vec<Name> {
    if !context.proxy.dns_capture {
        return Vec::new();
    }
    let hosts = cells.iter().filter_map(|cell| match cell {
        Cell::Host(host) => Some(host),
        _ => None,
    });
    let names = hosts.map(|host| (Arc::clone(host), context.dns_name(host)));
    let names = names.filter(|(host, name)| set.dns.get(host).map(|known| &**known) != name.as_ref()).collect();
    context.reads = Reads::default();
    names
}

pub(super) fn put(set: &mut ResourceSet, names: Vec<Name>) {
    for (host, name) in names {
        match name {
            Some(name) => drop(set.dns.insert(host, Arc::new(name))),
            None => drop(set.dns.remove(&host)),
        }
    }
}

impl Context<'_> {
    /// Where clients of the proxy find a service: at its own addresses, or at automatic ones if the proxy answers for its name.
    pub(super) fn networks(&self, service: &Service) -> Vec<IpNet> {
        let own = service.networks();
        if !own.is_empty() || !self.proxy.dns_capture {
            return own;
        }
        let automatic = self.world.index().automatic.of(service).into_iter().flatten();
        let families = self.proxy.families;
        // IPv6 only where it is there for sure: clients may wait long for an address that they cannot reach.
        let reached =
            |address: &IpAddr| if address.is_ipv6() { families.has_v6() } else { families.rank(false).is_some() };
        automatic.filter(reached).map(IpNet::from).collect()
    }

    /// What the proxy answers to whoever asks for a host. Blocks of addresses are no answer.
    fn dns_name(&mut self, host: &Key) -> Option<DnsName> {
        let service = self.seen(host).filter(|service| service.is_of_entries())?;
        let networks = self.networks(service);
        let single = networks.iter().filter(|network| network.prefix_len() == network.max_prefix_len());
        let addresses: Vec<IpAddr> = single.map(IpNet::addr).collect();
        (!addresses.is_empty()).then(|| DnsName { key: Arc::clone(host), addresses, origin: service.origin.clone() })
    }
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
