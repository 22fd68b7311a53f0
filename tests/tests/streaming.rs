//! Bodies in motion through a real gateway: both ways at once, trailers, tunnels, large bodies in flat memory, peers that
//! are slow or have said all they will say.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use e2e::backend::Backend;
use e2e::client::{self, Client, H1, H2, Request, TlsOptions, h2};
use e2e::fixture::{Edge, settled};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: u64 = 1 << 20;

async fn h1(edge: &Edge) -> H1 {
    H1::new(client::connect(edge.http, None).await.unwrap().0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_stream_at_once_on_http1() {
    let (backend, _) = Backend::mirror().await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    client.write(b"POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    client.write(b"5\r\nfirst\r\n").await.unwrap();
    let head = client.read_head().await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(client.read_chunk().await.unwrap().unwrap(), b"first");
    client.write(b"6\r\nsecond\r\n").await.unwrap();
    assert_eq!(client.read_chunk().await.unwrap().unwrap(), b"second");
    client.write(b"0\r\n\r\n").await.unwrap();
    assert!(client.read_chunk().await.unwrap().is_err(), "the last chunk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_stream_at_once_on_http2() {
    let (backend, _) = Backend::mirror().await.unwrap();
    for protocol in ["http", "http2"] {
        let edge = Edge::start(&[("a.example", backend.address, protocol)]).await.unwrap();
        let client = H2::handshake(client::connect(edge.http, None).await.unwrap().0).await.unwrap();
        let mut sender = client.sender.clone().ready().await.unwrap();
        let request = Request { method: "POST".to_owned(), ..Request::get("a.example", "/") };
        let (answer, mut up) = sender.send_request(client.head(&request).unwrap(), false).unwrap();
        up.send_data(Bytes::from_static(b"first"), false).unwrap();
        let mut down = answer.await.unwrap().into_body();
        assert_eq!(down.data().await.unwrap().unwrap(), "first", "{protocol}");
        up.send_data(Bytes::from_static(b"second"), true).unwrap();
        assert_eq!(down.data().await.unwrap().unwrap(), "second", "{protocol}");
        while let Some(rest) = down.data().await {
            assert!(rest.unwrap().is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_pass_on_http2_and_on_http1_that_asks_for_them() {
    let (backend, _) = Backend::mirror().await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http2")]).await.unwrap();
    let mut request = Request { method: "POST".to_owned(), ..Request::get("a.example", "/") }.header("te", "trailers");
    request.body = Some(b"hello".to_vec());
    request.trailers = vec![("x-checksum".to_owned(), "5d41".to_owned())];
    let (mut client, _) = Client::connect(edge.http, None, true).await.unwrap();
    let answer = client.send(&request).await.unwrap();
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.trailer("x-checksum"), Some("5d41"));

    let (mut client, _) = Client::connect(edge.http, None, false).await.unwrap();
    let answer = client.send(&request.header("connection", "te")).await.unwrap();
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.trailer("x-checksum"), Some("5d41"));
}

/// Answers an upgrade and then sends every byte back.
async fn websocket_echo() -> Backend {
    Backend::start_raw(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass_byte_by_byte() {
    let backend = websocket_echo().await;
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    let upgrade = "GET /ws HTTP/1.1\r\nhost: a.example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // The first frame comes before the answer, as eager clients send it.
    client.write(upgrade.as_bytes()).await.unwrap();
    client.write(b"\x81\x85early").await.unwrap();
    let head = client.read_head().await.unwrap();
    assert_eq!(head.status, 101);
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(client.take(7).await.unwrap(), b"\x81\x85early");
    for round in 0..50_u8 {
        let bytes = vec![round; 1 + usize::from(round) * 997];
        client.write(&bytes).await.unwrap();
        assert_eq!(client.take(bytes.len() as u64).await.unwrap(), bytes);
    }
    client.half_close().await.unwrap();
    assert!(client.read_to_end().await.unwrap().is_empty(), "the end of one side ends the tunnel");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_mebibytes_each_way_in_flat_memory() {
    let (backend, _) = Backend::bulk().await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    client.send(&Request::get("a.example", "/1")).await.unwrap();
    // Pages of the program come and go with what is used of it.
    let memory = || edge.meshgate.memory_kib("RssAnon").unwrap();
    let before = memory();
    let mut most = before;

    let head = format!("POST /upload HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n", 100 * MIB);
    client.write(head.as_bytes()).await.unwrap();
    let piece = vec![7; MIB as usize];
    for _ in 0..100 {
        client.write(&piece).await.unwrap();
        most = most.max(memory());
    }
    let answer = client.read_response("POST").await.unwrap();
    assert_eq!(answer.text(), (100 * MIB).to_string());

    client.write(b"GET /100 HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 200);
    let mut length = 0;
    while let Ok(data) = client.read_chunk().await.unwrap() {
        let before = length / MIB;
        length += data.len() as u64;
        if length / MIB != before {
            most = most.max(memory());
        }
    }
    assert_eq!(length, 100 * MIB);

    e2e::say(&format!("memory: {before} KiB before, {most} KiB at most"));
    assert!(most < before + 8 * 1024, "{before} KiB -> {most} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_mebibytes_over_http2_and_tls() {
    let (backend, _) = Backend::bulk().await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let tls = TlsOptions { sni: Some("a.example".to_owned()), alpn: vec!["h2".to_owned()], ..TlsOptions::default() };
    let (io, details) = client::connect(edge.https, Some(&tls)).await.unwrap();
    assert_eq!(details.unwrap().alpn.as_deref(), Some("h2"));
    let client = H2::handshake(io).await.unwrap().over_tls();
    let memory = || edge.meshgate.memory_kib("RssAnon").unwrap();
    let before = memory();
    let mut most = before;
    let mut sender = client.sender.clone().ready().await.unwrap();
    let (answer, _) = sender.send_request(client.head(&Request::get("a.example", "/100")).unwrap(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        let before = length / MIB;
        length += data.len() as u64;
        body.flow_control().release_capacity(data.len()).unwrap();
        if length / MIB != before {
            most = most.max(memory());
        }
    }
    assert_eq!(length, 100 * MIB);
    e2e::say(&format!("memory: {before} KiB before, {most} KiB at most"));
    assert!(most < before + 12 * 1024, "{before} KiB -> {most} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stops_the_backend() {
    let (backend, moved) = Backend::bulk().await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    client.write(b"GET /200 HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 200);
    // What the sockets' buffers hold, and not more.
    let taken = settled(|| moved.load(Ordering::Relaxed)).await.unwrap();
    assert!(taken < 50 * MIB, "{taken} bytes were taken from the backend for a client that does not read");
    // Another client does not notice.
    let mut other = h1(&edge).await;
    assert_eq!(other.send(&Request::get("a.example", "/1")).await.unwrap().body.len() as u64, MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_may_come_byte_by_byte() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    for byte in b"POST /slow HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nabc" {
        client.write(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = client.read_response("POST").await.unwrap();
    assert_eq!(answer.status, 200);
    let saw = backend.last().unwrap();
    assert_eq!((saw.path.as_str(), saw.body.as_str()), ("/slow", "abc"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_half_closes_still_gets_its_answer() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    client.write(b"POST /last HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
    client.half_close().await.unwrap();
    assert_eq!(client.read_response("POST").await.unwrap().status, 200);
    assert!(client.read_to_end().await.unwrap().is_empty());
    // The same for an answer of the gateway itself.
    let mut client = h1(&edge).await;
    client.write(b"GET / HTTP/1.1\r\nhost: unknown.example\r\n\r\n").await.unwrap();
    client.half_close().await.unwrap();
    assert_eq!(client.read_response("GET").await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    let mut bytes = Vec::new();
    for index in 0..5 {
        bytes.extend(format!("POST /{index} HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\nab").as_bytes());
    }
    client.write(&bytes).await.unwrap();
    for index in 0..5 {
        let answer = client.read_response("POST").await.unwrap();
        let saw: e2e::backend::Saw = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(saw.path, format!("/{index}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streams_share_one_connection() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let client = H2::handshake(client::connect(edge.http, None).await.unwrap().0).await.unwrap();
    let mut answers = Vec::new();
    for index in 0..100 {
        let mut sender = client.sender.clone().ready().await.unwrap();
        let head = client.head(&Request::get("a.example", &format!("/{index}"))).unwrap();
        answers.push((index, sender.send_request(head, true).unwrap().0));
    }
    for (index, answer) in answers {
        let answer = h2::read(answer.await.unwrap()).await.unwrap();
        let saw: e2e::backend::Saw = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(saw.path, format!("/{index}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hundred_continue_comes_before_the_body_is_sent() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    let head = b"POST / HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    client.write(head).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 100);
    client.write(b"hello").await.unwrap();
    assert_eq!(client.read_response("POST").await.unwrap().status, 200);
    assert_eq!(backend.last().unwrap().body, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_breaks_off_breaks_the_answer_off() {
    let backend = Backend::start_raw(|mut stream| async move {
        let mut some = [0; 4096];
        let _ = stream.read(&mut some).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    })
    .await
    .unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = h1(&edge).await;
    client.write(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 200);
    assert_eq!(client.read_to_end().await.unwrap(), b"half", "the rest is not made up");

    let client = H2::handshake(client::connect(edge.http, None).await.unwrap().0).await.unwrap();
    let mut sender = client.sender.clone().ready().await.unwrap();
    let (answer, _) = sender.send_request(client.head(&Request::get("a.example", "/")).unwrap(), true).unwrap();
    // The reset may overtake the head; that the answer does not look whole is what counts.
    let whole = match answer.await {
        Ok(answer) => h2::read(answer).await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole, "the stream must be reset");
}
