use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use mesh_core::model::{RetryOn, RetryPolicy, UpstreamProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Kept, MOST_KEPT};
use crate::http::h1::Frame;
use crate::http::testing::*;

/// Answers each connection with the next of these and closes it; the last one is for all that follow. Reads so many bytes of a
/// body before.
async fn script(answers: &'static [&'static str], body: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let head = read_head(&mut io).await.unwrap();
                let mut sent = vec![0; body];
                io.read_exact(&mut sent).await.unwrap();
                let index = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
                let saw: String = head.lines().filter(|line| line.starts_with("x-envoy-attempt")).collect();
                let answer = answers[index].replace("SAW", &saw).replace("SENT", &String::from_utf8_lossy(&sent));
                let _ = io.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, asked)
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nsaw: SAW\r\ncontent-length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\nsaw: SAW\r\ncontent-length: 3\r\n\r\nbad";

fn policy(attempts: u32, on: RetryOn) -> RetryPolicy {
    RetryPolicy { attempts, on, backoff: Some(Duration::from_millis(1)), ..RetryPolicy::default() }
}

/// The answer, and how often the backend was asked.
async fn ask(answers: &'static [&'static str], policy: RetryPolicy, request: &str, body: usize) -> (String, usize) {
    let (backend, asked) = script(answers, body).await;
    let rig = Rig::with_retries(&[backend], UpstreamProtocol::Http1, policy);
    let answer = rig.ask(request).await;
    (answer, asked.load(Ordering::Relaxed))
}

#[tokio::test]
async fn an_answer_that_is_not_wanted_is_asked_for_again() {
    let (answer, asked) = ask(&[BAD, BAD, GOOD], policy(2, RetryOn::SERVER_ERROR), &get("/"), 0).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("saw: x-envoy-attempt-count: 3"), "{answer}");
    assert_eq!(asked, 3);
    let codes = RetryPolicy { statuses: vec![503], ..policy(1, RetryOn::default()) };
    assert_eq!(ask(&[BAD, GOOD], codes, &get("/"), 0).await.1, 2);
}

#[tokio::test]
async fn the_last_answer_is_delivered_as_it_is() {
    let (answer, asked) = ask(&[BAD], policy(2, RetryOn::GATEWAY_ERROR), &get("/"), 0).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("bad"), "{answer}");
    assert!(answer.contains("saw: x-envoy-attempt-count: 3"), "{answer}");
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn what_the_policy_does_not_name_is_not_tried_again() {
    for on in [RetryOn::CONNECT_FAILURE | RetryOn::REFUSED_STREAM, RetryOn::RESET, RetryOn::RETRIABLE_4XX] {
        let (answer, asked) = ask(&[BAD, GOOD], policy(2, on), &get("/"), 0).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("bad"), "{answer}");
        assert_eq!(asked, 1, "{on}");
    }
    assert_eq!(ask(&[BAD, GOOD], policy(0, RetryOn::SERVER_ERROR), &get("/"), 0).await.1, 1);
}

#[tokio::test]
async fn connections_that_end_before_an_answer() {
    let (answer, asked) = ask(&["", GOOD], policy(1, RetryOn::RESET), &get("/"), 0).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(asked, 2);
    let (answer, asked) = ask(&["garbage\r\n\r\n"], policy(1, RetryOn::SERVER_ERROR), &get("/"), 0).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("retried and the latest reset reason"), "{answer}");
    assert_eq!(asked, 2);
    let (answer, asked) = ask(&["", GOOD], policy(1, RetryOn::RESET_BEFORE_REQUEST), &get("/"), 0).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && !answer.contains("retried"), "{answer}");
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn an_answer_that_was_begun_is_never_asked_for_again() {
    const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut";
    let (answer, asked) = ask(&[CUT, GOOD], policy(3, RetryOn::RESET | RetryOn::SERVER_ERROR), &get("/"), 0).await;
    assert!(answer.ends_with("cut"), "{answer}");
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_body_is_sent_again_as_it_was() {
    const ECHO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nSENT";
    let post = "POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 5\r\n\r\nhello";
    let (answer, asked) = ask(&[BAD, "", ECHO], policy(2, RetryOn::SERVER_ERROR), post, 5).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
    assert_eq!(asked, 3);
    // Nothing is kept by default: what was sent is not sent again.
    let (answer, asked) = ask(&["", ECHO], policy(2, RetryOn::CONNECT_FAILURE), post, 5).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_sent_once() {
    let size = MOST_KEPT + 1;
    let post = format!("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: {size}\r\n\r\n{}", "x".repeat(size));
    let (answer, asked) = ask(&[BAD, GOOD], policy(2, RetryOn::SERVER_ERROR), &post, size).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("bad"), "{answer}");
    assert_eq!(asked, 1);
    let size = MOST_KEPT;
    let post = format!("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: {size}\r\n\r\n{}", "x".repeat(size));
    let (answer, asked) = ask(&[BAD, GOOD], policy(2, RetryOn::SERVER_ERROR), &post, size).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn a_try_has_a_time_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    let (good, _) = script(&[GOOD], 0).await;
    let quick = |on| RetryPolicy { per_try_timeout: Some(Duration::from_millis(100)), ..policy(1, on) };
    let rig = Rig::with_retries(&[silent, good], UpstreamProtocol::Http1, quick(RetryOn::GATEWAY_ERROR));
    // Both turns of the round robin end at the good one.
    for _ in 0..2 {
        assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 200 "));
    }
    let rig = Rig::with_retries(&[silent], UpstreamProtocol::Http1, quick(RetryOn::SERVER_ERROR));
    let begun = Instant::now();
    let answer = rig.ask(&get("/")).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("upstream request timeout"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(200), "two tries");
    let rig = Rig::with_retries(&[silent, good], UpstreamProtocol::Http1, quick(RetryOn::CONNECT_FAILURE));
    let answers = [rig.ask(&get("/")).await, rig.ask(&get("/")).await];
    assert!(answers.iter().any(|answer| answer.starts_with("HTTP/1.1 504 ")), "not a reason to try again");
}

#[tokio::test]
async fn a_slow_answer_that_was_begun_is_not_cut_by_the_time_of_a_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        read_head(&mut io).await.unwrap();
        io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsl").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        io.write_all(b"ow").await.unwrap();
    });
    let quick = RetryPolicy { per_try_timeout: Some(Duration::from_millis(100)), ..policy(1, RetryOn::SERVER_ERROR) };
    let rig = Rig::with_retries(&[slow], UpstreamProtocol::Http1, quick);
    assert!(rig.ask(&get("/")).await.ends_with("slow"));
}

#[test]
fn what_is_kept_is_limited_by_its_bytes() {
    let mut kept = Kept { room: 5, ..Kept::default() };
    assert!(kept.add(&Frame::Data("hel".into())) && kept.add(&Frame::Data("lo".into())));
    assert!(kept.add(&Frame::Trailers(HeaderMap::new())) && kept.add(&Frame::Data("".into())));
    assert!(!kept.add(&Frame::Data("!".into())));
}
