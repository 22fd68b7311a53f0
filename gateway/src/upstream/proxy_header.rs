//! Writes the PROXY header (versions 1 and 2, proxy-protocol.txt of HAProxy) with which a connection to an upstream begins that wants
//! to know who the client is. What is read of such headers is `listen`'s.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use mesh_core::model::ProxyHeader;

use crate::listen::proxy_protocol::Ends;

/// Section 2.2, with version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// None: there is no client, the proxy speaks for itself.
pub(super) fn bytes(version: ProxyHeader, ends: Option<Ends>) -> Vec<u8> {
    // A Unix socket has no address that anybody could be told.
    let ends = ends.filter(|ends| !ends.client.ip().is_unspecified());
    match version {
        ProxyHeader::V1 => version_1(ends),
        ProxyHeader::V2 => version_2(ends),
    }
}

fn version_1(ends: Option<Ends>) -> Vec<u8> {
    let line = match ends.map(|ends| (ends, in_one_family(ends))) {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some((ends, addresses)) => {
            let (from, to) = (ends.client.port(), ends.server.port());
            match addresses {
                Addresses::V4(client, server) => format!("PROXY TCP4 {client} {server} {from} {to}\r\n"),
                Addresses::V6(client, server) => format!("PROXY TCP6 {client} {server} {from} {to}\r\n"),
            }
        }
    };
    line.into_bytes()
}

fn version_2(ends: Option<Ends>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some(ends) = ends else {
        header.extend([LOCAL, 0, 0, 0]);
        return header;
    };
    match in_one_family(ends) {
        Addresses::V4(client, server) => {
            header.extend([PROXY, TCP_OVER_IPV4, 0, 12]);
            header.extend(client.octets());
            header.extend(server.octets());
        }
        Addresses::V6(client, server) => {
            header.extend([PROXY, TCP_OVER_IPV6, 0, 36]);
            header.extend(client.octets());
            header.extend(server.octets());
        }
    }
    header.extend(ends.client.port().to_be_bytes());
    header.extend(ends.server.port().to_be_bytes());
    header
}

enum Addresses {
    V4(std::net::Ipv4Addr, std::net::Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// A header has one family: where the ends have two, IPv4 is written in IPv6's way.
fn in_one_family(ends: Ends) -> Addresses {
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    match (ends.client.ip(), ends.server.ip()) {
        (IpAddr::V4(client), IpAddr::V4(server)) => Addresses::V4(client, server),
        _ => Addresses::V6(mapped(ends.client), mapped(ends.server)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::proxy_protocol::read;

    fn ends(client: &str, server: &str) -> Ends {
        Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    /// What we say is what we would hear.
    #[tokio::test]
    async fn what_is_written_is_read_back() {
        let all = [
            ends("203.0.113.7:56324", "198.51.100.1:443"),
            ends("[2001:db8::7]:1", "[2001:db8::1]:65535"),
            ends("203.0.113.7:56324", "[2001:db8::1]:80"),
            ends("[2001:db8::7]:0", "198.51.100.1:80"),
        ];
        for version in [ProxyHeader::V1, ProxyHeader::V2] {
            for ends in all {
                let mut said = bytes(version, Some(ends));
                said.extend(b"GET");
                let mut rest = said.as_slice();
                assert_eq!(read(&mut rest).await.unwrap(), Some(ends), "{version:?}");
                assert_eq!(rest, b"GET", "{version:?} {ends:?}");
            }
            for nobody in [None, Some(ends("0.0.0.0:0", "198.51.100.1:80"))] {
                let said = bytes(version, nobody);
                let mut rest = said.as_slice();
                assert_eq!(read(&mut rest).await.unwrap(), None, "{version:?}");
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn as_it_looks_on_the_wire() {
        let ends = ends("1.2.3.4:4660", "5.6.7.8:80");
        assert_eq!(bytes(ProxyHeader::V1, Some(ends)), b"PROXY TCP4 1.2.3.4 5.6.7.8 4660 80\r\n");
        let wanted = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x12\x34\0P";
        assert_eq!(bytes(ProxyHeader::V2, Some(ends)), wanted);
    }
}
