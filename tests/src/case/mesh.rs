//! The mesh runner: the workload of a case, its backends, and somebody outside are pods of network namespaces, with real rules and
//! real sidecars, which a controller in the test's process tells of the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mesh_core::model::ListenAddress;
use mesh_core::testing::{BackendKind, BackendSettings, Case, Expect, Request};
use serde_json::Value;

use super::Outcome;
use super::config::{self, Addresses, SIDECAR_PORT};
use super::exchange::{self, Connection};
use super::front::AccessLog;
use super::sidecar::{NOBODY, address};
use super::sockets;
use super::verdict::{self, Observation};
use crate::backend::{Backend, Saw};
use crate::netns::Pod;
use crate::sidecar::{self, Mesh, Who, Workload};

/// Where the cases have MeshConfig, and what is for the whole mesh.
const SYSTEM: &str = "istio-system";
/// So long after a change its effect may be waited for.
const LIVE_DEADLINE: Duration = Duration::from_secs(10);
/// A sidecar's pages.
const ADMIN: u16 = 15000;
/// Who has no sidecar.
const OUTSIDE: &str = "outside";
/// The workload's own application; at another port than it was called on `itself:PORT`.
const ITSELF: &str = "itself";

pub async fn run(case: &Case) -> anyhow::Result<Outcome> {
    let mut running = Running::start(case).await?;
    let mut outcome = Outcome::default();
    if case.diagnostics.is_some() {
        outcome.unseen("diagnostics");
    }
    for (index, step) in case.steps.iter().enumerate() {
        if let Some(text) = &step.apply {
            running.apply(text).await?;
        }
        for name in &step.delete {
            let document = running.documents.remove(name).with_context(|| format!("there is no {name}"))?;
            running.mesh.control.delete(&document.to_string()).await?;
        }
        let changed = index == 0 || step.apply.is_some() || !step.delete.is_empty();
        if changed {
            running.served().await?;
        }
        if let Some(request) = &step.request {
            let expect = step.expect.clone().unwrap_or_default();
            let request = config::filled(request, &running.addresses)?;
            outcome.add(running.ask(&format!("steps[{index}]"), &request, &expect).await?);
        }
    }
    if !outcome.failures.is_empty() {
        outcome.failures.extend(running.logs());
    }
    Ok(outcome)
}

/// See the module.
struct Running {
    mesh: Mesh,
    /// Whose proxy the case is about.
    own: Workload,
    outside: Pod,
    /// Of the backends.
    places: BTreeMap<String, Place>,
    /// By their names; `outside` has several.
    servers: Vec<(String, Backend)>,
    addresses: Addresses,
    /// By `Kind/namespace/name`.
    documents: BTreeMap<String, Value>,
    /// By proxy.
    logs: BTreeMap<String, AccessLog>,
    /// Where they are.
    folder: tempfile::TempDir,
}

enum Place {
    Bare(Pod),
    Meshed(Box<Workload>),
}

impl Place {
    fn pod(&self) -> &Pod {
        match self {
            Place::Bare(pod) => pod,
            Place::Meshed(workload) => &workload.pod,
        }
    }
}

impl Running {
    async fn start(case: &Case) -> anyhow::Result<Running> {
        let own_namespace = case.proxy.namespace.as_str();
        let texts = std::iter::once(&case.config).chain(case.steps.iter().filter_map(|step| step.apply.as_ref()));
        let others: &[&str] = if names_secrets(texts) { &[own_namespace] } else { &[] };
        let mut mesh = Mesh::start_for(SYSTEM, others).await?;
        let folder = tempfile::tempdir()?;
        // The sidecars have another user.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777))?;
        mesh.access_log = sidecar::AccessLog::Files(folder.path().to_owned());
        let app = case.proxy.labels.get("app").context("the workload has no label `app`")?;
        let (namespace, labels) = (case.proxy.namespace.clone(), case.proxy.labels.clone());
        if !case.proxy.without_secrets {
            mesh.control.lets_read(&namespace, app);
        }
        let who = Who { name: app.clone(), namespace, account: app.clone(), labels, resolver: None, v6: false };
        let own = mesh.workload_of(&who).await?;
        let outside = mesh.network.pod()?;
        outside.configure(&format!("addr add {NOBODY}/32 dev eth0"))?;
        let (places, servers) = (BTreeMap::new(), Vec::new());
        let (addresses, documents) = (Addresses::new(), BTreeMap::new());
        let logs = BTreeMap::new();
        let mut running = Running { mesh, own, outside, places, servers, addresses, documents, logs, folder };
        for (name, backend) in &case.backends {
            running.add(name, &backend.settings()).await?;
        }
        running.serve(case).await?;
        running.logs = running.workloads().map(|workload| running.log_of(workload)).collect();
        for service in config::services(case, &running.addresses) {
            running.apply(&service.to_string()).await?;
        }
        running.apply(&case.config).await?;
        Ok(running)
    }

    /// A backend, in a pod of its own.
    async fn add(&mut self, name: &str, settings: &BackendSettings) -> anyhow::Result<()> {
        let labels = config::labels_of(name, settings);
        let place = if settings.sidecar {
            let account = labels.get("app").cloned().unwrap_or_else(|| name.to_owned());
            let who = Who {
                name: name.to_owned(),
                namespace: settings.namespace.clone(),
                account,
                labels,
                resolver: None,
                v6: false,
            };
            Place::Meshed(Box::new(self.mesh.workload_of(&who).await?))
        } else {
            Place::Bare(self.mesh.network.pod()?)
        };
        reaches_nobody(place.pod())?;
        let at = SocketAddr::new(place.pod().ip(), SIDECAR_PORT);
        if !matches!(settings.kind, BackendKind::Refused | BackendKind::Empty) {
            self.servers.push((name.to_owned(), server(place.pod(), at, name, settings).await?));
        }
        if settings.kind != BackendKind::Empty {
            self.addresses.insert(name.to_owned(), at);
        }
        self.places.insert(name.to_owned(), place);
        Ok(())
    }

    /// What is reached in the workload, and in clear at an address that nobody has.
    async fn serve(&mut self, case: &Case) -> anyhow::Result<()> {
        reaches_nobody(&self.own.pod)?;
        let (mut inside, mut outside) = (BTreeSet::from([SIDECAR_PORT]), BTreeSet::new());
        for request in case.steps.iter().filter_map(|step| step.request.as_ref()) {
            if let Some(port) = request.to.strip_prefix("inbound:") {
                inside.insert(port.parse().context("`to` is not `inbound:PORT`")?);
            } else if let Some(port) = request.to.strip_prefix(':') {
                outside.insert(port.parse().context("`to` is not `:PORT`")?);
            }
        }
        for (name, pod, ports) in [(ITSELF, &self.own.pod, inside), (OUTSIDE, &self.outside, outside)] {
            for port in ports {
                let at = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
                let called = if name == ITSELF { format!("{ITSELF}:{port}") } else { name.to_owned() };
                let server = server(pod, at, &called, &BackendSettings::default()).await?;
                self.servers.push((called, server));
            }
        }
        Ok(())
    }

    async fn apply(&mut self, text: &str) -> anyhow::Result<()> {
        let text = config::fill(text, &self.addresses)?;
        for document in config::documents(&text).context("not YAML")? {
            self.mesh.control.apply(&document.to_string()).await?;
            self.documents.insert(config::name_of(&document).context("an object without a name")?, document);
        }
        Ok(())
    }

    fn workloads(&self) -> impl Iterator<Item = &Workload> {
        let meshed = self.places.values().filter_map(|place| match place {
            Place::Meshed(workload) => Some(workload.as_ref()),
            Place::Bare(_) => None,
        });
        std::iter::once(&self.own).chain(meshed)
    }

    fn log_of(&self, workload: &Workload) -> (String, AccessLog) {
        let proxy = workload.proxy();
        let log = AccessLog::new(self.folder.path().join(&proxy));
        (proxy, log)
    }

    /// Until all sidecars have acknowledged what was applied.
    async fn served(&self) -> anyhow::Result<()> {
        let names: Vec<String> = self.workloads().map(Workload::proxy).collect();
        self.mesh.control.served(&names).await
    }

    /// Endpoints are acknowledged a moment before they are in force, and what is dialled anew is what shows a change: an effect is
    /// waited for.
    async fn ask(&self, at: &str, request: &Request, expect: &Expect) -> anyhow::Result<Outcome> {
        let end = Instant::now() + LIVE_DEADLINE;
        loop {
            let mut outcome = Outcome::default();
            self.try_ask(at, request, expect, &mut outcome).await?;
            if outcome.failures.is_empty() || Instant::now() > end {
                return Ok(outcome);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn try_ask(&self, at: &str, request: &Request, expect: &Expect, outcome: &mut Outcome) -> anyhow::Result<()> {
        let (asker, to) = self.way(request)?;
        if request.at_once > 1 {
            return self.ask_at_once(at, (asker.pod(), &to), request, expect, outcome).await;
        }
        let log = match &asker {
            Asker::Meshed(workload) if expect.flags.is_some() || expect.details.is_some() || expect.route.is_some() => {
                self.logs.get(&workload.proxy())
            }
            _ => None,
        };
        let connections: Vec<u32> = expect.connections.keys().map(|name| self.connections(name)).collect();
        let before: Vec<u32> = expect.copies.keys().map(|name| self.requests(name)).collect();
        let (mut counts, mut statuses) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..request.repeat.max(1) {
            let agent = log.map(AccessLog::agent);
            let mut seen = self.send(asker.pod(), &to, request, agent.clone()).await?;
            if let (Some(log), Some(agent), None) = (log, agent, &seen.error) {
                log.line(&agent).await?.tell(&mut seen);
            }
            if let (Asker::Meshed(workload), Some(_), None) = (&asker, &expect.rule, &seen.error) {
                seen.rule = Some(rule(workload, &to, request).await?);
            }
            if expect.split.is_empty() {
                verdict::check(at, expect, &seen, outcome);
            }
            seen.status.iter().for_each(|status| *statuses.entry(*status).or_default() += 1);
            *counts.entry(seen.backend.unwrap_or_else(|| "failed".to_owned())).or_default() += 1;
        }
        verdict::check_split(at, expect, &counts, outcome);
        verdict::check_statuses(at, expect, &statuses, outcome);
        verdict::check_one_backend(at, expect, &counts, outcome);
        for ((name, copies), before) in expect.copies.iter().zip(before) {
            let of = request.repeat.max(1);
            let got = || self.requests(name).saturating_sub(before);
            exchange::await_copies(copies, of, got).await;
            verdict::check_copies(at, (name, copies), (got(), of), self.last(name, to.port()), outcome);
        }
        for ((name, expected), before) in expect.connections.iter().zip(connections) {
            verdict::check_connections(at, (name, *expected), self.connections(name).saturating_sub(before), outcome);
        }
        for (name, expected) in &expect.probes {
            let (proxy, to) = self.dialler(name)?;
            sockets::check_probes(at, (name, expected), proxy.sidecar.pid(), to, outcome)?;
        }
        Ok(())
    }

    /// The same for requests that do not wait for one another.
    async fn ask_at_once(
        &self,
        at: &str,
        (pod, to): (&Pod, &ListenAddress),
        request: &Request,
        expect: &Expect,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let connections: Vec<u32> = expect.connections.keys().map(|name| self.connections(name)).collect();
        let (mut counts, mut statuses) = (BTreeMap::new(), BTreeMap::new());
        let sent = (0..request.at_once).map(|_| self.send(pod, to, request, None));
        for seen in futures::future::join_all(sent).await {
            let seen = seen?;
            seen.status.iter().for_each(|status| *statuses.entry(*status).or_default() += 1);
            let backend = seen.backend.clone().unwrap_or_else(|| "failed".to_owned());
            if backend == "none" {
                verdict::check(at, expect, &seen, outcome);
            }
            *counts.entry(backend).or_default() += 1;
        }
        verdict::check_split(at, expect, &counts, outcome);
        verdict::check_statuses(at, expect, &statuses, outcome);
        for ((name, expected), before) in expect.connections.iter().zip(connections) {
            verdict::check_connections(at, (name, *expected), self.connections(name).saturating_sub(before), outcome);
        }
        Ok(())
    }

    /// Each over a connection of its own: of bytes, that is what is distributed.
    async fn send(
        &self,
        pod: &Pod,
        to: &ListenAddress,
        request: &Request,
        agent: Option<String>,
    ) -> anyhow::Result<Observation<'static>> {
        let (mut connection, asked) = (Connection::new(to.clone(), request), request.clone());
        let started = Instant::now();
        let answer = pod.run(async move { Ok(connection.send(&asked, agent.as_deref()).await) }).await?;
        let took = started.elapsed();
        let seen = match answer {
            Ok((response, details)) => {
                let saw = response.header("x-backend").and_then(|name| self.last(name, to.port()));
                exchange::observe(response, details, saw)
            }
            Err(error) => Observation { error: Some(error), ..Observation::default() },
        };
        let own = format!("{ITSELF}:{}", to.port());
        let backend = seen.backend.map(|name| if name == own { ITSELF.to_owned() } else { name });
        Ok(Observation { took: Some(took), backend, ..seen })
    }

    /// How many requests this one saw.
    fn requests(&self, name: &str) -> u32 {
        self.servers.iter().filter(|(known, _)| known == name).map(|(_, server)| server.requests()).sum()
    }

    /// How many connections this one got.
    fn connections(&self, name: &str) -> u32 {
        self.servers.iter().filter(|(known, _)| known == name).map(|(_, server)| server.connections()).sum()
    }

    /// Whose sidecar opens the last connection to a backend, and where to: its own, if it has one, else the workload's.
    fn dialler(&self, name: &str) -> anyhow::Result<(&Workload, SocketAddr)> {
        let to = *self.addresses.get(name).with_context(|| format!("there is no backend {name}"))?;
        Ok(match self.places.get(name) {
            Some(Place::Meshed(workload)) => (workload, to),
            _ => (&self.own, to),
        })
    }

    /// What this one saw last; of several, the one at this port.
    fn last(&self, name: &str, port: u16) -> Option<Saw> {
        let mut its = self.servers.iter().filter(|(known, _)| known == name).map(|(_, server)| server);
        let first = its.clone().next()?;
        its.find(|server| server.address.port() == port).unwrap_or(first).last()
    }

    /// Who asks, and where he connects.
    fn way(&self, request: &Request) -> anyhow::Result<(Asker<'_>, ListenAddress)> {
        let inbound = request.to.strip_prefix("inbound:");
        let to = match inbound {
            Some(port) => {
                SocketAddr::new(self.own.pod.ip(), port.parse().context("`to` is not `inbound:PORT`")?).into()
            }
            None => address(&request.to)?,
        };
        let asker = match (request.from.as_deref(), inbound) {
            (None, None) => Asker::Meshed(&self.own),
            (Some(OUTSIDE), _) | (None, Some(_)) => Asker::Outside(&self.outside),
            (Some(name), _) => match self.places.get(name) {
                Some(Place::Meshed(workload)) => Asker::Meshed(workload),
                _ => bail!("`from: {name}` is no backend with a sidecar"),
            },
        };
        let is_nowhere = |to: SocketAddr| to.ip() == IpAddr::from(Ipv4Addr::UNSPECIFIED);
        ensure!(!to.socket().is_some_and(is_nowhere), "`to: {}` is nowhere", request.to);
        Ok((asker, to))
    }

    fn logs(&self) -> Vec<String> {
        self.workloads().map(|one| format!("--- log of the sidecar of {}:\n{}", one.name, one.sidecar.log())).collect()
    }
}

enum Asker<'r> {
    Meshed(&'r Workload),
    Outside(&'r Pod),
}

impl Asker<'_> {
    fn pod(&self) -> &Pod {
        match self {
            Asker::Meshed(workload) => &workload.pod,
            Asker::Outside(pod) => pod,
        }
    }
}

/// Those of the workload's namespace are read, as an installation has to be told.
fn names_secrets<'t>(mut texts: impl Iterator<Item = &'t String>) -> bool {
    texts.any(|text| text.contains("kind: Secret"))
}

/// What nobody has is on the same wire, so that it is `outside` who is reached there.
fn reaches_nobody(pod: &Pod) -> anyhow::Result<()> {
    pod.configure(&format!("route add {NOBODY}/32 dev eth0"))
}

async fn server(pod: &Pod, at: SocketAddr, name: &str, settings: &BackendSettings) -> anyhow::Result<Backend> {
    let (name, settings) = (name.to_owned(), settings.clone());
    pod.run(async move { Backend::with_settings_at(at, &name, &settings).await }).await
}

/// The rule that the sidecar of whoever asks names.
async fn rule(workload: &Workload, to: &ListenAddress, request: &Request) -> anyhow::Result<String> {
    let to = to.socket().context("no rule of a Unix socket is asked for")?;
    let port = to.port();
    let host = if request.host.contains(':') { request.host.clone() } else { format!("{}:{port}", request.host) };
    let page = workload.page(ADMIN, &format!("/explain?{}", exchange::question(to, &host, request))).await?;
    exchange::winner(&page)
}
