//! How connections end: told to drain, or unused for too long.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use mesh_core::model::UpstreamProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::testing::*;
use super::{Engine, Settings};
use crate::upstream::Pools;

#[tokio::test]
async fn draining_ends_idle_connections_and_finishes_running_ones() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let mut client = rig.connect(false).await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let mut buffer = [0; 4096];
    let n = client.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..n]).starts_with("HTTP/1.1 200 "));
    let mut second = h2_client(&rig).await;
    rig.drain.send_replace(true);
    assert_eq!(tokio::time::timeout(PATIENCE, client.read(&mut buffer)).await.unwrap().unwrap(), 0);
    let gone = tokio::time::timeout(PATIENCE, async {
        loop {
            match std::future::poll_fn(|cx| second.poll_ready(cx)).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    });
    assert!(gone.await.is_ok());
    let late = rig.ask(&get("/")).await;
    assert!(late.starts_with("HTTP/1.1 200 ") && late.contains("connection: close"), "{late}");
}

#[tokio::test]
async fn an_http2_connection_goes_when_it_was_not_used_and_not_before() {
    let mut rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let idle = Duration::from_millis(100);
    let settings = Settings { idle_timeout: idle, ..Settings::default() };
    let engine = Engine::new(rig.engine.cells.clone(), Pools::new(), Arc::default(), Arc::new(settings));
    rig.engine = Arc::new(engine);
    let mut client = h2_client(&rig).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < idle * 4 {
        let (response, _) = client.send_request(Request::get("http://x.example/").body(()).unwrap(), true).unwrap();
        let body = response.await.unwrap().into_body();
        drop(body);
        std::future::poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    }
    let gone = async {
        while std::future::poll_fn(|cx| client.poll_ready(cx)).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    // At least a second passes until the next look.
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_begins_while_draining_says_that_it_is_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new(&[listener.local_addr().unwrap()], UpstreamProtocol::Http1);
    let mut client = rig.connect(false).await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let (mut io, _) = listener.accept().await.unwrap();
    read_head(&mut io).await.unwrap();
    rig.drain.send_replace(true);
    io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("ok"), "{answer}");
}

#[tokio::test]
async fn a_request_on_its_way_when_draining_begins_is_answered() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let mut client = rig.connect(false).await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let mut buffer = [0; 4096];
    assert_ne!(client.read(&mut buffer).await.unwrap(), 0);
    rig.drain.send_replace(true);
    let closed = tokio::time::timeout(Duration::from_millis(50), client.read(&mut buffer)).await;
    assert!(closed.is_err(), "{closed:?}");
    client.write_all(get("/").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
}
