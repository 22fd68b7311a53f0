//! Parsers do not depend on how bytes arrive, and no bytes make them panic. A bounded stand-in for the fuzz targets,
//! on stable.

use http::Method;
use proptest::prelude::*;

use super::testing::*;
use super::*;

const REQUESTS: [&[u8]; 6] = [
    b"GET /a?b=c HTTP/1.1\r\nHost: x.example:80\r\nAccept: */*\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: y\r\n\r\n",
    b"PUT /p HTTP/1.1\r\nhost: [::1]:80\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nx-t: 1\r\n\r\nGET",
    b"GET http://a.example/b HTTP/1.1\r\nHost: x\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
    b"CONNECT a:443 HTTP/1.0\r\n\r\n",
];

const RESPONSES: [&[u8]; 5] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: 1\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\n\r\nbody",
    b"HTTP/1.1 304\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx",
];

const WORDS: [&[u8]; 26] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"\r\n\r\n",
    b"HTTP/1.1",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: x\r\n",
    b"GET / ",
    b"0\r\n\r\n",
    b"\xff",
    b"8000000000000000",
    b"_",
    b"@",
    b"[",
    b"%",
    b"chunked",
    b"2\r\nab\r\n",
    b"HTTP/1.1 200 OK\r\n",
];

#[derive(Debug, Clone)]
enum Change {
    Insert(usize, usize),
    Remove(usize, usize),
    Set(usize, u8),
    Twice(usize, usize),
}

fn mutate(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for change in changes {
        let place = |at: usize| at % (bytes.len() + 1);
        match *change {
            Change::Insert(at, word) => {
                let at = place(at);
                bytes.splice(at..at, WORDS[word % WORDS.len()].iter().copied());
            }
            Change::Remove(at, length) => {
                let at = place(at);
                let end = (at + length).min(bytes.len());
                bytes.drain(at..end);
            }
            Change::Set(at, byte) => {
                let at = place(at);
                if let Some(slot) = bytes.get_mut(at) {
                    *slot = byte;
                }
            }
            Change::Twice(at, length) => {
                let at = place(at);
                let copy = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => (any::<usize>(), any::<usize>()).prop_map(|(at, word)| Change::Insert(at, word)),
        1 => (any::<usize>(), 1..12usize).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => (any::<usize>(), 1..30usize).prop_map(|(at, length)| Change::Twice(at, length)),
    ];
    prop::collection::vec(change, 0..5)
}

fn pieces(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Silence), Just(End::Close), Just(End::Reset)]
}

/// A body that turns out to be broken may have yielded more or less of itself before: compare what both saw of it.
fn without_broken_bodies(events: Vec<Event>) -> Vec<Event> {
    let broken = matches!(events.last(), Some(Event::BodyRefused(..)));
    let last = events.len().saturating_sub(2);
    events
        .into_iter()
        .enumerate()
        .filter(|(at, e)| !(broken && *at == last && matches!(e, Event::Body(_))))
        .map(|(_, e)| e)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn h1_smoke_requests(seed in 0..REQUESTS.len(), changes in changes(), cuts in prop::collection::vec(any::<usize>(), 0..6), end in end()) {
        let bytes = mutate(REQUESTS[seed], &changes);
        let limits = Limits { allow_http_1_0: seed == 5, ..Limits::default() };
        let whole = serve(vec![bytes.clone()], end, limits).0;
        let split = serve(pieces(&bytes, &cuts), end, limits).0;
        let single = serve(one_by_one(&bytes), end, limits).0;
        prop_assert_eq!(without_broken_bodies(whole.clone()), without_broken_bodies(split));
        prop_assert_eq!(without_broken_bodies(whole), without_broken_bodies(single));
    }

    #[test]
    fn h1_smoke_responses(seed in 0..RESPONSES.len(), changes in changes(), cuts in prop::collection::vec(any::<usize>(), 0..6), end in end(), head: bool, upgrade: bool) {
        let bytes = mutate(RESPONSES[seed], &changes);
        let method = if head { Method::HEAD } else { Method::GET };
        let whole = ask(method.clone(), upgrade, vec![bytes.clone()], end).0;
        let split = ask(method.clone(), upgrade, pieces(&bytes, &cuts), end).0;
        let single = ask(method, upgrade, one_by_one(&bytes), end).0;
        prop_assert_eq!(without_broken_bodies(whole.clone()), without_broken_bodies(split));
        prop_assert_eq!(without_broken_bodies(whole), without_broken_bodies(single));
    }

    #[test]
    fn h1_smoke_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), end in end()) {
        serve(vec![bytes.clone()], end, Limits::default());
        ask(Method::GET, true, vec![bytes], end);
    }

    /// What the client side writes, the server side reads as the same message, and the other way round.
    #[test]
    fn h1_smoke_round_trip(
        path in "/[!-~]{0,30}",
        values in prop::collection::vec("[ -~\u{80}-\u{ff}]{0,20}", 0..5),
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6000), 0..4),
        chunked: bool,
    ) {
        let mut headers = http::HeaderMap::new();
        headers.insert("host", "x".parse().unwrap());
        for value in &values {
            headers.append("x-a", http::HeaderValue::from_bytes(value.trim_matches(' ').as_bytes()).unwrap());
        }
        let body: Vec<u8> = data.concat();
        let framing = match (chunked, body.len()) {
            (true, _) => BodyFraming::Chunked,
            (false, 0) => BodyFraming::None,
            (false, length) => BodyFraming::Length(length as u64),
        };
        let mut client = ClientCodec::new(Script::new(vec![], End::Silence), Limits::default());
        client.send_head(&Method::POST, &path, &headers, framing);
        for piece in &data {
            client.send_frame(Frame::Data(Bytes::copy_from_slice(piece)));
        }
        client.finish();
        prop_assert!(client.poll_flush(&mut context()).is_ready());
        let (events, _) = serve(vec![client.into_parts().0.written], End::Silence, Limits::default());
        let Some(Event::Request { line, headers: found, .. }) = events.first() else { panic!("{events:?}") };
        prop_assert_eq!(line, &format!("POST {path}"));
        let found: Vec<_> = found.iter().filter(|(name, _)| name == "x-a").map(|(_, value)| value.clone()).collect();
        let wanted: Vec<_> = headers.get_all("x-a").iter().map(|value| value.as_bytes().to_vec()).collect();
        prop_assert_eq!(found, wanted);
        let found = events.iter().find_map(|e| if let Event::Body(body) = e { Some(body.clone()) } else { None });
        prop_assert_eq!(found.unwrap_or_default(), body);
        prop_assert_eq!(events.last(), Some(&Event::Waiting));
    }

    #[test]
    fn h1_smoke_round_trip_response(
        status in 200..1000u16,
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6000), 0..4),
        framing in 0..4,
        trailer: bool,
        head: bool,
        size in 1..9000usize,
    ) {
        let request: &[u8] = if head { b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" } else { b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" };
        let mut server = ServerCodec::new(Script::new(vec![request.to_vec()], End::Silence), Limits::default());
        prop_assert!(server.poll_head(&mut context()).is_ready());
        let body: Vec<u8> = data.concat();
        let framing = match framing {
            0 => BodyFraming::Chunked,
            1 => BodyFraming::UntilClose,
            2 => BodyFraming::Length(body.len() as u64),
            _ if body.is_empty() => BodyFraming::None,
            _ => BodyFraming::Chunked,
        };
        let status = http::StatusCode::from_u16(status).unwrap();
        server.send_head(status, None, &http::HeaderMap::new(), framing);
        for piece in &data {
            server.send_frame(Frame::Data(Bytes::copy_from_slice(piece)));
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        if trailer {
            server.send_frame(Frame::Trailers(trailers.clone()));
        }
        server.finish();
        prop_assert!(server.poll_flush(&mut context()).is_ready());
        let keeps = server.can_keep_alive();
        let end = if keeps { End::Silence } else { End::Close };
        let written = server.into_parts().0.written;
        let method = if head { Method::HEAD } else { Method::GET };
        let (events, reusable) = ask(method, false, written.chunks(size).map(<[u8]>::to_vec).collect(), end);
        prop_assert_eq!(keeps, reusable);
        let bodiless = head || status == 204 || status == 304;
        let found = events.iter().find_map(|e| if let Event::Body(body) = e { Some(body.clone()) } else { None });
        prop_assert_eq!(found.unwrap_or_default(), if bodiless { Vec::new() } else { body });
        let found = events.iter().any(|e| *e == Event::Trailers(list(&trailers)));
        prop_assert_eq!(found, trailer && !bodiless && framing == BodyFraming::Chunked);
        prop_assert!(!events.iter().any(|e| matches!(e, Event::Refused(..) | Event::BodyRefused(..) | Event::Waiting)));
    }
}
