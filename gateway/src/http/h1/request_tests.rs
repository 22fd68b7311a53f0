//! Every row of the table of malformed and ambiguous requests (what Envoy, HAProxy and nginx let through or disagree on), whole, byte by byte and cut
//! everywhere.

use std::task::Poll;

use http::HeaderMap;

use super::testing::*;
use super::*;

enum Want {
    /// Refused with this status and these details, in the head or in the body.
    No(u16, &'static str),
    /// Served: request line, host, body.
    Yes(&'static str, &'static str, &'static [u8]),
    /// Not complete.
    Wait,
}

use Want::{No, Wait, Yes};

const CODEC: &str = "http1.codec_error";
const CHARS: &str = "http1.invalid_characters";
const TE: &str = "http1.invalid_transfer_encoding";
const BOTH: &str = "http1.content_length_and_chunked_not_allowed";
const HOST: &str = "http.invalid_authority";
const VERSION: &str = "http1.unsupported_version";

struct Row {
    row: u32,
    input: Vec<u8>,
    want: Want,
}

fn row(row: u32, input: impl AsRef<[u8]>, want: Want) -> Row {
    Row { row, input: input.as_ref().to_vec(), want }
}

/// A POST whose header lines (each with its CRLF) and body are given.
fn post(row_number: u32, lines: &str, body: &str, want: Want) -> Row {
    row(row_number, format!("POST /p HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}"), want)
}

/// A chunked POST.
fn chunked(row_number: u32, body: &str, want: Want) -> Row {
    post(row_number, "Transfer-Encoding: chunked\r\n", body, want)
}

/// A GET with other header lines.
fn get(row_number: u32, lines: &str, want: Want) -> Row {
    row(row_number, format!("GET /p HTTP/1.1\r\nHost: x\r\n{lines}\r\n"), want)
}

/// A request line alone, with a Host.
fn line(row_number: u32, line: &str, want: Want) -> Row {
    row(row_number, format!("{line}\r\nHost: x\r\n\r\n"), want)
}

fn refused_by_all() -> Vec<Row> {
    let mut rows = vec![
        post(1, "Content-Length: 2\r\nContent-Length: 3\r\n", "abc", No(400, CODEC)),
        post(1, "Transfer-Encoding : chunked\r\n", "0\r\n\r\n", No(400, CHARS)),
        chunked(1, "2\r\nab0\r\n\r\n", No(400, CODEC)),
        chunked(1, "2\rab\r0\r\r", No(400, CODEC)),
        chunked(1, "2;a\rb\r\nab\r\n0\r\n\r\n", No(400, CODEC)),
        get(1, "na me: b\r\n", No(400, CHARS)),
        get(1, ": b\r\n", No(400, CHARS)),
        get(1, "a\0b: c\r\n", No(400, CHARS)),
        line(1, "GET /a\0b HTTP/1.1", No(400, CODEC)),
        row(1, "GET / HTTP/1.1\r\n folded\r\nHost: x\r\n\r\n", No(400, CODEC)),
        line(1, " GET / HTTP/1.1", No(400, CODEC)),
        line(1, "GET /a b HTTP/1.1", No(400, CODEC)),
        line(1, "G(T / HTTP/1.1", No(400, CODEC)),
        line(1, "GET p HTTP/1.1", No(400, CODEC)),
        line(1, "GET  HTTP/1.1", No(400, CODEC)),
        line(1, "GET ?a=b HTTP/1.1", No(400, CODEC)),
        line(1, "GET /\x01 HTTP/1.1", No(400, CODEC)),
        row(1, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", No(400, CODEC)),
    ];
    for length in ["2, 3", "+2", "-2", "0x2", "2 3", ""] {
        rows.push(post(1, &format!("Content-Length: {length}\r\n"), "ab", No(400, CODEC)));
    }
    for size in ["ZZ", "0x2", "+2", "-2", " 2", "", "FFFFFFFFFFFFFFFFF"] {
        rows.push(chunked(1, &format!("{size}\r\nab\r\n0\r\n\r\n"), No(400, CODEC)));
    }
    rows
}

fn served_by_all() -> Vec<Row> {
    vec![
        chunked(2, "2;a=b\r\nab\r\n0\r\n\r\n", Yes("POST /p", "x", b"ab")),
        chunked(2, "2;a=\"b;c\"\r\nab\r\n0;z\r\n\r\n", Yes("POST /p", "x", b"ab")),
        chunked(2, "0000000000000002\r\nab\r\n0\r\n\r\n", Yes("POST /p", "x", b"ab")),
        // More than 16 digits: ours alone.
        chunked(2, "000000000000000000002\r\nab\r\n0\r\n\r\n", No(400, CODEC)),
        chunked(2, "2 \r\nab\r\n0\r\n\r\n", Yes("POST /p", "x", b"ab")),
        row(2, "GET /p HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", Yes("GET /p", "x", b"ab")),
        row(2, "HEAD /p HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", Yes("HEAD /p", "x", b"ab")),
        row(
            2,
            "GET /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            Yes("GET /p", "x", b"a"),
        ),
        row(2, "\r\nGET /p HTTP/1.1\r\nHost: x\r\n\r\n", Yes("GET /p", "x", b"")),
        row(2, "\r\n\r\nGET /p HTTP/1.1\r\nHost: x\r\n\r\n", Yes("GET /p", "x", b"")),
        row(2, "\r\n\r\n\r\nGET /p HTTP/1.1\r\nHost: x\r\n\r\n", No(400, CODEC)),
        row(2, b"GET /p HTTP/1.1\r\nHost: x\r\nA: \xc3\xa4\xff\r\n\r\n", Yes("GET /p", "x", b"")),
    ]
}

fn framing_rows() -> Vec<Row> {
    let long = "a".repeat(4000);
    let many: String = (0..50).map(|_| format!("1;{long}\r\na\r\n")).collect();
    let mut rows = vec![
        post(3, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", No(400, BOTH)),
        post(3, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n", No(400, BOTH)),
        post(4, "Content-Length: 2\r\nContent-Length: 2\r\n", "ab", No(400, CODEC)),
        post(4, "Content-Length: 2, 2\r\n", "ab", No(400, CODEC)),
        post(5, "Content-Length: 2 \t \r\n", "ab", Yes("POST /p", "x", b"ab")),
        post(5, "Content-Length: 002\r\n", "ab", Yes("POST /p", "x", b"ab")),
        post(6, "Content-Length: 18446744073709551616\r\n", "ab", No(400, CODEC)),
        post(6, "Content-Length: 9223372036854775808\r\n", "ab", No(400, CODEC)),
        post(6, "Content-Length: 9223372036854775807\r\n", "", Wait),
        post(7, "Content-Length:\r\n 2\r\n", "ab", No(400, CODEC)),
        post(7, "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n", No(400, CODEC)),
        post(8, "Transfer-Encoding: CHUNKED\r\n", "1\r\na\r\n0\r\n\r\n", Yes("POST /p", "x", b"a")),
        post(8, "Transfer-Encoding: \tchunked\t \r\n", "1\r\na\r\n0\r\n\r\n", Yes("POST /p", "x", b"a")),
        post(11, "Transfer-Encoding: identity\r\nContent-Length: 2\r\n", "ab", No(400, BOTH)),
        post(11, "Transfer-Encoding:\r\nContent-Length: 2\r\n", "ab", No(400, BOTH)),
        post(12, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", No(400, TE)),
        post(12, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n", No(400, TE)),
        post(13, "Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n", No(400, CHARS)),
        post(14, "Transfer_Encoding: chunked\r\nContent-Length: 2\r\n", "ab", Yes("POST /p", "x", b"ab")),
        chunked(15, &format!("1;{}\r\na\r\n0\r\n\r\n", "a".repeat(20_000)), No(400, CODEC)),
        chunked(15, &many, No(400, CODEC)),
        chunked(16, "2;a\nb\r\nab\r\n0\r\n\r\n", No(400, CODEC)),
        chunked(16, "2\nab\n0\n\n", No(400, CODEC)),
        chunked(17, "2\r\nab\n0\r\n\r\n", No(400, CODEC)),
        chunked(17, "2\r\nab\r\n0\r\n\n", No(400, CODEC)),
        chunked(18, "2 x\r\nab\r\n0\r\n\r\n", No(400, CODEC)),
        chunked(19, "FFFFFFFFFFFFFFFF\r\nab", No(400, CODEC)),
        chunked(19, "8000000000000000\r\nab", No(400, CODEC)),
        chunked(
            20,
            "1\r\na\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: y\r\nAuthorization: a\r\nX-Forwarded-For: b\r\n\r\n",
            Yes("POST /p", "x", b"a"),
        ),
        chunked(21, "1\r\na\r\n0\r\nfoo\r\n\r\n", No(400, CODEC)),
    ];
    for coding in ["xchunked", "identity", "\"chunked\"", "chunked;p=1", "chunked, gzip", "chunked, chunked"] {
        rows.push(post(9, &format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n", No(501, TE)));
    }
    for coding in ["gzip, chunked", ",chunked"] {
        rows.push(post(10, &format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n", No(501, TE)));
    }
    rows
}

fn line_rows() -> Vec<Row> {
    vec![
        row(22, "GET /p HTTP/1.1\nHost: x\n\n", No(400, CODEC)),
        row(22, "GET /p HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", No(400, CODEC)),
        row(22, "GET /p HTTP/1.1\r\nHost: x\r\n\n", No(400, CODEC)),
        get(23, "A: b\rC: d\r\n", No(400, CODEC)),
        row(24, "GET /p HTTP/1.1\rHost: x\r\r", No(400, CODEC)),
        get(24, "A: b\r\r\n", No(400, CODEC)),
        get(25, "A: b\0c\r\n", No(400, CHARS)),
        get(25, "A: b\x01c\r\n", No(400, CHARS)),
        get(25, "A: b\x7fc\r\n", No(400, CHARS)),
        get(26, "a(b: c\r\n", No(400, CHARS)),
        row(26, b"GET /p HTTP/1.1\r\nHost: x\r\na\xe4b: c\r\n\r\n", No(400, CHARS)),
        get(27, "foo\r\n", No(400, CODEC)),
        get(28, "A: b\r\n c\r\n", No(400, CODEC)),
        get(28, "A: b\r\n\tc\r\n", No(400, CODEC)),
        line(29, "GET\t/p\tHTTP/1.1", No(400, CODEC)),
        line(29, "GET  /p HTTP/1.1", No(400, CODEC)),
        line(29, "GET /p  HTTP/1.1", No(400, CODEC)),
        line(29, "GET /p HTTP/1.1 ", No(400, CODEC)),
        line(30, "get /p HTTP/1.1", Yes("get /p", "x", b"")),
        line(30, "FOO /p HTTP/1.1", Yes("FOO /p", "x", b"")),
        line(30, "M-SEARCH /p HTTP/1.1", Yes("M-SEARCH /p", "x", b"")),
        line(30, &format!("{} /p HTTP/1.1", "A".repeat(200)), No(400, CODEC)),
        line(30, &format!("{} /p HTTP/1.1", "A".repeat(33)), No(400, CODEC)),
        line(31, "GET /p HTTP/1.2", No(505, VERSION)),
        line(31, "GET /p HTTP/2.0", No(505, VERSION)),
        line(31, "GET /p HTTP/3.0", No(505, VERSION)),
        line(31, "GET /p HTTP/0.9", No(505, VERSION)),
        line(32, "GET /p HTTP/1.01", No(400, CODEC)),
        line(32, "GET /p http/1.1", No(400, CODEC)),
        row(33, "GET /p\r\n\r\n", No(400, CODEC)),
        line(34, "GET /p HTTP/1.0", No(426, "low_version")),
        row(34, "GET /p HTTP/1.0\r\n\r\n", No(426, "low_version")),
        row(34, "GET /p HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", No(426, "low_version")),
        row(34, "POST /p HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", No(400, TE)),
    ]
}

fn target_rows() -> Vec<Row> {
    let mut rows = vec![
        row(35, "GET /p HTTP/1.1\r\n\r\n", No(400, "missing_host_header")),
        get(36, "Host: x\r\n", No(400, HOST)),
        get(36, "Host: y\r\n", No(400, HOST)),
        line(38, "GET http://a/b?c HTTP/1.1", Yes("GET /b?c", "a", b"")),
        line(38, "GET http://a:80 HTTP/1.1", Yes("GET /", "a:80", b"")),
        line(38, "GET HTTP://a?q HTTP/1.1", Yes("GET /?q", "a", b"")),
        row(38, "GET http://a/b HTTP/1.1\r\n\r\n", No(400, "missing_host_header")),
        line(39, "GET https://a/b HTTP/1.1", Yes("GET /b", "a", b"")),
        line(39, "GET ftp://a/b HTTP/1.1", No(400, CODEC)),
        line(39, "GET http://u:p@a/b HTTP/1.1", No(400, HOST)),
        line(39, "GET http:///b HTTP/1.1", No(400, HOST)),
        line(40, "OPTIONS * HTTP/1.1", Yes("OPTIONS *", "x", b"")),
        line(40, "GET * HTTP/1.1", No(400, CODEC)),
        line(40, "CONNECT a:443 HTTP/1.1", Yes("CONNECT ", "a:443", b"")),
        line(40, "CONNECT a HTTP/1.1", No(400, CODEC)),
        line(40, "CONNECT /p HTTP/1.1", No(400, CODEC)),
        line(40, "CONNECT [::1] HTTP/1.1", No(400, CODEC)),
        row(41, b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", No(400, CODEC)),
        line(42, "TRACE /p HTTP/1.1", Yes("TRACE /p", "x", b"")),
        get(
            44,
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n",
            Yes("GET /p", "x", b""),
        ),
        get(45, "Expect: foo\r\n", Yes("GET /p", "x", b"")),
        row(46, "GET /p HTTP/1.1\r\nHos", Wait),
    ];
    for host in [
        "",
        "x y",
        "x/y?z",
        "u:p@x",
        "x:99999",
        "x:y",
        "u@x",
        ":80",
        "[::1",
        "[]",
        "[g]",
        "::1",
        "x\"",
        "a<b",
        "x:",
        "x:0",
        "x,y",
        "%2",
        "[1.2.3.4]",
    ] {
        rows.push(row(37, format!("GET /p HTTP/1.1\r\nHost: {host}\r\n\r\n"), No(400, HOST)));
    }
    for host in ["A.example.com.", "x:9", "a..b", "_", "%2e", "[::1]", "[::1]:80", "x:65535"] {
        let mut accepted = row(37, format!("GET /p HTTP/1.1\r\nHost: {host}\r\n\r\n"), Wait);
        accepted.want = Yes("GET /p", host, b"");
        rows.push(accepted);
    }
    rows
}

fn rows() -> Vec<Row> {
    [refused_by_all(), served_by_all(), framing_rows(), line_rows(), target_rows()].into_iter().flatten().collect()
}

fn check(row: &Row, events: &[Event], how: &str) {
    let text = String::from_utf8_lossy(&row.input[..row.input.len().min(300)]).into_owned();
    let shown = format!("row {} {how}: {text:?}\n{events:?}", row.row);
    match &row.want {
        No(status, details) => {
            let (found, found_details) = match events.last() {
                Some(Event::Refused(status, details) | Event::BodyRefused(status, details)) => {
                    (*status, details.as_str())
                }
                other => panic!("{other:?} in {shown}"),
            };
            assert_eq!((found, found_details), (*status, *details), "{shown}");
        }
        Yes(line, host, body) => {
            let Some(Event::Request { line: found, host: found_host, .. }) = events.first() else { panic!("{shown}") };
            assert_eq!((found.as_str(), found_host.as_str()), (*line, *host), "{shown}");
            let found: &[u8] = match events.get(1) {
                Some(Event::Body(body)) => body,
                _ => b"",
            };
            assert_eq!(found, *body, "{shown}");
            assert!(!events.iter().any(|event| matches!(event, Event::Trailers(_))), "{shown}");
            assert_eq!(events.last(), Some(&Event::Waiting), "{shown}");
        }
        Wait => assert_eq!(events.last(), Some(&Event::Waiting), "{shown}"),
    }
}

#[test]
fn every_row_whole() {
    let rows = rows();
    for row in &rows {
        check(row, &serve_once(&row.input), "whole");
    }
    let missing: Vec<u32> = (1..=46).filter(|number| !rows.iter().any(|row| row.row == *number)).collect();
    assert_eq!(missing, [43], "row 43 has a test of its own");
}

#[test]
fn every_row_byte_by_byte() {
    for row in &rows() {
        check(row, &serve(one_by_one(&row.input), End::Silence, Limits::default()).0, "byte by byte");
    }
}

#[test]
fn every_row_cut_everywhere() {
    for row in rows().iter().filter(|row| row.input.len() < 1000) {
        for at in 0..=row.input.len() {
            let events = serve(cut(&row.input, at), End::Silence, Limits::default()).0;
            check(row, &events, &format!("cut at {at}"));
        }
    }
}

/// Every refusal closes, and says so.
#[test]
fn refusals_close() {
    for row in rows().iter().filter(|row| matches!(row.want, No(..))) {
        let mut codec = ServerCodec::new(Script::new(vec![row.input.clone()], End::Silence), Limits::default());
        let Poll::Ready(Err(error)) = codec.poll_head(&mut context()) else { continue };
        let status = error.status().unwrap();
        codec.send_head(status, None, &HeaderMap::new(), BodyFraming::None);
        codec.finish();
        assert!(codec.poll_flush(&mut context()).is_ready());
        assert!(!codec.can_keep_alive());
        assert!(matches!(codec.poll_head(&mut context()), Poll::Ready(Ok(None))));
        let written = String::from_utf8(codec.into_parts().0.written).unwrap();
        assert!(written.starts_with(&format!("HTTP/1.1 {}", status.as_str())), "{written}");
        assert!(written.contains("\r\nconnection: close\r\n"), "{written}");
    }
}

#[test]
fn canonical_framing_headers() {
    let headers = |lines: &str, body: &str| {
        let events = serve_once(format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}").as_bytes());
        let Some(Event::Request { headers, .. }) = events.first() else { panic!("{events:?}") };
        headers.clone()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    assert!(headers("Content-Length: 002\r\n", "ab").contains(&pair("content-length", "2")));
    assert!(headers("Transfer-Encoding: ChunkeD\r\n", "0\r\n\r\n").contains(&pair("transfer-encoding", "chunked")));
    // Row 14: the look-alikes are gone, other underscores stay.
    let kept = headers("Transfer_Encoding: chunked\r\nContent_Length: 7\r\nX_Y: z\r\nContent-Length: 2\r\n", "ab");
    assert_eq!(kept, [pair("host", "x"), pair("x_y", "z"), pair("content-length", "2")]);
}

/// Row 38: what is routed and what is forwarded are the same host.
#[test]
fn the_host_of_an_absolute_target_wins() {
    let events = serve_once(b"GET http://a.example:81/b HTTP/1.1\r\nHost: other\r\n\r\n");
    let Some(Event::Request { headers, host, .. }) = events.first() else { panic!("{events:?}") };
    assert_eq!(host, "a.example:81");
    assert_eq!(headers.as_slice(), [("host".to_owned(), b"a.example:81".to_vec())]);
}

#[test]
fn pipelined_requests_one_at_a_time() {
    let input = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: x\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\n";
    for at in 0..=input.len() {
        let (events, written) = serve(cut(input, at), End::Close, Limits::default());
        let lines: Vec<&str> = events
            .iter()
            .filter_map(|e| if let Event::Request { line, .. } = e { Some(line.as_str()) } else { None })
            .collect();
        assert_eq!(lines, ["POST /1", "GET /2", "GET /3"]);
        assert_eq!(events.last(), Some(&Event::Closed));
        assert_eq!(String::from_utf8(written).unwrap().matches("HTTP/1.1 200 OK\r\n").count(), 3);
    }
}

/// Row 2: what follows a request with `Connection: close` is ignored.
#[test]
fn nothing_after_connection_close() {
    let events =
        serve_once(b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: a, CLOSE\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(events.len(), 2);
    assert_eq!(events.last(), Some(&Event::Closed));
}

/// Row 43: `abc` behind a GET waits for the rest of a request line.
#[test]
fn bytes_behind_a_request_wait() {
    let events = serve_once(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nabc");
    assert!(matches!(events.as_slice(), [Event::Request { .. }, Event::Waiting]), "{events:?}");
}

#[test]
fn partial_head_is_visible() {
    for (input, partial) in [("", false), ("\r\n", false), ("G", true), ("GET / HTTP/1.1\r\nHost: x\r\n", true)] {
        let script = Script::new(vec![input.into()], End::Silence);
        let mut codec = ServerCodec::new(script, Limits::default());
        assert!(codec.poll_head(&mut context()).is_pending());
        assert_eq!(codec.has_partial_head(), partial, "{input:?}");
    }
}

#[test]
fn ends_between_and_inside_heads() {
    let run = |input: &[u8], end| serve(vec![input.to_vec()], end, Limits::default()).0;
    assert_eq!(run(b"", End::Close), [Event::Closed]);
    assert_eq!(run(b"", End::Reset), [Event::Closed]);
    assert_eq!(run(b"GET / HT", End::Close), [Event::Refused(400, CODEC.into())]);
    assert_eq!(run(b"GET / HT", End::Reset), [Event::Refused(0, "downstream_remote_disconnect".into())]);
    let cut_body = run(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", End::Close);
    assert_eq!(cut_body.last(), Some(&Event::BodyRefused(0, "downstream_remote_disconnect".into())));
}

#[test]
fn limits_of_heads() {
    let bytes = |length: usize| {
        let line = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
        format!("{line}{}\r\n\r\n", "a".repeat(length - line.len() - 4)).into_bytes()
    };
    let count = |fields: usize| {
        let more: String = (1..fields).map(|i| format!("a{i}: b\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n").into_bytes()
    };
    assert!(matches!(serve_once(&bytes(60 * 1024)).as_slice(), [Event::Request { .. }, Event::Waiting]));
    assert_eq!(serve_once(&bytes(60 * 1024 + 1)), [Event::Refused(431, "http1.headers_too_large".into())]);
    // Without an end, too.
    assert_eq!(serve_once(&bytes(70_000)[..65_000]), [Event::Refused(431, "http1.headers_too_large".into())]);
    assert!(matches!(serve_once(&count(100)).as_slice(), [Event::Request { .. }, Event::Waiting]));
    assert_eq!(serve_once(&count(101)), [Event::Refused(431, "http1.too_many_headers".into())]);
    // A long request target counts like everything else: there is no 414.
    let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(61 * 1024));
    assert_eq!(serve_once(target.as_bytes()), [Event::Refused(431, "http1.headers_too_large".into())]);
}

#[test]
fn trailers_count_on_top_of_the_head() {
    let with = |head_fields: usize, trailers: &str| {
        let more: String = (2..head_fields).map(|i| format!("a{i}: b\r\n")).collect();
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{more}\r\n0\r\n{trailers}\r\n");
        serve_once(head.as_bytes())
    };
    assert_eq!(with(99, "T: 1\r\n")[1], Event::Trailers(vec![("t".into(), b"1".to_vec())]));
    assert_eq!(with(99, "T: 1\r\nU: 1\r\n")[1], Event::BodyRefused(431, "http1.too_many_headers".into()));
    let long = format!("T: {}\r\n", "a".repeat(61 * 1024));
    assert_eq!(with(2, &long)[1], Event::BodyRefused(431, "http1.headers_too_large".into()));
    assert_eq!(with(2, &long[..61 * 1024])[1], Event::BodyRefused(431, "http1.headers_too_large".into()));
}

#[test]
fn trailers_are_kept_but_the_dangerous() {
    let events = serve_once(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: y\r\nGrpc-Status: 0\r\nX-A: 1\r\nx-a: 2\r\ncookie: c\r\n\r\n",
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    assert_eq!(events[1], Event::Trailers(vec![pair("grpc-status", "0"), pair("x-a", "1"), pair("x-a", "2")]));
}

#[test]
fn http_1_0_when_allowed() {
    let limits = Limits { allow_http_1_0: true, ..Limits::default() };
    let run = |input: &str| serve(vec![input.into()], End::Silence, limits);
    let (events, written) = run("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(events.last(), Some(&Event::Closed));
    assert!(written.ends_with(b"connection: close\r\n\r\n"));
    let (events, written) = run("GET / HTTP/1.0\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n");
    assert_eq!(events.last(), Some(&Event::Waiting));
    assert!(written.ends_with(b"connection: keep-alive\r\n\r\n"));
    let (events, _) = run("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(events, [Event::Refused(400, TE.into())]);
}
