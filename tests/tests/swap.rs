//! Changes of files under load: nothing fails, nothing is dropped, nothing grows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use e2e::backend::Backend;
use e2e::client::{self, Client, Request, TlsOptions};
use e2e::fixture::{Edge, destination, eventually, route};

/// File changes in the default run; `MESHGATE_SWAPS` asks for more.
const CHANGES: u32 = 150;

/// One client that asks again and again over one connection, which must not end.
async fn ask(
    address: SocketAddr,
    tls: Option<TlsOptions>,
    h2: bool,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
) -> Result<(), String> {
    let (mut client, _) = Client::connect(address, tls.as_ref(), h2).await.map_err(|error| format!("{error:#}"))?;
    while !stop.load(Ordering::Relaxed) {
        let answer = client.send(&Request::get("a.example", "/x")).await;
        let answer = answer.map_err(|error| format!("after {}: {error:#}", answered.load(Ordering::Relaxed)))?;
        let from = answer.header("x-backend").unwrap_or("none");
        if answer.status != 200 || !matches!(from, "one" | "two") || answer.header("connection") == Some("close") {
            return Err(format!("{} from {from}: {:?} {}", answer.status, answer.headers, answer.text()));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_under_load_fail_nothing_and_drop_nothing() {
    let changes = std::env::var("MESHGATE_SWAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(CHANGES);
    let (one, two) = (Backend::echo("one").await.unwrap(), Backend::echo("two").await.unwrap());
    let edge = Edge::start(&[("a.example", one.address, "http"), ("b.example", two.address, "http")]).await.unwrap();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let tls = |alpn: &str| {
        Some(TlsOptions { sni: Some("a.example".to_owned()), alpn: vec![alpn.to_owned()], ..TlsOptions::default() })
    };
    let kinds = [
        (edge.http, None, false),
        (edge.http, None, true),
        (edge.https, tls("http/1.1"), false),
        (edge.https, tls("h2"), true),
    ];
    let clients: Vec<_> = kinds
        .into_iter()
        .map(|(address, tls, h2)| tokio::spawn(ask(address, tls, h2, stop.clone(), answered.clone())))
        .collect();
    let counted = answered.clone();
    eventually("the load runs", move || counted.load(Ordering::Relaxed) > 50).await.unwrap();
    let before = (edge.meshgate.memory_kib("RssAnon").unwrap(), edge.meshgate.open_files().unwrap());
    for change in 0..changes {
        match change % 5 {
            // Where the requests go.
            0 => edge.write("a.example.yaml", &destination("a.example", two.address, "http")).unwrap(),
            // A host comes; its route is in the same file as its destination.
            1 => edge.write("c.yaml", &destination("c.example", one.address, "http")).unwrap(),
            2 => edge.write("a.example.yaml", &destination("a.example", one.address, "http")).unwrap(),
            3 => std::fs::remove_file(edge.config().join("c.yaml")).unwrap(),
            // The certificate; what is connected stays.
            _ => edge.rotate(change).unwrap(),
        }
        // A few requests between changes, so that each one meets some.
        let (counted, goal) = (answered.clone(), answered.load(Ordering::Relaxed) + 4);
        let finished = clients.iter().any(tokio::task::JoinHandle::is_finished);
        eventually("requests go on", || finished || counted.load(Ordering::Relaxed) >= goal).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap().unwrap_or_else(|error| panic!("{error}\n{}", edge.meshgate.log()));
    }
    // The last state is the one that counts.
    let _ = std::fs::remove_file(edge.config().join("c.yaml"));
    edge.wait_for("c.example", "/", |answer| answer.status == 404).await.unwrap();
    let after = (edge.meshgate.memory_kib("RssAnon").unwrap(), edge.meshgate.open_files().unwrap());
    e2e::say(&format!(
        "{changes} changes, {} requests, 0 failed; {before:?} -> {after:?}",
        answered.load(Ordering::Relaxed)
    ));
    assert!(one.requests() > 0 && two.requests() > 0, "both backends were in force");
    assert!(after.0 < before.0 + 16 * 1024, "memory: {before:?} -> {after:?}");
    assert!(after.1 < before.1 + 20, "descriptors: {before:?} -> {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_keeps_the_rules_it_began_with() {
    let (slow, _) = Backend::mirror().await.unwrap();
    let other = Backend::echo("other").await.unwrap();
    let edge = Edge::start(&[("a.example", slow.address, "http"), ("b.example", other.address, "http")]).await.unwrap();
    let mut client = client::H1::new(client::connect(edge.http, None).await.unwrap().0);
    client
        .write(b"POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await
        .unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 200);
    assert_eq!(client.read_chunk().await.unwrap().unwrap(), b"first");
    // Its host now leads elsewhere, and its destination is gone.
    edge.write("a.example.yaml", &route("a.example", "b-example")).unwrap();
    edge.wait_for("a.example", "/", |answer| answer.header("x-backend") == Some("other")).await.unwrap();
    client.write(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(client.read_chunk().await.unwrap().unwrap(), b"second");
    assert!(client.read_chunk().await.unwrap().is_err(), "the last chunk");
    // The next request on the same connection follows the new rules.
    client.write(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
    let answer = client.read_response("GET").await.unwrap();
    assert_eq!(answer.header("x-backend"), Some("other"));
}
