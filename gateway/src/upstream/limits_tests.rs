//! Pools of destinations that may have so many connections only, and connections that end by rule.

use mesh_core::lb::Breaker;
use mesh_core::model::{ConnectionRules, Limits, PingRule};

use super::*;

fn limited(plain: Arc<LiveCluster>, limits: Limits, connections: ConnectionRules) -> Arc<LiveCluster> {
    Arc::new(LiveCluster {
        destination: Arc::new(Destination { limits, connections, ..(*plain.destination).clone() }),
        endpoints: plain.endpoints.clone(),
        balancer: plain.balancer.clone(),
        origination: None,
        names: None,
        breaker: Some(Arc::new(Breaker::default())),
        outliers: None,
        id: plain.id,
    })
}

fn limits(connections: u32, pending: u32) -> Limits {
    Limits { connections: Some(connections), pending: Some(pending), ..Limits::default() }
}

fn now(cluster: &LiveCluster, what: Limit) -> u32 {
    cluster.breaker.as_ref().unwrap().now(what)
}

/// The error; a lease is no matter.
async fn refused(pools: &Pools, cluster: &Arc<LiveCluster>) -> ConnectError {
    let endpoint = cluster.endpoints.load().iter().next().unwrap().clone();
    within(pools.acquire(cluster, &endpoint, Asked::default())).await.map(|_| ()).unwrap_err()
}

#[tokio::test]
async fn requests_wait_for_a_connection_and_no_more_than_may() {
    let (_listener, address) = listen().await;
    let plain = cluster(1, UpstreamProtocol::Http1, &[address]);
    let (pools, cluster) = (Pools::new(), limited(plain, limits(1, 2), ConnectionRules::default()));
    let first = h1(&pools, &cluster).await;
    assert_eq!((now(&cluster, Limit::Connections), now(&cluster, Limit::Pending)), (1, 0));
    let waiter = |order: tokio::sync::mpsc::UnboundedSender<u32>, number| {
        let (pools, cluster) = (Arc::clone(&pools), Arc::clone(&cluster));
        tokio::spawn(async move {
            let lease = within(h1(&pools, &cluster)).await;
            let _ = order.send(number);
            assert!(lease.reused);
            pools.release(lease);
        })
    };
    let (order, mut ordered) = tokio::sync::mpsc::unbounded_channel();
    let waiters = [waiter(order.clone(), 1), waiter(order.clone(), 2)];
    until(|| now(&cluster, Limit::Pending) == 2).await;
    assert_eq!(refused(&pools, &cluster).await, ConnectError::Overflow);
    pools.release(first);
    for waiter in waiters {
        within(waiter).await.unwrap();
    }
    assert_eq!((ordered.recv().await, ordered.recv().await), (Some(1), Some(2)));
    assert_eq!((now(&cluster, Limit::Connections), now(&cluster, Limit::Pending)), (1, 0), "one is idle");
    assert_eq!((one(&pools).connects, one(&pools).idle), (1, 1));
}

/// A connection that is closed makes room for another one.
#[tokio::test]
async fn who_waits_makes_a_connection_when_one_is_closed() {
    let (_listener, address) = listen().await;
    let plain = cluster(1, UpstreamProtocol::Http1, &[address]);
    let (pools, cluster) = (Pools::new(), limited(plain, limits(1, 1), ConnectionRules::default()));
    let first = h1(&pools, &cluster).await;
    let (second, ()) = tokio::join!(within(h1(&pools, &cluster)), async {
        until(|| now(&cluster, Limit::Pending) == 1).await;
        drop(first);
    });
    assert!(!second.reused);
    drop(second);
    assert_eq!((now(&cluster, Limit::Connections), now(&cluster, Limit::Pending)), (0, 0));
}

/// Who gave up waiting is not waited for.
#[tokio::test]
async fn who_gives_up_leaves_its_place() {
    let (_listener, address) = listen().await;
    let plain = cluster(1, UpstreamProtocol::Http1, &[address]);
    let (pools, cluster) = (Pools::new(), limited(plain, limits(1, 1), ConnectionRules::default()));
    let first = h1(&pools, &cluster).await;
    assert!(tokio::time::timeout(Duration::from_millis(20), h1(&pools, &cluster)).await.is_err());
    assert_eq!(now(&cluster, Limit::Pending), 0);
    pools.release(first);
    assert!(within(h1(&pools, &cluster)).await.reused);
}

/// Other workers, and other endpoints, may have all of them: one each is always there, or requests would wait for ever.
#[tokio::test]
async fn everybody_has_one_connection() {
    let ((_one, one), (_other, other)) = (listen().await, listen().await);
    let plain = cluster(1, UpstreamProtocol::Http1, &[one, other]);
    let cluster = limited(plain, limits(1, 1), ConnectionRules::default());
    let (pools, others) = (Pools::new(), Pools::new());
    let states: Vec<_> = cluster.endpoints.load().iter().cloned().collect();
    let mut leases = Vec::new();
    for (pools, state) in [(&pools, &states[0]), (&pools, &states[1]), (&others, &states[0])] {
        leases.push(within(pools.acquire_h1(&cluster, state, Asked::default())).await.unwrap());
    }
    assert_eq!(now(&cluster, Limit::Connections), 3);
}

#[tokio::test]
async fn bytes_do_not_wait() {
    let (_listener, address) = listen().await;
    let plain = cluster(1, UpstreamProtocol::Http1, &[address]);
    let (pools, cluster) = (Pools::new(), limited(plain, limits(1, 9), ConnectionRules::default()));
    let endpoint = cluster.endpoints.load().iter().next().unwrap().clone();
    let first = within(pools.open(&cluster, &endpoint, None)).await.unwrap();
    assert_eq!(within(pools.open(&cluster, &endpoint, None)).await.map(|_| ()).unwrap_err(), ConnectError::Overflow);
    drop(first.into_parts());
    within(pools.open(&cluster, &endpoint, None)).await.unwrap();
}

#[tokio::test]
async fn connections_end_after_their_requests_or_their_time() {
    let (_listener, address) = listen().await;
    let plain = || cluster(1, UpstreamProtocol::Http1, &[address]);
    let rules = ConnectionRules { requests: Some(2), ..ConnectionRules::default() };
    let (pools, cluster) = (Pools::new(), limited(plain(), Limits::default(), rules));
    for reused in [false, true, false, true] {
        let lease = h1(&pools, &cluster).await;
        assert_eq!(lease.reused, reused);
        pools.release(lease);
    }
    assert_eq!(now(&cluster, Limit::Connections), 0);
    let rules = ConnectionRules { lifetime: Some(Duration::from_secs(9)), ..ConnectionRules::default() };
    let (pools, cluster) = (Pools::new(), limited(plain(), Limits::default(), rules));
    pools.release(h1(&pools, &cluster).await);
    pools.sweep(pools.start + Duration::from_secs(8), &live(&[&cluster]));
    let lease = h1(&pools, &cluster).await;
    assert!(lease.reused);
    pools.sweep(pools.start + Duration::from_secs(10), &live(&[&cluster]));
    pools.release(lease);
    assert_eq!(one(&pools).idle, 0);
}

/// Says hello in HTTP/2 to everybody who comes, and allows 100 streams.
async fn http2() -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut connection) = ::h2::server::handshake(stream).await {
                    while connection.accept().await.is_some() {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn streams_are_limited_too() {
    let plain = cluster(1, UpstreamProtocol::Http2, &[http2().await]);
    let rules = ConnectionRules { streams: Some(2), ..ConnectionRules::default() };
    let (pools, cluster) = (Pools::new(), limited(plain, limits(2, 1), rules));
    let mut leases = Vec::new();
    for reused in [false, true, false, true] {
        let lease = h2(&pools, &cluster).await;
        assert_eq!(lease.reused, reused);
        leases.push(lease);
    }
    assert_eq!((now(&cluster, Limit::Connections), now(&cluster, Limit::Pending)), (2, 0));
    let (fifth, ()) = tokio::join!(within(h2(&pools, &cluster)), async {
        until(|| now(&cluster, Limit::Pending) == 1).await;
        assert_eq!(refused(&pools, &cluster).await, ConnectError::Overflow);
        leases.pop();
    });
    assert!(fifth.reused);
    assert_eq!(one(&pools).connects, 2);
}

#[tokio::test]
async fn a_shared_connection_ends_after_its_requests() {
    let plain = cluster(1, UpstreamProtocol::Http2, &[http2().await]);
    let rules = ConnectionRules { requests: Some(2), ..ConnectionRules::default() };
    let (pools, cluster) = (Pools::new(), limited(plain, limits(5, 5), rules));
    let mut leases = Vec::new();
    for reused in [false, true, false] {
        let lease = h2(&pools, &cluster).await;
        assert_eq!(lease.reused, reused);
        leases.push(lease);
    }
    assert_eq!(now(&cluster, Limit::Connections), 2, "what has begun goes on");
    leases.drain(..2);
    until(|| now(&cluster, Limit::Connections) == 1).await;
}

#[tokio::test]
async fn an_end_that_does_not_answer_is_left() {
    let (listener, silent) = listen().await;
    let ping = PingRule { interval: Duration::from_millis(10), timeout: Duration::from_millis(50) };
    let rules = ConnectionRules { ping: Some(ping), ..ConnectionRules::default() };
    let plain = cluster(1, UpstreamProtocol::Http2, &[silent]);
    let (pools, silent) = (Pools::new(), limited(plain, limits(5, 5), rules.clone()));
    let lease = h2(&pools, &silent).await;
    let mut peer = accept(&listener).await;
    let (response, _) = lease.send.clone().send_request(http::Request::new(()), true).unwrap();
    let error = within(response).await.unwrap_err();
    assert!(error.is_io() || error.is_go_away() || error.is_library(), "{error:?}");
    ended(&mut peer).await;
    until(|| now(&silent, Limit::Connections) == 0).await;
    // One that answers is kept.
    let plain = cluster(2, UpstreamProtocol::Http2, &[http2().await]);
    let answering = limited(plain, limits(5, 5), rules);
    let _lease = h2(&pools, &answering).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(now(&answering, Limit::Connections), 1);
    assert!(h2(&pools, &answering).await.reused);
}
