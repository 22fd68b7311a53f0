use super::*;

/// One line per header, values as they are.
pub(in crate::http) fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// `name: value`, sorted by name; values of one name in their order.
pub(in crate::http) fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    lines.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[track_caller]
fn request(given: &[(&'static str, &str)], expected: &[&str]) -> Option<HeaderValue> {
    let mut headers = map(given);
    let upgrade = clean_request(&mut headers).unwrap();
    assert_eq!(lines(&headers), expected, "{given:?}");
    upgrade
}

/// Connection and what it nominates, and `te`, as Envoy treats them.
#[test]
fn requests() {
    request(&[("host", "a"), ("connection", "keep-alive"), ("accept", "*/*")], &["accept: */*", "host: a"]);
    assert_eq!(request(&[("host", "a")], &["host: a"]), None);
    request(&[("keep-alive", "timeout=5"), ("proxy-connection", "x"), ("upgrade", "h2c")], &[]);
    request(&[("transfer-encoding", "chunked"), ("content-length", "1")], &["content-length: 1"]);
    // Nominated headers go, in any case, over several lines.
    request(
        &[
            ("connection", "Authorization , cookie,,"),
            ("connection", "X-A,Content-Length"),
            ("authorization", "a"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("content-length", "3"),
        ],
        &["x-b: 2"],
    );
    request(&[("connection", "Close, te, keep-alive")], &[]);
    // te
    request(&[("te", "trailers")], &["te: trailers"]);
    request(&[("connection", "TE"), ("te", "Trailers, deflate")], &["te: trailers"]);
    request(&[("te", "deflate"), ("te", "trailers")], &["te: trailers"]);
    request(&[("te", "gzip")], &[]);
    request(&[("te", "")], &[]);
    // Passed unchanged, and dropped against Envoy's habit.
    request(
        &[
            ("proxy-authorization", "a"),
            ("proxy-authenticate", "b"),
            ("trailer", "c"),
            ("via", "d"),
            ("forwarded", "e"),
            ("x-real-ip", "f"),
            ("x-forwarded-host", "g"),
            ("expect", "100-continue"),
        ],
        &[
            "expect: 100-continue",
            "forwarded: e",
            "proxy-authenticate: b",
            "trailer: c",
            "via: d",
            "x-forwarded-host: g",
            "x-real-ip: f",
        ],
    );
    // A name that looks like a framing header.
    request(&[("transfer_encoding", "chunked"), ("content_length", "1"), ("x_y", "z")], &["x_y: z"]);
}

#[test]
fn upgrades() {
    let upgrade = request(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("a", "b")], &["a: b"]);
    assert_eq!(upgrade.unwrap(), "WebSocket");
    assert_eq!(request(&[("connection", "Upgrade")], &[]), None);
    assert_eq!(request(&[("upgrade", "websocket")], &[]), None);
    let upgrade = request(&[("connection", "upgrade"), ("upgrade", "foo"), ("upgrade", "websocket")], &[]);
    assert_eq!(upgrade.unwrap(), "foo, websocket");
}

#[test]
fn refused() {
    let check = |value: &str| clean_request(&mut map(&[("connection", value), ("host", "a")]));
    assert_eq!(check("close, Host"), Err(ConnectionError::NominatesHost));
    for value in ["x-forwarded-for", "X-Forwarded-Proto", ":path", "close,:x", "a,b,c,d,e,f,g,h,i,j"] {
        assert_eq!(check(value), Err(ConnectionError::Rejected), "{value}");
    }
    assert!(check("a,b,c,d,e,f,g,h,i").is_ok());
    assert!(check("a b,\u{e9},;").is_ok());
    assert_eq!(ConnectionError::NominatesHost.detail(), "missing_host_header");
    assert_eq!(ConnectionError::Rejected.detail(), "http1.connection_header_rejected");
    let split = &[("connection", "a,b,c,d,e"), ("connection", "a,b,c,d,e")];
    assert_eq!(clean_request(&mut map(split)), Err(ConnectionError::Rejected));
}

/// Of responses.
#[test]
fn responses() {
    let mut headers = map(&[
        ("connection", "close, x-hop"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "x"),
        ("upgrade", "h2c"),
        ("transfer-encoding", "chunked"),
        ("x-hop", "1"),
        ("te", "gzip"),
        ("trailer", "x"),
        ("proxy-authenticate", "y"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
    ]);
    clean_response(&mut headers);
    assert_eq!(lines(&headers), ["proxy-authenticate: y", "set-cookie: a", "set-cookie: b", "te: gzip", "trailer: x"]);
    let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
    clean_response(&mut headers);
    assert!(headers.is_empty());
}
