use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use mesh_core::model::*;
use pingora_core::protocols::{ALPN, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::*;
use crate::listen::testing::{Gate, origin, read_word, soon, until};
use crate::listen::{ConnectionFuture, ConnectionHandler, ConnectionInfo, ListenerManager, Workers};
use crate::live::Cells;

/// Says what it was given, then echoes the first thing that the client says.
struct Tell;

impl ConnectionHandler for Tell {
    fn handle(
        self: Arc<Self>,
        mut stream: Stream,
        info: Arc<ConnectionInfo>,
        _: watch::Receiver<bool>,
    ) -> ConnectionFuture {
        Box::pin(async move {
            let captured = info.captured.unwrap();
            let spoken = match (info.bytes, stream.selected_alpn_proto()) {
                (true, _) => "bytes",
                (false, Some(ALPN::H2)) => "h2",
                (false, _) => "h1",
            };
            let name = info.server_name.as_deref().unwrap_or("-");
            let nowhere = if info.original().is_none() { " going nowhere" } else { "" };
            let words = format!("{:?} {spoken} {name} {}{nowhere}|", captured.direction, info.local);
            stream.write_all(words.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            let _ = stream.write_all(&buffer[..count]).await;
            let _ = stream.flush().await;
        })
    }
}

/// In place of the kernel's: where a client says it is going, by its own address.
static GOING: Mutex<Option<HashMap<SocketAddr, SocketAddr>>> = Mutex::new(None);

fn going(io: &TcpStream) -> io::Result<SocketAddr> {
    let going = GOING.lock().unwrap();
    let known = going.as_ref().and_then(|known| known.get(&io.peer_addr().unwrap()).copied());
    known.map_or_else(|| io.local_addr(), Ok)
}

fn gate() -> Gate {
    let cells = Arc::new(Cells::default());
    let options =
        ListenOptions { original: going, server_first: Duration::from_millis(100), ..ListenOptions::default() };
    let workers = Workers::start(1, |_| Arc::new(Tell)).unwrap();
    let manager = ListenerManager::new(Arc::clone(&cells), workers, options).unwrap();
    Gate { cells, manager, set: ResourceSet::default() }
}

async fn open(protocol: ListenerProtocol) -> (Gate, SocketAddr) {
    let mut gate = gate();
    gate.listen("l", "127.0.0.1:0", protocol);
    assert!(gate.apply().await.is_empty());
    let address = gate.manager.address("l").unwrap();
    (gate, address)
}

async fn connect(to: SocketAddr, original: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let own = socket.local_addr().unwrap();
    GOING.lock().unwrap().get_or_insert_default().insert(own, original.parse().unwrap());
    socket.connect(to).await.unwrap()
}

/// What became of a client that goes there and says this.
async fn told(to: SocketAddr, original: &str, said: &[u8]) -> String {
    let mut client = connect(to, original).await;
    client.write_all(said).await.unwrap();
    let words = read_word(&mut client).await;
    if !words.is_empty() {
        let mut again = vec![0; said.len()];
        soon(client.read_exact(&mut again)).await.unwrap();
        assert_eq!(again, said, "nothing that was looked at is lost");
    }
    words
}

fn tcp(network: Option<&str>, port: u16, sni: &[&str]) -> OutboundTcp {
    OutboundTcp {
        networks: network.iter().map(|network| network.parse().unwrap()).collect(),
        port,
        sni: sni.iter().map(|name| HostPattern::Exact((*name).into())).collect(),
        destinations: vec![WeightedDestination { destination: DestinationRef::Known("d".into()), weight: 1 }],
        routes: None,
        origin: origin(),
    }
}

fn outbound() -> ListenerProtocol {
    let http = |detect| OutboundHttp { routes: "none".into(), detect, by_port: BTreeMap::new() };
    ListenerProtocol::Outbound(Outbound {
        http: BTreeMap::from([(80, http(false)), (81, http(true))]),
        tcp: vec![tcp(Some("10.0.0.1/32"), 3306, &[]), tcp(None, 443, &["a.example"])],
        ..Outbound::default()
    })
}

const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

#[tokio::test]
async fn what_leaves_is_told_apart_by_where_it_goes_and_what_it_says() {
    let (_gate, at) = open(outbound()).await;
    assert_eq!(told(at, "10.0.0.9:80", GET).await, "Outbound h1 - 10.0.0.9:80");
    assert_eq!(told(at, "10.0.0.9:80", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "Outbound h2 - 10.0.0.9:80");
    // Also where HTTP is promised.
    assert_eq!(told(at, "10.0.0.9:80", b"SSH-2.0-x\r\n").await, "Outbound bytes - 10.0.0.9:80");
    assert_eq!(told(at, "10.0.0.9:80", b"GET / HTTP/1.0\r\n\r\n").await, "Outbound bytes - 10.0.0.9:80");
    // Nobody looks for HTTP where it cannot be, and who is silent there is not waited for.
    assert_eq!(told(at, "10.0.0.1:3306", GET).await, "Outbound bytes - 10.0.0.1:3306");
    assert_eq!(told(at, "10.0.0.1:3306", b"").await, "Outbound bytes - 10.0.0.1:3306");
    assert_eq!(told(at, "10.0.0.9:81", b"").await, "Outbound bytes - 10.0.0.9:81", "after a while");
}

#[tokio::test]
async fn a_name_that_has_a_say_is_looked_at() {
    let (_gate, at) = open(outbound()).await;
    let config = crate::listen::testing::client(&[], &[]);
    let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    assert_eq!(told(at, "10.0.0.9:443", &hello).await, "Outbound bytes a.example 10.0.0.9:443");
    assert_eq!(told(at, "10.0.0.9:444", &hello).await, "Outbound bytes - 10.0.0.9:444");
}

#[tokio::test]
async fn who_was_not_redirected_is_turned_away() {
    let (gate, at) = open(outbound()).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    let mut buffer = [0; 8];
    assert!(matches!(soon(client.read(&mut buffer)).await, Ok(0) | Err(_)));
    until(|| gate.counts("l").not_redirected == 1).await;
}

/// Where it was going to is known to be this listener, from where nothing can go on.
#[tokio::test]
async fn who_comes_to_a_listener_of_its_own_is_taken_as_if_redirected() {
    let http = OutboundHttp { routes: "none".into(), detect: false, by_port: BTreeMap::new() };
    let mut gate = gate();
    // Its tables know the port that it is bound to.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let outbound = Outbound { http: BTreeMap::from([(port, http)]), direct: true, ..Outbound::default() };
    let address = format!("127.0.0.1:{port}");
    gate.listen("l", &address, ListenerProtocol::Outbound(outbound));
    assert!(gate.apply().await.is_empty());
    let mut client = TcpStream::connect(&address).await.unwrap();
    client.write_all(GET).await.unwrap();
    assert_eq!(read_word(&mut client).await, format!("Outbound h1 - {address} going nowhere"));
    assert_eq!(gate.counts("l").not_redirected, 0);
}

#[tokio::test]
async fn what_arrives_is_told_apart_by_port_and_mode() {
    let port =
        |protocol, mtls| InboundPort { protocol, mtls, routes: "none".into(), destination: "d".into(), tls: None };
    let ports = BTreeMap::from([
        (80, port(InboundProtocol::Http, MtlsMode::Permissive)),
        (81, port(InboundProtocol::Detect, MtlsMode::Disable)),
        (82, port(InboundProtocol::Detect, MtlsMode::Permissive)),
        (83, port(InboundProtocol::Detect, MtlsMode::Strict)),
    ]);
    let inbound = Inbound { ports, others: port(InboundProtocol::Tcp, MtlsMode::Permissive), direct: false };
    let (gate, at) = open(ListenerProtocol::Inbound(inbound)).await;
    assert_eq!(told(at, "10.0.0.2:80", GET).await, "Inbound h1 - 10.0.0.2:80");
    for port in [81, 82] {
        let to = format!("10.0.0.2:{port}");
        assert_eq!(told(at, &to, GET).await, format!("Inbound h1 - {to}"));
        assert_eq!(told(at, &to, b"hello\n").await, format!("Inbound bytes - {to}"));
        assert_eq!(told(at, &to, b"").await, format!("Inbound bytes - {to}"), "its server may speak first");
    }
    assert_eq!(told(at, "10.0.0.2:83", GET).await, "", "no clear text");
    until(|| gate.counts("l").not_tls == 1).await;
    assert_eq!(told(at, "10.0.0.2:9999", GET).await, "Inbound bytes - 10.0.0.2:9999");
}

#[tokio::test]
async fn tls_that_is_not_of_the_mesh_may_end_at_a_port() {
    let issued = crate::listen::testing::issue("a.example");
    let mut gate = gate();
    gate.secret("own", &issued);
    let port = |protocol| InboundPort {
        protocol,
        mtls: MtlsMode::Disable,
        routes: "none".into(),
        destination: "d".into(),
        tls: Some(crate::listen::testing::server(&["*"], &["own"])),
    };
    let ports = BTreeMap::from([(80, port(InboundProtocol::Http)), (81, port(InboundProtocol::Tcp))]);
    let inbound = Inbound { others: port(InboundProtocol::Tcp), ports, direct: false };
    gate.listen("l", "127.0.0.1:0", ListenerProtocol::Inbound(inbound));
    assert!(gate.apply().await.is_empty());
    let at = gate.manager.address("l").unwrap();
    let config = Arc::new(crate::listen::testing::client(&[&issued], &[]));
    for (original, expected) in
        [("10.0.0.2:80", "Inbound h1 - 10.0.0.2:80"), ("10.0.0.2:81", "Inbound bytes - 10.0.0.2:81")]
    {
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
        let mut client = soon(connector.connect(name, connect(at, original).await)).await.unwrap();
        client.write_all(GET).await.unwrap();
        assert_eq!(read_word(&mut client).await, expected);
    }
    assert_eq!(told(at, "10.0.0.2:80", GET).await, "", "no clear text");
}
