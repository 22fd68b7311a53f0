//! Every row of what a backend may send (as observed beside Envoy, HAProxy and nginx), whole, byte by byte and cut everywhere.

use std::task::Poll;

use http::{HeaderMap, Method, StatusCode};

use super::testing::*;
use super::*;

enum Want {
    /// Status, body; and whether the connection can be used again.
    Yes(u16, &'static str, bool),
    /// 502 UPE before the response was started.
    No,
    /// 503 UC.
    Gone,
    /// The head passes, the body is cut after this much of it.
    Cut(u16, &'static str),
}

use Want::{Cut, Gone, No, Yes};

struct Row {
    method: Method,
    input: Vec<u8>,
    end: End,
    want: Want,
}

fn row(input: impl AsRef<[u8]>, end: End, want: Want) -> Row {
    Row { method: Method::GET, input: input.as_ref().to_vec(), end, want }
}

fn silent(input: impl AsRef<[u8]>, want: Want) -> Row {
    row(input, End::Silence, want)
}

fn head(input: &str, want: Want) -> Row {
    Row { method: Method::HEAD, input: input.into(), end: End::Silence, want }
}

fn framing_rows() -> Vec<Row> {
    vec![
        silent("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", Yes(200, "ab", true)),
        silent("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Yes(200, "", true)),
        silent("HTTP/1.1 200 OK\r\nContent-Length: 002\r\n\r\nab", Yes(200, "ab", true)),
        row("HTTP/1.1 200 OK\r\n\r\nabc", End::Close, Yes(200, "abc", false)),
        row("HTTP/1.0 200 OK\r\n\r\nabc", End::Close, Yes(200, "abc", false)),
        row("HTTP/1.1 200 OK\r\n\r\nabc", End::Reset, Cut(200, "abc")),
        silent("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", Yes(200, "ab", false)),
        silent("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab", Yes(200, "ab", true)),
        silent("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", Yes(200, "ab", false)),
        silent(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            Yes(200, "abc", true),
        ),
        silent(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n",
            Yes(200, "ab", true),
        ),
        head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Yes(200, "", true)),
        head("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", Yes(200, "", true)),
        head("HTTP/1.1 200 OK\r\n\r\n", Yes(200, "", true)),
        silent("HTTP/1.1 204 No Content\r\n\r\n", Yes(204, "", true)),
        silent("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Yes(204, "", true)),
        silent("HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nab", Yes(205, "ab", true)),
        silent("HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n", Yes(304, "", true)),
        silent("HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\nabc", Yes(304, "", false)),
        silent("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab", No),
        silent("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", No),
        silent("HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n", No),
        silent("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", No),
        // Bytes behind the body are not the next response.
        silent("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n", Yes(200, "ab", false)),
    ]
}

fn status_line_rows() -> Vec<Row> {
    let mut rows = vec![
        silent("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Yes(200, "", true)),
        silent("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Yes(200, "", true)),
        silent("HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", Yes(200, "", true)),
        silent(b"HTTP/1.1 200 \xff\r\nContent-Length: 0\r\n\r\n", Yes(200, "", true)),
        silent("HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n", Yes(600, "", true)),
        silent("HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", Yes(999, "", true)),
        silent(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "a: b\r\n".repeat(99)), Yes(200, "", true)),
        // Refused without waiting for a line end.
        silent("garbage", No),
        silent("\r\nHTTP/1.1 200 OK\r\n\r\n", No),
    ];
    let refused = [
        "ICY 200 OK\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/0.9 200 OK\r\n",
        "http/1.1 200 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 099 x\r\n",
        "HTTP/1.1 20 x\r\n",
        "HTTP/1.1 2000 x\r\n",
        "HTTP/1.1 -20 x\r\n",
        "HTTP/1.1 200OK\r\n",
        "HTTP/1.1 200 a\0b\r\n",
        "HTTP/1.1 200 OK\r\n folded\r\n",
    ];
    rows.extend(refused.iter().map(|line| silent(format!("{line}Content-Length: 0\r\n\r\n"), No)));
    rows
}

fn field_rows() -> Vec<Row> {
    let refused = [
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length:\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "A: b\0c\r\n",
        "a b: c\r\n",
        "a : c\r\n",
        ": c\r\n",
        "foo\r\n",
        "A: b\r\n c\r\n",
        "A: b\rc\r\n",
        "A: b\r\r\n",
        "A: b\n",
        "\n",
    ];
    let mut rows: Vec<Row> =
        refused.iter().map(|lines| silent(format!("HTTP/1.1 200 OK\r\n{lines}\r\nab"), No)).collect();
    rows.push(silent("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", No));
    rows.push(silent("HTTP/1.1 200 OK\nContent-Length: 0\n\n", No));
    rows.push(silent(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101)), No));
    rows.push(silent(format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(61 * 1024)), No));
    rows.push(silent(format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(61 * 1024)), No));
    rows
}

fn ending_rows() -> Vec<Row> {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
    vec![
        row("", End::Close, Gone),
        row("", End::Reset, Gone),
        row("HTTP/1.1 200 OK\r\nConte", End::Close, No),
        row("HTTP/1.1 200 OK\r\nConte", End::Reset, No),
        row("H", End::Close, No),
        row(length, End::Close, Cut(200, "ab")),
        row(length, End::Reset, Cut(200, "ab")),
        row(chunked, End::Close, Cut(200, "ab")),
        row(chunked, End::Reset, Cut(200, "ab")),
        silent(format!("{chunked}zz\r\n"), Cut(200, "ab")),
        silent(format!("{chunked}2\r\nabc"), Cut(200, "abab")),
        silent(format!("{chunked}0\r\nfoo\r\n\r\n"), Cut(200, "ab")),
    ]
}

fn rows() -> Vec<Row> {
    [framing_rows(), status_line_rows(), field_rows(), ending_rows()].into_iter().flatten().collect()
}

fn check(row: &Row, pieces: Vec<Vec<u8>>, how: &str) {
    let (events, reusable) = ask(row.method.clone(), false, pieces, row.end);
    let shown = format!("{how}: {:?}\n{events:?}", String::from_utf8_lossy(&row.input[..row.input.len().min(300)]));
    let body = events.iter().find_map(|event| if let Event::Body(body) = event { Some(body.as_slice()) } else { None });
    let status = match events.first() {
        Some(Event::Response { status, .. } | Event::Refused(status, _)) => *status,
        _ => 0,
    };
    match row.want {
        Yes(wanted, wanted_body, wanted_reusable) => {
            assert!(matches!(events.first(), Some(Event::Response { .. })), "{shown}");
            assert_eq!((status, body.unwrap_or_default()), (wanted, wanted_body.as_bytes()), "{shown}");
            assert_eq!(reusable, wanted_reusable, "{shown}");
            let cut = events.iter().any(|event| matches!(event, Event::BodyRefused(..) | Event::Waiting));
            assert!(!cut, "{shown}");
        }
        No => assert!(matches!(events.as_slice(), [Event::Refused(502, _)]) && !reusable, "{shown}"),
        Gone => assert!(matches!(events.as_slice(), [Event::Refused(503, _)]) && !reusable, "{shown}"),
        Cut(wanted, wanted_body) => {
            assert_eq!((status, body.unwrap_or_default()), (wanted, wanted_body.as_bytes()), "{shown}");
            assert!(matches!(events.last(), Some(Event::BodyRefused(..))), "{shown}");
            assert!(!reusable, "{shown}");
        }
    }
}

#[test]
fn every_row_whole() {
    for row in &rows() {
        check(row, vec![row.input.clone()], "whole");
    }
}

#[test]
fn every_row_byte_by_byte() {
    // A stray byte that has not arrived yet is found by `poll_idle_closed` instead.
    for row in rows().iter().filter(|row| !matches!(row.want, Yes(_, _, false))) {
        check(row, one_by_one(&row.input), "byte by byte");
    }
}

#[test]
fn every_row_cut_everywhere() {
    for row in rows().iter().filter(|row| row.input.len() < 1000 && !matches!(row.want, Yes(_, _, false))) {
        for at in 0..=row.input.len() {
            check(row, cut(&row.input, at), &format!("cut at {at}"));
        }
    }
}

#[test]
fn interim_responses_one_by_one() {
    let input = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    for at in 0..=input.len() {
        let (events, reusable) = ask(Method::GET, false, cut(input, at), End::Silence);
        let statuses: Vec<u16> = events
            .iter()
            .filter_map(|e| if let Event::Response { status, .. } = e { Some(*status) } else { None })
            .collect();
        assert_eq!(statuses, [100, 102, 103, 200]);
        assert_eq!(events.last(), Some(&Event::Body(b"a".to_vec())));
        assert!(reusable);
    }
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(33);
    let (events, _) = ask(Method::GET, false, vec![flood.into()], End::Silence);
    assert!(matches!(events.last(), Some(Event::Refused(502, _))));
    let (events, _) = ask(Method::GET, false, vec![b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()], End::Close);
    assert!(matches!(events.last(), Some(Event::Refused(502, _))));
}

#[test]
fn upgrade_keeps_the_bytes_behind_it() {
    let input = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    let mut codec = ClientCodec::new(Script::new(vec![input.to_vec()], End::Silence), Limits::default());
    let mut headers = HeaderMap::new();
    headers.insert("connection", "keep-alive, Upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    codec.send_head(&Method::GET, "/chat?a", &headers, BodyFraming::None);
    codec.finish();
    assert!(codec.poll_flush(&mut context()).is_ready());
    let Poll::Ready(Ok(head)) = codec.poll_head(&mut context()) else { panic!() };
    assert_eq!(head.body, ResponseBody::Upgraded);
    assert!(!head.is_informational());
    assert!(!codec.reusable());
    let (io, leftover) = codec.into_parts();
    assert_eq!(&leftover[..], b"hello");
    assert_eq!(
        String::from_utf8(io.written).unwrap(),
        "GET /chat?a HTTP/1.1\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n\r\n"
    );
}

/// An answer that comes before the request was sent: readable, and the connection is not used again unless the
/// request is completed.
#[test]
fn early_response() {
    let input = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n";
    let mut codec = ClientCodec::new(Script::new(vec![input.to_vec()], End::Silence), Limits::default());
    codec.send_head(&Method::POST, "/", &HeaderMap::new(), BodyFraming::Length(10));
    codec.send_frame(Frame::Data(Bytes::from_static(b"12345")));
    assert!(codec.poll_flush(&mut context()).is_ready());
    let Poll::Ready(Ok(head)) = codec.poll_head(&mut context()) else { panic!() };
    assert_eq!(head.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(codec.body_done() && !codec.request_done() && !codec.reusable());
    codec.send_frame(Frame::Data(Bytes::from_static(b"67890")));
    codec.finish();
    assert!(!codec.reusable(), "not flushed");
    assert!(codec.poll_flush(&mut context()).is_ready());
    assert!(codec.reusable());
}

#[test]
fn a_short_request_spoils_the_connection() {
    let input = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (sent, reusable) in [("1234", false), ("12345", true), ("123456", false)] {
        let mut codec = ClientCodec::new(Script::new(vec![input.to_vec()], End::Silence), Limits::default());
        codec.send_head(&Method::POST, "/", &HeaderMap::new(), BodyFraming::Length(5));
        codec.send_frame(Frame::Data(Bytes::copy_from_slice(sent.as_bytes())));
        codec.finish();
        assert!(codec.poll_flush(&mut context()).is_ready());
        assert!(matches!(codec.poll_head(&mut context()), Poll::Ready(Ok(_))));
        assert_eq!(codec.reusable(), reusable, "{sent}");
    }
}

#[test]
fn idle_connections_notice_bytes_and_ends() {
    for (pieces, end, closed) in [
        (vec![], End::Silence, false),
        (vec![], End::Close, true),
        (vec![], End::Reset, true),
        (vec![b"HTTP/1.1 408 Request Timeout\r\n\r\n".to_vec()], End::Silence, true),
    ] {
        let mut codec = ClientCodec::new(Script::new(pieces, end), Limits::default());
        assert!(codec.reusable());
        assert_eq!(codec.poll_idle_closed(&mut context()).is_ready(), closed);
        assert_eq!(codec.reusable(), !closed);
    }
}

#[test]
fn a_second_request_on_the_same_connection() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    let mut codec = ClientCodec::new(Script::new(vec![], End::Silence), Limits::default());
    for round in 0..3 {
        codec.send_head(&Method::GET, "/", &HeaderMap::new(), BodyFraming::None);
        codec.finish();
        assert!(codec.poll_flush(&mut context()).is_ready());
        assert!(codec.poll_head(&mut context()).is_pending());
        codec.io_mut().push(answer);
        assert!(matches!(codec.poll_head(&mut context()), Poll::Ready(Ok(_))), "{round}");
        assert!(!codec.reusable());
        assert!(matches!(codec.poll_frame(&mut context()), Poll::Ready(Some(Ok(Frame::Data(_))))));
        assert!(codec.body_done());
        assert!(matches!(codec.poll_frame(&mut context()), Poll::Ready(None)));
        assert!(codec.reusable());
        codec.release_buffers();
    }
}

/// A target that would split the request never reaches the wire.
#[test]
fn bad_targets_are_not_sent() {
    for target in ["", "/a b", "/a\r\nX: y", "/\0", "/\x7f"] {
        let mut codec = ClientCodec::new(Script::new(vec![], End::Silence), Limits::default());
        codec.send_head(&Method::GET, target, &HeaderMap::new(), BodyFraming::None);
        codec.finish();
        assert!(codec.poll_flush(&mut context()).is_ready());
        assert!(matches!(codec.poll_head(&mut context()), Poll::Ready(Err(_))));
        assert!(!codec.reusable());
        assert!(codec.into_parts().0.written.is_empty());
    }
}
