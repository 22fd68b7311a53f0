//! The parts as tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesh_core::model::{
    Action, DestinationRef, HeaderMatch, Listener, ListenerProtocol, PathMatch, Predicate, QueryMatch, Rule, Serves,
    StringMatch, UpstreamProtocol,
};
use mesh_core::object::ObjectRef;

use super::pages::{Cluster, Pages, Workload};
use super::{Filter, What, captured};
use crate::ctl::exit::Failure;
use crate::ctl::output::Table;

/// Most endpoints or names that stand in one cell.
const FEW: usize = 3;

pub fn render(what: What, pages: &Pages, filter: &Filter) -> Result<String, Failure> {
    let table = match what {
        What::Listeners => listeners(pages, filter)?,
        What::Routes => routes(pages, filter)?,
        What::Clusters => clusters(pages, filter)?,
        What::Endpoints => endpoints(pages, filter)?,
        What::Secrets => secrets(pages)?,
        What::Names => names(pages, filter)?,
        What::All => return Ok(String::new()),
    };
    Ok(if table.is_empty() { format!("No {} here.\n", what.word()) } else { table.render() })
}

fn listeners(pages: &Pages, filter: &Filter) -> Result<Table, Failure> {
    let mut table = Table::new(&["ADDRESS", "PORT", "MATCH", "DESTINATION", "STATE", "CONNECTIONS", "FROM"]);
    let open: HashMap<String, _> =
        pages.open_listeners()?.into_iter().map(|open| (format!("{} {}", open.key, open.state), open)).collect();
    for (key, listener) in pages.listeners()? {
        let states = ["accepting", "opened", "draining"];
        let live = states.iter().find_map(|state| open.get(&format!("{key} {state}")));
        let state = live.map_or("CLOSED".to_owned(), |live| live.state.to_uppercase());
        let connections =
            live.map_or(String::new(), |live| format!("{} of {}", live.counts.open, live.counts.accepted));
        for served in served(&listener) {
            if filter.port.is_some_and(|port| port != served.port) {
                continue;
            }
            let cells = [served.address, served.port.to_string(), served.matches, served.destination];
            table.row(cells.into_iter().chain([state.clone(), connections.clone(), served.origin.to_string()]));
        }
    }
    Ok(table)
}

/// One thing that a listener does.
pub(super) struct Served<'l> {
    pub address: String,
    pub port: u16,
    pub matches: String,
    pub destination: String,
    pub origin: &'l ObjectRef,
}

fn served(listener: &Listener) -> Vec<Served<'_>> {
    let row = |matches: String, routes: &str, origin| Served {
        address: listener.address.to_string(),
        port: listener.port,
        matches,
        destination: format!("Route: {routes}"),
        origin,
    };
    match &listener.protocol {
        ListenerProtocol::Http { routes } => vec![row("HTTP".to_owned(), routes, &listener.origin)],
        ListenerProtocol::Tcp { routes } => vec![row("TCP".to_owned(), routes, &listener.origin)],
        ListenerProtocol::Tls { servers } => servers
            .iter()
            .map(|server| {
                let hosts: Vec<String> = server.hosts.iter().map(ToString::to_string).collect();
                let passed = match server.serves {
                    Serves::Http | Serves::Bytes => "",
                    Serves::Passthrough => " (passed through)",
                    Serves::MeshPassthrough => " (mutual TLS passed through)",
                };
                row(format!("SNI: {}{passed}", hosts.join(",")), &server.routes, &server.origin)
            })
            .collect(),
        ListenerProtocol::Outbound(outbound) => captured::outbound(listener, outbound),
        ListenerProtocol::Inbound(inbound) => captured::inbound(listener, inbound),
    }
}

fn routes(pages: &Pages, filter: &Filter) -> Result<Table, Failure> {
    let mut table = Table::new(&["NAME", "HOST", "MATCH", "VIRTUAL SERVICE", "ACTION"]);
    for (key, set) in pages.routes()? {
        for route in set.tcp.iter().filter(|_| filter.host.is_none()) {
            let names: Vec<String> = route.sni.iter().map(ToString::to_string).collect();
            let sni = if names.is_empty() { "*".to_owned() } else { names.join(",") };
            let cells = [
                key.to_string(),
                sni,
                "TCP".to_owned(),
                route.origin.to_string(),
                captured::weighted(&route.destinations),
            ];
            table.row(cells);
        }
        for host in &set.virtual_hosts {
            let called = host.host.to_string();
            if filter.host.as_ref().is_some_and(|wanted| *wanted != called) {
                continue;
            }
            if host.https_redirect {
                let cells =
                    [key.to_string(), called, "*".to_owned(), String::new(), "redirect 301 to https".to_owned()];
                table.row(cells);
                continue;
            }
            for rule in &host.rules {
                table.row([
                    key.to_string(),
                    called.clone(),
                    matches(&rule.predicate),
                    rule.source.to_string(),
                    action(rule),
                ]);
            }
            if host.rules.is_empty() {
                table.row([key.to_string(), called, String::new(), String::new(), "404".to_owned()]);
            }
        }
    }
    Ok(table)
}

fn clusters(pages: &Pages, filter: &Filter) -> Result<Table, Failure> {
    let mut table =
        Table::new(&["SERVICE FQDN", "PORT", "SUBSET", "PROTOCOL", "BALANCING", "ENDPOINTS", "DESTINATION RULE"]);
    let live: BTreeMap<String, Cluster> =
        pages.clusters()?.into_iter().map(|cluster| (cluster.key.clone(), cluster)).collect();
    for (key, destination) in pages.destinations()? {
        if !filter.takes_destination(&destination) {
            continue;
        }
        let endpoints = live.get(&*key).map(|cluster| cluster.endpoints.len().to_string());
        table.row([
            destination.host.to_string(),
            destination.port.to_string(),
            destination.subset.as_deref().unwrap_or_default().to_owned(),
            protocol(destination.protocol).to_owned(),
            destination.balancing.to_string(),
            endpoints.unwrap_or_default(),
            destination.rule.as_ref().map(name).unwrap_or_default(),
        ]);
    }
    Ok(table)
}

fn names(pages: &Pages, filter: &Filter) -> Result<Table, Failure> {
    let mut table = Table::new(&["NAME", "ADDRESSES", "SERVICE ENTRY"]);
    for (key, known) in pages.names()? {
        if filter.host.as_ref().is_none_or(|wanted| **wanted == *key) {
            let addresses: Vec<String> = known.addresses.iter().map(ToString::to_string).collect();
            table.row([key.to_string(), addresses.join(","), name(&known.origin)]);
        }
    }
    Ok(table)
}

fn endpoints(pages: &Pages, filter: &Filter) -> Result<Table, Failure> {
    let heads = [
        "ENDPOINT",
        "OUTLIER CHECK",
        "WEIGHT",
        "LOCALITY",
        "WORKLOAD",
        "ACTIVE",
        "REQUESTS",
        "CONNECTIONS",
        "FAILED CONNECTS",
        "CLUSTER",
    ];
    let mut table = Table::new(&heads);
    let wanted = pages.destinations()?;
    for cluster in pages.clusters()? {
        if !wanted.get(cluster.key.as_str()).is_none_or(|destination| filter.takes_destination(destination)) {
            continue;
        }
        for endpoint in cluster.endpoints {
            let address = match endpoint.name {
                Some(name) => format!("{} ({name})", endpoint.address),
                None => endpoint.address,
            };
            table.row([
                address,
                (if endpoint.ejected { "FAILED" } else { "OK" }).to_owned(),
                endpoint.weight.to_string(),
                endpoint.locality,
                endpoint.workload.unwrap_or_default(),
                endpoint.requests_active.to_string(),
                endpoint.requests_total.to_string(),
                (endpoint.connections.active + endpoint.connections.idle).to_string(),
                endpoint.connections.connect_failures.to_string(),
                cluster.key.clone(),
            ]);
        }
    }
    Ok(table)
}

/// In istioctl's words, and the names and the kind of key beside them.
fn secrets(pages: &Pages) -> Result<Table, Failure> {
    const CHAIN: &str = "Cert Chain";
    const CA: &str = "CA";
    let heads =
        ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE", "KEY", "NAMES"];
    let mut table = Table::new(&heads);
    let now = jiff::Timestamp::now().as_second();
    let mut row = |name: String, kind: &str, serial: &str, [begins, ends]: [Option<i64>; 2], key: String, names| {
        let valid = begins.is_none_or(|at| at <= now) && ends.is_none_or(|at| at >= now);
        let (serial, valid) = (serial.replace(':', ""), valid.to_string());
        let [begins, ends] = [begins, ends].map(|at| at.map(time).unwrap_or_default());
        table.row([name, kind.to_owned(), "ACTIVE".to_owned(), valid, serial, ends, begins, key, names]);
    };
    let Workload { roots, certificate } = pages.workload()?;
    if let Some(own) = certificate {
        let times = [Some(own.not_before), Some(own.not_after)];
        row("default".to_owned(), CHAIN, &own.serial, times, own.key_type, own.id);
    }
    for root in roots {
        let times = [root.not_before, Some(root.not_after)];
        row("ROOTCA".to_owned(), CA, &root.serial, times, String::new(), String::new());
    }
    let mut served = BTreeSet::new();
    for one in pages.certificates()? {
        served.insert(one.source.clone());
        let times = [Some(one.not_before), Some(one.not_after)];
        row(one.source, CHAIN, &one.serial, times, one.key_type, few(&one.san));
    }
    let mut believed = BTreeSet::new();
    for one in pages.authorities()? {
        believed.insert(one.source.clone());
        let times = [Some(one.not_before), Some(one.not_after)];
        row(one.source, CA, &one.serial, times, String::new(), one.subject);
    }
    for (key, secret) in pages.secrets()? {
        let only_authorities = secret.certificate_pem.is_empty() && !secret.authorities_pem.is_empty();
        let (kind, used) = if only_authorities { (CA, &believed) } else { (CHAIN, &served) };
        if !used.contains(&*key) {
            let rest = std::iter::repeat_n(String::new(), heads.len().saturating_sub(3));
            table.row([key.to_string(), kind.to_owned(), "UNUSABLE".to_owned()].into_iter().chain(rest));
        }
    }
    Ok(table)
}

/// `reviews.default`, as istioctl names objects in tables.
fn name(object: &ObjectRef) -> String {
    format!("{}.{}", object.name, object.namespace)
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

fn few(names: &[String]) -> String {
    let shown = names.iter().take(FEW).cloned().collect::<Vec<_>>().join(",");
    match names.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn protocol(protocol: UpstreamProtocol) -> &'static str {
    match protocol {
        UpstreamProtocol::Http1 => "HTTP/1.1",
        UpstreamProtocol::Http2 => "HTTP/2",
        UpstreamProtocol::Http2Upgraded => "HTTP/2 (upgraded)",
        UpstreamProtocol::AsClient => "HTTP (as the client)",
    }
}

/// `/productpage`, `/static* GET x-user=jason`
fn matches(predicate: &Predicate) -> String {
    let mut parts = vec![match &predicate.path {
        PathMatch::Any => "*".to_owned(),
        PathMatch::Exact { value, ignore_case } => format!("{value}{}", case(*ignore_case)),
        PathMatch::Prefix { value, ignore_case } => format!("{value}*{}", case(*ignore_case)),
        PathMatch::Regex(pattern) => format!("~{pattern}"),
    }];
    let texts = [("method", &predicate.method), ("scheme", &predicate.scheme), ("authority", &predicate.authority)];
    parts.extend(texts.iter().filter_map(|(name, value)| value.as_ref().map(|value| condition(name, value, false))));
    let headers = predicate.headers.iter();
    parts.extend(headers.map(|HeaderMatch { name, value, invert }| condition(name, value, *invert)));
    parts.extend(predicate.query.iter().map(|QueryMatch { name, value }| condition(&format!("?{name}"), value, false)));
    let claims = predicate.claims.iter();
    parts.extend(claims.map(|claim| condition(&format!("@{}", claim.claim.join(".")), &claim.value, claim.invert)));
    parts.join(" ")
}

fn case(ignored: bool) -> &'static str {
    if ignored { " (any case)" } else { "" }
}

fn condition(name: &str, value: &StringMatch, invert: bool) -> String {
    let not = if invert { "!" } else { "" };
    match value {
        StringMatch::Exact(value) => format!("{name}{not}={value}"),
        StringMatch::Prefix(value) => format!("{name}{not}={value}*"),
        StringMatch::Regex(pattern) => format!("{name}{not}~{pattern}"),
        StringMatch::Present => format!("{not}{name}"),
    }
}

/// `outbound|9080|v1|…`, `90% …, 10% …`, `redirect 301`, `respond 404`
fn action(rule: &Rule) -> String {
    match &*rule.action {
        Action::Redirect(redirect) => format!("redirect {}", redirect.status),
        Action::Respond(response) => format!("respond {}", response.status),
        Action::Forward(forward) => {
            let total: u64 = forward.splits.iter().map(|split| u64::from(split.weight)).sum();
            let parts = forward.splits.iter().map(|split| {
                let key = destination(&split.destination);
                let percent = u64::from(split.weight).saturating_mul(100).checked_div(total).unwrap_or_default();
                let share = if forward.splits.len() > 1 { format!("{percent}% ") } else { String::new() };
                format!("{share}{key}")
            });
            let mirrors = forward.mirrors.iter();
            let mirrors = mirrors.map(|one| format!("copies of {} to {}", one.share, destination(&one.destination)));
            let fault = forward.fault.as_deref().map(|_| "fault".to_owned());
            let cors = forward.cors.as_deref().map(|_| "CORS".to_owned());
            parts.chain(mirrors).chain(fault).chain(cors).collect::<Vec<_>>().join(", ")
        }
    }
}

fn destination(to: &DestinationRef) -> String {
    match to {
        DestinationRef::Known(key) => key.to_string(),
        DestinationRef::Unknown(key) => format!("{key} (unknown)"),
    }
}
