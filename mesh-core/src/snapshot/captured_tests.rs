use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::compile::compile;
use crate::model::{
    DestinationRef, HostPattern, Inbound, InboundProtocol, MtlsMode, OutboundHttp, PathNormalization, ResourceSet,
    Resources, RouteSet, VirtualHost, WeightedDestination,
};
use crate::object::ObjectRef;
use crate::snapshot::{CompiledListener, CompiledProtocol, Snapshot};

fn origin() -> ObjectRef {
    ObjectRef::new("Service", "default", "s")
}

fn tcp(networks: &[&str], port: u16, sni: &[&str], name: &str) -> OutboundTcp {
    OutboundTcp {
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        port,
        sni: sni.iter().map(|name| crate::compile::sample_tests::pattern(&name.to_lowercase())).collect(),
        destinations: vec![WeightedDestination { destination: DestinationRef::Known(name.into()), weight: 1 }],
        routes: None,
        origin: origin(),
    }
}

fn http(routes: &str, detect: bool) -> OutboundHttp {
    OutboundHttp { routes: routes.into(), detect, by_port: BTreeMap::new() }
}

fn set(protocol: ListenerProtocol, routes: &[&str]) -> ResourceSet {
    let listener = Listener {
        key: "l".into(),
        address: "0.0.0.0:15001".parse().unwrap(),
        port: 15001,
        protocol,
        path_normalization: PathNormalization::Base,
        origin: origin(),
        server: None,
    };
    let routes = routes.iter().map(|key| {
        let key: Key = (*key).into();
        (Arc::clone(&key), Arc::new(RouteSet { key, virtual_hosts: Vec::new(), tcp: Vec::new(), origin: origin() }))
    });
    ResourceSet {
        listeners: Resources::from_iter([(Arc::clone(&listener.key), Arc::new(listener))]),
        routes: routes.collect(),
        ..ResourceSet::default()
    }
}

fn compiled(set: &ResourceSet, previous: Option<&Snapshot>) -> Snapshot {
    let compiled = compile(set, previous, 1);
    assert_eq!(compiled.diagnostics, []);
    compiled.snapshot
}

fn outbound(snapshot: &Snapshot) -> &CompiledOutbound {
    match &snapshot.listeners["l"].protocol {
        CompiledProtocol::Outbound(outbound) => outbound,
        other => panic!("{other:?}"),
    }
}

/// Where a connection goes, and which routes are there for HTTP.
fn goes(table: &CompiledOutbound, original: &str, sni: Option<&str>) -> (Option<String>, Option<String>) {
    let found = table.find(original.parse().unwrap());
    let tcp = found.tcp(sni).map(|tcp| match &tcp.destinations[0].destination {
        DestinationRef::Known(key) | DestinationRef::Unknown(key) => key.to_string(),
    });
    (tcp, found.http.map(|table| table.key().to_owned()))
}

#[test]
fn the_narrowest_network_counts_first_and_tcp_before_http() {
    let tcps = vec![
        tcp(&["10.0.0.1/32", "fd00::1/128"], 80, &[], "one"),
        tcp(&["10.0.0.0/8"], 80, &[], "wide"),
        tcp(&["10.0.0.1/32"], 80, &[], "late"),
        tcp(&["10.1.2.3/16"], 80, &[], "middle"),
        tcp(&[], 9000, &[], "anywhere"),
    ];
    let protocol = ListenerProtocol::Outbound(Outbound {
        http: BTreeMap::from([(80, http("80", false)), (81, http("81", true))]),
        tcp: tcps,
        unknown: UnknownDestination::Refuse,
        ..Outbound::default()
    });
    let snapshot = compiled(&set(protocol, &["80", "81"]), None);
    let table = outbound(&snapshot);
    let to = |original: &str| goes(table, original, None);
    assert_eq!(to("10.0.0.1:80"), (Some("one".into()), None));
    assert_eq!(to("[fd00::1]:80"), (Some("one".into()), None));
    assert_eq!(to("[::ffff:10.0.0.1]:80"), (Some("one".into()), None));
    assert_eq!(to("10.1.9.9:80"), (Some("middle".into()), None));
    assert_eq!(to("10.9.9.9:80"), (Some("wide".into()), None));
    assert_eq!(to("11.0.0.1:80"), (None, Some("80".into())));
    assert_eq!(to("11.0.0.1:9000"), (Some("anywhere".into()), None));
    assert_eq!(to("11.0.0.1:9001"), (None, None));
    let detects = |original: &str| table.find(original.parse().unwrap()).detect;
    assert!(!detects("11.0.0.1:80") && detects("11.0.0.1:81") && !detects("10.0.0.1:80"));
    assert_eq!(table.find("1.1.1.1:1".parse().unwrap()).unknown(), &UnknownDestination::Refuse);
}

#[test]
fn names_are_looked_for_before_everything_else_of_the_same_network() {
    let tcps = vec![
        tcp(&["10.0.0.1/32"], 443, &["a.example"], "a"),
        tcp(&["10.0.0.2/32"], 443, &[], "plain"),
        tcp(&[], 443, &["*.example"], "suffix"),
        tcp(&[], 443, &["A.example", "b.other"], "exact"),
    ];
    let protocol = ListenerProtocol::Outbound(Outbound { tcp: tcps, ..Outbound::default() });
    let snapshot = compiled(&set(protocol, &[]), None);
    let to = |original: &str, sni| goes(outbound(&snapshot), original, sni).0;
    assert_eq!(to("10.0.0.1:443", Some("A.example.")).as_deref(), Some("a"));
    assert_eq!(to("10.0.0.1:443", Some("x.example")).as_deref(), Some("suffix"), "no such name at the address");
    assert_eq!(to("10.0.0.2:443", Some("a.example")).as_deref(), Some("plain"));
    assert_eq!(to("1.1.1.1:443", Some("a.example")).as_deref(), Some("exact"));
    assert_eq!(to("1.1.1.1:443", Some("c.other")), None);
    assert_eq!(to("1.1.1.1:443", None), None);
    let named = |original: &str| outbound(&snapshot).find(original.parse().unwrap()).named;
    assert!(named("1.1.1.1:443") && named("10.0.0.1:443") && !named("10.0.0.2:443"));
}

#[test]
fn what_nobody_declares_has_routes_of_its_own() {
    let mut unnamed = tcp(&["10.0.0.1/32"], 7000, &[], "unnamed");
    unnamed.routes = Some("s:7000".into());
    let protocol = ListenerProtocol::Outbound(Outbound {
        http: BTreeMap::from([(7000, http("7000", false))]),
        tcp: vec![tcp(&["10.0.0.2/32"], 7000, &[], "other"), unnamed],
        unknown: UnknownDestination::Passthrough,
        ..Outbound::default()
    });
    let snapshot = compiled(&set(protocol, &["7000", "s:7000"]), None);
    let table = outbound(&snapshot);
    assert_eq!(goes(table, "10.0.0.1:7000", None), (Some("unnamed".into()), Some("s:7000".into())));
    assert_eq!(goes(table, "10.0.0.2:7000", None), (Some("other".into()), None));
    assert_eq!(goes(table, "10.0.0.3:7000", None), (None, Some("7000".into())));
    assert!(table.find("10.0.0.1:7000".parse().unwrap()).detect);
}

#[test]
fn what_did_not_change_is_taken_over() {
    let protocol = |port: u16| {
        ListenerProtocol::Outbound(Outbound {
            http: BTreeMap::from([(80, http("80", false))]),
            tcp: vec![tcp(&[], port, &[], "a")],
            ..Outbound::default()
        })
    };
    let first = set(protocol(1), &["80"]);
    let before = compiled(&first, None);
    let same = compiled(&first, Some(&before));
    let listener = |snapshot: &Snapshot| -> Arc<CompiledListener> { Arc::clone(&snapshot.listeners["l"]) };
    assert!(Arc::ptr_eq(&listener(&before), &listener(&same)));
    // Other routes: the index stays, the table is the new one.
    let mut routes = first.clone();
    let other = RouteSet {
        key: "80".into(),
        virtual_hosts: Vec::new(),
        tcp: Vec::new(),
        origin: ObjectRef::new("Service", "x", "y"),
    };
    routes.routes.insert("80".into(), Arc::new(other));
    let after = compiled(&routes, Some(&before));
    assert!(Arc::ptr_eq(&outbound(&before).index, &outbound(&after).index));
    assert!(Arc::ptr_eq(outbound(&after).find("1.1.1.1:80".parse().unwrap()).http.unwrap(), &after.tables["80"]));
    // Another listener.
    let moved = compiled(&set(protocol(2), &["80"]), Some(&before));
    assert_eq!(goes(outbound(&moved), "1.1.1.1:1", None).0, None);
    assert_eq!(goes(outbound(&moved), "1.1.1.1:2", None).0.as_deref(), Some("a"));
}

#[test]
fn inbound_is_by_port() {
    let port = |key: &str, mtls| InboundPort {
        protocol: InboundProtocol::Http,
        mtls,
        routes: key.into(),
        destination: key.into(),
        tls: None,
    };
    let protocol = ListenerProtocol::Inbound(Inbound {
        ports: BTreeMap::from([(9080, port("inbound|9080||", MtlsMode::Strict))]),
        others: port("others", MtlsMode::Permissive),
        direct: false,
    });
    let set = set(protocol, &["inbound|9080||", "others"]);
    let snapshot = compiled(&set, None);
    let again = compiled(&set, Some(&snapshot));
    assert!(Arc::ptr_eq(&snapshot.listeners["l"], &again.listeners["l"]));
    let CompiledProtocol::Inbound(inbound) = &snapshot.listeners["l"].protocol else { panic!() };
    assert_eq!((inbound.port(9080).routes.key(), inbound.port(9080).port.mtls), ("inbound|9080||", MtlsMode::Strict));
    assert_eq!(inbound.port(9081).routes.key(), "others");
}

fn network() -> impl Strategy<Value = String> {
    (0..4_u8, 0..4_u8, prop_oneof![Just(8_u8), Just(15), Just(16), Just(24), Just(31), Just(32)])
        .prop_map(|(a, b, prefix)| format!("10.{a}.0.{b}/{prefix}"))
}

fn entry() -> impl Strategy<Value = (Vec<String>, u16, Vec<&'static str>)> {
    let names = proptest::sample::select(vec!["a.example", "b.example", "*.example", "*"]);
    (proptest::collection::vec(network(), 0..3), 1..3_u16, proptest::collection::vec(names, 0..2))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// As if all entries were tried.
    #[test]
    fn the_table_agrees_with_a_search(
        entries in proptest::collection::vec(entry(), 0..12), a in 0..4_u8, b in 0..4_u8, port in 1..3_u16,
        sni in proptest::option::of(proptest::sample::select(vec!["a.example", "b.example", "c.example", "x.y"])),
    ) {
        let tcps: Vec<OutboundTcp> = entries.iter().enumerate().map(|(number, (networks, port, sni))| {
            let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
            tcp(&networks, *port, sni, &number.to_string())
        }).collect();
        let ip: IpAddr = [10, a, 0, b].into();
        let mut best: Option<(i16, u8, usize, usize)> = None;
        for (number, tcp) in tcps.iter().enumerate().filter(|(_, tcp)| tcp.port == port) {
            let sizes = tcp.networks.iter().filter(|network| network.contains(&ip)).map(|network| i16::from(network.prefix_len()));
            let size = if tcp.networks.is_empty() { Some(-1) } else { sizes.max() };
            let fit = |pattern: &HostPattern| match (pattern, sni) {
                (HostPattern::Exact(name), Some(sni)) => (**name == *sni).then_some((2, name.len())),
                (HostPattern::Suffix(suffix), Some(sni)) => sni.ends_with(&**suffix).then_some((1, suffix.len())),
                (HostPattern::Any, Some(_)) => Some((1, 0)),
                (_, None) => None,
            };
            let name = if tcp.sni.is_empty() { Some((0, 0)) } else { tcp.sni.iter().filter_map(fit).max() };
            let (Some(size), Some((kind, length))) = (size, name) else { continue };
            let rank = (size, kind, length);
            if best.is_none_or(|(s, k, l, _)| rank > (s, k, l)) {
                best = Some((size, kind, length, number));
            }
        }
        let protocol = ListenerProtocol::Outbound(Outbound { tcp: tcps, ..Outbound::default() });
        let snapshot = compiled(&set(protocol, &[]), None);
        let original = SocketAddr::new(ip, port).to_string();
        let (found, _) = goes(outbound(&snapshot), &original, sni);
        prop_assert_eq!(found, best.map(|(_, _, _, number)| number.to_string()));
    }
}

#[test]
fn who_knows_some_hosts_only_tells_what_it_lacks() {
    let mut own = tcp(&["10.96.0.7/32"], 7000, &[], "own");
    own.routes = Some("s:7000".into());
    let on_demand = OnDemand {
        networks: vec!["10.96.0.0/16".parse().unwrap()],
        answered: ["10.96.0.1", "known.example", "fd00::1"].map(Key::from).into(),
    };
    let protocol = |on_demand| {
        ListenerProtocol::Outbound(Outbound {
            http: BTreeMap::from([(80, http("80", false))]),
            tcp: vec![own.clone()],
            on_demand,
            ..Outbound::default()
        })
    };
    let known = VirtualHost {
        host: HostPattern::Exact("a.example".into()),
        aliases: vec![HostPattern::Suffix(".a.example".into())],
        https_redirect: false,
        rules: Vec::new(),
        origin: origin(),
    };
    let routes = RouteSet { key: "80".into(), virtual_hosts: vec![Arc::new(known)], tcp: Vec::new(), origin: origin() };
    let mut some = set(protocol(Some(on_demand)), &["s:7000"]);
    some.routes.insert("80".into(), Arc::new(routes));
    let snapshot = compiled(&some, None);
    let table = outbound(&snapshot);
    let address = |text: &str| table.lacks_address(text.parse().unwrap());
    assert!(address("10.96.0.2") && address("::ffff:10.96.0.2"));
    assert!(!address("10.96.0.1") && !address("10.97.0.1"));

    let host =
        |to: &str, authority: &str| table.lacks_host(to.parse().unwrap(), authority).map(|name| name.to_string());
    let far = "192.0.2.1:80";
    assert_eq!(host(far, "Other.Example.:80"), Some("other.example".to_owned()));
    assert_eq!(host(far, "KNOWN.example"), None);
    // A host of the table; what its pattern covers may be another one's.
    assert_eq!(host(far, "A.example:80"), None);
    assert_eq!(host(far, "b.a.example"), Some("b.a.example".to_owned()));
    assert_eq!(host(far, "a b"), None, "no name");
    // Addresses in place of a name, near and far, known and not.
    assert_eq!(host(far, "10.96.0.2:80"), Some("10.96.0.2".to_owned()));
    assert_eq!(host(far, "192.0.2.1"), None);
    assert_eq!(host(far, "10.96.0.1"), None);
    // All requests to that address are its service's.
    assert_eq!(host("10.96.0.7:7000", "other.example"), None);

    let all = compiled(&set(protocol(None), &["80", "s:7000"]), None);
    let table = outbound(&all);
    assert!(!table.lacks_address("10.96.0.2".parse().unwrap()));
    assert_eq!(table.lacks_host(far.parse().unwrap(), "other.example"), None);
}
