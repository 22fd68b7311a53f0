//! What clients may send wrong on HTTP/1.1: each is a clear 4xx or 5xx
//! and the end of the connection, or is forwarded cleanly; never a hang, a panic, or a guess.

use std::time::Duration;

use e2e::backend::{Backend, Saw};
use e2e::client::{self, H1};
use e2e::fixture::Edge;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// This status, then the connection ends.
    Refused(u16),
    /// 200 from the backend.
    Forwarded,
}

use Want::{Forwarded, Refused};

const HEAD: &str = "POST /p HTTP/1.1\r\nhost: a.example\r\n";
const CHUNKED: &str = "POST /p HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n";

fn with(headers: &str, body: &str) -> Vec<u8> {
    format!("{HEAD}{headers}\r\n\r\n{body}").into_bytes()
}

fn chunks(body: &str) -> Vec<u8> {
    format!("{CHUNKED}{body}").into_bytes()
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nhost: a.example\r\n\r\n").into_bytes()
}

fn host(host: &str) -> Vec<u8> {
    format!("GET /p HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()
}

fn lengths() -> Vec<(String, Vec<u8>, Want)> {
    let mut rows = Vec::new();
    for value in
        ["2, 3", "+2", "-2", "0x2", "2 3", "", "2, 2", "18446744073709551616", "9223372036854775808", "2\r\n 3"]
    {
        rows.push((format!("content-length {value:?}"), with(&format!("content-length: {value}"), "ab"), Refused(400)));
    }
    for (first, second) in [("2", "3"), ("2", "2")] {
        let headers = format!("content-length: {first}\r\ncontent-length: {second}");
        rows.push((format!("content-length {first} and {second}"), with(&headers, "ab"), Refused(400)));
    }
    for value in ["2 \t ", "002"] {
        rows.push((format!("content-length {value:?}"), with(&format!("content-length: {value}"), "ab"), Forwarded));
    }
    for value in [
        "xchunked",
        "identity",
        "\"chunked\"",
        "chunked;p=1",
        "chunked, gzip",
        "chunked, chunked",
        "gzip, chunked",
        ",chunked",
    ] {
        let bytes = with(&format!("transfer-encoding: {value}"), "2\r\nab\r\n0\r\n\r\n");
        rows.push((format!("transfer-encoding {value:?}"), bytes, Refused(501)));
    }
    for value in ["CHUNKED", "\tchunked\t "] {
        let bytes = with(&format!("transfer-encoding: {value}"), "2\r\nab\r\n0\r\n\r\n");
        rows.push((format!("transfer-encoding {value:?}"), bytes, Forwarded));
    }
    for headers in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "transfer-encoding: identity\r\ncontent-length: 2",
        "transfer-encoding:\r\ncontent-length: 2",
        "transfer-encoding: \x0bchunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding : chunked",
        "transfer-encoding: chunk\r\n ed",
    ] {
        rows.push((format!("{headers:?}"), with(headers, "2\r\nab\r\n0\r\n\r\n"), Refused(400)));
    }
    rows.push(("a look-alike".to_owned(), with("transfer_encoding: chunked\r\ncontent-length: 2", "ab"), Forwarded));
    rows
}

fn chunk_lines() -> Vec<(String, Vec<u8>, Want)> {
    let mut rows = Vec::new();
    for size in ["ZZ", "0x2", "+2", "-2", " 2", "", "FFFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFF", "2 x", "2;a\rb"] {
        rows.push((format!("chunk size {size:?}"), chunks(&format!("{size}\r\nab\r\n0\r\n\r\n")), Refused(400)));
    }
    for body in
        ["2\r\nabX\r\n0\r\n\r\n", "2\rab\r0\r\r", "2;a=b\nab\r\n0\r\n\r\n", "2\nab\n0\n\n", "2\r\nab\n0\r\n\r\n"]
    {
        rows.push((format!("chunks {body:?}"), chunks(body), Refused(400)));
    }
    for body in ["2\r\nab\r\n0\n\r\n", "2\r\nab\r\n0\r\nno colon\r\n\r\n"] {
        rows.push((format!("the end {body:?}"), chunks(body), Refused(400)));
    }
    let long = format!("2;{}\r\nab\r\n0\r\n\r\n", "e".repeat(20_000));
    rows.push(("a chunk extension of 20 KB".to_owned(), chunks(&long), Refused(400)));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "e".repeat(4_000)).repeat(50));
    rows.push(("50 chunk extensions of 4 KB".to_owned(), chunks(&many), Refused(400)));
    for body in ["2;a=b\r\nab\r\n0\r\n\r\n", "2;a=\"b\"\r\nab\r\n0\r\n\r\n", "0000000002\r\nab\r\n0\r\n\r\n"] {
        rows.push((format!("chunks {body:?}"), chunks(body), Forwarded));
    }
    let trailers =
        "2\r\nab\r\n0\r\ncontent-length: 9\r\ntransfer-encoding: x\r\nhost: evil\r\nauthorization: x\r\n\r\n";
    rows.push(("trailers that are none".to_owned(), chunks(trailers), Forwarded));
    rows
}

fn lines() -> Vec<(String, Vec<u8>, Want)> {
    let mut rows = Vec::new();
    for text in [
        "GET /a b HTTP/1.1",
        " GET / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET p HTTP/1.1",
        "GET  HTTP/1.1",
        "GET ?a=b HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET  /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.01",
        "GET / http/1.1",
        "GET * HTTP/1.1",
        "GET ftp://a.example/ HTTP/1.1",
        "GET http://u:p@a.example/ HTTP/1.1",
        "GET /p",
    ] {
        rows.push((format!("{text:?}"), line(text), Refused(400)));
    }
    rows.push(("a method of 200 letters".to_owned(), line(&format!("{} / HTTP/1.1", "A".repeat(200))), Refused(400)));
    for text in ["GET / HTTP/1.2", "GET / HTTP/2.0", "GET / HTTP/3.0"] {
        rows.push((format!("{text:?}"), line(text), Refused(505)));
    }
    rows.push(("HTTP/1.0".to_owned(), line("GET / HTTP/1.0"), Refused(426)));
    rows.push(("https on a plain port".to_owned(), line("GET https://a.example/ HTTP/1.1"), Refused(403)));
    for text in
        ["get / HTTP/1.1", "M-SEARCH / HTTP/1.1", "GET http://a.example HTTP/1.1", "GET http://a.example/x HTTP/1.1"]
    {
        rows.push((format!("{text:?}"), line(text), Forwarded));
    }
    rows.push(("one CRLF before".to_owned(), [b"\r\n".as_slice(), &host("a.example")].concat(), Forwarded));
    rows.push((
        "five CRLF before".to_owned(),
        ["\r\n".repeat(5).as_bytes(), &host("a.example")].concat(),
        Refused(400),
    ));
    rows
}

fn headers() -> Vec<(String, Vec<u8>, Want)> {
    let mut rows = Vec::new();
    for text in [
        "x : y",
        "x y: z",
        ": y",
        "x\0: y",
        "x: \0",
        "x: \x01",
        "x: \x7f",
        "(x: y",
        "\u{e9}: y",
        "no colon",
        "x: y\r\n folded",
        "x: a\rb",
        "x: a\r",
        "host: a.example",
        "host: b.example",
    ] {
        rows.push((format!("{text:?}"), with(text, ""), Refused(400)));
    }
    for value in ["", "x y", "x/y?z", "u:p@x", "x:99999"] {
        rows.push((format!("host {value:?}"), host(value), Refused(400)));
    }
    let raw = |text: &str| text.as_bytes().to_vec();
    rows.push(("no host".to_owned(), raw("GET / HTTP/1.1\r\n\r\n"), Refused(400)));
    rows.push((
        "no host beside an absolute target".to_owned(),
        raw("GET http://a.example/ HTTP/1.1\r\n\r\n"),
        Refused(400),
    ));
    rows.push(("a fold at once".to_owned(), raw("GET / HTTP/1.1\r\n host: a.example\r\n\r\n"), Refused(400)));
    rows.push(("bare LF everywhere".to_owned(), raw("GET / HTTP/1.1\nhost: a.example\n\n"), Refused(400)));
    rows.push(("bare LF in one line".to_owned(), raw("GET / HTTP/1.1\r\nhost: a.example\nx: y\r\n\r\n"), Refused(400)));
    rows.push(("bare LF at the end".to_owned(), raw("GET / HTTP/1.1\r\nhost: a.example\r\n\n"), Refused(400)));
    rows.push((
        "a TLS hello".to_owned(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        Refused(400),
    ));
    let huge = format!("x: {}", "y".repeat(70_000));
    rows.push(("70 KB of headers".to_owned(), with(&huge, ""), Refused(431)));
    let many: Vec<String> = (0..120).map(|index| format!("x-{index}: y")).collect();
    rows.push(("120 headers".to_owned(), with(&many.join("\r\n"), ""), Refused(431)));
    let mut bytes = with("content-length: 0\r\nx: ", "");
    let at = bytes.iter().rposition(|byte| *byte == b' ').unwrap() + 1;
    bytes.splice(at..at, [0xe9, 0xff]);
    rows.push(("bytes above 0x7f in a value".to_owned(), bytes, Forwarded));
    rows.push((
        "h2c".to_owned(),
        with(
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\ncontent-length: 0",
            "",
        ),
        Forwarded,
    ));
    rows
}

/// What is wrong, if anything.
async fn probe(edge: &Edge, bytes: &[u8], want: Want) -> Result<(), String> {
    let (io, _) = client::connect(edge.http, None).await.map_err(|error| format!("{error:#}"))?;
    let mut client = H1::new(io);
    // A gateway that has answered already may have closed.
    let _ = client.write(bytes).await;
    let method = if bytes.starts_with(b"POST") { "POST" } else { "GET" };
    let answer = tokio::time::timeout(Duration::from_secs(8), client.read_response(method)).await;
    let answer =
        answer.map_err(|_| "no answer: it hangs".to_owned())?.map_err(|error| format!("no answer: {error:#}"))?;
    match want {
        Forwarded => {
            let from = answer.header("x-backend");
            if answer.status != 200 || from.is_none() {
                return Err(format!("{}, not forwarded: {}", answer.status, answer.text()));
            }
            let saw: Saw = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            let odd = ["transfer_encoding", "upgrade", "http2-settings"];
            match saw.headers.iter().find(|(name, _)| odd.contains(&name.as_str())) {
                Some(header) => Err(format!("the backend got {header:?}")),
                None => Ok(()),
            }
        }
        Refused(status) => {
            if answer.status != status {
                return Err(format!("{}, not {status}", answer.status));
            }
            match tokio::time::timeout(Duration::from_secs(8), client.read_to_end()).await {
                Ok(_) => Ok(()),
                Err(_) => Err("the connection stays open".to_owned()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_refused_clearly_or_forwarded_cleanly() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let rows: Vec<_> = [lengths(), chunk_lines(), lines(), headers()].concat();
    let mut wrong = Vec::new();
    for (name, bytes, want) in &rows {
        if let Err(why) = probe(&edge, bytes, *want).await {
            wrong.push(format!("{name}: {why}"));
        }
    }
    e2e::say(&format!("{} of {} rows of malformed requests", rows.len() - wrong.len(), rows.len()));
    assert!(wrong.is_empty(), "{} of {} rows:\n{}\n{}", wrong.len(), rows.len(), wrong.join("\n"), edge.meshgate.log());
    // It still serves.
    assert_eq!(client::get(edge.http, "a.example", "/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_route_is_said_so() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    for (text, status) in [
        ("OPTIONS * HTTP/1.1\r\nhost: a.example\r\n\r\n", 404),
        ("CONNECT a.example:80 HTTP/1.1\r\nhost: a.example:80\r\n\r\n", 404),
        ("TRACE / HTTP/1.1\r\nhost: a.example\r\n\r\n", 405),
    ] {
        let mut client = H1::new(client::connect(edge.http, None).await.unwrap().0);
        client.write(text.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(client::DEADLINE, client.read_response("GET")).await.unwrap().unwrap();
        assert_eq!(answer.status, status, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_behind_a_request_spoils_only_what_follows() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = H1::new(client::connect(edge.http, None).await.unwrap().0);
    client.write(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\nabc\r\n\r\n").await.unwrap();
    assert_eq!(client.read_response("GET").await.unwrap().status, 200);
    assert_eq!(client.read_response("GET").await.unwrap().status, 400);
    assert_eq!(backend.requests(), 1);
}

/// From the first byte, silence: what comes, and after how long.
async fn silence(edge: &Edge, address: std::net::SocketAddr, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let started = std::time::Instant::now();
    let mut client = H1::new(client::connect(address, None).await.unwrap().0);
    client.write(bytes).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(40), client.read_to_end()).await;
    let read = read.unwrap_or_else(|_| panic!("{bytes:?} is waited for without end\n{}", edge.meshgate.log()));
    (read.unwrap_or_default(), started.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_head_and_half_a_handshake_are_waited_for_a_while() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let (first, (second, patience), (hello, hello_patience)) = tokio::join!(
        silence(&edge, edge.http, b"GET /slow HTTP/1.1\r\nhost: a.exa"),
        silence(&edge, edge.http, b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\nGET /slow HT"),
        silence(&edge, edge.https, b"\x16\x03\x01\x02\x00\x01\x00"),
    );
    let (first, first_patience) = first;
    assert!(first.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&first));
    let second = String::from_utf8_lossy(&second).into_owned();
    assert!(second.starts_with("HTTP/1.1 200 ") && second.contains("HTTP/1.1 408 "), "{second}");
    assert!(!hello.starts_with(b"HTTP/"), "{hello:?}");
    for waited in [first_patience, patience, hello_patience] {
        assert!((10..=32).contains(&waited.as_secs()), "{waited:?}");
    }
}
