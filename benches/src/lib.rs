//! Models of any size for the benches, which live in `benches/`.

mod cpu;
pub mod crowd;
pub mod envoy;
pub mod usage;

use std::sync::Arc;
use std::time::Duration;

use mesh_core::model::{
    Action, Balancing, Destination, DestinationRef, Forward, HeaderMatch, HostPattern, ListenAddress, Listener,
    ListenerProtocol, PathMatch, PathNormalization, Predicate, Reach, ResourceSet, Resources, Rewrite, RouteSet, Rule,
    RuleSource, Split, StringMatch, UpstreamProtocol, UpstreamTls, VirtualHost,
};
use mesh_core::object::ObjectRef;
use mesh_core::snapshot::{CompiledProtocol, HostTable, Snapshot};

pub use cpu::{CpuTime, requests};

/// Key of the only listener.
pub const LISTENER: &str = "0.0.0.0:8080";
/// Number of destinations that the rules share.
const DESTINATIONS: u32 = 100;

fn origin() -> ObjectRef {
    ObjectRef::new("VirtualService", "default", "bench")
}

fn key(number: u32) -> Arc<str> {
    format!("outbound|80||s{}.default.svc.cluster.local", number % DESTINATIONS).into()
}

/// A rule with an action of its own, as one that a user wrote.
pub fn rule(number: u32, predicate: Predicate) -> Rule {
    let split = Split { destination: DestinationRef::Known(key(number)), weight: 1, headers: Arc::default() };
    Rule {
        source: RuleSource { object: origin(), http: number, r#match: Some(0) },
        name: None,
        stat_prefix: None,
        predicate,
        action: Arc::new(Action::Forward(Forward {
            splits: vec![split],
            rewrite: Rewrite::default(),
            timeout: None,
            retry: Arc::default(),
            fault: None,
            mirrors: Vec::new(),
            cors: None,
        })),
        headers: Arc::default(),
    }
}

/// `/team-07/service-01234/`: all of one length, so that tables of all sizes have the same shape.
pub fn path(number: u32) -> String {
    format!("/team-{:02}/service-{number:05}/", number % 17)
}

pub fn on_prefix(number: u32) -> Predicate {
    Predicate { path: PathMatch::Prefix { value: path(number), ignore_case: false }, ..Predicate::default() }
}

pub fn on_regex(number: u32) -> Predicate {
    Predicate { path: PathMatch::Regex(format!("/[a-z]+/item-{number}/[0-9]+")), ..Predicate::default() }
}

/// The same path for all, a header value for each.
pub fn on_header(number: u32) -> Predicate {
    let value = StringMatch::Exact(format!("user-{number}"));
    let header = HeaderMatch { name: "x-user".to_owned(), value, invert: false };
    Predicate {
        path: PathMatch::Prefix { value: "/".to_owned(), ignore_case: false },
        headers: vec![header],
        ..Predicate::default()
    }
}

pub fn host(name: &str, rules: Vec<Rule>) -> Arc<VirtualHost> {
    Arc::new(VirtualHost {
        host: HostPattern::Exact(name.into()),
        aliases: Vec::new(),
        https_redirect: false,
        rules,
        origin: origin(),
    })
}

pub fn rules(count: u32, predicate: impl Fn(u32) -> Predicate) -> Vec<Rule> {
    (0..count).map(|number| rule(number, predicate(number))).collect()
}

/// One HTTP listener with these hosts.
pub fn set(virtual_hosts: Vec<Arc<VirtualHost>>) -> ResourceSet {
    let listener = Listener {
        key: LISTENER.into(),
        address: ListenAddress::Socket(([0, 0, 0, 0], 8080).into()),
        port: 8080,
        protocol: ListenerProtocol::Http { routes: "http.8080".into() },
        path_normalization: PathNormalization::Base,
        origin: origin(),
        server: None,
    };
    let routes = RouteSet { key: "http.8080".into(), virtual_hosts, tcp: Vec::new(), origin: origin() };
    ResourceSet {
        listeners: Resources::from_iter([(listener.key.clone(), Arc::new(listener))]),
        routes: Resources::from_iter([(routes.key.clone(), Arc::new(routes))]),
        destinations: (0..DESTINATIONS).map(|number| (key(number), destination(number))).collect(),
        ..ResourceSet::default()
    }
}

fn destination(number: u32) -> Arc<Destination> {
    let host = format!("s{number}.default.svc.cluster.local");
    Arc::new(Destination {
        key: key(number),
        host: host.as_str().into(),
        service_name: format!("s{number}").into(),
        service_namespace: "default".into(),
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
        origin: origin(),
        rule: None,
    })
}

/// The table of the only listener.
pub fn table(snapshot: &Snapshot) -> Option<&HostTable> {
    match &snapshot.listeners.get(LISTENER)?.protocol {
        CompiledProtocol::Http(table) => Some(table),
        CompiledProtocol::Tls(_)
        | CompiledProtocol::Tcp(_)
        | CompiledProtocol::Outbound(_)
        | CompiledProtocol::Inbound(_) => None,
    }
}
