use std::net::SocketAddr;

use arc_swap::ArcSwap;
use mesh_core::compile::compile;
use mesh_core::lb::{Balancer, EndpointSet, Shape};
use mesh_core::model::*;
use mesh_core::object::ObjectRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::listen::{Captured, Connection, Retired};
use crate::observe::{Observe, SourceLabels};

const PATIENCE: Duration = Duration::from_secs(10);

fn origin() -> ObjectRef {
    ObjectRef::new("Service", "default", "db")
}

fn destination(key: &str, reach: Reach, connections: ConnectionRules) -> Destination {
    Destination {
        key: key.into(),
        host: "db.default.svc.cluster.local".into(),
        service_name: "db".into(),
        service_namespace: "default".into(),
        port: 3306,
        subset: None,
        protocol: UpstreamProtocol::AsClient,
        balancing: Balancing::RoundRobin,
        locality: None,
        warmup: None,
        outlier: None,
        tls: UpstreamTls::Auto,
        limits: Default::default(),
        connections,
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_millis(300),
        reach,
        origin: origin(),
        rule: None,
    }
}

struct Rig {
    proxy: Arc<TcpProxy>,
    observe: Arc<Observe>,
}

/// What leaves to port 3306 goes to `backends`, to 3307 nowhere, to everywhere else as `unknown` says.
fn rig(backends: &[SocketAddr], unknown: UnknownDestination) -> Rig {
    rig_with(backends, unknown, ConnectionRules::default())
}

/// The same with these rules of connections to the backends.
fn rig_with(backends: &[SocketAddr], unknown: UnknownDestination, rules: ConnectionRules) -> Rig {
    let tcp = |port, destination| OutboundTcp {
        networks: Vec::new(),
        port,
        sni: Vec::new(),
        destinations: vec![WeightedDestination { destination, weight: 1 }],
        routes: None,
        origin: origin(),
    };
    let outbound = Outbound {
        tcp: vec![tcp(3306, DestinationRef::Known("db".into())), tcp(3307, DestinationRef::Unknown("gone".into()))],
        unknown,
        ..Outbound::default()
    };
    let listener = Listener {
        key: "out".into(),
        address: "127.0.0.1:15001".parse().unwrap(),
        port: 15001,
        protocol: ListenerProtocol::Outbound(outbound),
        path_normalization: PathNormalization::Base,
        origin: origin(),
        server: None,
    };
    let destinations = [
        destination("db", Reach::Discovered, rules),
        destination(PASSTHROUGH, Reach::Original, ConnectionRules::default()),
    ];
    let set = ResourceSet {
        listeners: [(listener.key.clone(), Arc::new(listener))].into_iter().collect(),
        destinations: destinations.into_iter().map(|one| (one.key.clone(), Arc::new(one))).collect(),
        ..ResourceSet::default()
    };
    let snapshot = Arc::new(compile(&set, None, 1).snapshot);
    let of = |destination: &Arc<Destination>, id: u64| {
        let backends = if destination.reach == Reach::Discovered { backends } else { &[] };
        let endpoints: Vec<_> = backends
            .iter()
            .map(|address| (crate::live::unknown_endpoint(*address).endpoint.clone(), *address))
            .collect();
        Arc::new(LiveCluster {
            origination: None,
            names: None,
            destination: destination.clone(),
            endpoints: Arc::new(ArcSwap::from_pointee(EndpointSet::build(
                &endpoints,
                None,
                &Shape::default(),
                std::time::Instant::now(),
            ))),
            balancer: Arc::new(Balancer::new(Balancing::RoundRobin)),
            breaker: None,
            outliers: None,
            id,
        })
    };
    let clusters = snapshot.clusters.iter().zip(1..).map(|(destination, id)| of(destination, id)).collect();
    let cells = Arc::new(Cells::default());
    cells.live.store(Arc::new(Live { snapshot, clusters, ..Live::default() }));
    let observe = Observe::new(1, &SourceLabels::of_gateway(&Default::default(), "default", |_| None)).unwrap();
    let observer = observe.observer(0).unwrap().clone();
    Rig { proxy: Arc::new(TcpProxy::new(cells, Pools::new(), observer, None)), observe }
}

impl Rig {
    /// A client that was going there.
    async fn connect(&self, original: SocketAddr) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (io, peer) = listener.accept().await.unwrap();
        let info = ConnectionInfo {
            id: 1,
            peer,
            client: peer,
            local: original,
            listener: "out".into(),
            listener_port: original.port(),
            tls: None,
            bytes: true,
            server_name: None,
            captured: Some(Captured { direction: Direction::Outbound, direct: false }),
            retired: Retired::default(),
        };
        let (_, drain) = watch::channel(false);
        tokio::spawn(self.proxy.clone().handle(Connection::plain(io).into_stream(), Arc::new(info), drain));
        client
    }

    /// The value of the one series of this family that has all of these labels, once there is one.
    async fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        let found = async {
            loop {
                let text = self.observe.metrics_text();
                let line = text.lines().find(|line| {
                    line.starts_with(&format!("{family}{{")) && labels.iter().all(|label| line.contains(label))
                });
                if let Some(value) = line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value) {
                    return value.parse().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect(family)
    }
}

/// Speaks first, then echoes until its client ends.
async fn server_first() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            tokio::spawn(async move {
                io.write_all(b"hello ").await.unwrap();
                let (mut from, mut to) = io.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn converse(mut client: TcpStream, said: &str) -> String {
    client.write_all(said.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn bytes_go_to_the_destination_and_are_counted() {
    let rig = rig(&[refusing().await, server_first().await], UnknownDestination::Refuse);
    // Whichever is picked first, the one that is there is found.
    for _ in 0..2 {
        let client = rig.connect(([10, 0, 0, 1], 3306).into()).await;
        assert_eq!(converse(client, "world").await, "hello world");
    }
    let labels = [
        "reporter=\"source\"",
        "destination_service=\"db.default.svc.cluster.local\"",
        "request_protocol=\"tcp\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"unknown\"",
    ];
    assert_eq!(rig.metric("istio_tcp_connections_closed_total", &labels).await, 2.0);
    assert_eq!(rig.metric("istio_tcp_connections_opened_total", &labels).await, 2.0);
    assert_eq!(rig.metric("istio_tcp_received_bytes_total", &labels).await, 10.0);
    assert_eq!(rig.metric("istio_tcp_sent_bytes_total", &labels).await, 22.0);
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_nowhere_to_go() {
    let rig = rig(&[refusing().await], UnknownDestination::Refuse);
    for port in [3306, 3307, 9] {
        let client = rig.connect(([10, 0, 0, 1], port).into()).await;
        assert_eq!(converse(client, "").await, "");
    }
    let closed = "istio_tcp_connections_closed_total";
    let refused = ["destination_service_name=\"db\"", "response_flags=\"URX,UF\""];
    assert_eq!(rig.metric(closed, &refused).await, 1.0);
    let unknown = ["destination_service_name=\"BlackHoleCluster\"", "response_flags=\"UH\""];
    assert_eq!(rig.metric(closed, &unknown).await, 1.0);
    assert_eq!(rig.metric(closed, &["destination_service_name=\"unknown\"", "response_flags=\"UH\""]).await, 1.0);
}

/// A proxy that answers every CONNECT so, and sends back what comes then.
async fn http_proxy(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                assert!(head.starts_with(b"CONNECT x.example:443 HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

#[tokio::test]
async fn bytes_go_through_a_proxy_that_lets_them() {
    let tunnel = Tunnel { method: TunnelMethod::Connect, host: "x.example".into(), port: 443 };
    let rules = || ConnectionRules { tunnel: Some(tunnel.clone().into()), ..ConnectionRules::default() };
    let willing = http_proxy("HTTP/1.1 200 OK\r\n\r\nhello ").await;
    // One that refuses is like one that is not there.
    let rig = rig_with(&[http_proxy("HTTP/1.1 403 No\r\n\r\n").await, willing], UnknownDestination::Refuse, rules());
    for _ in 0..2 {
        let client = rig.connect(([10, 0, 0, 1], 3306).into()).await;
        assert_eq!(converse(client, "world").await, "hello world");
    }
    let rig = rig_with(&[http_proxy("HTTP/1.1 403 No\r\n\r\n").await], UnknownDestination::Refuse, rules());
    let client = rig.connect(([10, 0, 0, 1], 3306).into()).await;
    assert_eq!(converse(client, "world").await, "");
    let refused = ["destination_service_name=\"db\"", "response_flags=\"URX,UF\""];
    assert_eq!(rig.metric("istio_tcp_connections_closed_total", &refused).await, 1.0);
}

#[tokio::test]
async fn who_goes_somewhere_unknown_gets_there_if_he_may() {
    let rig = rig(&[], UnknownDestination::Passthrough);
    let client = rig.connect(server_first().await).await;
    assert_eq!(converse(client, "there").await, "hello there");
}

#[tokio::test]
async fn a_connection_on_which_nothing_happens_is_closed() {
    let rig = rig(&[server_first().await], UnknownDestination::Refuse);
    let mut client = rig.connect(([10, 0, 0, 1], 3306).into()).await;
    let begun = Instant::now();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "hello ");
    assert!(begun.elapsed() >= Duration::from_millis(290));
}
