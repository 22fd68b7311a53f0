//! Destinations that are found by the host of a request (`DYNAMIC_DNS`): the host is looked up, and called at the destination's
//! port. Clients choose the names, within the destination's own (`*.example`), and whoever answers for those names chooses the
//! addresses. So names are asked for as they are, never with what the resolver's search list would put behind them. Envoy's
//! forward proxy calls any address; here one of this machine (loopback, unspecified, those of its own interfaces: a loop), of its
//! link, of many (multicast), or of a cloud's metadata is none, however IPv6 writes it. Names under `localhost`, where somebody
//! asks for those, are this machine without being asked for (RFC 6761 section 6.3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::lb::EndpointState;
use mesh_core::model::{Destination, Reach, name_of_destination};
use smallvec::SmallVec;

use super::Resolver;
use super::dns::NoAddress;
use crate::live::{Unfound, unknown_endpoint};

const LOCALHOST: &str = ".localhost";
/// Where clouds tell a machine its secrets, but for 169.254.169.254, which is link-local: Alibaba's, Azure's; Amazon's, Google's.
const METADATA4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];
/// Of RFC 6052 section 2.1: what is behind it is IPv4.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];
/// Of RFC 5737 and RFC 3849: nobody has these.
const DOCUMENTATION4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The hosts of one destination.
pub struct NamedHosts {
    resolver: Arc<Resolver>,
    /// `*.suffix`, which all of its names have at their end; lower case.
    host: Arc<str>,
    port: u16,
    /// A name that nobody knows the address of is waited for as long as for a connection.
    wait: Duration,
}

impl NamedHosts {
    /// None: the destination has endpoints of its own.
    #[must_use]
    pub fn of(destination: &Destination, resolver: &Arc<Resolver>) -> Option<Arc<NamedHosts>> {
        let Reach::Named(port) = destination.reach else { return None };
        let (resolver, host) = (Arc::clone(resolver), Arc::clone(&destination.host));
        Some(Arc::new(NamedHosts { resolver, host, port, wait: destination.connect_timeout }))
    }

    /// One of the addresses that the name has, at random; those in `avoid` are taken only if there is no other. `authority`: a
    /// name with or without port, which does not count.
    pub async fn pick(&self, authority: &str, avoid: &[SocketAddr]) -> Result<Arc<EndpointState>, Unfound> {
        let name = name_of_destination(&self.host, authority).ok_or(Unfound::OtherName)?;
        let known = self.resolver.addresses(&self.host, &name, self.wait).await.map_err(|why| match why {
            NoAddress::Full => Unfound::TooManyNames,
            NoAddress::Unknown => Unfound::NotResolved,
            NoAddress::Refused => Unfound::AddressRefused,
        })?;
        let inside = self.host.ends_with(LOCALHOST);
        let usable = known.iter().filter(|address| is_outside(**address) || (inside && address.is_loopback()));
        let usable: SmallVec<[SocketAddr; 8]> = usable.map(|address| SocketAddr::new(*address, self.port)).collect();
        let fresh: SmallVec<[SocketAddr; 8]> =
            usable.iter().filter(|address| !avoid.contains(address)).copied().collect();
        let among = if fresh.is_empty() { &usable } else { &fresh };
        fastrand::choice(among).map(|address| unknown_endpoint(*address)).ok_or(Unfound::AddressRefused)
    }
}

/// The name as no search list applies to it.
pub(super) fn absolute(host: &str) -> String {
    format!("{host}.")
}

/// What names under `localhost` mean, whatever DNS says.
pub(super) fn localhost(host: &str) -> Option<IpAddr> {
    host.ends_with(LOCALHOST).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Whether the address is one of this machine's, which are the ones that a socket can have. Nothing is sent.
pub(super) fn is_of_this_machine(address: IpAddr) -> bool {
    let address = translated(address).unwrap_or(address);
    let can_be_had = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    // Where a socket can have anybody's (`ip_nonlocal_bind`), it counts whether the system would call the address from itself,
    // which tells all but the second and further ones of a network.
    let nobodys: IpAddr = if address.is_ipv4() { DOCUMENTATION4.into() } else { DOCUMENTATION6.into() };
    can_be_had(address) && (!can_be_had(nobodys) || called_from(address).is_ok_and(|from| from == address))
}

/// Where the system would call an address from.
fn called_from(address: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // Discard, RFC 863: any port would do.
    socket.connect((address, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// The IPv4 address that a translator would call in place of this one.
fn translated(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let [.., a, b, c, d] = address.octets();
    address.segments().starts_with(&NAT64).then_some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
}

/// Neither this machine, as far as an address alone says it, nor its link, nor a cloud's metadata, nor many at once.
fn is_outside(address: IpAddr) -> bool {
    let address = translated(address).unwrap_or(address);
    let inside = match address {
        IpAddr::V4(address) => {
            let is_odd = address.is_link_local() || address.is_broadcast() || address.octets().starts_with(&[0]);
            is_odd || METADATA4.contains(&address)
        }
        IpAddr::V6(address) => address.is_unicast_link_local() || METADATA6.contains(&address),
    };
    !(inside || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

#[cfg(test)]
#[path = "named_tests.rs"]
mod tests;
