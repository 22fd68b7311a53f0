use std::collections::BTreeSet;
use std::time::Duration;

use mesh_core::model::ListenerProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::testing::*;
use super::*;

async fn hello(address: SocketAddr) -> (TcpStream, Words) {
    let mut io = soon(TcpStream::connect(address)).await.unwrap();
    let first = say_hello(&mut io).await;
    (io, first)
}

/// Something must be sent before the handler is called: it is not known yet what the client speaks.
async fn say_hello(io: &mut TcpStream) -> Words {
    let first = say(io, "x").await;
    assert_eq!(read_word(io).await, "x");
    words(&first)
}

async fn refused(address: SocketAddr) {
    soon(async { while TcpStream::connect(address).await.is_ok() {} }).await;
}

#[tokio::test]
async fn every_worker_serves_the_same_address() {
    let (gate, address) = Gate::web(2).await;
    let mut workers = BTreeSet::new();
    let mut open = Vec::new();
    while workers.len() < 2 {
        assert!(open.len() < 200, "the kernel spreads connections");
        let (io, first) = hello(address).await;
        assert_eq!(first["listener"], "web");
        assert_eq!(first["family"], "v4");
        workers.insert(first["worker"].clone());
        open.push(io);
    }
    assert_eq!(gate.manager.connections(), open.len());
    assert_eq!(gate.counts("web").accepted as usize, open.len());
    drop(open);
    soon(gate.manager.idle()).await;
    assert_eq!(gate.counts("web").open, 0);
    gate.manager.stop();
}

#[tokio::test]
async fn a_removed_listener_finishes_its_connections_and_can_come_back() {
    let (mut gate, address) = Gate::web(2).await;
    let (mut before, _) = hello(address).await;
    let listener = gate.set.listeners.remove("web").unwrap();
    gate.apply().await;
    assert_eq!(read_word(&mut before).await, "drain");
    refused(address).await;
    assert_eq!(gate.manager.status()[0].state, ListenerState::Draining);

    let again = Listener { address: address.into(), ..(*listener).clone() };
    gate.set.listeners.insert("web".into(), Arc::new(again));
    assert!(gate.apply().await.is_empty());
    let (mut after, _) = hello(address).await;
    assert_eq!(say(&mut before, "last").await, "last");
    assert_eq!(before.read(&mut [0; 8]).await.unwrap(), 0, "closed after its last answer");
    assert_eq!(say(&mut after, "more").await, "more");
    until(|| gate.manager.status().len() == 1).await;
}

#[tokio::test]
async fn a_changed_address_moves_the_listener() {
    let (mut gate, first) = Gate::web(1).await;
    let (mut before, _) = hello(first).await;
    gate.listen("web", "127.0.0.2:0", http());
    assert!(gate.apply().await.is_empty());
    let second = gate.manager.address("web").unwrap();
    assert_eq!(second.ip().to_string(), "127.0.0.2");
    assert_eq!(read_word(&mut before).await, "drain");
    hello(second).await;
    refused(first).await;
}

#[tokio::test]
async fn an_occupied_address_concerns_one_listener_and_is_tried_again() {
    let occupant = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupant.local_addr().unwrap();
    let mut gate = Gate::new(2, ListenOptions::default());
    gate.listen("taken", &address.to_string(), http());
    gate.listen("web", "127.0.0.1:0", http());
    let errors = gate.apply().await;
    assert_eq!(errors.len(), 1);
    let diagnostic = errors[0].diagnostic();
    assert_eq!(diagnostic.code, "MESH0304");
    assert_eq!(diagnostic.object.as_ref(), Some(&origin()));
    assert!(diagnostic.message.contains(&format!("cannot listen on {address}")), "{diagnostic}");
    hello(gate.manager.address("web").unwrap()).await;
    assert_eq!(gate.manager.address("taken"), None);

    drop(occupant);
    assert!(gate.apply().await.is_empty());
    hello(address).await;
}

#[tokio::test]
async fn nobody_is_served_before_the_snapshot_is_published() {
    let mut gate = Gate::new(2, ListenOptions::default());
    gate.listen("web", "127.0.0.1:0", http());
    let live = gate.compile();
    assert!(gate.manager.open(&live).is_empty());
    assert_eq!(gate.manager.status()[0].state, ListenerState::Opened);
    let address = gate.manager.address("web").unwrap();
    let mut io = soon(TcpStream::connect(address)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), say(&mut io, "x")).await;
    assert!(early.is_err(), "answered before it may");
    gate.cells.live.store(Arc::clone(&live));
    gate.manager.close_removed(&live);
    assert_eq!(words(&read_word(&mut io).await)["listener"], "web");
}

#[tokio::test]
async fn clients_that_wait_in_the_queue_of_a_closing_listener_are_served() {
    let mut gate = Gate::new(2, ListenOptions::default());
    gate.listen("web", "127.0.0.1:0", http());
    let live = gate.compile();
    gate.manager.open(&live);
    let address = gate.manager.address("web").unwrap();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut io = soon(TcpStream::connect(address)).await.unwrap();
        io.write_all(b"x|").await.unwrap();
        waiting.push(io);
    }
    gate.manager.close_removed(&Live::default());
    for io in &mut waiting {
        assert_eq!(words(&read_word(io).await)["listener"], "web");
    }
    refused(address).await;
}

#[tokio::test]
async fn a_process_that_ends_waits_for_clients_in_the_queue() {
    let mut gate = Gate::new(1, ListenOptions::default());
    gate.listen("web", "127.0.0.1:0", http());
    gate.manager.open(&gate.compile());
    let address = gate.manager.address("web").unwrap();
    let mut io = soon(TcpStream::connect(address)).await.unwrap();
    io.write_all(b"last|").await.unwrap();
    io.shutdown().await.unwrap();
    gate.manager.close();
    let served = async {
        assert_eq!(words(&read_word(&mut io).await)["listener"], "web");
        let mut rest = String::new();
        io.read_to_string(&mut rest).await.unwrap();
        rest
    };
    let (rest, ()) = soon(async { tokio::join!(served, gate.manager.idle()) }).await;
    assert!(rest.contains("last|"), "{rest}");
    gate.manager.stop();
}

#[tokio::test]
async fn what_is_served_changes_under_the_same_sockets() {
    let (mut gate, address) = Gate::web(1).await;
    let (mut before, _) = hello(address).await;
    let issued = issue("a.example");
    gate.secret("a", &issued);
    let tls = ListenerProtocol::Tls { servers: vec![server(&["a.example"], &["a"])] };
    gate.listen("web", "127.0.0.1:0", tls);
    assert!(gate.apply().await.is_empty());
    assert_eq!(gate.manager.address("web"), Some(address));
    let client = Arc::new(client(&[&issued], &["h2"]));
    let mut encrypted = connect_tls(address, &client, "a.example").await.unwrap();
    assert_eq!(words(&read_word(&mut encrypted).await)["sni"], "a.example");
    assert_eq!(say(&mut before, "still").await, "still", "established connections are not touched");

    gate.listen("web", "127.0.0.1:0", http());
    gate.apply().await;
    hello(address).await;
}

#[tokio::test]
async fn a_process_that_ends_tells_everyone_and_waits() {
    let (gate, address) = Gate::web(2).await;
    let (mut before, _) = hello(address).await;
    gate.manager.drain();
    assert_eq!(read_word(&mut before).await, "drain");
    let mut late = soon(TcpStream::connect(address)).await.unwrap();
    assert!(!say(&mut late, "x").await.is_empty(), "still accepted, as others may still send clients");
    gate.manager.close();
    refused(address).await;
    assert_eq!(say(&mut before, "last").await, "last");
    drop(late);
    soon(gate.manager.idle()).await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once() {
    let mut gate = Gate::new(1, ListenOptions { max_connections: 2, ..ListenOptions::default() });
    gate.listen("web", "127.0.0.1:0", http());
    gate.apply().await;
    let address = gate.manager.address("web").unwrap();
    let (first, _) = hello(address).await;
    let (_second, _) = hello(address).await;
    let mut third = soon(TcpStream::connect(address)).await.unwrap();
    let closed = soon(third.read(&mut [0; 8])).await;
    assert!(matches!(closed, Ok(0) | Err(_)));
    until(|| gate.counts("web").over_limit == 1).await;
    drop(first);
    until(|| gate.manager.connections() == 1).await;
    hello(address).await;
}

#[tokio::test]
async fn the_unspecified_ipv6_address_means_both_families() {
    let mut gate = Gate::new(2, ListenOptions::default());
    gate.listen("web", "[::]:0", http());
    assert!(gate.apply().await.is_empty());
    let port = gate.manager.address("web").unwrap().port();
    let (_, first) = hello(([127, 0, 0, 1], port).into()).await;
    assert_eq!(first["family"], "v4");
    if let Ok(mut io) = TcpStream::connect(("::1", port)).await {
        assert_eq!(say_hello(&mut io).await["family"], "v6");
    }
}

#[tokio::test]
async fn a_client_that_leaves_without_a_word_is_forgotten() {
    let (gate, address) = Gate::web(1).await;
    drop(soon(TcpStream::connect(address)).await.unwrap());
    until(|| gate.counts("web").accepted == 1).await;
    soon(gate.manager.idle()).await;
}
