//! A real gateway in front of a case's backends: what a client, a backend and the access log see of a request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use mesh_core::model::ListenAddress;
use mesh_core::testing::{self, Expect};
use serde_json::Value;

use super::backends::Backends;
use super::exchange::{self, Connection};
use super::sockets;
use super::verdict::{self, Finding, Observation};
use super::{Outcome, config};
use crate::process::Meshgate;

/// So long after a request its line may be waited for.
const LOG_DEADLINE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Front<'a> {
    pub meshgate: &'a Meshgate,
    /// Where its listeners are.
    pub ip: IpAddr,
    pub log: &'a AccessLog,
    pub backends: &'a Backends,
}

impl Front<'_> {
    /// Sends a request of a step, as often as it says, and compares.
    pub async fn ask(
        &self,
        at: &str,
        request: &testing::Request,
        expect: &Expect,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        if request.from.is_some() {
            outcome.unseen("from");
            return Ok(());
        }
        let request = &config::filled(request, &self.backends.addresses)?;
        let address = match request.to.strip_prefix(':') {
            Some(port) => SocketAddr::new(self.ip, port.parse().context("`to` is not `:PORT`")?).into(),
            None => request.to.parse::<ListenAddress>().context("`to` is neither `:PORT` nor a Unix socket")?,
        };
        if request.at_once > 1 {
            return self.ask_at_once(at, &address, request, expect, outcome).await;
        }
        let opened = |name: &str| self.backends.connections(name);
        let connections: Vec<u32> = expect.connections.keys().map(|name| opened(name)).collect();
        let mut connection = Connection::new(address.clone(), request);
        let (mut counts, mut statuses) = (BTreeMap::new(), BTreeMap::new());
        let before: Vec<u32> = expect.copies.keys().map(|name| self.backends.requests(name)).collect();
        for _ in 0..request.repeat.max(1) {
            let agent = self.log.agent();
            let logged = expect.flags.is_some() || expect.details.is_some() || expect.route.is_some();
            let started = Instant::now();
            let answer = connection.send(request, logged.then_some(agent.as_str())).await;
            let took = started.elapsed();
            let mut seen = match answer {
                Ok((response, details)) => {
                    let saw = response.header("x-backend").and_then(|name| self.backends.last(name));
                    exchange::observe(response, details, saw)
                }
                Err(error) => Observation { error: Some(error), ..Observation::default() },
            };
            seen.took = Some(took);
            if logged && seen.error.is_none() {
                self.log.line(&agent).await?.tell(&mut seen);
            }
            if expect.rule.is_some() && request.raw.is_none() && seen.error.is_none() {
                seen.rule = Some(self.explained_rule(&address, request).await?);
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
            let got = || self.backends.requests(name).saturating_sub(before);
            exchange::await_copies(copies, request.repeat.max(1), got).await;
            verdict::check_copies(
                at,
                (name, copies),
                (got(), request.repeat.max(1)),
                self.backends.last(name),
                outcome,
            );
        }
        for ((name, expected), before) in expect.connections.iter().zip(connections) {
            verdict::check_connections(at, (name, *expected), opened(name).saturating_sub(before), outcome);
        }
        self.check_probes(at, expect, outcome)
    }

    fn check_probes(&self, at: &str, expect: &Expect, outcome: &mut Outcome) -> anyhow::Result<()> {
        for (name, expected) in &expect.probes {
            let address = self.backends.addresses.get(name).with_context(|| format!("there is no backend {name}"))?;
            sockets::check_probes(at, (name, expected), self.meshgate.pid(), *address, outcome)?;
        }
        Ok(())
    }

    /// The same for requests that do not wait for one another.
    async fn ask_at_once(
        &self,
        at: &str,
        address: &ListenAddress,
        request: &testing::Request,
        expect: &Expect,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let sent = (0..request.at_once).map(|_| async {
            let agent = self.log.agent();
            let answer = Connection::new(address.clone(), request).send(request, Some(&agent)).await;
            (agent, answer)
        });
        let before: Vec<u32> = expect.copies.keys().map(|name| self.backends.requests(name)).collect();
        let opened = |name: &str| self.backends.connections(name);
        let connections: Vec<u32> = expect.connections.keys().map(|name| opened(name)).collect();
        let (mut counts, mut statuses) = (BTreeMap::new(), BTreeMap::new());
        for (agent, answer) in futures::future::join_all(sent).await {
            let seen = match answer {
                Ok((response, details)) => exchange::observe(response, details, None),
                Err(error) => Observation { error: Some(error), ..Observation::default() },
            };
            seen.status.iter().for_each(|status| *statuses.entry(*status).or_default() += 1);
            let backend = seen.backend.clone().unwrap_or_else(|| "failed".to_owned());
            if backend == "none" {
                let mut seen = seen;
                self.log.line(&agent).await?.tell(&mut seen);
                verdict::check(at, expect, &seen, outcome);
            }
            *counts.entry(backend).or_default() += 1;
        }
        verdict::check_split(at, expect, &counts, outcome);
        for ((name, copies), before) in expect.copies.iter().zip(before) {
            let got = || self.backends.requests(name).saturating_sub(before);
            exchange::await_copies(copies, request.at_once, got).await;
            verdict::check_copies(at, (name, copies), (got(), request.at_once), self.backends.last(name), outcome);
        }
        verdict::check_statuses(at, expect, &statuses, outcome);
        for ((name, expected), before) in expect.connections.iter().zip(connections) {
            verdict::check_connections(at, (name, *expected), opened(name).saturating_sub(before), outcome);
        }
        Ok(())
    }

    /// The rule that the admin page `/explain` names for such a request.
    async fn explained_rule(&self, listener: &ListenAddress, request: &testing::Request) -> anyhow::Result<String> {
        // A Unix socket is named as the listener alone.
        let to = listener.socket().unwrap_or(SocketAddr::new(self.ip, 80));
        let query = exchange::question(to, &request.host, request);
        exchange::winner(&self.meshgate.admin(&format!("/explain?listener={listener}&{query}")).await?)
    }
}

/// A finding of a report, whose lines count only if they are those of the case's own text, `config.yaml`.
pub fn finding(value: &Value) -> Finding {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let own = text("file").ends_with("config.yaml");
    let line = value.get("line").and_then(Value::as_u64).filter(|_| own).and_then(|line| u32::try_from(line).ok());
    Finding {
        code: text("code"),
        severity: text("severity"),
        object: text("object"),
        field: text("field"),
        line,
        message: text("message"),
    }
}

/// A line of the access log.
pub struct Line {
    flags: String,
    details: String,
    route: String,
}

impl Line {
    pub fn tell(self, seen: &mut Observation<'_>) {
        (seen.flags, seen.details, seen.route) = (Some(self.flags), Some(self.details), Some(self.route));
    }
}

/// The access log of a gateway, in JSON. Requests are told apart by their agents.
pub struct AccessLog {
    path: PathBuf,
    asked: AtomicU32,
}

impl AccessLog {
    pub fn new(path: PathBuf) -> AccessLog {
        AccessLog { path, asked: AtomicU32::new(0) }
    }

    /// What a gateway must be told to write it.
    pub fn arguments(&self) -> [String; 4] {
        let path = self.path.to_string_lossy().into_owned();
        ["--access-log".to_owned(), "json".to_owned(), "--access-log-file".to_owned(), path]
    }

    /// An agent that no request had yet.
    pub fn agent(&self) -> String {
        format!("case/{}", self.asked.fetch_add(1, Ordering::Relaxed))
    }

    /// The line about the request that this agent sent.
    pub async fn line(&self, agent: &str) -> anyhow::Result<Line> {
        let end = Instant::now() + LOG_DEADLINE;
        loop {
            if let Some(line) = find_line(&self.path, agent) {
                let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
                let (flags, details) = (text("response_flags"), text("response_code_details"));
                return Ok(Line { flags, details, route: text("route_name") });
            }
            anyhow::ensure!(Instant::now() < end, "the access log has no line for {agent}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn find_line(log: &Path, agent: &str) -> Option<Value> {
    let text = std::fs::read_to_string(log).ok()?;
    let parsed = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.into_iter().find(|line| line.get("user_agent").and_then(Value::as_str) == Some(agent))
}
