//! Addresses for services that have none: ServiceEntries whose users only care for the name. Every replica of a controller, and
//! every process that reads files, comes to the same ones, since they follow from the services alone.
//!
//! A service has the address that its namespace and name hash to, or the next one that no older service has. So who comes later
//! moves nobody, and who goes can move only those that had to pass over its address.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use imbl::OrdMap;

use super::Service;

/// As many as there are addresses: of 240.240.0.0/16 all that end in 1 to 254. IPv6 (2001:2::/48) has their equivalents.
const PLACES: u32 = 256 * PER_NET;
const PER_NET: u32 = 254;

/// Of all services that want one.
#[derive(Clone, Debug)]
pub struct AutomaticAddresses {
    /// How many there are.
    count: u32,
    owners: OrdMap<u32, Arc<Owner>>,
    places: OrdMap<Name, u32>,
    /// Those for whom there was no room.
    waiting: BTreeSet<Arc<Owner>>,
}

/// Host and namespace.
type Name = (Arc<str>, Arc<str>);

/// Older ones come first; those of files have no age, and go by their names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    created: Option<Arc<str>>,
    name: Name,
}

impl Default for AutomaticAddresses {
    fn default() -> Self {
        AutomaticAddresses::with_places(PLACES)
    }
}

impl AutomaticAddresses {
    fn with_places(count: u32) -> Self {
        AutomaticAddresses { count, owners: OrdMap::new(), places: OrdMap::new(), waiting: BTreeSet::new() }
    }

    /// What a service is called at, IPv4 and IPv6. None: it has addresses, or wants none.
    pub fn of(&self, service: &Service) -> Option<[IpAddr; 2]> {
        let place = *self.places.get(&(Arc::clone(&service.host), Arc::clone(&service.namespace)))?;
        let (third, fourth) = (place / PER_NET, place % PER_NET + 1);
        let v4 = Ipv4Addr::from(0xf0f0_0000 | (third << 8) | fourth);
        let v6 = Ipv6Addr::from((0x2001_0002_u128 << 96) | (0xf0f0_u128 << 16) | u128::from((third << 8) | fourth));
        Some([v4.into(), v6.into()])
    }

    /// Brings those of a host up to date, in all namespaces. Yields the other hosts whose addresses are different now.
    pub(super) fn update(&mut self, host: &Arc<str>, services: &[Arc<Service>]) -> BTreeSet<Arc<str>> {
        let wanting: BTreeSet<Arc<Owner>> =
            services.iter().filter(|service| service.wants_address()).map(|service| Owner::of(service)).collect();
        let first = (Arc::clone(host), Arc::from(""));
        let places = self.places.range(first..).take_while(|((of, _), _)| of == host).map(|(_, place)| *place);
        let had: Vec<(u32, Arc<Owner>)> =
            places.filter_map(|place| Some((place, Arc::clone(self.owners.get(&place)?)))).collect();
        let mut moved = BTreeSet::new();
        self.waiting.retain(|owner| owner.name.0 != *host || wanting.contains(owner));
        for (place, _) in had.iter().filter(|(_, owner)| !wanting.contains(owner)) {
            self.vacate(*place, &mut moved);
        }
        for owner in wanting {
            if !self.places.contains_key(&owner.name) {
                self.settle(owner, &mut moved);
            }
        }
        moved.remove(host);
        moved
    }

    /// Finds a place for somebody, and then for whoever is younger and had it. In the end everybody has the first place on his way
    /// that nobody older has, in whatever order they came.
    fn settle(&mut self, owner: Arc<Owner>, moved: &mut BTreeSet<Arc<str>>) {
        let mut place = owner.hash() % self.count;
        let mut owner = owner;
        for _ in 0..self.count {
            match self.owners.get(&place).cloned() {
                Some(older) if older <= owner => {}
                younger => {
                    self.places.insert(owner.name.clone(), place);
                    self.owners.insert(place, owner);
                    let Some(younger) = younger else { return };
                    moved.insert(Arc::clone(&younger.name.0));
                    owner = younger;
                }
            }
            place = self.after(place);
        }
        // He has met only older ones, wherever he went.
        self.places.remove(&owner.name);
        self.waiting.insert(owner);
    }

    /// Somebody leaves: those behind may have wanted the place, up to the first that is free.
    fn vacate(&mut self, place: u32, moved: &mut BTreeSet<Arc<str>>) {
        if let Some(owner) = self.owners.remove(&place) {
            self.places.remove(&owner.name);
        }
        let mut others = std::mem::take(&mut self.waiting);
        let mut before = OrdMap::new();
        let mut next = self.after(place);
        while let Some(owner) = self.owners.remove(&next) {
            self.places.remove(&owner.name);
            before.insert(owner.name.clone(), next);
            others.insert(owner);
            next = self.after(next);
        }
        for owner in others {
            let name = owner.name.clone();
            self.settle(owner, moved);
            if self.places.get(&name) != before.get(&name) {
                moved.insert(name.0);
            }
        }
    }

    fn after(&self, place: u32) -> u32 {
        (place + 1) % self.count
    }
}

impl Owner {
    fn of(service: &Service) -> Arc<Owner> {
        Arc::new(Owner {
            created: service.created().map(Arc::from),
            name: (Arc::clone(&service.host), Arc::clone(&service.namespace)),
        })
    }

    /// Of `namespace/host`, the same in every build (FNV-1a).
    fn hash(&self) -> u32 {
        let (host, namespace) = &self.name;
        let bytes = namespace.bytes().chain([b'/']).chain(host.bytes());
        bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

#[cfg(test)]
#[path = "automatic_tests.rs"]
mod tests;
