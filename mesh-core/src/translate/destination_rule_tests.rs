use std::time::Duration;

use super::super::fixture::{docs, to};
use crate::model::{
    Balancing, ConnectionRules, Destination, HashCookie, HashKey, HashTable, Hashing, Keepalive, Limits,
    OutlierDetection,
};

const WEB: &str = "outbound|80||web.default.svc.cluster.local";

/// The destination `web` under this traffic policy (flow style).
fn web(policy: &str) -> Destination {
    let rule = format!("spec: {{host: web, trafficPolicy: {policy}}}");
    let docs = docs().http("'*'").service("default/web", 80).add("DestinationRule", "default/web", &rule);
    let translation = docs.vs("default/v", "a.com", &to("web")).translate_anyway();
    Destination::clone(&translation.set.destinations[WEB])
}

fn hashing(hash: &str) -> Hashing {
    match web(&format!("{{loadBalancer: {{consistentHash: {hash}}}}}")).balancing {
        Balancing::Hash(hashing) => hashing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_hashed_and_through_which_table() {
    let ring = |minimum| HashTable::Ring { minimum };
    for (hash, key, table) in [
        ("{httpHeaderName: X-User}", Some(HashKey::Header("x-user".into())), ring(1024)),
        ("{httpQueryParameterName: User}", Some(HashKey::Query("User".into())), ring(1024)),
        ("{useSourceIp: true, minimumRingSize: 7}", Some(HashKey::SourceIp), ring(7)),
        ("{useSourceIp: true, ringHash: {minimumRingSize: 9}}", Some(HashKey::SourceIp), ring(9)),
        ("{useSourceIp: false, ringHash: {}}", None, ring(1024)),
        (
            "{httpHeaderName: a, maglev: {tableSize: 251}}",
            Some(HashKey::Header("a".into())),
            HashTable::Maglev { size: 251 },
        ),
    ] {
        assert_eq!(hashing(hash), Hashing { key, table }, "{hash}");
    }
}

#[test]
fn cookies_are_given_where_a_ttl_is() {
    let cookie = |text: &str| match hashing(&format!("{{httpCookie: {text}}}")).key {
        Some(HashKey::Cookie(cookie)) => cookie,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        cookie("{name: u, path: /p, ttl: 60s, attributes: [{name: SameSite, value: Strict}, {name: Secure}]}"),
        HashCookie {
            name: "u".into(),
            ttl: Some(Duration::from_secs(60)),
            attributes: "; Path=/p; SameSite=Strict; Secure; HttpOnly".into(),
        }
    );
    assert_eq!(cookie("{name: u}"), HashCookie { name: "u".into(), ttl: None, attributes: "; HttpOnly".into() });
}

#[test]
fn outlier_detection_has_istios_defaults() {
    let outlier = |text: &str| web(&format!("{{outlierDetection: {text}}}")).outlier.unwrap();
    let usual = OutlierDetection {
        consecutive_5xx: 5,
        consecutive_gateway: 0,
        consecutive_local: 0,
        split: false,
        errors: Vec::new(),
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection_percent: 10,
        min_health_percent: 0,
    };
    assert_eq!(outlier("{consecutive5xxErrors: 5}"), usual);
    assert_eq!(
        outlier("{consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, splitExternalLocalOriginErrors: true}"),
        OutlierDetection {
            consecutive_5xx: 0,
            consecutive_gateway: 3,
            consecutive_local: 5,
            split: true,
            ..usual.clone()
        }
    );
    assert_eq!(
        outlier(
            "{interval: 1s, baseEjectionTime: 2m, maxEjectionPercent: 100, minHealthPercent: 30, outlierDetectionHttpErrorCodes: [429]}"
        ),
        OutlierDetection {
            interval: Duration::from_secs(1),
            base_ejection: Duration::from_secs(120),
            max_ejection_percent: 100,
            min_health_percent: 30,
            errors: vec![429],
            ..usual
        }
    );
    assert_eq!(web("{loadBalancer: {simple: RANDOM}}").outlier, None);
}

#[test]
fn outlier_detection_of_the_mesh_counts_where_no_rule_says_anything() {
    let mesh = "data: {mesh: 'defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 7}}'}";
    let docs = || docs().http("'*'").service("default/web", 80).add("ConfigMap", "istio-system/istio", mesh);
    let outlier = |docs: super::super::fixture::Docs| {
        let translation = docs.vs("default/v", "a.com", &to("web")).translate_anyway();
        translation.set.destinations[WEB].outlier.as_ref().unwrap().consecutive_5xx
    };
    assert_eq!(outlier(docs()), 7);
    let rule = "spec: {host: web, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 2}}}";
    assert_eq!(outlier(docs().add("DestinationRule", "default/web", rule)), 2);
}

#[test]
fn pools_limit_what_goes_on_and_zero_says_nothing() {
    let pool = "{connectionPool: {tcp: {maxConnections: 1, maxConnectionDuration: 60s, tcpKeepalive: {probes: 3, time: 7s}}, \
                http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRetries: 4, maxRequestsPerConnection: 5, maxConcurrentStreams: 6}}}";
    let destination = web(pool);
    assert_eq!(
        destination.limits,
        Limits { connections: Some(1), pending: Some(2), requests: Some(3), retries: Some(4) }
    );
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        destination.connections,
        ConnectionRules {
            requests: Some(5),
            streams: Some(6),
            lifetime: seconds(60),
            keepalive: Keepalive { probes: Some(3), time: seconds(7), interval: None },
        }
    );
    let nothing =
        web("{connectionPool: {tcp: {maxConnections: 0}, http: {maxRetries: 0, maxRequestsPerConnection: 0}}}");
    assert_eq!((nothing.limits, nothing.connections), Default::default());
}
