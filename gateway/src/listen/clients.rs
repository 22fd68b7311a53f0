//! How many connections each client has. A lock, but once for a connection and only where they are limited.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Who has one IPv6 address has 2^64 of them (RFC 6177), so they count together.
const IPV6_PREFIX: u128 = !0 << 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Clients {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    pub fn new(most: usize) -> Arc<Clients> {
        Arc::new(Clients { most, open: Mutex::default() })
    }

    /// None: this client has as many as it may have.
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        let client = together(client);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat { clients: Arc::clone(self), client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.clients.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = open.entry(self.client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

fn together(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_PREFIX).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_for_itself() {
        let clients = Clients::new(2);
        let first = clients.enter(ip("192.0.2.1")).unwrap();
        let _second = clients.enter(ip("192.0.2.1")).unwrap();
        assert!(clients.enter(ip("192.0.2.1")).is_none());
        assert!(clients.enter(ip("192.0.2.2")).is_some());
        drop(first);
        assert!(clients.enter(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let clients = Clients::new(1);
        let _first = clients.enter(ip("2001:db8::1")).unwrap();
        assert!(clients.enter(ip("2001:db8::ffff:1")).is_none());
        assert!(clients.enter(ip("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn who_left_is_forgotten() {
        let clients = Clients::new(1);
        drop(clients.enter(ip("192.0.2.1")));
        assert!(clients.open.lock().unwrap().is_empty());
    }
}
