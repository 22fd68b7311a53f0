//! The memory runner: objects -> world -> model -> tables -> decision, without a socket. It sees what the tables decide,
//! not what the engine adds, times or speaks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::RandomState;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, bail};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::analyze::analyze;
use mesh_core::api::{ApiObject, parse};
use mesh_core::compile::compile;
use mesh_core::diag::Diagnostic;
use mesh_core::lb::{Balancer, EndpointSet, EndpointState, RateCount, Shape};
use mesh_core::model::{
    AbortStatus, Balancing, Destination, DestinationRef, Endpoint, EndpointAddress, Place, ProxyInfo, Reach,
    ResourceSet, Role, SecretAccess, Serves, TcpRoute,
};
use mesh_core::snapshot::{
    CompiledHeaderOp, CompiledListener, CompiledProtocol, CorsRuling, Decision, Facts, FormatContext, HostTable,
    RateRuling, Request, Ruling, Snapshot, https_location,
};
use mesh_core::testing::{self, Case, Expect};
use mesh_core::translate::translate;
use mesh_core::world::World;

use super::seen::{Sent, backend_headers, forwarded, headers_or, own_answer, redirect, route_name};
use super::sidecar::{self, Captured};
use super::verdict::{self, Finding, Observation};
use super::{Outcome, config, handshake};

/// Objects by `Kind/namespace/name`, and what came of them.
pub(super) struct Tables {
    objects: BTreeMap<String, ApiObject>,
    proxy: ProxyInfo,
    set: ResourceSet,
    pub snapshot: Snapshot,
    counts: Vec<Arc<RateCount>>,
    begun: Instant,
}

pub fn run(case: &Case) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let addresses: config::Addresses = case
        .backends
        .keys()
        .zip(1..)
        .map(|(name, index)| (name.clone(), SocketAddr::from(([127, 0, 10, index], config::SIDECAR_PORT))))
        .collect();
    let mut tables = Tables {
        objects: BTreeMap::new(),
        proxy: proxy(case),
        set: ResourceSet::default(),
        snapshot: Snapshot::default(),
        counts: Vec::new(),
        begun: Instant::now(),
    };
    let mut generated = String::new();
    for service in config::services(case, &addresses) {
        generated.push_str(&format!("---\n{service}\n"));
    }
    tables.add("generated.yaml", &generated)?;
    let mut found = tables.add("config", &config::fill(&case.config, &addresses)?)?;
    found.extend(tables.swap());
    if let Some(expected) = &case.diagnostics {
        let found: Vec<Finding> = found.iter().map(Finding::from).collect();
        verdict::check_findings(expected, &found, &mut outcome);
    }
    let mut random = fastrand::Rng::with_seed(7);
    for (index, step) in case.steps.iter().enumerate() {
        if let Some(text) = &step.apply {
            tables.add("apply", &config::fill(text, &addresses)?)?;
        }
        for name in &step.delete {
            tables.objects.remove(name).with_context(|| format!("steps[{index}]: there is no {name}"))?;
        }
        if step.apply.is_some() || !step.delete.is_empty() {
            tables.swap();
        }
        if let Some(request) = &step.request {
            let expect = step.expect.clone().unwrap_or_default();
            let request = &config::filled(request, &addresses)?;
            let asking = Asking { case, request, expect: &expect, addresses: &addresses };
            asking.run(&format!("steps[{index}]"), &tables, &mut random, &mut outcome)?;
        }
    }
    Ok(outcome)
}

fn proxy(case: &Case) -> ProxyInfo {
    let role = if case.proxy.role == "sidecar" { Role::Sidecar } else { Role::Edge };
    ProxyInfo {
        role,
        dns_capture: case.proxy.dns_capture,
        // As a gateway that reads files.
        orders: role == Role::Edge,
        locality: case.proxy.locality.clone(),
        secrets: if case.proxy.without_secrets { SecretAccess::Denied } else { SecretAccess::Allowed },
        ..ProxyInfo::edge("case", &case.proxy.namespace, case.proxy.labels.clone())
    }
}

impl Tables {
    /// Who gets a request that any endpoint may get; nobody has failed or is new.
    fn pick(
        &self,
        destination: &Destination,
        endpoints: &[Endpoint],
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Option<Arc<EndpointState>>> {
        let socket = |endpoint: &Endpoint| match &endpoint.address {
            EndpointAddress::Socket(address) => Ok((endpoint.clone(), *address)),
            EndpointAddress::Unix(path) => Ok((endpoint.clone(), EndpointAddress::stand_in(path))),
            EndpointAddress::Dns { .. } => bail!("{} has a DNS endpoint", destination.key),
        };
        let sockets = endpoints.iter().map(socket).collect::<anyhow::Result<Vec<_>>>()?;
        let place = Place { locality: self.proxy.locality.as_str().into(), node: self.proxy.node.as_str().into() };
        let set = EndpointSet::build(&sockets, None, &Shape::of(destination, &place), Instant::now());
        Ok(Balancer::new(Balancing::Random).pick(&set, None, &[], &mut |below| random.u32(..below.max(1))))
    }

    fn add(&mut self, file: &str, text: &str) -> anyhow::Result<Vec<Diagnostic>> {
        let parsed = parse(file, text, "default");
        for object in parsed.objects {
            self.objects.insert(object.object_ref().to_string(), object);
        }
        Ok(parsed.diagnostics)
    }

    fn swap(&mut self) -> Vec<Diagnostic> {
        let world = World::from_objects(self.objects.values().cloned().collect());
        let translation = translate(&world, &self.proxy);
        let mut found = translation.diagnostics;
        let generation = self.snapshot.generation + 1;
        let compiled = compile(&translation.set, Some(&self.snapshot), generation);
        analyze(&world, &translation.set, &compiled.snapshot, None, &mut found);
        found.extend(compiled.diagnostics);
        self.counts = compiled.snapshot.rate_limiter.counts(&self.counts, RandomState::new, None);
        (self.set, self.snapshot) = (translation.set, compiled.snapshot);
        found
    }

    /// Counts a request; whether a rate limit has no room for it.
    fn is_limited(&self, facts: &Facts<'_>) -> bool {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        matches!(self.snapshot.rate_limiter.take(&self.counts, facts, now), RateRuling::Exhausted { .. })
    }

    fn listener(&self, port: u16) -> Option<&Arc<CompiledListener>> {
        self.snapshot.listeners.values().find(|listener| listener.listener.address.port() == port)
    }

    /// The routes behind a port, or why there are none.
    fn routes(&self, port: u16, tls: Option<&testing::Tls>) -> Result<Routes<'_>, &'static str> {
        let listener = self.listener(port).ok_or("refused")?;
        let user_port = listener.listener.port;
        match (&listener.protocol, tls) {
            (CompiledProtocol::Http(routes), None) => Ok(Routes::Http(routes, user_port)),
            (CompiledProtocol::Http(_), Some(_)) => Err("tls"),
            (CompiledProtocol::Tcp(routes), tls) => {
                routes.tcp(None).map(Routes::Bytes).ok_or(if tls.is_some() { "tls" } else { "closed" })
            }
            (CompiledProtocol::Tls(_), None) => Err("closed"),
            (CompiledProtocol::Tls(table), Some(tls)) => {
                let sni = tls.sni.as_deref();
                let server = table.server(sni).ok_or("tls")?;
                let offers_mesh = || tls.alpn.iter().flatten().any(|name| name.starts_with("istio"));
                if server.server.serves == Serves::MeshPassthrough && !offers_mesh() {
                    return Err("tls");
                }
                if server.server.serves.passes() {
                    return server.routes.tcp(sni).map(Routes::Bytes).ok_or("tls");
                }
                if !handshake::succeeds(&self.set, &server.server.tls, tls) {
                    return Err("tls");
                }
                match server.server.serves {
                    Serves::Bytes => server.routes.tcp(None).map(Routes::Bytes).ok_or("closed"),
                    _ => Ok(Routes::Http(&server.routes, user_port)),
                }
            }
            (CompiledProtocol::Outbound(_) | CompiledProtocol::Inbound(_), _) => Err("closed"),
        }
    }
}

/// What is behind a port of a gateway.
enum Routes<'t> {
    /// With the port that the user wrote.
    Http(&'t Arc<HostTable>, u16),
    Bytes(&'t TcpRoute),
}

/// One request of a case.
struct Asking<'a> {
    case: &'a Case,
    request: &'a testing::Request,
    expect: &'a Expect,
    addresses: &'a config::Addresses,
}

impl Asking<'_> {
    fn run(&self, at: &str, tables: &Tables, random: &mut fastrand::Rng, outcome: &mut Outcome) -> anyhow::Result<()> {
        if self.request.raw.is_some() {
            outcome.unseen("raw");
            return Ok(());
        }
        if self.request.from.is_some() {
            outcome.unseen("from");
            return Ok(());
        }
        if !self.request.preamble.is_empty() {
            outcome.unseen("preamble");
            return Ok(());
        }
        if self.request.at_once > 1 {
            outcome.unseen("at_once");
            return Ok(());
        }
        if !self.expect.copies.is_empty() {
            outcome.unseen("copies");
        }
        if self.expect.one_backend {
            outcome.unseen("one_backend");
        }
        if !self.expect.connections.is_empty() {
            outcome.unseen("connections");
        }
        if !self.expect.statuses.is_empty() {
            outcome.unseen("statuses");
        }
        if !self.expect.probes.is_empty() {
            outcome.unseen("probes");
        }
        let mut counts = BTreeMap::new();
        for _ in 0..self.request.repeat.max(1) {
            let seen = self.observe(tables, random)?;
            if self.expect.split.is_empty() {
                verdict::check(at, self.expect, &seen, outcome);
            }
            *counts.entry(seen.backend.unwrap_or_else(|| "unseen".to_owned())).or_default() += 1;
        }
        verdict::check_split(at, self.expect, &counts, outcome);
        Ok(())
    }

    fn observe(&self, tables: &Tables, random: &mut fastrand::Rng) -> anyhow::Result<Observation<'_>> {
        let error = |error: &str| Ok(Observation { error: Some(error.to_owned()), ..Observation::default() });
        let captured = match tables.proxy.role {
            Role::Edge => None,
            Role::Sidecar => Some(sidecar::find(tables, self.request, random)?),
        };
        let ((routes, user_port), original) = match captured {
            None => {
                let port = self.request.to.trim_start_matches(':').parse().context("`to` is not `:PORT`")?;
                let original = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
                match tables.routes(port, self.request.tls.as_ref()) {
                    Ok(Routes::Http(table, port)) => ((table, port), original),
                    Ok(Routes::Bytes(route)) => {
                        let chosen = route.choose(&mut |below| random.u32(0..below.max(1)));
                        let Some(DestinationRef::Known(key)) = chosen.map(|chosen| &chosen.destination) else {
                            return error(if self.request.tls.is_some() { "tls" } else { "closed" });
                        };
                        return self.bytes(tables, key, original, random);
                    }
                    Err(why) => return error(why),
                }
            }
            Some(Captured::Http { routes, original, .. }) => ((routes, original.port()), original),
            Some(Captured::Bytes { key, original }) => return self.bytes(tables, key, original, random),
            Some(Captured::Refused) => return error("closed"),
            Some(Captured::NotOpen) => return error("refused"),
        };
        let leaves = matches!(captured, Some(Captured::Http { arrives: false, .. }));
        let mut headers = HeaderMap::new();
        for (name, lines) in &self.request.headers {
            for line in lines.iter() {
                headers.append(HeaderName::try_from(name.as_str())?, HeaderValue::from_bytes(line.as_bytes())?);
            }
        }
        let (path, query) = match self.request.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.request.path.as_str(), None),
        };
        let request = Request {
            method: &self.request.method,
            scheme: if self.request.tls.is_some() { "https" } else { "http" },
            authority: &self.request.host,
            path,
            query,
            headers: &headers,
            token: None,
        };
        let facts = Facts {
            request: Some(request),
            source: Some(Ipv4Addr::LOCALHOST.into()),
            remote: Some(Ipv4Addr::LOCALHOST.into()),
            local: Some(original),
            sni: self.request.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
            peer: None,
        };
        match tables.snapshot.authorizer.decide(&facts) {
            // Policies are for who calls the workload.
            _ if leaves => {}
            Ruling::Allowed => {}
            Ruling::Denied(_) => return Ok(own_answer(403, "none", "RBAC: access denied")),
            Ruling::Ask(..) => return Ok(own_answer(403, "none", "")),
        }
        // Limits, too; what clients are told of them is for who sees time pass.
        if !leaves && tables.is_limited(&facts) {
            return Ok(own_answer(429, "none", "local_rate_limited"));
        }
        let mut below = |below: u32| random.u32(0..below.max(1));
        Ok(match routes.route(&request, &mut below) {
            Decision::NoRoute => own_answer(404, "none", ""),
            Decision::HttpsRedirect => redirect(301, "none", https_location(&request)),
            Decision::Redirect { rule, redirect: to } => {
                let mut seen = redirect(to.status, &rule.source.to_string(), rule.location(to, &request, user_port));
                seen.route = Some(route_name(rule));
                if !rule.headers.response.is_empty() {
                    seen.reply = self.with_response_headers(&rule.headers.response, HeaderMap::new(), seen.reply);
                }
                seen
            }
            Decision::Respond { rule, response } => {
                let body = response.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                let mut seen = own_answer(response.status, &rule.source.to_string(), &body);
                seen.route = Some(route_name(rule));
                let mut base = HeaderMap::new();
                if response.body.is_some() {
                    base.insert("content-type", HeaderValue::from_static("text/plain"));
                }
                seen.reply = self.with_response_headers(&rule.headers.response, base, seen.reply);
                seen
            }
            Decision::Forward { rule, forward, split, cluster, .. } => {
                let rule_name = rule.source.to_string();
                let abort = forward.fault.as_ref().and_then(|fault| fault.abort.as_ref());
                if let Some(abort) = abort.filter(|abort| abort.share.takes(&mut below)) {
                    let AbortStatus::Http(status) = abort.status else { bail!("gRPC is not seen here") };
                    let mut seen = own_answer(status, &rule_name, "fault filter abort");
                    let base = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
                    seen.reply = self.with_response_headers(&split.headers.response, base, seen.reply);
                    return Ok(seen);
                }
                let mut leave = None;
                match forward.cors.as_ref().map(|cors| (cors, cors.rule(&request))) {
                    Some((_, CorsRuling::Answer(said))) => {
                        let mut seen = own_answer(200, &rule_name, "");
                        seen.reply = headers_or(said, seen.reply);
                        return Ok(seen);
                    }
                    Some((cors, CorsRuling::Allowed(origin))) => leave = Some((cors, origin.clone())),
                    _ => {}
                }
                let Some(cluster) = cluster else { return Ok(own_answer(503, &rule_name, "")) };
                let key = &tables.snapshot.clusters.get(cluster as usize).context("a cluster that is not there")?.key;
                let Some(backend) = self.backend(tables, key, original, random)? else {
                    return Ok(own_answer(503, &rule_name, "no healthy upstream"));
                };
                let new_path = rule.rewritten_path(forward, path).unwrap_or_else(|| path.to_owned());
                let asked = headers.clone();
                let new_authority = split.headers.request.apply(&mut headers, &TableContext(&asked));
                let sent = Sent {
                    method: self.request.method.clone(),
                    path: query.map_or(new_path.clone(), |query| format!("{new_path}?{query}")),
                    authority: new_authority
                        .or(forward.rewrite.authority.as_deref().map(str::to_owned))
                        .unwrap_or_else(|| self.request.host.clone()),
                    body: self.request.body.clone().unwrap_or_default(),
                    headers,
                };
                let settings = self.case.backends.get(&*backend).map(testing::Backend::settings).unwrap_or_default();
                let mut seen = forwarded(rule_name, &backend, &settings, sent);
                seen.route = Some(route_name(rule));
                let mut reply = backend_headers(&backend, &settings);
                split.headers.response.apply(&mut reply, &TableContext(&HeaderMap::new()));
                if let Some((cors, origin)) = leave {
                    cors.permit(&origin, &mut reply);
                }
                seen.reply = headers_or(reply, Box::new(|_| None));
                seen
            }
        })
    }

    /// Of a connection that is not looked into.
    fn bytes(
        &self,
        tables: &Tables,
        key: &str,
        original: SocketAddr,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Observation<'_>> {
        let backend = self.backend(tables, key, original, random)?;
        Ok(Observation { backend: Some(backend.unwrap_or("none".into()).into_owned()), ..Observation::default() })
    }

    /// Who gets what goes to a destination. None: it has no endpoints.
    fn backend<'t>(
        &'t self,
        tables: &Tables,
        key: &str,
        original: SocketAddr,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Option<Cow<'t, str>>> {
        let named = |address: SocketAddr| self.addresses.iter().find(|(_, known)| **known == address);
        let destination = tables.set.destinations.get(key).with_context(|| format!("{key} does not exist"))?;
        match destination.reach {
            Reach::OwnWorkload => return Ok(Some("itself".into())),
            Reach::OwnPort(port) => return Ok(Some(format!("itself:{port}").into())),
            Reach::Original => return Ok(Some(named(original).map_or("outside".into(), |(name, _)| name.into()))),
            Reach::Named(_) => bail!("{key} is found by the host of the request"),
            Reach::Discovered | Reach::Addressed => {}
        }
        let endpoints = tables.set.endpoints.get(key).map(|found| found.endpoints.as_slice()).unwrap_or_default();
        let asked = endpoints.iter().find(|endpoint| {
            destination.reach == Reach::Addressed
                && matches!(endpoint.address, EndpointAddress::Socket(at) if at.ip() == original.ip())
        });
        let picked = if asked.is_none() { tables.pick(destination, endpoints, random)? } else { None };
        let Some(endpoint) = asked.or(picked.as_ref().map(|state| &state.endpoint)) else { return Ok(None) };
        let EndpointAddress::Socket(address) = endpoint.address else { bail!("{key} has a DNS endpoint") };
        if key.starts_with("inbound|") {
            return Ok(Some(format!("itself:{}", address.port()).into()));
        }
        let (name, _) = named(address).with_context(|| format!("{key} leads to {address}, which is no backend"))?;
        Ok(Some(name.into()))
    }

    /// `header.NAME` of an answer: what the backend or the proxy says, edited by the rule's operations.
    fn with_response_headers<'b>(
        &self,
        operations: &CompiledHeaderOp,
        mut headers: HeaderMap,
        otherwise: verdict::Look<'b>,
    ) -> verdict::Look<'b> {
        let asked = HeaderMap::new();
        operations.apply(&mut headers, &TableContext(&asked));
        headers_or(headers, otherwise)
    }
}

/// For `%COMMANDS%`: what a table knows of a request is its headers.
struct TableContext<'a>(&'a HeaderMap);

impl FormatContext for TableContext<'_> {
    fn request_header(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn response_header(&self, _name: &str) -> Option<&str> {
        None
    }

    fn response_code(&self) -> Option<u16> {
        None
    }

    fn downstream_remote_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn downstream_direct_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn downstream_local_address(&self) -> Option<SocketAddr> {
        None
    }

    fn protocol(&self) -> &str {
        "HTTP/1.1"
    }

    fn start_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn hostname(&self) -> &str {
        "case"
    }

    fn upstream_host(&self) -> Option<SocketAddr> {
        None
    }

    fn upstream_cluster(&self) -> Option<&str> {
        None
    }

    fn route_name(&self) -> Option<&str> {
        None
    }

    fn requested_server_name(&self) -> Option<&str> {
        None
    }
}
