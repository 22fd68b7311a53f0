use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A client and a backend, and what is between them. Its pipes hold 1 KiB.
fn pipes() -> (DuplexStream, DuplexStream, Copy<DuplexStream, DuplexStream>) {
    let ((client, near), (far, backend)) = (duplex(1024), duplex(1024));
    (client, backend, Copy::new(near, far))
}

#[tokio::test]
async fn each_side_may_end_before_the_other() {
    let (mut client, mut backend, mut copy) = pipes();
    let run = tokio::spawn(async move {
        poll_fn(|cx| copy.poll(cx)).await.unwrap();
        (copy.received.bytes, copy.sent.bytes)
    });
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = String::new();
    backend.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "question");
    // The client has ended, and still hears.
    backend.write_all(b"answer").await.unwrap();
    backend.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    assert_eq!(run.await.unwrap(), (8, 6));
}

#[tokio::test]
async fn more_than_a_slow_side_takes_is_kept_and_nothing_is_lost() {
    let (client, mut backend, mut copy) = pipes();
    let run = tokio::spawn(async move { poll_fn(|cx| copy.poll(cx)).await });
    let sent: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut from, mut to) = tokio::io::split(client);
    let all = sent.clone();
    let writing = tokio::spawn(async move {
        to.write_all(&all).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    backend.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    writing.await.unwrap();
    drop(backend);
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).await.unwrap();
    run.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_side_that_breaks_is_named() {
    let (mut client, backend, mut copy) = pipes();
    drop(backend);
    client.write_all(b"x").await.unwrap();
    let broken = poll_fn(|cx| copy.poll(cx)).await;
    assert!(matches!(broken, Err(Broken::Upstream(_))), "{broken:?}");
}
