//! What is not said on the wire. Both ends must agree on it over versions: a default that changes would change rules.

use std::time::Duration;

use super::*;
use crate::model::{
    Action, Attribute, Balancing, Clause, ConnectionRules, DestinationRef, DirectResponse, Endpoint, EndpointAddress,
    Endpoints, Forward, HeaderOp, HeaderOps, Inbound, InboundPort, InboundProtocol, LimitAmount, ListenerProtocol,
    MtlsMode, Outbound, OutboundHttp, OutboundTcp, PathMatch, PathNormalization, PingRule, PolicyAction, PolicyRule,
    Predicate, ProxyHeader, Reach, Redirect, RedirectPort, RequestLimit, RetryBudget, Rewrite, Rule, RuleSource, Share,
    Split, Tunnel, TunnelMethod, UnknownDestination, UpstreamProtocol, UpstreamTls, ValueMatch, WeightedDestination,
};

fn rule(action: Action) -> Rule {
    let predicate = Predicate {
        path: PathMatch::Any,
        method: None,
        scheme: None,
        authority: None,
        headers: Vec::new(),
        query: Vec::new(),
        claims: Vec::new(),
    };
    let source = RuleSource { object: ObjectRef::new("VirtualService", "default", "a"), http: 0, r#match: None };
    Rule { source, name: None, stat_prefix: None, predicate, action: action.into(), headers: no_ops().into() }
}

fn no_ops() -> HeaderOps {
    let none = || HeaderOp { remove: Vec::new(), set: Vec::new(), add: Vec::new() };
    HeaderOps { request: none(), response: none() }
}

fn host() -> Config {
    let split = Split { destination: DestinationRef::Known("d".into()), weight: 1, headers: no_ops().into() };
    let actions = [
        Action::Forward(Forward {
            splits: vec![split],
            rewrite: Rewrite { path: None, authority: None },
            timeout: None,
            retry: std::sync::Arc::default(),
            fault: None,
            mirrors: Vec::new(),
            cors: None,
        }),
        Action::Redirect(Redirect { status: 301, scheme: None, authority: None, port: RedirectPort::Keep, path: None }),
        Action::Respond(DirectResponse { status: 200, body: None }),
    ];
    let host = VirtualHost {
        host: HostPattern::Exact("a.example".into()),
        aliases: Vec::new(),
        https_redirect: false,
        rules: actions.into_iter().map(rule).collect(),
        origin: ObjectRef::new("Gateway", "default", "g"),
    };
    Config::Host { routes: "http.80".into(), host }
}

fn destination() -> Config {
    Config::Destination(Destination {
        key: "d".into(),
        host: "s".into(),
        service_name: "s".into(),
        service_namespace: "n".into(),
        port: 80,
        subset: None,
        protocol: UpstreamProtocol::Http1,
        balancing: Balancing::LeastRequest,
        locality: None,
        warmup: None,
        outlier: None,
        tls: UpstreamTls::Auto,
        limits: Default::default(),
        connections: Default::default(),
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        reach: Reach::Discovered,
        origin: ObjectRef::new("Service", "n", "s"),
        rule: None,
    })
}

fn text<T: Serialize>(value: &T) -> String {
    String::from_utf8(encode(value).unwrap()).unwrap()
}

const OBJECT: &str = r#"{"kind":"VirtualService","namespace":"default","name":"a"}"#;

#[test]
fn what_a_host_does_not_say_is_nothing() {
    let rule =
        |action: &str| format!(r#"{{"source":{{"object":{OBJECT},"http":0}},"predicate":{{}},"action":{action}}}"#);
    let actions = [
        r#"{"Forward":{"splits":[{"destination":{"Known":"d"},"weight":1}]}}"#,
        r#"{"Redirect":{"status":301,"port":"Keep"}}"#,
        r#"{"Respond":{"status":200}}"#,
    ];
    let rules = actions.map(rule).join(",");
    let origin = r#"{"kind":"Gateway","namespace":"default","name":"g"}"#;
    let host_text = format!(r#"{{"host":{{"Exact":"a.example"}},"rules":[{rules}],"origin":{origin}}}"#);
    let wanted = format!(r#"{{"host":{{"routes":"http.80","host":{host_text}}}}}"#);
    assert_eq!(text(&host()), wanted);
    assert_eq!(decode::<Config>(wanted.as_bytes()).unwrap(), host());
}

#[test]
fn a_rule_without_a_predicate_is_refused() {
    let without = text(&host()).replacen(r#""predicate":{},"#, "", 1);
    assert!(decode::<Config>(without.as_bytes()).is_err());
}

#[test]
fn what_a_destination_does_not_say_is_the_default() {
    let wanted = concat!(
        r#"{"destination":{"key":"d","host":"s","service_name":"s","service_namespace":"n","port":80,"protocol":"Http1","#,
        r#""connect_timeout":{"secs":10,"nanos":0},"idle_timeout":{"secs":60,"nanos":0},"#,
        r#""origin":{"kind":"Service","namespace":"n","name":"s"}}}"#
    );
    assert_eq!(text(&destination()), wanted);
    assert_eq!(decode::<Config>(wanted.as_bytes()).unwrap(), destination());
}

fn listener(protocol: ListenerProtocol) -> Config {
    Config::Listener(Listener {
        key: "l".into(),
        address: "0.0.0.0:15001".parse().unwrap(),
        port: 15001,
        protocol,
        path_normalization: PathNormalization::Base,
        origin: ObjectRef::new("ConfigMap", "n", "istio"),
        server: None,
    })
}

fn listener_text(protocol: &str) -> String {
    let origin = r#"{"kind":"ConfigMap","namespace":"n","name":"istio"}"#;
    format!(
        r#"{{"listener":{{"key":"l","address":"0.0.0.0:15001","port":15001,"protocol":{protocol},"path_normalization":"Base","origin":{origin}}}}}"#
    )
}

#[test]
fn what_a_captured_listener_does_not_say_is_nothing() {
    let destinations = vec![WeightedDestination { destination: DestinationRef::Known("d".into()), weight: 1 }];
    let tcp = OutboundTcp {
        networks: Vec::new(),
        port: 5432,
        sni: Vec::new(),
        destinations,
        routes: None,
        origin: ObjectRef::new("Service", "n", "s"),
    };
    let http = std::collections::BTreeMap::from([(
        80,
        OutboundHttp { routes: "80".into(), detect: false, by_port: std::collections::BTreeMap::new() },
    )]);
    let outbound =
        |http, tcp| Outbound { http, tcp, unknown: UnknownDestination::Passthrough, on_demand: None, direct: false };
    let port = InboundPort {
        protocol: InboundProtocol::Tcp,
        mtls: MtlsMode::Permissive,
        routes: "r".into(),
        destination: "d".into(),
        tls: None,
    };
    let inbound = Inbound { ports: std::collections::BTreeMap::new(), others: port, direct: false };
    let entry = concat!(
        r#"{"port":5432,"destinations":[{"destination":{"Known":"d"},"weight":1}],"#,
        r#""origin":{"kind":"Service","namespace":"n","name":"s"}}"#
    );
    let cases = [
        (ListenerProtocol::Outbound(outbound(Default::default(), Vec::new())), r#"{"Outbound":{}}"#.to_owned()),
        (
            ListenerProtocol::Outbound(outbound(http, vec![tcp])),
            format!(r#"{{"Outbound":{{"http":{{"80":{{"routes":"80"}}}},"tcp":[{entry}]}}}}"#),
        ),
        (
            ListenerProtocol::Inbound(inbound),
            r#"{"Inbound":{"others":{"protocol":"Tcp","routes":"r","destination":"d"}}}"#.to_owned(),
        ),
    ];
    for (protocol, wanted) in cases {
        let (config, wanted) = (listener(protocol), listener_text(&wanted));
        assert_eq!(text(&config), wanted);
        assert_eq!(decode::<Config>(wanted.as_bytes()).unwrap(), config);
    }
}

#[test]
fn what_an_endpoint_does_not_say_is_unknown() {
    let endpoint = Endpoint {
        address: EndpointAddress::Socket(([10, 0, 0, 1], 80).into()),
        weight: 1,
        locality: "".into(),
        workload: None,
        mtls: false,
        priority_labels: None,
    };
    let endpoints =
        Endpoints { key: "d".into(), endpoints: vec![endpoint], origin: ObjectRef::new("Service", "n", "s") };
    let wanted = concat!(
        r#"{"key":"d","endpoints":[{"address":{"Socket":"10.0.0.1:80"},"weight":1}],"#,
        r#""origin":{"kind":"Service","namespace":"n","name":"s"}}"#
    );
    assert_eq!(text(&endpoints), wanted);
    assert_eq!(decode::<Endpoints>(wanted.as_bytes()).unwrap(), endpoints);
}

#[test]
fn mutual_tls_is_said_where_it_is_not_the_default() {
    let Config::Destination(destination) = destination() else { panic!() };
    let mutual = Config::Destination(Destination { tls: UpstreamTls::Mutual, ..destination });
    assert!(text(&mutual).contains(r#""protocol":"Http1","tls":"Mutual","#), "{}", text(&mutual));
    assert_eq!(decode::<Config>(text(&mutual).as_bytes()).unwrap(), mutual);
    let endpoint = r#"{"address":{"Socket":"10.0.0.1:80"},"weight":1,"mtls":true}"#;
    assert!(decode::<Endpoint>(endpoint.as_bytes()).unwrap().mtls);
    let settings = ProxySettings { trust_domains: vec!["cluster.local".into()], ..ProxySettings::default() };
    let wanted = r#"{"settings":{"access_log":null,"trusted_proxies":0,"trust_domains":["cluster.local"]}}"#;
    assert_eq!(text(&Config::Settings(settings)), wanted);
}

#[test]
fn what_a_policy_does_not_say_is_nothing() {
    let clause = Clause {
        attribute: Attribute::Header("x-a".to_owned()),
        values: vec![ValueMatch::Prefix("v".to_owned()), ValueMatch::Present],
        negated: false,
    };
    let policy = Config::Authorization(Authorization {
        key: "n/p".into(),
        action: PolicyAction::Deny,
        dry_run: false,
        rules: vec![PolicyRule { index: 0, from: Vec::new(), to: Vec::new(), when: vec![clause] }],
        origin: ObjectRef::new("AuthorizationPolicy", "n", "p"),
    });
    let wanted = concat!(
        r#"{"authorization":{"key":"n/p","action":"Deny","rules":[{"index":0,"when":[{"attribute":{"Header":"x-a"},"#,
        r#""values":[{"Prefix":"v"},"Present"]}]}],"origin":{"kind":"AuthorizationPolicy","namespace":"n","name":"p"}}}"#
    );
    assert_eq!(text(&policy), wanted);
    assert_eq!(decode::<Config>(wanted.as_bytes()).unwrap(), policy);
    assert_eq!(policy.name(), "authorization/n/p");
    // A condition that is not known is no condition that holds.
    for (known, unknown) in [("Header", "Weather"), ("Prefix", "Like"), ("Deny", "Doubt"), ("when", "unless")] {
        assert!(decode::<Config>(wanted.replace(known, unknown).as_bytes()).is_err(), "{unknown}");
    }
}

#[test]
fn what_a_rate_limit_does_not_say_is_usual() {
    let amount = LimitAmount {
        requests: 100,
        per: Duration::from_secs(60),
        burst: 20,
        by: Vec::new(),
        max_buckets: LimitAmount::USUAL_BUCKETS,
        global: false,
    };
    let (from, to, when) = (Vec::new(), Vec::new(), Vec::new());
    let limits = Config::RateLimits(RateLimits {
        key: "n/p".into(),
        limits: vec![RequestLimit { index: 0, name: "all".into(), from, to, when, amount, silent: false }],
        origin: ObjectRef::new("RateLimit", "n", "p"),
    });
    let wanted = concat!(
        r#"{"rate_limits":{"key":"n/p","limits":[{"index":0,"name":"all","amount":{"requests":100,"#,
        r#""per":{"secs":60,"nanos":0},"burst":20}}],"origin":{"kind":"RateLimit","namespace":"n","name":"p"}}}"#
    );
    assert_eq!(text(&limits), wanted);
    assert_eq!(decode::<Config>(wanted.as_bytes()).unwrap(), limits);
    assert_eq!(limits.name(), "rate-limits/n/p");
    let by = wanted
        .replace(r#""burst":20"#, r#""burst":20,"by":[{"ClientAddress":{"ipv4":32,"ipv6":64}},{"Header":"x-a"}]"#);
    assert!(decode::<Config>(by.as_bytes()).is_ok(), "{by}");
    // What a later version tells apart by is nothing to count without.
    assert!(decode::<Config>(by.replace("Header", "Weather").as_bytes()).is_err());
    // As a proxy of an earlier version reads it, for which the whole is new.
    assert!(decode::<Config>(wanted.replace("rate_limits", "weather").as_bytes()).is_err());
}

#[test]
fn of_connections_is_said_what_is_not_usual() {
    let Config::Destination(mut destination) = destination() else { panic!() };
    let tunnel = Tunnel { method: TunnelMethod::Connect, host: "x.example".into(), port: 443 };
    destination.connections = ConnectionRules {
        proxy_header: Some(ProxyHeader::V2),
        tunnel: Some(tunnel.into()),
        ping: Some(PingRule { interval: Duration::from_secs(1), timeout: Duration::from_secs(2) }),
        ..ConnectionRules::default()
    };
    destination.limits.retry_budget = Some(RetryBudget { share: Share::of_percent(20.0), at_least: 3, interval: None });
    let told = Config::Destination(destination);
    let wanted = concat!(
        r#""limits":{"retry_budget":{"share":200000,"at_least":3}},"connections":{"proxy_header":"V2","#,
        r#""tunnel":{"host":"x.example","port":443},"#,
        r#""ping":{"interval":{"secs":1,"nanos":0},"timeout":{"secs":2,"nanos":0}}},"#
    );
    assert!(text(&told).contains(wanted), "{}", text(&told));
    assert_eq!(decode::<Config>(text(&told).as_bytes()).unwrap(), told);
}

#[test]
fn a_prefix_of_statistics_is_said_where_there_is_one() {
    let plain = rule(Action::Respond(DirectResponse { status: 200, body: None }));
    assert!(!text(&plain).contains("stat_prefix"), "{}", text(&plain));
    let counted = Rule { stat_prefix: Some("p".into()), ..plain };
    assert!(text(&counted).contains(r#""stat_prefix":"p""#), "{}", text(&counted));
    assert_eq!(decode::<Rule>(text(&counted).as_bytes()).unwrap(), counted);
}
