use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::lb::Limit;
use mesh_core::model::{Limits, UpstreamProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::http::testing::*;

#[tokio::test]
async fn a_request_passes_with_the_gateways_headers() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let answer = rig.ask(&get("/a/../b?x=/../y")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for line in [
        "server: istio-envoy",
        "x-saw-target: /b?x=/../y",
        "x-saw-host: x.example",
        "x-saw-x-forwarded-for: 127.0.0.1",
        "x-saw-x-forwarded-proto: http",
        "x-saw-x-envoy-attempt-count: 1",
        "x-envoy-upstream-service-time: ",
    ] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
}

#[tokio::test]
async fn the_error_contract() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rig = Rig::new(&[refused], UpstreamProtocol::Http1);
    for (path, status, body) in [
        ("/nc", "503 Service Unavailable", ""),
        ("/uh", "503 Service Unavailable", "no healthy upstream"),
        (
            "/",
            "503 Service Unavailable",
            "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: \
             remote connection failure",
        ),
    ] {
        let answer = rig.ask(&get(path)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{path}: {answer}");
    }
    let answer = rig.ask("GET / HTTP/1.1\r\nHost: other\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("content-length: 0"), "{answer}");
}

#[tokio::test]
async fn upstreams_that_break() {
    for (answer, expected) in [
        ("", "HTTP/1.1 503 "),
        ("garbage\r\n\r\n", "HTTP/1.1 502 "),
        ("HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 502 "),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", "HTTP/1.1 502 "),
    ] {
        let rig = Rig::new(&[raw_backend(answer).await], UpstreamProtocol::Http1);
        let got = rig.ask(&get("/")).await;
        assert!(got.starts_with(expected), "{answer:?}: {got}");
    }
    // Cut inside the body: the head passes, and the client can tell that the body is short.
    let rig = Rig::new(
        &[raw_backend("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await],
        UpstreamProtocol::Http1,
    );
    let got = rig.ask(&get("/")).await;
    assert!(got.contains("2\r\nok\r\n") && !got.contains("\r\n0\r\n"), "{got}");
}

#[tokio::test]
async fn a_body_without_length_is_chunked_and_trailers_need_te() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n";
    let rig = Rig::new(&[raw_backend(answer).await], UpstreamProtocol::Http1);
    let without = rig.ask(&get("/")).await;
    assert!(without.ends_with("2\r\nok\r\n0\r\n\r\n"), "{without}");
    let with = rig.ask("GET / HTTP/1.1\r\nHost: x.example\r\nTE: trailers\r\nConnection: te\r\n\r\n").await;
    assert!(with.ends_with("0\r\nx-t: 1\r\n\r\n"), "{with}");
    let rig = Rig::new(&[raw_backend("HTTP/1.1 200 OK\r\n\r\nuntil close").await], UpstreamProtocol::Http1);
    let answer = rig.ask(&get("/")).await;
    assert!(answer.ends_with("b\r\nuntil close\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn interim_answers_pass_and_an_unasked_101_does_not() {
    let answer =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nkeep-alive: timeout=5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let rig = Rig::new(&[raw_backend(answer).await], UpstreamProtocol::Http1);
    let got = rig.ask(&get("/")).await;
    assert!(got.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 "), "{got}");
    let rig = Rig::new(&[raw_backend("HTTP/1.1 101 X\r\nupgrade: websocket\r\n\r\n").await], UpstreamProtocol::Http1);
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 502 "));
}

/// Agrees to a WebSocket, says `hi`, echoes.
async fn websocket_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        let head = read_head(&mut io).await.unwrap();
        assert!(head.contains("connection: Upgrade\r\n") && head.contains("upgrade: WebSocket\r\n"), "{head}");
        io.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi")
            .await
            .unwrap();
        let mut buffer = [0; 64];
        loop {
            let n = io.read(&mut buffer).await.unwrap();
            if n == 0 {
                return;
            }
            io.write_all(&buffer[..n]).await.unwrap();
        }
    });
    address
}

const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: x.example\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nearly";

#[tokio::test]
async fn a_websocket_becomes_a_tunnel() {
    // A port of HTTP/1 that was upgraded to HTTP/2 still understands HTTP/1.
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2Upgraded] {
        let rig = Rig::new(&[websocket_backend().await], protocol);
        let answer = rig.ask(WEBSOCKET).await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.contains("upgrade: websocket\r\n") && answer.ends_with("\r\n\r\nhiearly"), "{answer}");
    }
}

#[tokio::test]
async fn upgrades_that_cannot_be() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let refused = rig.ask("GET / HTTP/1.1\r\nHost: x.example\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("connection: close"), "{refused}");
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http2);
    let refused = rig.ask(WEBSOCKET).await;
    assert!(refused.starts_with("HTTP/1.1 502 ") && refused.contains("HTTP/2 destination"), "{refused}");
}

#[tokio::test]
async fn requests_share_a_connection_and_pipelined_ones_are_answered_in_order() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let post = "POST /2 HTTP/1.1\r\nHost: x.example\r\nContent-Length: 5\r\n\r\nhello";
    let answer = rig.ask(&[&get("/1"), post, &get("/3")].concat()).await;
    let at = |text: &str| answer.find(text).unwrap_or_else(|| panic!("{text} in {answer}"));
    assert!(at("target: /1") < at("target: /2") && at("target: /2") < at("hello") && at("hello") < at("target: /3"));
}

#[tokio::test]
async fn a_timeout_is_504_and_a_slow_head_408() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new(&[listener.local_addr().unwrap()], UpstreamProtocol::Http1);
    let answer = rig.ask(&get("/slow")).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("upstream request timeout"), "{answer}");
    let mut client = rig.connect(false).await;
    client.write_all(b"GET / HT").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_dead_idle_connection_is_replaced_without_a_word() {
    // Serves one request per connection, keeps it open as if it lived, and closes when the next begins.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = read_head(&mut io).await;
                let _ = io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                let _ = io.read_u8().await;
            });
        }
    });
    let rig = Rig::new(&[address], UpstreamProtocol::Http1);
    for _ in 0..3 {
        let answer = rig.ask(&get("/")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // Not repeated: the first might have had an effect.
    let answer = rig.ask("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 1\r\n\r\nx").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn an_empty_chunked_body_is_complete_in_the_second_try_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let head = read_head(&mut io).await.unwrap();
                if head.contains("chunked") {
                    assert_eq!(read_head(&mut io).await.unwrap(), "0\r\n\r\n");
                }
                let _ = io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                let _ = io.read_u8().await;
            });
        }
    });
    let rig = Rig::new(&[address], UpstreamProtocol::Http1);
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 200 "));
    let put = "PUT / HTTP/1.1\r\nHost: x.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(rig.ask(put).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn large_bodies_flow_both_ways() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let mut client = rig.connect(false).await;
    const SIZE: usize = 8 << 20;
    let (mut reader, mut writer) = client.split();
    let send = async {
        let head = format!("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: {SIZE}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..SIZE / 65536 {
            writer.write_all(&[7; 65536]).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let mut answer = Vec::new();
    let receive = reader.read_to_end(&mut answer);
    let ((), read) = tokio::time::timeout(PATIENCE, async { tokio::join!(send, receive) }).await.unwrap();
    read.unwrap();
    assert_eq!(answer.iter().filter(|byte| **byte == 7).count(), SIZE);
}

#[tokio::test]
async fn connections_of_a_removed_listener_are_served_as_before() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let before = rig.cells.live.swap(Arc::default());
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 404 "));
    rig.retired.store(before);
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_request_without_room_overflows() {
    let backend = echo_backend().await;
    for limits in [
        Limits { requests: Some(0), ..Limits::default() },
        Limits { connections: Some(0), pending: Some(0), ..Limits::default() },
    ] {
        let rig = Rig::new(&[backend], UpstreamProtocol::Http1);
        let breaker = rig.limit(&limits);
        let answer = rig.ask(&get("/")).await;
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(answer.contains("\r\nx-envoy-overloaded: true\r\n"), "{answer}");
        assert!(answer.ends_with("disconnect/reset before headers. reset reason: overflow"), "{answer}");
        assert!(Limit::ALL.iter().all(|limit| breaker.now(*limit) == 0 || *limit == Limit::Connections));
    }
    let rig = Rig::new(&[backend], UpstreamProtocol::Http1);
    let breaker = rig.limit(&Limits { requests: Some(1), pending: Some(1), ..Limits::default() });
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!([Limit::Requests, Limit::Pending].iter().all(|limit| breaker.now(*limit) == 0));
}

/// The answer is that of the try before.
#[tokio::test]
async fn a_try_again_needs_room() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rig = Rig::new(&[refused], UpstreamProtocol::Http1);
    let breaker = rig.limit(&Limits { retries: Some(0), ..Limits::default() });
    let answer = rig.ask(&get("/")).await;
    assert!(answer.ends_with("disconnect/reset before headers. reset reason: remote connection failure"), "{answer}");
    assert_eq!((breaker.overflows(Limit::Retries), breaker.now(Limit::Retries)), (1, 0));
    let breaker = rig.limit(&Limits { retries: Some(1), ..Limits::default() });
    let answer = rig.ask(&get("/")).await;
    assert!(answer.ends_with("retried and the latest reset reason: remote connection failure"), "{answer}");
    assert_eq!((breaker.overflows(Limit::Retries), breaker.now(Limit::Retries)), (0, 0));
}
