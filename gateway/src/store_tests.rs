use std::net::SocketAddr;

use mesh_core::model::{
    Balancing, Destination, Listener, ListenerProtocol, OutlierDetection, PathNormalization, Reach, RouteSet, Topology,
    UpstreamProtocol, UpstreamTls,
};
use mesh_core::object::ObjectRef;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::http::testing::endpoint;

fn store(options: StoreOptions) -> Store {
    testing::rig(options).store
}

fn origin() -> ObjectRef {
    ObjectRef::new("Gateway", "default", "g")
}

/// One listener on a free port, and these destinations with one endpoint each.
fn configuration(destinations: &[(&str, u64, u16)]) -> Configuration {
    let mut set = ResourceSet::default();
    let listener = Listener {
        key: "127.0.0.1:0".into(),
        address: "127.0.0.1:0".parse().unwrap(),
        port: 80,
        protocol: ListenerProtocol::Http { routes: "http.80".into() },
        path_normalization: PathNormalization::Base,
        origin: origin(),
        server: None,
    };
    set.listeners.insert(listener.key.clone(), Arc::new(listener));
    let routes = RouteSet { key: "http.80".into(), virtual_hosts: Vec::new(), tcp: Vec::new(), origin: origin() };
    set.routes.insert(routes.key.clone(), Arc::new(routes));
    for (key, timeout, port) in destinations {
        let destination = Destination {
            key: (*key).into(),
            host: (*key).into(),
            service_name: (*key).into(),
            service_namespace: "default".into(),
            port: 80,
            subset: None,
            protocol: UpstreamProtocol::Http1,
            balancing: Balancing::RoundRobin,
            locality: None,
            warmup: None,
            outlier: None,
            tls: UpstreamTls::Auto,
            limits: Default::default(),
            connections: Default::default(),
            connect_timeout: Duration::from_secs(*timeout),
            idle_timeout: Duration::from_secs(60),
            reach: Reach::Discovered,
            origin: origin(),
            rule: None,
        };
        set.destinations.insert(destination.key.clone(), Arc::new(destination));
        set.endpoints.insert((*key).into(), endpoints(key, *port));
    }
    Configuration { set, ..Configuration::default() }
}

fn endpoints(key: &str, port: u16) -> Arc<Endpoints> {
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    Arc::new(Endpoints { key: key.into(), endpoints: vec![endpoint(address)], origin: origin() })
}

fn ports(live: &Live, key: &str) -> Vec<u16> {
    let cluster = live.clusters.iter().find(|cluster| &*cluster.destination.key == key).unwrap();
    cluster.endpoints.load().iter().map(|endpoint| endpoint.address.port()).collect()
}

#[tokio::test]
async fn the_first_configuration_is_published_with_sockets_and_endpoints() {
    let mut store = store(StoreOptions::default());
    store.apply(configuration(&[("a", 1, 1001)]).into()).await;
    let live = store.cells.live.load_full();
    assert_eq!(live.snapshot.generation, 1);
    assert_eq!(ports(&live, "a"), [1001]);
    let address = store.listeners.address("127.0.0.1:0").unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok());
    assert_eq!(store.status().load().generation, 1);
}

#[tokio::test]
async fn nothing_new_is_not_published() {
    let mut store = store(StoreOptions::default());
    store.apply(configuration(&[("a", 1, 1001)]).into()).await;
    store.apply(configuration(&[("a", 1, 1001)]).into()).await;
    assert_eq!(store.cells.live.load().snapshot.generation, 1);
}

#[tokio::test]
async fn trusted_proxies_follow_the_configuration() {
    let mut store = store(StoreOptions::default());
    let trusted = |store: &Store| store.cells.topology.load().trusted_proxies;
    for count in [2, 0, 1] {
        let new = Configuration {
            topology: Topology { trusted_proxies: count, ..Topology::default() },
            ..configuration(&[("a", 1, 1001)])
        };
        store.apply(new.into()).await;
        assert_eq!(trusted(&store), count);
    }
    let mut batch = Batch::default();
    batch.add(Update::Endpoints(vec![endpoints("a", 1002)]));
    store.apply(batch).await;
    assert_eq!(trusted(&store), 1);
}

#[tokio::test]
async fn endpoints_alone_need_no_generation() {
    let mut store = store(StoreOptions::default());
    store.apply(configuration(&[("a", 1, 1001)]).into()).await;
    let live = store.cells.live.load_full();
    store.apply(configuration(&[("a", 1, 1002)]).into()).await;
    assert_eq!(store.cells.live.load().snapshot.generation, 1);
    // Also for those who loaded the tables before.
    assert_eq!(ports(&live, "a"), [1002]);
    let mut batch = Batch::default();
    batch.add(Update::Endpoints(vec![endpoints("a", 1003)]));
    store.apply(batch).await;
    assert_eq!(store.status().load().set.endpoints["a"], endpoints("a", 1003));
    assert_eq!(ports(&live, "a"), [1003]);
    assert_eq!(store.status().load().set.endpoints["a"].endpoints.len(), 1);
}

#[tokio::test]
async fn endpoints_that_change_with_the_tables_are_part_of_the_new_ones_only() {
    let mut store = store(StoreOptions::default());
    store.apply(configuration(&[("a", 1, 1001)]).into()).await;
    let before = store.cells.live.load_full();
    let mut moved = configuration(&[("a", 1, 1001), ("b", 1, 1001)]);
    moved.set.endpoints.remove("a");
    store.apply(moved.into()).await;
    let after = store.cells.live.load_full();
    assert_eq!(after.snapshot.generation, 2);
    assert_eq!((ports(&before, "a"), ports(&after, "a"), ports(&after, "b")), (vec![1001], vec![], vec![1001]));
    let id = |live: &Live| live.clusters.iter().find(|cluster| &*cluster.destination.key == "a").unwrap().id;
    assert_eq!(id(&before), id(&after), "its connections are kept");
    let mut batch = Batch::default();
    batch.add(Update::Endpoints(vec![endpoints("a", 1002)]));
    store.apply(batch).await;
    assert_eq!(ports(&after, "a"), [1002], "in the tables that are served");
}

#[tokio::test]
async fn clusters_survive_by_key() {
    let mut store = store(StoreOptions::default());
    store.apply(configuration(&[("a", 1, 1001), ("b", 1, 1002)]).into()).await;
    let before = store.cells.live.load_full();
    store.apply(configuration(&[("a", 2, 1001), ("b", 1, 1002), ("0", 1, 1003)]).into()).await;
    let after = store.cells.live.load_full();
    assert_eq!(after.snapshot.generation, 2);
    let find = |live: &Live, key: &str| {
        live.clusters.iter().find(|cluster| &*cluster.destination.key == key).cloned().unwrap()
    };
    // Changed: another cluster with the same connections, endpoints and balancer.
    let (old, new) = (find(&before, "a"), find(&after, "a"));
    assert_eq!((old.id, new.destination.connect_timeout), (new.id, Duration::from_secs(2)));
    assert!(Arc::ptr_eq(&old.endpoints, &new.endpoints) && Arc::ptr_eq(&old.balancer, &new.balancer));
    // Unchanged: the same, at another index.
    assert!(Arc::ptr_eq(&find(&before, "b"), &find(&after, "b")));
    assert_ne!(find(&after, "0").id, old.id);
    for (cluster, destination) in after.clusters.iter().zip(&after.snapshot.clusters) {
        assert!(Arc::ptr_eq(&cluster.destination, destination));
    }
}

#[tokio::test]
async fn a_destination_that_goes_leaves_the_others_in_place_and_may_come_back() {
    let mut store = store(StoreOptions::default());
    store.apply(configuration(&[("a", 1, 1001), ("b", 1, 1002), ("c", 1, 1003)]).into()).await;
    let before = store.cells.live.load_full();
    let with_a = [("a", 1, 1004), ("b", 1, 1002), ("c", 1, 1003)];
    for wanted in [&with_a[1..], &with_a] {
        store.apply(configuration(wanted).into()).await;
        let live = store.cells.live.load_full();
        assert_eq!(live.clusters.len(), wanted.len());
        for (key, _, port) in wanted {
            assert_eq!(ports(&live, key), [*port]);
        }
        for (cluster, destination) in live.clusters.iter().zip(&live.snapshot.clusters) {
            assert!(Arc::ptr_eq(&cluster.destination, destination));
        }
    }
    let id = |live: &Live, key: &str| {
        live.clusters.iter().find(|cluster| &*cluster.destination.key == key).map(|cluster| cluster.id)
    };
    let after = store.cells.live.load_full();
    assert_eq!((id(&before, "b"), id(&before, "c")), (id(&after, "b"), id(&after, "c")));
    assert_ne!(id(&before, "a"), id(&after, "a"));
    assert_eq!(ports(&before, "a"), [1001], "the old tables are as they were");
}

#[tokio::test]
async fn an_update_that_names_what_is_not_there_waits_for_it() {
    let store = store(StoreOptions { dangling_wait: Duration::from_secs(60), ..StoreOptions::default() });
    let (send, mut updates) = unbounded_channel();
    let mut dangling = configuration(&[("a", 1, 1001)]);
    dangling.diagnostics.push(Diagnostic::new(diag::DESTINATION_SUBSET_UNKNOWN, "v2").object(&origin()));
    send.send(Update::Configuration(Box::new(configuration(&[("a", 1, 1001), ("b", 1, 1002)])))).unwrap();
    let gather = store.gather(Update::Configuration(Box::new(dangling.clone())), &mut updates);
    let batch = tokio::time::timeout(Duration::from_secs(20), gather).await.unwrap();
    assert_eq!(batch.configuration.unwrap().set.destinations.len(), 2);
    // What dangled before does not wait again.
    assert!(!Batch::from(dangling.clone()).is_dangling(&dangling.diagnostics));
    assert!(Batch::from(dangling).is_dangling(&[]));
}

#[tokio::test]
async fn a_new_destination_waits_for_its_endpoints() {
    let mut store = store(StoreOptions { endpoint_wait: Duration::from_secs(60), ..StoreOptions::default() });
    store.apply(configuration(&[("a", 1, 1001)]).into()).await;
    let mut without = configuration(&[("a", 1, 1001), ("b", 1, 1002)]);
    without.set.endpoints.remove("b");
    let (send, updates) = unbounded_channel();
    let cells = store.cells.clone();
    send.send(Update::Configuration(Box::new(without))).unwrap();
    let running = tokio::spawn(store.run(updates));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(cells.live.load().snapshot.generation, 1);
    send.send(Update::Endpoints(vec![endpoints("b", 1002)])).unwrap();
    let published = async {
        while cells.live.load().snapshot.generation < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), published).await.unwrap();
    assert_eq!(ports(&cells.live.load(), "b"), [1002]);
    drop(send);
    running.await.unwrap();
}

#[tokio::test]
async fn listeners_that_are_removed_close_and_bad_ones_are_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut store = store(StoreOptions::default());
    store.apply(configuration(&[]).into()).await;
    let address = store.listeners.address("127.0.0.1:0").unwrap();
    let mut other = configuration(&[]);
    let listener = other.set.listeners.remove("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap();
    let listener = Listener { key: "taken".into(), address: taken_address.into(), ..(*listener).clone() };
    other.set.listeners.insert("taken".into(), Arc::new(listener));
    store.apply(other.into()).await;
    let status = store.status();
    assert!(status.load().diagnostics.iter().any(|found| found.code == diag::LISTENER_NOT_OPEN.id));
    let closed = async {
        while std::net::TcpStream::connect(address).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.unwrap();
    // It is tried again.
    drop(taken);
    store.tick(false).await;
    assert!(!status.load().diagnostics.iter().any(|found| found.code == diag::LISTENER_NOT_OPEN.id));
    assert!(std::net::TcpStream::connect(taken_address).is_ok());
}

#[tokio::test]
async fn old_tables_go_when_nobody_has_them() {
    let mut store = store(StoreOptions::default());
    store.apply(configuration(&[("a", 1, 1001)]).into()).await;
    let held = store.cells.live.load_full();
    let weak = Arc::downgrade(&held);
    store.apply(configuration(&[("a", 2, 1001)]).into()).await;
    store.drop_retired();
    assert!(weak.upgrade().is_some());
    drop(held);
    store.drop_retired();
    let gone = async {
        while weak.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[test]
fn changes_are_told_in_short() {
    let mut old = configuration(&[("a", 1, 1001), ("b", 1, 1002)]).set;
    let mut new = configuration(&[("a", 2, 1001), ("c", 1, 1003)]).set;
    old.reuse(&ResourceSet::default());
    new.reuse(&old);
    let changed = Changed::between(&old, &new);
    assert_eq!(changed.to_string(), "destinations +1 ~1 -1, endpoints +1 -1");
    assert!(!changed.only_endpoints());
    assert_eq!(Changed::default().to_string(), "nothing");
}

/// The destination `a` with two endpoints, of which each failure ejects one.
fn ejecting(timeout: u64) -> Configuration {
    let mut new = configuration(&[("a", timeout, 1001)]);
    let mut both = Endpoints::clone(&endpoints("a", 1001));
    both.endpoints.extend(endpoints("a", 1002).endpoints.iter().cloned());
    new.set.endpoints.insert("a".into(), Arc::new(both));
    let destination = Destination {
        outlier: Some(Box::new(OutlierDetection {
            consecutive_5xx: 1,
            consecutive_gateway: 0,
            consecutive_local: 0,
            split: false,
            errors: Vec::new(),
            interval: Duration::from_millis(20),
            base_ejection: Duration::from_millis(50),
            max_ejection_percent: 50,
            min_health_percent: 0,
        })),
        ..Destination::clone(&new.set.destinations["a"])
    };
    new.set.destinations.insert("a".into(), Arc::new(destination));
    new
}

fn fail(store: &mut Store, port: u16) {
    let live = store.cells.live.load_full();
    let set = live.clusters[0].endpoints.load_full();
    let endpoint = set.iter().find(|endpoint| endpoint.address.port() == port).unwrap();
    live.clusters[0].note(endpoint, mesh_core::lb::TryResult::Answered(500));
    while let Ok(report) = store.clusters.reports.try_recv() {
        store.clusters.decide(&report);
    }
}

/// Ports of the endpoints that get requests.
fn picked(store: &Store) -> std::collections::BTreeSet<u16> {
    let live = store.cells.live.load_full();
    (0..10).map(|_| live.clusters[0].pick(None, None, &[]).unwrap().address.port()).collect()
}

#[tokio::test]
async fn an_endpoint_that_fails_stays_out_over_swaps_until_its_time_has_come() {
    let mut store = store(StoreOptions::default());
    store.apply(ejecting(1).into()).await;
    fail(&mut store, 1001);
    assert_eq!(picked(&store), [1002].into());
    // No more than half of them.
    fail(&mut store, 1002);
    assert_eq!(picked(&store), [1002].into());
    store.apply(ejecting(2).into()).await;
    assert_eq!(store.cells.live.load().snapshot.generation, 2);
    assert_eq!(picked(&store), [1002].into());
    let mut batch = Batch::default();
    let mut three = Endpoints::clone(&ejecting(2).set.endpoints["a"]);
    three.endpoints.extend(endpoints("a", 1003).endpoints.iter().cloned());
    batch.add(Update::Endpoints(vec![Arc::new(three)]));
    store.apply(batch).await;
    assert_eq!(picked(&store), [1002, 1003].into());
    for _ in 0..20 {
        store.clusters.somebody_may_return().await;
        store.clusters.look();
        if picked(&store).contains(&1001) {
            break;
        }
    }
    assert_eq!(picked(&store), [1001, 1002, 1003].into());
}

#[tokio::test]
async fn without_its_rule_nobody_is_out() {
    let mut store = store(StoreOptions::default());
    store.apply(ejecting(1).into()).await;
    fail(&mut store, 1001);
    let mut without = ejecting(1);
    let destination = Destination { outlier: None, ..Destination::clone(&without.set.destinations["a"]) };
    without.set.destinations.insert("a".into(), Arc::new(destination));
    store.apply(without.into()).await;
    assert_eq!(picked(&store), [1001, 1002].into());
}

/// A destination that begins to hash has its table with the tables that say so.
#[tokio::test]
async fn a_table_comes_with_the_rule_that_asks_for_it() {
    use mesh_core::model::{HashTable, Hashing};
    let mut store = store(StoreOptions::default());
    store.apply(ejecting(1).into()).await;
    let keyed = |store: &Store| -> std::collections::BTreeSet<u16> {
        let live = store.cells.live.load_full();
        (0..20).map(|_| live.clusters[0].pick(None, Some(7), &[]).unwrap().address.port()).collect()
    };
    assert_eq!(keyed(&store).len(), 2);
    let mut hashing = ejecting(1);
    let balancing = Balancing::Hash(Box::new(Hashing { key: None, table: HashTable::Ring { minimum: 64 } }));
    let destination = Destination { balancing, ..Destination::clone(&hashing.set.destinations["a"]) };
    hashing.set.destinations.insert("a".into(), Arc::new(destination));
    store.apply(hashing.into()).await;
    assert_eq!(keyed(&store).len(), 1);
    store.apply(ejecting(1).into()).await;
    assert_eq!(keyed(&store).len(), 2);
}
