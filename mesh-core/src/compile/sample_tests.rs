//! Small models for the tests of this room and of `snapshot`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::model::*;
use crate::object::ObjectRef;
use crate::snapshot::{Decision, HostTable, Request};

pub(crate) fn origin() -> ObjectRef {
    ObjectRef::new("VirtualService", "default", "v")
}

pub(crate) fn destination(host: &str) -> Arc<Destination> {
    Arc::new(Destination {
        key: key_of(host),
        host: host.into(),
        service_name: host.into(),
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

pub(crate) fn key_of(host: &str) -> Key {
    format!("outbound|80||{host}").into()
}

pub(crate) fn split(host: &str, weight: u32) -> Split {
    Split { destination: DestinationRef::Known(key_of(host)), weight, headers: Arc::default() }
}

pub(crate) fn forward(splits: Vec<Split>) -> Action {
    Action::Forward(Forward {
        splits,
        rewrite: Rewrite::default(),
        timeout: None,
        retry: Arc::default(),
        fault: None,
        mirrors: Vec::new(),
        cors: None,
    })
}

pub(crate) fn rule(number: u32, predicate: Predicate, action: Action) -> Rule {
    Rule {
        source: RuleSource { object: origin(), http: number, r#match: Some(0) },
        name: None,
        stat_prefix: None,
        predicate,
        action: Arc::new(action),
        headers: Arc::default(),
    }
}

pub(crate) fn on_path(path: PathMatch) -> Predicate {
    Predicate { path, ..Predicate::default() }
}

pub(crate) fn prefix(value: &str) -> PathMatch {
    PathMatch::Prefix { value: value.to_owned(), ignore_case: false }
}

pub(crate) fn exact(value: &str) -> PathMatch {
    PathMatch::Exact { value: value.to_owned(), ignore_case: false }
}

pub(crate) fn pattern(host: &str) -> HostPattern {
    match host.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(host.into()),
    }
}

pub(crate) fn virtual_host(host: &str, rules: Vec<Rule>) -> Arc<VirtualHost> {
    Arc::new(VirtualHost { host: pattern(host), aliases: Vec::new(), https_redirect: false, rules, origin: origin() })
}

/// One listener, `0.0.0.0:80`, with these hosts, and the destinations that they name.
pub(crate) fn set(hosts: Vec<Arc<VirtualHost>>, destinations: &[&str]) -> ResourceSet {
    let listener = Listener {
        key: "0.0.0.0:80".into(),
        address: "0.0.0.0:80".parse().unwrap(),
        port: 80,
        protocol: ListenerProtocol::Http { routes: "http.80".into() },
        path_normalization: PathNormalization::Base,
        origin: origin(),
        server: None,
    };
    let routes = RouteSet { key: "http.80".into(), virtual_hosts: hosts, tcp: Vec::new(), origin: origin() };
    ResourceSet {
        listeners: Resources::from_iter([(listener.key.clone(), Arc::new(listener))]),
        routes: Resources::from_iter([(routes.key.clone(), Arc::new(routes))]),
        destinations: destinations.iter().map(|host| (key_of(host), destination(host))).collect(),
        ..ResourceSet::default()
    }
}

pub(crate) fn http_table(snapshot: &crate::snapshot::Snapshot) -> &HostTable {
    match &snapshot.listeners.get("0.0.0.0:80").unwrap().protocol {
        crate::snapshot::CompiledProtocol::Http(table) => table,
        _ => panic!("no HTTP listener"),
    }
}

pub(crate) fn get<'a>(authority: &'a str, path: &'a str, headers: &'a HeaderMap) -> Request<'a> {
    Request { method: "GET", scheme: "http", authority, path, query: None, headers, token: None }
}

/// `spec.http` index of the winner.
pub(crate) fn winner(table: &HostTable, request: &Request<'_>) -> Option<u32> {
    match table.route(request, &mut |_| 0) {
        Decision::Forward { rule, .. } | Decision::Redirect { rule, .. } | Decision::Respond { rule, .. } => {
            Some(rule.source.http)
        }
        Decision::HttpsRedirect | Decision::NoRoute => None,
    }
}
