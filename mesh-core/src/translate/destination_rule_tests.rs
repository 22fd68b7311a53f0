use std::time::Duration;

use super::super::fixture::{docs, to};
use crate::model::{
    Balancing, ConnectionRules, Destination, HashCookie, HashKey, HashTable, Hashing, Keepalive, Limits,
    OutlierDetection, PingRule, ProxyHeader, RetryBudget, Share, Tunnel, TunnelMethod, UpstreamProtocol, Warmup,
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
        Balancing::Hash(hashing) => *hashing,
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
    let outlier = |text: &str| web(&format!("{{outlierDetection: {text}}}")).outlier.map(|outlier| *outlier).unwrap();
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
        Limits { connections: Some(1), pending: Some(2), requests: Some(3), retries: Some(4), retry_budget: None }
    );
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        destination.connections,
        ConnectionRules {
            requests: Some(5),
            streams: Some(6),
            lifetime: seconds(60),
            keepalive: Keepalive { probes: Some(3), time: seconds(7), interval: None },
            ..ConnectionRules::default()
        }
    );
    let nothing =
        web("{connectionPool: {tcp: {maxConnections: 0}, http: {maxRetries: 0, maxRequestsPerConnection: 0}}}");
    assert_eq!((nothing.limits, nothing.connections), Default::default());
}

/// It is none of what settings of a port replace.
#[test]
fn a_proxy_header_is_for_all_ports() {
    let header = |policy: &str| web(policy).connections.proxy_header;
    assert_eq!(header("{proxyProtocol: {version: V2}}"), Some(ProxyHeader::V2));
    assert_eq!(header("{proxyProtocol: {}}"), Some(ProxyHeader::V1));
    let port = "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]";
    assert_eq!(header(&format!("{{proxyProtocol: {{version: V1}}, {port}}}")), Some(ProxyHeader::V1));
    assert_eq!(header("{loadBalancer: {simple: RANDOM}}"), None);
}

#[test]
fn a_tunnel_leads_to_a_host_and_a_port() {
    let tunnel = |text: &str| web(&format!("{{tunnel: {text}}}")).connections.tunnel;
    let of = |method, host: &str| Some(Tunnel { method, host: host.into(), port: 443 }.into());
    assert_eq!(tunnel("{targetHost: x.example, targetPort: 443}"), of(TunnelMethod::Connect, "x.example"));
    assert_eq!(
        tunnel("{protocol: POST, targetHost: 2001:db8::1, targetPort: 443}"),
        of(TunnelMethod::Post, "2001:db8::1")
    );
    assert_eq!(tunnel("{targetHost: x.example, targetPort: 0}"), None);
}

#[test]
fn the_client_chooses_the_protocol_where_the_rule_says_so() {
    let protocol = |http: &str| web(&format!("{{connectionPool: {{http: {{{http}}}}}}}")).protocol;
    assert_eq!(protocol("useClientProtocol: true"), UpstreamProtocol::AsClient);
    assert_eq!(protocol("useClientProtocol: false"), UpstreamProtocol::Http1);
    assert_eq!(protocol("useClientProtocol: true, h2UpgradePolicy: DO_NOT_UPGRADE"), UpstreamProtocol::AsClient);
    // Refused together, with the whole pool.
    assert_eq!(protocol("useClientProtocol: true, h2UpgradePolicy: UPGRADE"), UpstreamProtocol::Http1);
}

#[test]
fn pings_have_both_of_their_times() {
    let ping = |rule: &str| web(&format!("{{connectionPool: {{http: {{http2KeepAlive: {rule}}}}}}}")).connections.ping;
    let wanted = PingRule { interval: Duration::from_secs(30), timeout: Duration::from_millis(500) };
    assert_eq!(ping("{interval: 30s, timeout: 500ms}"), Some(wanted));
    assert_eq!(ping("{interval: 30s}"), None);
}

#[test]
fn a_retry_budget_has_what_is_usual_where_nothing_is_said() {
    let budget = |text: &str| web(&format!("{{retryBudget: {text}}}")).limits.retry_budget;
    let of = |percent, at_least, interval| Some(RetryBudget { share: Share::of_percent(percent), at_least, interval });
    assert_eq!(budget("{}"), of(20.0, 3, None));
    assert_eq!(budget("{percent: 12.5, minRetryConcurrency: 7}"), of(12.5, 7, None));
    assert_eq!(budget("{percent: 0, minRetryConcurrency: 0, budgetInterval: 0s}"), of(0.0, 3, None));
    assert_eq!(budget("{budgetInterval: 10s}"), of(20.0, 3, Some(Duration::from_secs(10))));
    assert_eq!(budget("{percent: 101}"), None);
}

#[test]
fn new_endpoints_are_warmed_up_where_they_take_turns_or_the_less_loaded_one_is_taken() {
    let warmup = |balancer: &str| web(&format!("{{loadBalancer: {{{balancer}}}}}")).warmup;
    let of = |seconds, minimum, aggression| Some(Warmup { window: Duration::from_secs(seconds), minimum, aggression });
    assert_eq!(warmup("simple: ROUND_ROBIN, warmup: {duration: 60s}"), of(60, 1000, 1000));
    assert_eq!(warmup("warmup: {duration: 5s, minimumPercent: 2.5, aggression: 0.5}"), of(5, 250, 500));
    assert_eq!(warmup("simple: LEAST_REQUEST, warmupDurationSecs: 7s"), of(7, 1000, 1000));
    assert_eq!(warmup("warmupDurationSecs: 7s, warmup: {duration: 9s, minimumPercent: 0}"), of(9, 0, 1000));
    assert_eq!(warmup("simple: RANDOM, warmup: {duration: 60s}"), None);
    assert_eq!(warmup("consistentHash: {useSourceIp: true}, warmup: {duration: 60s}"), None);
    assert_eq!(warmup("simple: UNSPECIFIED"), None);
}
