use std::future::Future;
use std::io::ErrorKind;

use arc_swap::ArcSwap;
use mesh_core::lb::{Balancer, Shape};
use mesh_core::model::{Balancing, Destination, Endpoint, EndpointAddress, Reach};
use mesh_core::object::ObjectRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::live::Live;

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

fn cluster(id: u64, protocol: UpstreamProtocol, addresses: &[SocketAddr]) -> Arc<LiveCluster> {
    cluster_within(id, protocol, addresses, Duration::from_secs(5))
}

fn cluster_within(
    id: u64,
    protocol: UpstreamProtocol,
    addresses: &[SocketAddr],
    connect_timeout: Duration,
) -> Arc<LiveCluster> {
    let destination = Destination {
        key: "outbound|80||a".into(),
        host: "a".into(),
        service_name: "a".into(),
        service_namespace: "default".into(),
        port: 80,
        subset: None,
        protocol,
        balancing: Balancing::Random,
        locality: None,
        warmup: None,
        outlier: None,
        tls: UpstreamTls::Auto,
        limits: Default::default(),
        connections: Default::default(),
        connect_timeout,
        idle_timeout: IDLE_TIMEOUT,
        reach: Reach::Discovered,
        origin: ObjectRef::new("Service", "default", "a"),
        rule: None,
    };
    Arc::new(LiveCluster {
        origination: None,
        names: None,
        destination: Arc::new(destination),
        endpoints: Arc::new(ArcSwap::from_pointee(endpoints(addresses))),
        balancer: Arc::new(Balancer::new(Balancing::Random)),
        breaker: None,
        outliers: None,
        id,
    })
}

fn endpoints(addresses: &[SocketAddr]) -> EndpointSet {
    let endpoint = |address: &SocketAddr| {
        let endpoint = Endpoint {
            address: EndpointAddress::Socket(*address),
            weight: 1,
            locality: "".into(),
            workload: None,
            mtls: false,
            priority_labels: None,
        };
        (endpoint, *address)
    };
    EndpointSet::build(
        &addresses.iter().map(endpoint).collect::<Vec<_>>(),
        None,
        &Shape::default(),
        std::time::Instant::now(),
    )
}

fn live(clusters: &[&Arc<LiveCluster>]) -> Live {
    Live { clusters: clusters.iter().map(|cluster| Arc::clone(cluster)).collect(), ..Live::default() }
}

async fn h1(pools: &Pools, cluster: &Arc<LiveCluster>) -> H1Lease {
    let endpoint = cluster.endpoints.load().iter().next().unwrap().clone();
    match pools.acquire(cluster, &endpoint, Asked::default()).await.unwrap() {
        Upstream::H1(lease) => lease,
        Upstream::H2(_) => panic!("HTTP/2"),
    }
}

async fn h2(pools: &Pools, cluster: &Arc<LiveCluster>) -> H2Lease {
    let endpoint = cluster.endpoints.load().iter().next().unwrap().clone();
    match pools.acquire(cluster, &endpoint, Asked::default()).await.unwrap() {
        Upstream::H2(lease) => lease,
        Upstream::H1(_) => panic!("HTTP/1"),
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(future).await.expect("in time")
}

async fn timeout<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(10), future).await.ok()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A listener whose queue is full: the kernel drops what comes.
async fn deaf() -> ((TcpListener, Vec<TcpStream>), SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    let patience = Duration::from_millis(50);
    while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100);
    }
    ((listener, queued), address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    within(listener.accept()).await.unwrap().0
}

/// The peer sees the end of its connection.
async fn ended(stream: &mut TcpStream) {
    let mut buffer = Vec::new();
    if let Err(error) = within(stream.read_to_end(&mut buffer)).await {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

/// Lets the runtime see what happened on its sockets.
async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn one(pools: &Pools) -> PoolStats {
    let stats = pools.stats();
    assert_eq!(stats.len(), 1);
    stats[0]
}

#[tokio::test]
async fn a_released_connection_is_used_again() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http1, &[address]));
    let first = h1(&pools, &cluster).await;
    let second = h1(&pools, &cluster).await;
    assert!(!first.reused && !second.reused);
    assert!(first.codec.io().tcp().nodelay().unwrap());
    assert_eq!((one(&pools).active, one(&pools).idle, one(&pools).connects), (2, 0, 2));
    let (first_local, second_local) = (first.local, second.local);
    pools.release(first);
    pools.release(second);
    assert_eq!((one(&pools).active, one(&pools).idle), (0, 2));
    // Last in, first out.
    let lease = h1(&pools, &cluster).await;
    assert!(lease.reused);
    assert_eq!(lease.local, second_local);
    let other = h1(&pools, &cluster).await;
    assert_eq!(other.local, first_local);
    assert_eq!((one(&pools).active, one(&pools).idle, one(&pools).connects), (2, 0, 2));
    // Given up without release: closed.
    drop(lease);
    drop(other);
    ended(&mut accept(&listener).await).await;
    ended(&mut accept(&listener).await).await;
    assert_eq!((one(&pools).active, one(&pools).idle), (0, 0));
}

#[tokio::test]
async fn an_upgraded_connection_leaves_the_pool() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http1, &[address]));
    let (codec, guard) = h1(&pools, &cluster).await.into_codec();
    assert_eq!(one(&pools).active, 1);
    let (stream, _) = codec.into_parts();
    drop(stream);
    drop(guard);
    assert_eq!((one(&pools).active, one(&pools).idle), (0, 0));
    ended(&mut accept(&listener).await).await;
}

#[tokio::test]
async fn dead_connections_are_not_lent() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http1, &[address]));
    for kill in ["close", "bytes"] {
        let lease = h1(&pools, &cluster).await;
        assert!(!lease.reused);
        let mut peer = accept(&listener).await;
        pools.release(lease);
        match kill {
            "close" => drop(peer),
            _ => peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap(),
        }
        // An event that comes after the other one: the runtime has then seen both.
        let probe = TcpStream::connect(address).await.unwrap();
        drop(accept(&listener).await);
        probe.readable().await.unwrap();
        let lease = h1(&pools, &cluster).await;
        assert!(!lease.reused, "{kill}");
        assert_eq!(one(&pools).idle, 0);
        drop(lease);
        accept(&listener).await;
    }
}

#[tokio::test]
async fn unused_connections_go_after_their_time() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http1, &[address]));
    let live = live(&[&cluster]);
    let lease = h1(&pools, &cluster).await;
    let mut peer = accept(&listener).await;
    pools.release(lease);
    let start = pools.start;
    pools.sweep(start + IDLE_TIMEOUT / 2, &live);
    assert_eq!(one(&pools).idle, 1);
    // Used again: the time starts again.
    let lease = h1(&pools, &cluster).await;
    assert!(lease.reused);
    pools.release(lease);
    pools.sweep(start + IDLE_TIMEOUT, &live);
    assert_eq!(one(&pools).idle, 1);
    pools.sweep(start + IDLE_TIMEOUT + IDLE_TIMEOUT / 2, &live);
    assert_eq!(one(&pools).idle, 0);
    assert_eq!(pools.idle_total.load(Ordering::Relaxed), 0);
    ended(&mut peer).await;
}

#[tokio::test]
async fn the_sweep_closes_what_the_upstream_closed() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http1, &[address]));
    let lease = h1(&pools, &cluster).await;
    pools.release(lease);
    drop(accept(&listener).await);
    until(|| {
        pools.sweep(pools.start, &live(&[&cluster]));
        one(&pools).idle == 0
    })
    .await;
}

#[tokio::test]
async fn idle_connections_are_bounded() {
    let (listener, address) = listen().await;
    let (other_listener, other_address) = listen().await;
    let pools = Pools::with_limits(PoolLimits { idle_per_endpoint: 2, idle_total: 3 }, Arc::default());
    let a = cluster(1, UpstreamProtocol::Http1, &[address]);
    let b = cluster(2, UpstreamProtocol::Http1, &[other_address]);
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(h1(&pools, &a).await);
    }
    let mut oldest = accept(&listener).await;
    leases.into_iter().for_each(|lease| pools.release(lease));
    assert_eq!(one(&pools).idle, 2);
    ended(&mut oldest).await;
    let mut leases = Vec::new();
    for _ in 0..2 {
        leases.push(h1(&pools, &b).await);
    }
    accept(&other_listener).await;
    leases.into_iter().for_each(|lease| pools.release(lease));
    assert_eq!(pools.idle_total.load(Ordering::Relaxed), 3);
    assert_eq!(pools.stats().iter().map(|stats| stats.idle).sum::<usize>(), 3);
    // A crowded pool loses patience.
    pools.sweep(pools.start + Duration::from_secs(6), &live(&[&a, &b]));
    assert_eq!(pools.idle_total.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn connections_of_removed_endpoints_and_clusters_close() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(7, UpstreamProtocol::Http1, &[address]));
    let idle = h1(&pools, &cluster).await;
    let mut idle_peer = accept(&listener).await;
    let lent = h1(&pools, &cluster).await;
    let mut lent_peer = accept(&listener).await;
    pools.release(idle);
    pools.sweep(pools.start, &live(&[&cluster]));
    assert_eq!(one(&pools).idle, 1);
    // The endpoint goes.
    let old = cluster.endpoints.swap(Arc::new(endpoints(&["127.0.0.1:1".parse().unwrap()])));
    pools.sweep(pools.start, &live(&[&cluster]));
    assert!(pools.stats().is_empty());
    ended(&mut idle_peer).await;
    // What was lent closes when it comes back.
    pools.release(lent);
    ended(&mut lent_peer).await;
    // A request of an older snapshot.
    let endpoint = old.iter().next().unwrap();
    let Ok(Upstream::H1(late)) = pools.acquire(&cluster, endpoint, Asked::default()).await else { panic!() };
    pools.release(late);
    assert_eq!(one(&pools).idle, 1);
    pools.sweep(pools.start, &live(&[&cluster]));
    assert!(pools.stats().is_empty());
    // The cluster goes.
    cluster.endpoints.store(old);
    let lease = h1(&pools, &cluster).await;
    pools.release(lease);
    pools.sweep(pools.start, &live(&[]));
    assert!(pools.stats().is_empty());
    assert_eq!(pools.idle_total.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn clusters_that_moved_are_found() {
    let (_listener, address) = listen().await;
    let (a, b) = (cluster(1, UpstreamProtocol::Http1, &[address]), cluster(2, UpstreamProtocol::Http1, &[address]));
    let pools = Pools::new();
    for cluster in [&a, &b] {
        pools.release(h1(&pools, cluster).await);
    }
    for order in [[&a, &b], [&b, &a]] {
        pools.sweep(pools.start, &live(&order));
        assert_eq!(pools.stats().iter().map(|stats| stats.idle).sum::<usize>(), 2);
    }
}

#[tokio::test]
async fn failures_tell_their_reason() {
    let pools = Pools::new();
    let (_full, address) = deaf().await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let slow = cluster_within(1, protocol, &[address], Duration::from_millis(20));
        let endpoint = slow.endpoints.load().iter().next().unwrap().clone();
        let error = pools.acquire(&slow, &endpoint, Asked::default()).await.err().unwrap();
        assert_eq!((&error, error.transport_failure()), (&ConnectError::Timeout, None));
    }
    let (listener, address) = listen().await;
    drop(listener);
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let dead = cluster(1, protocol, &[address]);
        let endpoint = dead.endpoints.load().iter().next().unwrap().clone();
        let error = pools.acquire(&dead, &endpoint, Asked::default()).await.err().unwrap();
        assert_eq!(error, ConnectError::Refused);
        assert_eq!(error.transport_failure().unwrap(), "delayed_connect_error:_Connection_refused");
    }
    let stats = pools.stats();
    assert_eq!(stats.len(), 2);
    assert!(stats.iter().all(|stats| (stats.connects, stats.connect_failures, stats.active) == (0, 2, 0)));
    let other = ConnectError::from(std::io::Error::from_raw_os_error(113));
    assert_eq!(other.transport_failure().unwrap(), "delayed_connect_error:_No_route_to_host");
}

/// An HTTP/2 server that answers every request when it is told to.
struct Server {
    connection: ::h2::server::Connection<TcpStream, Bytes>,
}

impl Server {
    async fn accept(listener: &TcpListener, max_streams: u32) -> Self {
        let stream = accept(listener).await;
        let handshake = ::h2::server::Builder::new().max_concurrent_streams(max_streams).handshake(stream);
        Self { connection: within(handshake).await.unwrap() }
    }

    /// Serves until the client closes.
    fn serve(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            while let Some(Ok((_, mut respond))) = self.connection.accept().await {
                respond.send_response(http::Response::new(()), true).unwrap();
            }
        })
    }
}

async fn exchange(lease: &mut H2Lease) -> Result<http::StatusCode, ::h2::Error> {
    let mut send = lease.send.clone().ready().await?;
    let request = http::Request::builder().uri("http://a/").body(()).unwrap();
    let (response, _) = send.send_request(request, true)?;
    within(response).await.map(|response| response.status())
}

#[tokio::test]
async fn streams_share_a_connection_up_to_its_limit() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http2, &[address]));
    let mut first = h2(&pools, &cluster).await;
    let serving = Server::accept(&listener, 2).await.serve();
    assert_eq!(exchange(&mut first).await.unwrap(), 200);
    assert!(!first.reused);
    let second = h2(&pools, &cluster).await;
    assert!(second.reused && second.local == first.local);
    assert_eq!((one(&pools).connects, one(&pools).active, one(&pools).streams), (1, 1, 2));
    // Full: another connection.
    let third = h2(&pools, &cluster).await;
    assert_ne!(third.local, first.local);
    assert_eq!((one(&pools).connects, one(&pools).active, one(&pools).streams), (2, 2, 3));
    let _serving = Server::accept(&listener, 2).await.serve();
    drop(second);
    let again = h2(&pools, &cluster).await;
    assert_eq!(again.local, first.local);
    drop((first, third, again));
    assert_eq!((one(&pools).active, one(&pools).idle, one(&pools).streams), (0, 2, 0));
    // Both unused for too long: both close.
    pools.sweep(pools.start + IDLE_TIMEOUT, &live(&[&cluster]));
    assert_eq!((one(&pools).active, one(&pools).idle), (0, 0));
    within(serving).await.unwrap();
}

#[tokio::test]
async fn requests_wait_for_one_connection_attempt() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http2, &[address]));
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let (pools, cluster) = (Arc::clone(&pools), Arc::clone(&cluster));
        tasks.push(tokio::spawn(async move { h2(&pools, &cluster).await }));
    }
    // The one that started the attempt gives up; the others get their connection all the same.
    tokio::task::yield_now().await;
    tasks.remove(0).abort();
    let mut leases = Vec::new();
    for task in tasks {
        leases.push(within(task).await.unwrap());
    }
    assert_eq!((one(&pools).connects, one(&pools).streams), (1, 19));
    accept(&listener).await;
}

#[tokio::test]
async fn connections_that_end_are_not_handed_out() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http2, &[address]));
    for end in ["goaway", "close"] {
        let mut lease = h2(&pools, &cluster).await;
        assert!(!lease.reused, "{end}");
        let mut server = Server::accept(&listener, 100).await;
        let serving = tokio::spawn(async move {
            let (_, mut respond) = server.connection.accept().await.unwrap().unwrap();
            respond.send_response(http::Response::new(()), true).unwrap();
            if end == "goaway" {
                server.connection.graceful_shutdown();
            }
            while server.connection.accept().await.is_some() {}
        });
        assert_eq!(exchange(&mut lease).await.unwrap(), 200);
        drop(lease);
        if end == "close" {
            serving.abort();
        }
        until(|| {
            pools.sweep(pools.start, &live(&[&cluster]));
            one(&pools).idle == 0
        })
        .await;
        let _ = within(serving).await;
    }
    assert_eq!(one(&pools).connects, 2);
}

#[tokio::test]
async fn streams_of_a_removed_endpoint_finish() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), cluster(1, UpstreamProtocol::Http2, &[address]));
    let mut lease = h2(&pools, &cluster).await;
    let server = Server::accept(&listener, 100).await;
    pools.sweep(pools.start, &live(&[]));
    assert!(pools.stats().is_empty());
    let serving = server.serve();
    assert_eq!(exchange(&mut lease).await.unwrap(), 200);
    drop(lease);
    within(serving).await.unwrap();
}

#[path = "mesh_tests.rs"]
mod mesh;

#[path = "limits_tests.rs"]
mod limits;

#[path = "client_tests.rs"]
mod clients;
