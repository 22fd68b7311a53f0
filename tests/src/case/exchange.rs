//! A request of a case over a connection, and what comes of it: what a client, a backend and the tables of a proxy say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_core::model::ListenAddress;
use mesh_core::testing;
use serde_json::Value;

use super::verdict::Observation;
use crate::backend::Saw;
use crate::client::{self, Client, H1, Lines, Request, Response, TlsDetails, TlsOptions};

/// So long after a request its copies may be waited for.
const COPIES_DEADLINE: Duration = Duration::from_secs(5);

/// `saw`: what the backend got.
pub fn observe(response: Response, details: Option<TlsDetails>, saw: Option<Saw>) -> Observation<'static> {
    let backend = response.header("x-backend").unwrap_or("none").to_owned();
    Observation {
        status: Some(response.status),
        backend: Some(backend),
        saw: Box::new(move |key| Some(saw_values(saw.as_ref(), key))),
        reply: Box::new(move |key| Some(reply_values(&response, details.as_ref(), key))),
        ..Observation::default()
    }
}

/// The query of the admin page `/explain` for such a request to this address, with this `host`.
pub fn question(to: SocketAddr, host: &str, request: &testing::Request) -> String {
    let scheme = if request.tls.is_some() { "https" } else { "http" };
    let mut query = format!("method={}", escape(&request.method));
    query.push_str(&format!("&url={}", escape(&format!("{scheme}://{to}{}", request.path))));
    query.push_str(&format!("&header={}", escape(&format!("host:{host}"))));
    for (name, lines) in &request.headers {
        for line in lines.iter() {
            query.push_str(&format!("&header={}", escape(&format!("{name}:{line}"))));
        }
    }
    if let Some(sni) = request.tls.as_ref().and_then(|tls| tls.sni.as_deref()) {
        query.push_str(&format!("&sni={}", escape(sni)));
    }
    query
}

/// The rule that such a page names.
pub fn winner(page: &str) -> anyhow::Result<String> {
    let explanation: Value = serde_json::from_str(page).with_context(|| page.to_owned())?;
    Ok(explanation.get("rule").and_then(Value::as_str).unwrap_or("none").to_owned())
}

/// Copies go their own way: they are waited for, and then a moment longer for what should not come.
pub async fn await_copies(copies: &testing::Copies, of: u32, got: impl Fn() -> u32) {
    let end = Instant::now() + COPIES_DEADLINE;
    while !copies.share.accepts(got(), of) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// A connection that is kept over the repeats of a request.
pub struct Connection {
    address: ListenAddress,
    tls: Option<TlsOptions>,
    h2: bool,
    preamble: String,
    client: Option<(Client, Option<TlsDetails>)>,
}

impl Connection {
    /// To this address, as the request wants it; it is dialled when something is sent.
    pub fn new(address: impl Into<ListenAddress>, request: &testing::Request) -> Connection {
        let address = address.into();
        let tls = request.tls.as_ref().map(|tls| tls_options(tls, request.protocol.as_deref()));
        let h2 = request.protocol.as_deref() == Some("h2");
        Connection { address, tls, h2, preamble: request.preamble.clone(), client: None }
    }

    /// `Err`: how the connection failed.
    pub async fn send(
        &mut self,
        request: &testing::Request,
        agent: Option<&str>,
    ) -> Result<(Response, Option<TlsDetails>), String> {
        if self.client.is_none() {
            let connected = Client::connect_behind(&self.preamble, &self.address, self.tls.as_ref(), self.h2).await;
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
    } else if text.contains("TLS handshake") || text.contains("fatal alert") {
        // In TLS 1.3 the client hears of what is wrong with its certificate when it reads.
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
    TlsOptions {
        sni: tls.sni.clone(),
        alpn: tls.alpn.clone().unwrap_or_else(usual),
        version: tls.version.clone(),
        client: tls.client.clone(),
    }
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

pub fn saw_values(saw: Option<&Saw>, key: &str) -> Vec<String> {
    let Some(saw) = saw else { return Vec::new() };
    let lines = |lines: &Lines, name: &str| client::values(lines, name).into_iter().map(str::to_owned).collect();
    match key {
        "method" => vec![saw.method.clone()],
        "path" => vec![saw.path.clone()],
        "authority" => vec![saw.authority.clone()],
        "protocol" => vec![saw.protocol.clone()],
        "body" => vec![saw.body.clone()],
        "proxy" => saw.proxy.iter().cloned().collect(),
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
        "cipher" => details.map(|details| details.cipher.clone()).into_iter().collect(),
        "group" => details.map(|details| details.group.clone()).into_iter().collect(),
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
