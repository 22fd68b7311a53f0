//! A real gateway in front of a case's backends: what a client, a backend and the access log see of a request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use mesh_core::testing::{self, Expect};
use serde_json::Value;

use super::Outcome;
use super::backends::Backends;
use super::verdict::{self, Finding, Observation};
use crate::backend::Saw;
use crate::client::{self, Client, H1, Lines, Request, Response, TlsDetails, TlsOptions};
use crate::process::Meshgate;

/// So long after a request its line may be waited for.
const LOG_DEADLINE: Duration = Duration::from_secs(10);

/// So long after a request its copies may be waited for.
const COPIES_DEADLINE: Duration = Duration::from_secs(5);

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
        let port: u16 = request.to.trim_start_matches(':').parse().context("`to` is not `:PORT`")?;
        let address = SocketAddr::new(self.ip, port);
        let tls = request.tls.as_ref().map(|tls| tls_options(tls, request.protocol.as_deref()));
        let mut connection = Connection { address, tls, h2: request.protocol.as_deref() == Some("h2"), client: None };
        let mut counts = BTreeMap::new();
        let before: Vec<u32> = expect.copies.keys().map(|name| self.backends.requests(name)).collect();
        for _ in 0..request.repeat.max(1) {
            let agent = self.log.agent();
            let logged = expect.flags.is_some() || expect.details.is_some();
            let started = Instant::now();
            let answer = connection.send(request, logged.then_some(agent.as_str())).await;
            let took = started.elapsed();
            let mut seen = match answer {
                Ok((response, details)) => self.observe(response, details),
                Err(error) => Observation { error: Some(error), ..Observation::default() },
            };
            seen.took = Some(took);
            if logged && seen.error.is_none() {
                let (flags, details) = self.log.line(&agent).await?;
                (seen.flags, seen.details) = (Some(flags), Some(details));
            }
            if expect.rule.is_some() && request.raw.is_none() && seen.error.is_none() {
                seen.rule = Some(self.explained_rule(address, request).await?);
            }
            if expect.split.is_empty() {
                verdict::check(at, expect, &seen, outcome);
            }
            *counts.entry(seen.backend.unwrap_or_else(|| "failed".to_owned())).or_default() += 1;
        }
        verdict::check_split(at, expect, &counts, outcome);
        for ((name, copies), before) in expect.copies.iter().zip(before) {
            self.check_copies(at, (name, copies), before, request.repeat.max(1), outcome).await;
        }
        Ok(())
    }

    /// Copies go their own way: they are waited for, and then a moment longer for what should not come.
    async fn check_copies(
        &self,
        at: &str,
        (name, copies): (&str, &testing::Copies),
        before: u32,
        of: u32,
        outcome: &mut Outcome,
    ) {
        let end = Instant::now() + COPIES_DEADLINE;
        let got = || self.backends.requests(name).saturating_sub(before);
        while !copies.share.accepts(got(), of) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let got = got();
        outcome.check(copies.share.accepts(got, of), || {
            format!("{at}: `{name}` got {got} copies of {of} requests, should get {:?}", copies.share)
        });
        let saw = self.backends.last(name);
        let look: verdict::Look<'_> = Box::new(move |key| Some(saw_values(saw.as_ref(), key)));
        verdict::texts(at, &format!("copies.{name}.saw"), &copies.saw, &look, outcome);
    }

    /// The rule that the admin page `/explain` names for such a request.
    async fn explained_rule(&self, listener: SocketAddr, request: &testing::Request) -> anyhow::Result<String> {
        let scheme = if request.tls.is_some() { "https" } else { "http" };
        let mut query = format!("listener={listener}&method={}", escape(&request.method));
        query.push_str(&format!("&url={}", escape(&format!("{scheme}://{}{}", listener, request.path))));
        query.push_str(&format!("&header={}", escape(&format!("host:{}", request.host))));
        for (name, lines) in &request.headers {
            for line in lines.iter() {
                query.push_str(&format!("&header={}", escape(&format!("{name}:{line}"))));
            }
        }
        if let Some(sni) = request.tls.as_ref().and_then(|tls| tls.sni.as_deref()) {
            query.push_str(&format!("&sni={}", escape(sni)));
        }
        let page = self.meshgate.admin(&format!("/explain?{query}")).await?;
        let explanation: Value = serde_json::from_str(&page)?;
        Ok(explanation.get("rule").and_then(Value::as_str).unwrap_or("none").to_owned())
    }

    fn observe(&self, response: Response, details: Option<TlsDetails>) -> Observation<'static> {
        let backend = response.header("x-backend").map(str::to_owned);
        let saw = backend.as_deref().and_then(|name| self.backends.last(name));
        Observation {
            status: Some(response.status),
            backend: Some(backend.unwrap_or_else(|| "none".to_owned())),
            saw: Box::new(move |key| Some(saw_values(saw.as_ref(), key))),
            reply: Box::new(move |key| Some(reply_values(&response, details.as_ref(), key))),
            ..Observation::default()
        }
    }
}

/// A connection that is kept over the repeats of a request.
struct Connection {
    address: SocketAddr,
    tls: Option<TlsOptions>,
    h2: bool,
    client: Option<(Client, Option<TlsDetails>)>,
}

impl Connection {
    /// `Err`: how the connection failed.
    async fn send(
        &mut self,
        request: &testing::Request,
        agent: Option<&str>,
    ) -> Result<(Response, Option<TlsDetails>), String> {
        if self.client.is_none() {
            let connected = Client::connect(self.address, self.tls.as_ref(), self.h2).await;
            self.client = Some(connected.map_err(|error| connection_error(&error))?);
        }
        let Some((client, details)) = &mut self.client else { return Err("closed".to_owned()) };
        let sent = match (&request.raw, client) {
            (Some(raw), Client::H1(client)) => send_raw(client, raw).await,
            (_, client) => client.send(&plain(request, agent)).await,
        };
        let details = details.clone();
        match sent {
            Ok(response) => {
                if response.header("connection") == Some("close") {
                    self.client = None;
                }
                Ok((response, details))
            }
            Err(error) => {
                self.client = None;
                Err(connection_error(&error))
            }
        }
    }
}

async fn send_raw(client: &mut H1, raw: &str) -> anyhow::Result<Response> {
    let exchange = async {
        client.write(raw.as_bytes()).await?;
        client.read_response(raw.split(' ').next().unwrap_or("GET")).await
    };
    tokio::time::timeout(client::DEADLINE, exchange).await.context("no answer in time")?
}

fn connection_error(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if text.contains("connecting to") {
        "refused".to_owned()
    } else if text.contains("TLS handshake") {
        "tls".to_owned()
    } else if text.contains("closed") || text.contains("reset") || text.contains("broken pipe") || text.contains("eof")
    {
        "closed".to_owned()
    } else {
        text
    }
}

fn tls_options(tls: &testing::Tls, protocol: Option<&str>) -> TlsOptions {
    let usual = || match protocol {
        Some("h2") => vec!["h2".to_owned()],
        Some("h1") => vec!["http/1.1".to_owned()],
        _ => Vec::new(),
    };
    TlsOptions { sni: tls.sni.clone(), alpn: tls.alpn.clone().unwrap_or_else(usual), version: tls.version.clone() }
}

fn plain(request: &testing::Request, agent: Option<&str>) -> Request {
    let mut headers = Lines::new();
    for (name, lines) in &request.headers {
        headers.extend(lines.iter().map(|line| (name.clone(), line.to_owned())));
    }
    if let Some(agent) = agent {
        headers.push(("user-agent".to_owned(), agent.to_owned()));
    }
    Request {
        method: request.method.clone(),
        path: request.path.clone(),
        host: request.host.clone(),
        headers,
        body: request.body.clone().map(String::into_bytes),
        trailers: request.trailers.clone().into_iter().collect(),
    }
}

fn saw_values(saw: Option<&Saw>, key: &str) -> Vec<String> {
    let Some(saw) = saw else { return Vec::new() };
    let lines = |lines: &Lines, name: &str| client::values(lines, name).into_iter().map(str::to_owned).collect();
    match key {
        "method" => vec![saw.method.clone()],
        "path" => vec![saw.path.clone()],
        "authority" => vec![saw.authority.clone()],
        "protocol" => vec![saw.protocol.clone()],
        "body" => vec![saw.body.clone()],
        _ => match (key.strip_prefix("header."), key.strip_prefix("trailer.")) {
            (Some(name), _) => lines(&saw.headers, name),
            (_, Some(name)) => lines(&saw.trailers, name),
            _ => Vec::new(),
        },
    }
}

fn reply_values(response: &Response, details: Option<&TlsDetails>, key: &str) -> Vec<String> {
    let owned = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
    match key {
        "body" => vec![response.text()],
        "protocol" => vec![response.protocol.to_owned()],
        "alpn" => details.and_then(|details| details.alpn.clone()).into_iter().collect(),
        "certificate" => details.map(|details| details.names.clone()).unwrap_or_default(),
        "tls" => details.map(|details| details.version.clone()).into_iter().collect(),
        _ => match (key.strip_prefix("header."), key.strip_prefix("trailer.")) {
            (Some(name), _) => owned(response.header_lines(name)),
            (_, Some(name)) => owned(client::values(&response.trailers, name)),
            _ => Vec::new(),
        },
    }
}

/// Percent-encoded for a query.
fn escape(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
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
    fn agent(&self) -> String {
        format!("case/{}", self.asked.fetch_add(1, Ordering::Relaxed))
    }

    /// Flags and details of the line about the request that this agent sent.
    async fn line(&self, agent: &str) -> anyhow::Result<(String, String)> {
        let end = Instant::now() + LOG_DEADLINE;
        loop {
            if let Some(line) = find_line(&self.path, agent) {
                let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
                return Ok((text("response_flags"), text("response_code_details")));
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
