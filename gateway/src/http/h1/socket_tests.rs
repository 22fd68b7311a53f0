//! What only real sockets do: resets, half-closes, and buffers of the kernel that fill up.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(20);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_reset_is_seen_while_waiting_and_a_half_close_is_not() {
    let (mut client, server) = pair().await;
    let mut codec = ServerCodec::new(server, Limits::default());
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    codec.read_head().await.unwrap().unwrap();
    assert!(poll_fn(|cx| Poll::Ready(codec.poll_closed(cx))).await.is_pending());
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    timeout(LONG, poll_fn(|cx| codec.poll_closed(cx))).await.unwrap();

    let (mut client, server) = pair().await;
    let mut codec = ServerCodec::new(server, Limits::default());
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    codec.read_head().await.unwrap().unwrap();
    assert!(timeout(Duration::from_millis(50), poll_fn(|cx| codec.poll_closed(cx))).await.is_err());
    codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::Length(2));
    codec.send_frame(Frame::Data(Bytes::from_static(b"ab")));
    codec.finish();
    poll_fn(|cx| codec.poll_flush(cx)).await.unwrap();
    assert!(codec.read_head().await.unwrap().is_none());
    drop(codec);
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab");
}

/// 100 MiB from an upstream to a client through both codecs: never more waits to be written than the mark and one
/// frame.
#[tokio::test]
async fn a_big_body_passes_in_flat_memory() {
    const SIZE: usize = 100 << 20;
    let (mut origin, upstream) = pair().await;
    let (mut client, downstream) = pair().await;
    let limits = Limits::default();
    let serve_origin = async {
        origin.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).await.unwrap();
        let piece = vec![7u8; 1 << 20];
        for _ in 0..SIZE / piece.len() {
            origin.write_all(&piece).await.unwrap();
        }
    };
    let proxy = async {
        let mut server = ServerCodec::new(downstream, limits);
        let head = server.read_head().await.unwrap().unwrap();
        let mut upstream = ClientCodec::new(upstream, limits);
        upstream.send_head(&head.method, head.path_and_query(), &head.headers, BodyFraming::None);
        upstream.finish();
        poll_fn(|cx| upstream.poll_flush(cx)).await.unwrap();
        let head = poll_fn(|cx| upstream.poll_head(cx)).await.unwrap();
        assert_eq!(head.body, ResponseBody::Length(SIZE as u64));
        server.send_head(head.status, None, &head.headers, BodyFraming::Length(SIZE as u64));
        poll_fn(|cx| {
            loop {
                if server.poll_ready(cx)?.is_pending() {
                    return Poll::Pending;
                }
                assert!(server.buffered() <= limits.high_water);
                match upstream.poll_frame(cx) {
                    Poll::Ready(Some(frame)) => {
                        let frame = frame.unwrap();
                        assert!(matches!(&frame, Frame::Data(data) if data.len() <= 2 * limits.largest_read));
                        server.send_frame(frame);
                    }
                    Poll::Ready(None) => break,
                    Poll::Pending => {
                        let _ = server.poll_flush(cx)?;
                        return Poll::Pending;
                    }
                }
            }
            server.finish();
            Poll::Ready(std::io::Result::Ok(()))
        })
        .await
        .unwrap();
        poll_fn(|cx| server.poll_flush(cx)).await.unwrap();
        assert!(upstream.reusable() && server.can_keep_alive());
    };
    let receive = async {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = vec![0; "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".len()];
        client.read_exact(&mut head).await.unwrap();
        let (mut buffer, mut total) = (vec![0; 256 * 1024], 0);
        while total < SIZE {
            let count = client.read(&mut buffer).await.unwrap();
            assert!(count > 0 && buffer[..count].iter().all(|byte| *byte == 7));
            total += count;
        }
    };
    timeout(3 * LONG, async { tokio::join!(serve_origin, proxy, receive) }).await.unwrap();
}

/// An upstream that answers and closes before it has read the request: the answer is still there to be read.
#[tokio::test]
async fn an_early_answer_survives_the_upload() {
    let (mut origin, upstream) = pair().await;
    let mut codec = ClientCodec::new(upstream, Limits::default());
    codec.send_head(&Method::POST, "/", &HeaderMap::new(), BodyFraming::Length(1 << 30));
    let piece = Bytes::from(vec![1; 64 * 1024]);
    let answer = b"HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
    let (_, head) = tokio::join!(
        async {
            let mut some = [0; 1000];
            origin.read_exact(&mut some).await.unwrap();
            origin.write_all(answer).await.unwrap();
        },
        poll_fn(|cx| {
            while let Poll::Ready(Ok(())) = codec.poll_ready(cx) {
                codec.send_frame(Frame::Data(piece.clone()));
            }
            codec.poll_head(cx)
        })
    );
    assert_eq!(head.unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
    let body = poll_fn(|cx| codec.poll_frame(cx)).await;
    assert!(matches!(body, Some(Ok(Frame::Data(data))) if &data[..] == b"big"));
    assert!(codec.body_done() && !codec.reusable());
}

#[tokio::test]
async fn idle_upstreams_that_close_are_noticed() {
    let (origin, upstream) = pair().await;
    let mut codec = ClientCodec::new(upstream, Limits::default());
    assert!(poll_fn(|cx| Poll::Ready(codec.poll_idle_closed(cx))).await.is_pending());
    drop(origin);
    timeout(LONG, poll_fn(|cx| codec.poll_idle_closed(cx))).await.unwrap();
    assert!(!codec.reusable());
}
