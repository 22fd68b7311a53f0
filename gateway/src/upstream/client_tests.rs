//! Pools of destinations that are told who the client is: connections are one client's alone.

use mesh_core::model::{ConnectionRules, ProxyHeader};

use super::*;
use crate::listen::Retired;

fn client(id: u64, from: &str) -> Arc<ConnectionInfo> {
    let peer = "127.0.0.1:5".parse().unwrap();
    Arc::new(ConnectionInfo {
        id,
        peer,
        client: from.parse().unwrap(),
        local: "198.51.100.1:80".parse().unwrap(),
        listener: "l".into(),
        listener_port: 80,
        tls: None,
        bytes: false,
        server_name: None,
        captured: None,
        retired: Retired::default(),
    })
}

fn telling(address: SocketAddr) -> Arc<LiveCluster> {
    let plain = cluster(1, UpstreamProtocol::Http1, &[address]);
    let connections = ConnectionRules { proxy_header: Some(ProxyHeader::V1), ..ConnectionRules::default() };
    Arc::new(LiveCluster {
        destination: Arc::new(Destination { connections, ..(*plain.destination).clone() }),
        endpoints: plain.endpoints.clone(),
        balancer: plain.balancer.clone(),
        origination: None,
        names: None,
        breaker: None,
        outliers: None,
        id: plain.id,
    })
}

async fn lease(pools: &Pools, cluster: &Arc<LiveCluster>, client: Option<&Arc<ConnectionInfo>>) -> H1Lease {
    let endpoint = cluster.endpoints.load().iter().next().unwrap().clone();
    within(pools.acquire_h1(cluster, &endpoint, Asked { authority: None, client })).await.unwrap()
}

async fn heard(stream: &mut TcpStream) -> String {
    let mut line = vec![0; 128];
    let count = within(stream.read(&mut line)).await.unwrap();
    String::from_utf8(line[..count].to_vec()).unwrap()
}

#[tokio::test]
async fn a_connection_is_one_clients_and_goes_with_it() {
    let (listener, address) = listen().await;
    let (pools, cluster) = (Pools::new(), telling(address));
    let (one_client, other) = (client(1, "203.0.113.7:1000"), client(2, "203.0.113.8:2000"));
    let first = lease(&pools, &cluster, Some(&one_client)).await;
    let mut first_peer = accept(&listener).await;
    assert_eq!(heard(&mut first_peer).await, "PROXY TCP4 203.0.113.7 198.51.100.1 1000 80\r\n");
    pools.release(first);
    let second = lease(&pools, &cluster, Some(&other)).await;
    assert!(!second.reused, "it speaks for somebody else");
    let mut second_peer = accept(&listener).await;
    assert_eq!(heard(&mut second_peer).await, "PROXY TCP4 203.0.113.8 198.51.100.1 2000 80\r\n");
    let own = lease(&pools, &cluster, None).await;
    assert!(!own.reused);
    let mut own_peer = accept(&listener).await;
    assert_eq!(heard(&mut own_peer).await, "PROXY UNKNOWN\r\n");
    [second, own].into_iter().for_each(|lease| pools.release(lease));
    // It says nothing a second time.
    let again = lease(&pools, &cluster, Some(&one_client)).await;
    assert!(again.reused);
    pools.release(again);
    let live = live(&[&cluster]);
    pools.sweep(pools.start, &live);
    assert_eq!(one(&pools).idle, 3);
    drop(one_client);
    pools.sweep(pools.start, &live);
    assert_eq!(one(&pools).idle, 2, "nobody can use it any more");
    ended(&mut first_peer).await;
    let kept = lease(&pools, &cluster, Some(&other)).await;
    assert!(kept.reused);
    // One that is lent when its client leaves is closed when it is given back.
    drop(other);
    pools.sweep(pools.start, &live);
    pools.release(kept);
    ended(&mut second_peer).await;
    assert_eq!(one(&pools).idle, 1);
}
