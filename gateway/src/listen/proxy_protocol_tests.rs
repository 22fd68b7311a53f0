use std::sync::Arc;
use std::time::Duration;

use mesh_core::model::Topology;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::listen::ListenOptions;
use crate::listen::testing::{Gate, http, read_word, until, words};

/// What is found in front of `rest`, and what is left of it.
async fn found(bytes: &[u8]) -> (Result<Option<Ends>, String>, Vec<u8>) {
    let mut io = bytes;
    let found = read(&mut io).await.map_err(|error| match error {
        ReadError::Left => "left".to_owned(),
        ReadError::Io(error) => error.kind().to_string(),
        ReadError::Malformed(malformed) => malformed.to_string(),
    });
    (found, io.to_vec())
}

fn both(client: &str, server: &str) -> Option<Ends> {
    Some(Ends { client: client.parse().unwrap(), server: server.parse().unwrap() })
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

#[tokio::test]
async fn the_header_is_taken_and_not_a_byte_more() {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
    let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &Ipv6Addr::UNSPECIFIED.octets(), &[0, 1, 0, 2]].concat();
    let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
    let mapped = [&mapped[..], &mapped, &[0, 1, 0, 2]].concat();
    let known = both("192.0.2.7:56324", "198.51.100.1:443");
    for (header, wanted) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n".to_vec(), known),
        (b"PROXY TCP6 ::1 2001:db8::2 1 65535\r\n".to_vec(), both("[::1]:1", "[2001:db8::2]:65535")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 whatever\r\n".to_vec(), None),
        (binary(0x21, 0x11, &v4), known),
        // With an extension.
        (binary(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()), known),
        (binary(0x21, 0x21, &v6), both("[::1]:1", "[::]:2")),
        (binary(0x21, 0x21, &mapped), both("192.0.2.7:1", "192.0.2.7:2")),
        (binary(0x20, 0x00, &[]), None),
        (binary(0x20, 0x11, &v4), None),
        (binary(0x21, 0x00, &[1, 2, 3]), None),
        (binary(0x21, 0x31, &[0; 216]), None),
    ] {
        let (said, left) = found(&[&header[..], b"GET / HTTP/1.1\r\n"].concat()).await;
        assert_eq!(said.as_ref(), Ok(&wanted), "{header:?}");
        assert_eq!(left, b"GET / HTTP/1.1\r\n", "{header:?}");
    }
}

#[tokio::test]
async fn what_is_no_header_is_refused() {
    let long = format!("PROXY UNKNOWN {}", "a".repeat(200));
    for (bytes, wanted) in [
        (b"".to_vec(), "left"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "there is no PROXY header"),
        (b"\x16\x03\x01".to_vec(), "there is no PROXY header"),
        (b"PRO".to_vec(), "the connection ended within the header"),
        (long.into_bytes(), "the line is longer than 107 bytes"),
        (b"PROXY UNKNOWN \n".to_vec(), "the line does not end with CR LF"),
        (b"PROXY TCP4 ::1 192.0.2.1 1 2\r\n".to_vec(), "an address cannot be read, or is of another family"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 65536\r\n".to_vec(), "a port cannot be read"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 01 2\r\n".to_vec(), "a port cannot be read"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 +1 2\r\n".to_vec(), "a port cannot be read"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 1\r\n".to_vec(), "an address or a port is missing"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 2 3\r\n".to_vec(), "something follows the ports"),
        (b"PROXY TCP4  192.0.2.1 192.0.2.1 1 2\r\n".to_vec(), "something follows the ports"),
        (b"PROXY UDP4 192.0.2.1 192.0.2.1 1 2\r\n".to_vec(), "the family is none of TCP4, TCP6, UNKNOWN"),
        (b"PROXY \xff\xff\xff\xff\xff\xff\xff\xff\r\n".to_vec(), "the line is not ASCII"),
        (binary(0x31, 0x11, &[0; 12]), "neither version nor command are known"),
        (binary(0x22, 0x11, &[0; 12]), "neither version nor command are known"),
        (binary(0x21, 0x41, &[0; 12]), "the family is not known"),
        (binary(0x21, 0x11, &[0; 11]), "the addresses are cut"),
        (binary(0x21, 0x21, &[0; 35]), "the addresses are cut"),
        (binary(0x21, 0x11, &[0; 4097]), "the header is longer than 4096 bytes"),
    ] {
        assert_eq!(found(&bytes).await.0, Err(wanted.to_owned()), "{:?}", String::from_utf8_lossy(&bytes));
    }
    let cut = binary(0x21, 0x11, &[0; 12]);
    assert!(found(&cut[..20]).await.0.is_err());
}

/// A gate that has load balancers there.
async fn gate(load_balancers: Option<&str>, handshake_timeout: Duration) -> (Gate, SocketAddr) {
    let load_balancers = load_balancers.map(|source| Arc::from([source.parse().unwrap()]));
    let mut gate = Gate::new(1, ListenOptions { load_balancers, handshake_timeout, ..ListenOptions::default() });
    gate.listen("l", "127.0.0.1:0", http());
    assert!(gate.apply().await.is_empty());
    let address = gate.manager.address("l").unwrap();
    (gate, address)
}

/// The family of the client as the handler knows it; none: the connection was closed.
async fn family(address: SocketAddr, bytes: &str) -> Option<String> {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(bytes.as_bytes()).await.unwrap();
    words(&read_word(&mut client).await).remove("family")
}

#[tokio::test]
async fn only_load_balancers_are_asked_and_believed() {
    const HEADER: &str = "PROXY TCP6 ::1 ::2 1 2\r\nGET /";
    let demanding = Topology { proxy_protocol: true, ..Topology::default() };
    for (load_balancers, topology, is_asked) in [
        (None, Topology::default(), false),
        (None, demanding, true),
        (Some("127.0.0.0/8"), Topology::default(), true),
        (Some("10.0.0.0/8"), demanding, false),
    ] {
        let (gate, address) = gate(load_balancers, Duration::from_secs(15)).await;
        gate.cells.topology.store(Arc::new(topology));
        let (told, untold) = (family(address, HEADER).await, family(address, "GET /").await);
        if is_asked {
            assert_eq!((told.as_deref(), untold.as_deref()), (Some("v6"), None), "{load_balancers:?}");
            until(|| gate.counts("l").no_proxy_header == 1).await;
        } else {
            assert_eq!((told.as_deref(), untold.as_deref()), (Some("v4"), Some("v4")), "{load_balancers:?}");
        }
    }
}

#[tokio::test]
async fn who_stops_within_the_header_is_turned_away_in_time() {
    let (gate, address) = gate(Some("127.0.0.1/32"), Duration::from_millis(300)).await;
    assert_eq!(family(address, "PROXY TCP4 127.0").await, None);
    until(|| gate.counts("l").no_proxy_header == 1).await;
}

proptest! {
    #[test]
    fn every_pair_of_addresses_is_found_again(client: SocketAddr, server: SocketAddr, version_2: bool) {
        prop_assume!(client.is_ipv4() == server.is_ipv4());
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let header = if version_2 {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let ports = [client.port().to_be_bytes(), server.port().to_be_bytes()].concat();
            let body = [octets(client.ip()), octets(server.ip()), ports].concat();
            binary(0x21, if client.is_ipv4() { 0x11 } else { 0x21 }, &body)
        } else {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", client.ip(), server.ip(), client.port(), server.port()).into_bytes()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (said, left) = runtime.block_on(found(&header));
        prop_assert_eq!(said, Ok(Some(Ends { client: plain(client), server: plain(server) })));
        prop_assert!(left.is_empty());
    }

    #[test]
    fn nothing_is_read_beyond_the_longest_header(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in 0..3_usize) {
        let start: &[u8] = [b"", &b"PROXY "[..], &SIGNATURE][start];
        let all = [start, &bytes, &[0; 5000]].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_, left) = runtime.block_on(found(&all));
        prop_assert!(all.len() - left.len() <= FIXED + LONGEST_BODY);
    }
}
