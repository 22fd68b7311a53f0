use std::collections::HashSet;

use super::*;
use crate::http::hop_by_hop::tests::{lines, map};

fn client(peer: &str, tls: bool, trusted_proxies: u32) -> Client {
    Client::new(peer.parse().unwrap(), tls, CertificateHeader::Remove, trusted_proxies)
}

/// The headers after `accept`, without the request id.
fn accepted(given: &[(&'static str, &str)], client: &Client) -> (Vec<String>, Origin) {
    let mut headers = map(given);
    let origin = accept(&mut headers, client);
    let id = headers.remove("x-request-id").expect("request id");
    assert_eq!(id.len(), 36);
    (lines(&headers), origin)
}

#[test]
fn a_plain_request_is_told_who_sent_it() {
    let (headers, origin) = accepted(&[("host", "a")], &client("127.0.0.1", false, 0));
    assert_eq!(
        headers,
        ["host: a", "x-envoy-external-address: 127.0.0.1", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http"]
    );
    assert_eq!(origin, Origin { address: "127.0.0.1".parse().unwrap(), https: false });
}

/// What Envoy at an Istio gateway does with `x-forwarded-*`, and what it takes from clients.
#[test]
fn what_a_client_says_is_not_believed() {
    let (headers, origin) = accepted(
        &[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-proto", "x"),
            ("x-forwarded-client-cert", "By=spiffe://evil"),
            ("x-envoy-external-address", "9.9.9.9"),
            ("x-request-id", "mine"),
            ("x-envoy-internal", "true"),
            ("x-envoy-original-path", "/x"),
            ("x-envoy-original-host", "x"),
            ("x-envoy-upstream-rq-timeout-ms", "1"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
            ("x-envoy-expected-rq-timeout-ms", "1"),
            ("x-envoy-max-retries", "9"),
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-ip-tags", "x"),
            ("x-envoy-decorator-operation", "x"),
            ("x-envoy-attempt-count", "7"),
            ("x-envoy-peer-metadata", "x"),
            ("x-envoy-peer-metadata-id", "x"),
            ("x-envoy-foo", "kept"),
            ("x-forwarded-host", "kept"),
            ("x-forwarded-port", "1"),
            ("traceparent", "00-1"),
        ],
        &client("2001:db8::1", true, 0),
    );
    assert_eq!(
        headers,
        [
            "traceparent: 00-1",
            "x-envoy-external-address: 2001:db8::1",
            "x-envoy-foo: kept",
            "x-forwarded-for: 1.2.3.4,5.6.7.8,2001:db8::1",
            "x-forwarded-host: kept",
            "x-forwarded-port: 1",
            "x-forwarded-proto: https",
        ]
    );
    assert_eq!(origin, Origin { address: "2001:db8::1".parse().unwrap(), https: true });
}

#[test]
fn mapped_addresses_are_plain_ones() {
    let (headers, origin) = accepted(&[], &client("::ffff:10.0.0.1", false, 0));
    assert!(headers.contains(&"x-forwarded-for: 10.0.0.1".to_owned()));
    assert_eq!(origin.address, "10.0.0.1".parse::<IpAddr>().unwrap());
}

/// Istio with trusted proxies in front.
#[test]
fn trusted_proxies_are_believed() {
    let given =
        &[("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-for", "3.3.3.3"), ("x-forwarded-proto", "https")];
    for (count, external, https) in [
        (0, "10.0.0.1", false),
        (1, "3.3.3.3", true),
        (2, "2.2.2.2", true),
        (3, "1.1.1.1", true),
        // Fewer entries than proxies: only the connection is sure.
        (4, "10.0.0.1", true),
    ] {
        let (headers, origin) = accepted(given, &client("10.0.0.1", false, count));
        assert_eq!(origin, Origin { address: external.parse().unwrap(), https }, "{count}");
        assert_eq!(
            headers,
            [
                format!("x-envoy-external-address: {external}"),
                "x-forwarded-for: 1.1.1.1, 2.2.2.2,3.3.3.3,10.0.0.1".to_owned(),
                format!("x-forwarded-proto: {}", if https { "https" } else { "http" }),
            ]
        );
    }
    for (given, external, https) in [
        (&[("x-forwarded-for", "junk"), ("x-forwarded-proto", "ftp")][..], "10.0.0.1", true),
        (&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "http")], "10.0.0.1", true),
        (&[("x-forwarded-proto", "HTTP")], "10.0.0.1", false),
        (&[], "10.0.0.1", true),
    ] {
        let (_, origin) = accepted(given, &client("10.0.0.1", true, 1));
        assert_eq!(origin, Origin { address: external.parse().unwrap(), https }, "{given:?}");
    }
}

#[test]
fn client_certificates_are_told() {
    let value = HeaderValue::from_static("Hash=00;Subject=\"CN=client\"");
    let client = Client::new("10.0.0.1".parse().unwrap(), true, CertificateHeader::Set(value), 0);
    let (headers, _) = accepted(&[("x-forwarded-client-cert", "x"), ("x-forwarded-client-cert", "y")], &client);
    assert!(headers.contains(&"x-forwarded-client-cert: Hash=00;Subject=\"CN=client\"".to_owned()));
    assert_eq!(headers.iter().filter(|line| line.starts_with("x-forwarded-client-cert")).count(), 1);
}

#[test]
fn request_ids_are_fresh() {
    let mut seen = HashSet::new();
    for (given, digit) in [(&[][..], b'4'), (&[("x-client-trace-id", "x")], b'b')] {
        for _ in 0..100 {
            let mut headers = map(given);
            accept(&mut headers, &client("10.0.0.1", false, 0));
            let id = headers.get("x-request-id").unwrap().to_str().unwrap().to_owned();
            assert_eq!(id.as_bytes()[14], digit, "{id}");
            assert!(uuid::Uuid::parse_str(&id).is_ok());
            assert!(seen.insert(id));
        }
    }
}

#[test]
fn every_try_is_counted() {
    let mut headers = HeaderMap::new();
    forward(&mut headers, &Try { attempt: 1, ..Try::default() });
    assert_eq!(lines(&headers), ["x-envoy-attempt-count: 1"]);
    let second = Try {
        attempt: 2,
        timeout: Some(Duration::from_millis(1500)),
        original_path: Some("/a?b"),
        original_host: Some("x.example"),
    };
    forward(&mut headers, &second);
    assert_eq!(
        lines(&headers),
        [
            "x-envoy-attempt-count: 2",
            "x-envoy-expected-rq-timeout-ms: 1500",
            "x-envoy-original-host: x.example",
            "x-envoy-original-path: /a?b",
        ]
    );
}

#[test]
fn numbers() {
    for value in [0, 1, 9, 15, 16, 1234, u64::MAX] {
        assert_eq!(number(value).to_str().unwrap(), value.to_string());
    }
}

/// What a sidecar leaves as it is, and what it says where nobody did.
#[test]
fn what_a_workload_sends_stays_its_own_words() {
    let said = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "mine"),
        ("x-envoy-max-retries", "7"),
        ("x-forwarded-client-cert", "By=me"),
    ];
    let mut headers = map(&said);
    let origin = accept_outbound(&mut headers, &client("10.0.0.1", false, 0));
    assert_eq!(
        lines(&headers),
        ["x-envoy-max-retries: 7", "x-forwarded-for: 192.0.2.1", "x-forwarded-proto: https", "x-request-id: mine"]
    );
    assert_eq!(origin, Origin { address: "10.0.0.1".parse().unwrap(), https: true });
    let mut headers = map(&[]);
    accept_outbound(&mut headers, &client("10.0.0.1", false, 0));
    assert_eq!(headers.remove("x-request-id").unwrap().len(), 36);
    assert_eq!(lines(&headers), ["x-forwarded-proto: http"]);
}

#[test]
fn what_arrives_tells_where_it_began_and_who_came_last() {
    let mut headers = map(&[("x-forwarded-for", "192.0.2.1,192.0.2.2"), ("x-forwarded-client-cert", "By=evil")]);
    let origin = accept_inbound(&mut headers, &client("10.0.0.1", false, 0), "spiffe://a/ns/b/sa/c", None);
    assert_eq!(origin.address, "192.0.2.2".parse::<IpAddr>().unwrap());
    assert!(!headers.contains_key("x-forwarded-client-cert"), "nobody showed a certificate");
    assert_eq!(headers["x-forwarded-for"], "192.0.2.1,192.0.2.2");
    let origin = accept_inbound(&mut map(&[]), &client("10.0.0.1", true, 0), "", None);
    assert_eq!(origin, Origin { address: "10.0.0.1".parse().unwrap(), https: true });
}
