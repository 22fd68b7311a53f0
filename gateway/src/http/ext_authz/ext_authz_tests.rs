use ::http::StatusCode;
use mesh_core::model::{HttpCheck, NameMatch};

use super::collector::Answer;
use super::*;

fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static [u8]) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_static(value));
    }
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: map,
        body: Bytes::from_static(body),
        trailers: HeaderMap::new(),
    }
}

fn names(list: &[&str]) -> Vec<NameMatch> {
    list.iter().map(|name| NameMatch::read(name)).collect()
}

fn shown(headers: &[(HeaderName, HeaderValue, Mode)]) -> Vec<String> {
    headers.iter().map(|(name, value, mode)| format!("{name}={} {mode:?}", value.to_str().unwrap())).collect()
}

#[test]
fn ok_lets_through_with_the_headers_that_are_named() {
    let check =
        HttpCheck { upstream: names(&["X-User", "x-group-*"]), response: names(&["*-note"]), ..HttpCheck::default() };
    let headers =
        [("x-user", "a"), ("x-group-b", "1"), ("x-group-b", "2"), ("x-note", "n"), ("x-other", "o"), ("host", "evil")];
    let verdict = http::verdict(&check, answer(200, &headers, b"ignored")).unwrap();
    let Verdict::Allowed(changes) = verdict else { panic!("{verdict:?}") };
    assert_eq!(shown(&changes.request), ["x-user=a Overwrite", "x-group-b=1 Overwrite", "x-group-b=2 Append"]);
    assert_eq!(changes.response.len(), 1);
    // Not even by name: another length or host would make another message of it.
    let check = HttpCheck { upstream: names(&["*"]), ..HttpCheck::default() };
    let framing = [("content-length", "5"), ("host", "x"), ("transfer-encoding", "chunked"), ("x", "y")];
    let Ok(Verdict::Allowed(changes)) = http::verdict(&check, answer(200, &framing, b"")) else { panic!() };
    assert_eq!(shown(&changes.request), ["x=y Overwrite"]);
}

#[test]
fn everything_but_ok_is_the_answer_and_an_error_is_none() {
    let headers = [("x-a", "1"), ("x-b", "2"), ("location", "/login"), ("content-length", "2")];
    let all = HttpCheck::default();
    let Ok(Verdict::Refused(refusal)) = http::verdict(&all, answer(302, &headers, b"no")) else { panic!() };
    assert_eq!((refusal.status, &refusal.body[..]), (302, &b"no"[..]));
    let kept: Vec<&str> = refusal.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(kept, ["x-a", "x-b", "location"]);
    let some = HttpCheck { refusal: names(&["x-b"]), ..HttpCheck::default() };
    let Ok(Verdict::Refused(refusal)) = http::verdict(&some, answer(204, &headers, b"")) else { panic!() };
    let kept: Vec<&str> = refusal.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!((refusal.status, kept), (204, vec!["x-b", "location"]));
    assert_eq!(http::verdict(&all, answer(500, &[], b"")).unwrap_err(), Unanswered);
}

#[test]
fn what_is_no_message_is_no_answer() {
    let said =
        |body: &'static [u8], status: &'static str| grpc::verdict(&answer(200, &[("grpc-status", status)], body));
    // CheckResponse with an empty Status.
    assert!(matches!(said(b"\0\0\0\0\x02\x0a\0", "0"), Ok(Verdict::Allowed(_))));
    for (body, status) in [
        (&b"\0\0\0\0\x02\x0a\0"[..], "14"),
        (b"", "0"),
        (b"\0\0\0", "0"),
        (b"\0\0\0\0\x09\x0a\0", "0"),
        (b"\x01\0\0\0\x02\x0a\0", "0"),
        (b"\0\0\0\0\x02\x0a\x09", "0"),
    ] {
        assert_eq!(said(body, status).unwrap_err(), Unanswered, "{body:?} {status}");
    }
    assert_eq!(grpc::verdict(&answer(404, &[("grpc-status", "0")], b"")).unwrap_err(), Unanswered);
    // PERMISSION_DENIED and nothing more.
    let Ok(Verdict::Refused(refusal)) = said(b"\0\0\0\0\x04\x0a\x02\x08\x07", "0") else { panic!() };
    assert_eq!(refusal.status, 403);
}
