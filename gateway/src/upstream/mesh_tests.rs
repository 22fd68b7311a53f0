//! Pools of the mesh: real handshakes, and certificates that change under them.

use mesh_core::model::Workload;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::tls::testing::{Ca, EDGE, REVIEWS, cell};

fn cluster_of(protocol: UpstreamProtocol, tls: UpstreamTls, address: SocketAddr, principal: &str) -> Arc<LiveCluster> {
    let plain = cluster(1, protocol, &[address]);
    let workload = Workload { principal: principal.into(), ..Workload::default() };
    let endpoint = Endpoint {
        address: EndpointAddress::Socket(address),
        weight: 1,
        locality: "".into(),
        workload: Some(Arc::new(workload)),
        mtls: tls == UpstreamTls::Auto,
        priority_labels: None,
    };
    Arc::new(LiveCluster {
        origination: None,
        names: None,
        destination: Arc::new(Destination { tls, ..(*plain.destination).clone() }),
        endpoints: Arc::new(ArcSwap::from_pointee(EndpointSet::build(
            &[(endpoint, address)],
            None,
            &Shape::default(),
            std::time::Instant::now(),
        ))),
        balancer: plain.balancer.clone(),
        breaker: None,
        outliers: None,
        id: plain.id,
    })
}

fn reviews(address: SocketAddr) -> Arc<LiveCluster> {
    cluster_of(UpstreamProtocol::Http1, UpstreamTls::Auto, address, REVIEWS)
}

async fn refusal(pools: &Pools, cluster: &Arc<LiveCluster>) -> ConnectError {
    let endpoint = cluster.endpoints.load().iter().next().unwrap().clone();
    match within(pools.acquire(cluster, &endpoint, Asked::default())).await {
        Err(error) => error,
        Ok(_) => panic!("connected"),
    }
}

/// One connection with `reviews`, which has to be the one that is acquired meanwhile.
async fn welcome(listener: &TcpListener, workload: &WorkloadCell) -> TlsStream<TcpStream> {
    let config = workload.load().server_config().unwrap().clone();
    let stream = TlsAcceptor::from(config).accept(accept(listener).await).await.unwrap();
    assert!(stream.get_ref().1.alpn_protocol().unwrap().starts_with(b"istio-"));
    stream
}

async fn end(stream: &mut TlsStream<TcpStream>) {
    let mut buffer = Vec::new();
    let _ = within(stream.read_to_end(&mut buffer)).await;
    assert!(buffer.is_empty(), "{buffer:?}");
}

#[tokio::test]
async fn a_new_certificate_makes_new_connections_and_ends_the_old_ones_in_order() {
    let ca = Ca::new("root");
    let (edge, other) = (cell(&ca.workload(EDGE), &[&ca]), cell(&ca.workload(REVIEWS), &[&ca]));
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::in_mesh(edge.clone()), reviews(address));
    let (first, mut first_peer) = tokio::join!(h1(&pools, &cluster), welcome(&listener, &other));
    assert_eq!(first.peer().unwrap().uri(), Some(REVIEWS));
    let (second, mut second_peer) = tokio::join!(h1(&pools, &cluster), welcome(&listener, &other));
    pools.release(first);
    let first = h1(&pools, &cluster).await;
    assert!(first.reused);
    pools.release(first);

    edge.set_certificate(ca.workload(EDGE).read()).unwrap();
    let (third, _third_peer) = tokio::join!(h1(&pools, &cluster), welcome(&listener, &other));
    assert!(!third.reused, "what was agreed with the old certificate is not used again");
    assert_eq!((one(&pools).connects, one(&pools).active, one(&pools).idle), (3, 2, 1));
    pools.sweep(Instant::now(), &live(&[&cluster]));
    end(&mut first_peer).await;
    // In use: it goes when it is given back.
    pools.release(second);
    end(&mut second_peer).await;
    pools.release(third);
    pools.sweep(Instant::now(), &live(&[&cluster]));
    assert_eq!((one(&pools).connects, one(&pools).active, one(&pools).idle), (3, 0, 1));
    assert!(h1(&pools, &cluster).await.reused);
}

#[tokio::test]
async fn shared_connections_finish_their_streams_under_the_old_certificate() {
    let ca = Ca::new("root");
    let (edge, other) = (cell(&ca.workload(EDGE), &[&ca]), cell(&ca.workload(REVIEWS), &[&ca]));
    let (listener, address) = listen().await;
    let cluster = cluster_of(UpstreamProtocol::Http2, UpstreamTls::Mutual, address, REVIEWS);
    let pools = Pools::in_mesh(edge.clone());
    let (lease, stream) = tokio::join!(h2(&pools, &cluster), welcome(&listener, &other));
    assert_eq!(lease.peer.as_ref().unwrap().uri(), Some(REVIEWS));
    let serving = tokio::spawn(async move {
        let mut connection = ::h2::server::handshake(stream).await.unwrap();
        let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
        let response = http::Response::new(());
        respond.send_response(response, true).unwrap();
        // Until the client has no use for it any more.
        while connection.accept().await.is_some() {}
    });
    let request = http::Request::get("http://a/").body(()).unwrap();
    let mut send = lease.send.clone().ready().await.unwrap();
    edge.set_certificate(ca.workload(EDGE).read()).unwrap();
    pools.sweep(Instant::now(), &live(&[&cluster]));
    let (response, _) = send.send_request(request, true).unwrap();
    assert_eq!(within(response).await.unwrap().status(), 200);
    drop((send, lease));
    within(serving).await.unwrap();
}

#[tokio::test]
async fn who_is_not_expected_gets_nothing() {
    let ca = Ca::new("root");
    let stranger = cell(&ca.workload("spiffe://cluster.local/ns/default/sa/stranger"), &[&ca]);
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::in_mesh(cell(&ca.workload(EDGE), &[&ca])), reviews(address));
    let config = stranger.load().server_config().unwrap().clone();
    let accepting = async { TlsAcceptor::from(config).accept(accept(&listener).await).await };
    let (error, accepted) = tokio::join!(refusal(&pools, &cluster), accepting);
    assert!(accepted.is_err());
    let text = error.transport_failure().unwrap();
    assert!(text.starts_with("TLS_error:|CERTIFICATE_VERIFY_FAILED:_expected_spiffe://"), "{text}");
    assert!(text.ends_with("/sa/stranger:TLS_error_end"), "{text}");
    assert_eq!(one(&pools).connect_failures, 1);
}

#[tokio::test]
async fn silence_during_the_handshake_counts_into_the_connect_timeout() {
    let ca = Ca::new("root");
    let (_listener, address) = listen().await;
    let cluster = reviews(address);
    let short = Destination { connect_timeout: Duration::from_millis(100), ..(*cluster.destination).clone() };
    let cluster = Arc::new(LiveCluster {
        origination: None,
        names: None,
        destination: Arc::new(short),
        endpoints: cluster.endpoints.clone(),
        balancer: cluster.balancer.clone(),
        breaker: None,
        outliers: None,
        id: 1,
    });
    let pools = Pools::in_mesh(cell(&ca.workload(EDGE), &[&ca]));
    assert_eq!(refusal(&pools, &cluster).await, ConnectError::Timeout);
}

#[tokio::test]
async fn the_first_certificate_is_waited_for_and_nothing_goes_in_clear_meanwhile() {
    let ca = Ca::new("root");
    let other = cell(&ca.workload(REVIEWS), &[&ca]);
    let edge = Arc::new(WorkloadCell::awaited());
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::in_mesh(edge.clone()), reviews(address));
    let issue = async {
        tokio::task::yield_now().await;
        edge.set_roots(vec![ca.root.clone()]);
        edge.set_certificate(ca.workload(EDGE).read()).unwrap();
    };
    let (lease, _peer, ()) = tokio::join!(h1(&pools, &cluster), welcome(&listener, &other), issue);
    assert!(lease.peer().is_some());
}

#[tokio::test]
async fn outside_of_a_mesh_auto_is_clear_text_and_mutual_is_refused() {
    let (_listener, address) = listen().await;
    let pools = Pools::new();
    assert!(h1(&pools, &reviews(address)).await.peer().is_none());
    let mutual = cluster_of(UpstreamProtocol::Http1, UpstreamTls::Mutual, address, "");
    assert_eq!(refusal(&pools, &mutual).await, ConnectError::Tls(TlsError::NoCertificate));
    let ca = Ca::new("root");
    let pools = Pools::in_mesh(cell(&ca.workload(EDGE), &[&ca]));
    let never = cluster_of(UpstreamProtocol::Http1, UpstreamTls::Disable, address, REVIEWS);
    assert!(h1(&pools, &never).await.peer().is_none());
    // An endpoint that does not speak it.
    let plain = cluster(2, UpstreamProtocol::Http1, &[address]);
    assert!(h1(&pools, &plain).await.peer().is_none());
}
