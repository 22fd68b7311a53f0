//! What the server side writes, and how it behaves while a client reads slowly, leaves, or sends ahead.

use std::future::poll_fn;
use std::task::Poll;

use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::testing::*;
use super::*;

fn codec(input: &str) -> ServerCodec<Script> {
    let mut codec = ServerCodec::new(Script::new(vec![input.into()], End::Silence), Limits::default());
    assert!(matches!(codec.poll_head(&mut context()), Poll::Ready(Ok(Some(_)))), "{input}");
    codec
}

fn written(mut codec: ServerCodec<Script>) -> String {
    assert!(codec.poll_flush(&mut context()).is_ready());
    String::from_utf8(codec.into_parts().0.written).unwrap()
}

fn answer(request: &str, status: u16, headers: &[(&'static str, &str)], framing: BodyFraming, data: &str) -> String {
    let mut codec = codec(request);
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    codec.send_head(StatusCode::from_u16(status).unwrap(), None, &map, framing);
    if !data.is_empty() {
        codec.send_frame(Frame::Data(Bytes::copy_from_slice(data.as_bytes())));
    }
    codec.finish();
    written(codec)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Request, status, headers, framing, data, and what is written.
type Case = (&'static str, u16, &'static [(&'static str, &'static str)], BodyFraming, &'static str, &'static str);

#[test]
fn framing_of_answers() {
    use BodyFraming::{Chunked, Length, None, UntilClose};
    let cases: &[Case] = &[
        (GET, 200, &[], Length(2), "ab", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"),
        (GET, 200, &[], Chunked, "ab", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
        (GET, 404, &[], None, "", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        (GET, 200, &[], UntilClose, "ab", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nab"),
        (GET, 999, &[], None, "", "HTTP/1.1 999 Unknown\r\ncontent-length: 0\r\n\r\n"),
        // The header map cannot disagree with the framing.
        (
            GET,
            200,
            &[("content-length", "7"), ("transfer-encoding", "chunked")],
            Length(2),
            "ab",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
        ),
        (HEAD, 200, &[], Length(2), "ab", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
        (HEAD, 200, &[], Chunked, "ab", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (HEAD, 200, &[("content-length", "20")], None, "", "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n"),
        (HEAD, 200, &[], None, "", "HTTP/1.1 200 OK\r\n\r\n"),
        (GET, 304, &[("content-length", "20")], None, "", "HTTP/1.1 304 Not Modified\r\ncontent-length: 20\r\n\r\n"),
        (GET, 204, &[("content-length", "20")], Length(20), "", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            GET,
            200,
            &[("set-cookie", "a"), ("set-cookie", "b")],
            None,
            "",
            "HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            GET,
            200,
            &[("connection", "close")],
            None,
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            200,
            &[],
            None,
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ),
    ];
    for (request, status, headers, framing, data, expected) in cases {
        assert_eq!(answer(request, *status, headers, *framing, data), *expected);
    }
}

#[test]
fn trailers_and_empty_chunks() {
    let mut codec = codec(GET);
    codec.send_head(StatusCode::OK, Some("Fine"), &HeaderMap::new(), BodyFraming::Chunked);
    codec.send_frame(Frame::Data(Bytes::new()));
    codec.send_frame(Frame::Data(Bytes::from(vec![b'a'; 17])));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("content-length", "5".parse().unwrap());
    codec.send_frame(Frame::Trailers(trailers));
    codec.finish();
    assert!(codec.can_keep_alive());
    let expected = format!(
        "HTTP/1.1 200 Fine\r\ntransfer-encoding: chunked\r\n\r\n11\r\n{}\r\n0\r\ngrpc-status: 0\r\n\r\n",
        "a".repeat(17)
    );
    assert_eq!(written(codec), expected);
}

#[test]
fn reason_phrases_cannot_split() {
    let mut codec = codec(GET);
    codec.send_head(StatusCode::OK, Some("a\r\nX: y"), &HeaderMap::new(), BodyFraming::None);
    codec.finish();
    assert_eq!(written(codec), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn interim_answers() {
    let mut codec = codec(GET);
    codec.send_informational(StatusCode::CONTINUE, &HeaderMap::new());
    let mut hints = HeaderMap::new();
    hints.insert("link", "a".parse().unwrap());
    codec.send_informational(StatusCode::EARLY_HINTS, &hints);
    codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::None);
    codec.send_informational(StatusCode::CONTINUE, &HeaderMap::new());
    codec.finish();
    assert_eq!(
        written(codec),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    );
}

#[test]
fn switching_protocols() {
    let mut codec = codec("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    let mut headers = HeaderMap::new();
    headers.insert("connection", "Upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    codec.send_head(StatusCode::SWITCHING_PROTOCOLS, None, &headers, BodyFraming::None);
    codec.finish();
    assert!(codec.poll_flush(&mut context()).is_ready());
    assert!(!codec.can_keep_alive());
    let (io, leftover) = codec.into_parts();
    assert_eq!(&leftover[..], b"early");
    assert_eq!(
        String::from_utf8(io.written).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n"
    );
}

/// Nothing may follow an answer that is shorter or longer than it announced, or a request that was not read to its end.
#[test]
fn when_the_connection_is_not_kept() {
    for (sent, kept) in [("a", false), ("ab", true), ("abc", false)] {
        let mut codec = codec(GET);
        codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::Length(2));
        codec.send_frame(Frame::Data(Bytes::copy_from_slice(sent.as_bytes())));
        assert!(!codec.can_keep_alive(), "not finished");
        codec.finish();
        assert_eq!(codec.can_keep_alive(), kept, "{sent}");
        let next = codec.poll_head(&mut context());
        assert_eq!(next.is_pending(), kept);
    }
    let mut codec = codec("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na");
    codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::None);
    codec.finish();
    assert!(!codec.can_keep_alive());
    codec.io_mut().push(b"b");
    assert!(matches!(codec.poll_frame(&mut context()), Poll::Ready(Some(Ok(_)))));
    assert!(matches!(codec.poll_frame(&mut context()), Poll::Ready(Some(Ok(_)))));
    assert!(codec.can_keep_alive());
}

/// A head inside a response is dropped, and nothing follows the response.
#[test]
fn one_head_a_response() {
    let mut codec = codec(GET);
    codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::Length(2));
    codec.send_head(StatusCode::BAD_GATEWAY, None, &HeaderMap::new(), BodyFraming::None);
    codec.send_frame(Frame::Data(Bytes::from_static(b"ab")));
    codec.finish();
    assert!(!codec.can_keep_alive());
    assert_eq!(written(codec), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab");
}

/// The head after the one that was answered does not arrive in time.
#[test]
fn a_timeout_after_a_head_request() {
    let mut codec = codec(HEAD);
    codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::None);
    codec.finish();
    codec.io_mut().push(b"GET /sl");
    assert!(codec.poll_head(&mut context()).is_pending());
    assert!(codec.has_partial_head());
    codec.close_after_response();
    codec.send_head(StatusCode::REQUEST_TIMEOUT, None, &HeaderMap::new(), BodyFraming::Length(1));
    codec.send_frame(Frame::Data(Bytes::from_static(b"t")));
    codec.finish();
    let expected =
        "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 408 Request Timeout\r\ncontent-length: 1\r\nconnection: close\r\n\r\nt";
    assert_eq!(written(codec), expected);
}

#[test]
fn the_end_of_a_chunked_body_comes_with_its_data() {
    let mut all = codec("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET ");
    assert!(matches!(all.poll_frame(&mut context()), Poll::Ready(Some(Ok(Frame::Data(_))))));
    assert!(all.body_done());
    assert_eq!(&all.into_parts().1[..], b"GET ");
    let mut part = codec("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r");
    assert!(matches!(part.poll_frame(&mut context()), Poll::Ready(Some(Ok(Frame::Data(_))))));
    assert!(!part.body_done());
    part.io_mut().push(b"\n");
    assert!(matches!(part.poll_frame(&mut context()), Poll::Ready(None)));
    assert!(part.body_done());
}

#[test]
fn a_slow_reader_gets_backpressure() {
    let mut codec = codec(GET);
    codec.io_mut().room = 0;
    codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::Length(1 << 20));
    let piece = Bytes::from(vec![b'a'; 16 * 1024]);
    let mut sent = 0;
    while codec.poll_ready(&mut context()).is_ready() {
        codec.send_frame(Frame::Data(piece.clone()));
        sent += 1;
        assert!(sent < 10);
    }
    assert_eq!(sent, 4);
    codec.io_mut().room = 1000;
    assert!(codec.poll_ready(&mut context()).is_ready(), "below the mark again");
    assert!(codec.poll_flush(&mut context()).is_pending());
}

/// While an upstream is asked: pipelined bytes are kept, a half-close is no end, a reset is.
#[test]
fn watching_the_client() {
    let mut waiting = codec(GET);
    waiting.io_mut().push(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(waiting.poll_closed(&mut context()).is_pending());
    waiting.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::None);
    waiting.finish();
    let Poll::Ready(Ok(Some(second))) = waiting.poll_head(&mut context()) else { panic!() };
    assert_eq!(second.path_and_query(), "/2");

    for (end, gone) in [(End::Close, false), (End::Reset, true)] {
        let mut codec = ServerCodec::new(Script::new(vec![GET.into()], end), Limits::default());
        assert!(matches!(codec.poll_head(&mut context()), Poll::Ready(Ok(Some(_)))));
        assert_eq!(codec.poll_closed(&mut context()).is_ready(), gone);
        if end == End::Close {
            codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::None);
            codec.finish();
            assert!(codec.poll_flush(&mut context()).is_ready());
            assert!(matches!(codec.poll_head(&mut context()), Poll::Ready(Ok(None))));
            assert!(codec.into_parts().0.written.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
    }
}

#[test]
fn reading_ahead_is_bounded() {
    let mut codec = codec(GET);
    for _ in 0..100 {
        codec.io_mut().push(&[b'a'; 4096]);
    }
    assert!(codec.poll_closed(&mut context()).is_pending());
    assert!(codec.into_parts().1.len() <= 32 * 1024);
}

/// 8 MiB each way at once through small pipes, with one task that polls both directions, as the engine does.
#[tokio::test]
async fn both_directions_in_one_task() {
    const SIZE: usize = 8 << 20;
    let (mut client, server) = duplex(3000);
    let echo = tokio::spawn(async move {
        let mut codec = ServerCodec::new(server, Limits::default());
        let head = codec.read_head().await.unwrap().unwrap();
        assert_eq!((head.method, head.body), (Method::POST, BodyLength::Chunked));
        codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::Length(SIZE as u64));
        poll_fn(|cx| {
            loop {
                if codec.poll_ready(cx)?.is_pending() {
                    return Poll::Pending;
                }
                match codec.poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => codec.send_frame(frame),
                    Poll::Ready(Some(Err(error))) => panic!("{error}"),
                    Poll::Ready(None) => break,
                    Poll::Pending => {
                        assert!(!matches!(codec.poll_flush(cx), Poll::Ready(Err(_))));
                        return Poll::Pending;
                    }
                }
            }
            codec.finish();
            Poll::Ready(std::io::Result::Ok(()))
        })
        .await
        .unwrap();
        poll_fn(|cx| codec.poll_flush(cx)).await.unwrap();
        assert!(codec.read_head().await.unwrap().is_none());
    });
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let send = async {
        writer.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        let mut left = SIZE;
        let data = vec![b'z'; 70_001];
        while left > 0 {
            let size = left.min(data.len());
            writer.write_all(format!("{size:X}\r\n").as_bytes()).await.unwrap();
            writer.write_all(&data[..size]).await.unwrap();
            writer.write_all(b"\r\n").await.unwrap();
            left -= size;
        }
        writer.write_all(b"0\r\n\r\n").await.unwrap();
        // Half-close: the answer still comes.
        writer.shutdown().await.unwrap();
    };
    let receive = async {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all
    };
    let ((), all) = tokio::join!(send, receive);
    echo.await.unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
    assert!(all.starts_with(head.as_bytes()));
    assert_eq!(all.len(), head.len() + SIZE);
    assert!(all[head.len()..].iter().all(|byte| *byte == b'z'));
}
