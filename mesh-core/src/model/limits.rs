//! How much may go on with a destination at a time, and how its connections are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Share, is_default};

/// Limits of this proxy, all of its workers together; none: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Open connections, used or not. Requests beyond it wait for one; bytes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connections: Option<u32>,
    /// Requests that wait for a connection, also while it is being made.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pending: Option<u32>,
    /// Requests in flight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub requests: Option<u32>,
    /// Requests that are being tried again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Option<u32>,
    /// In place of `retries`: as many as what goes on allows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry_budget: Option<RetryBudget>,
}

/// How many requests may be tried again at a time (`retryBudget`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Of the requests in flight, and of those that wait for a connection. None: of nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub share: Option<Share>,
    /// So many at any rate.
    pub at_least: u32,
    /// Requests that began within this time count like those in flight, if they are more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interval: Option<Duration>,
}

impl RetryBudget {
    /// `requests`: those that count.
    pub fn most(&self, requests: u64) -> u32 {
        let part = self.share.map_or(0, |share| share.part_of(requests));
        u32::try_from(part).unwrap_or(u32::MAX).max(self.at_least)
    }
}

/// What holds for each connection to a destination; none: as it is usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRules {
    /// Requests after which it is closed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub requests: Option<u32>,
    /// Streams at a time, of HTTP/2.
    #[serde(default, skip_serializing_if = "is_default")]
    pub streams: Option<u32>,
    /// Nothing new begins on it when it is older; bytes are cut then.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lifetime: Option<Duration>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub keepalive: Keepalive,
    /// Each begins with a PROXY header that says who the client is (`proxyProtocol`): it is used for that client's connection alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy_header: Option<ProxyHeader>,
    /// The endpoints are HTTP proxies, and bytes go through them (`tunnel`). HTTP goes to them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tunnel: Option<Arc<Tunnel>>,
    /// Whether the other end of HTTP/2 still answers (`http2KeepAlive`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub ping: Option<PingRule>,
}

/// A PING frame now and then; without an answer the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingRule {
    /// Between an answer and the next PING.
    pub interval: Duration,
    /// So long an answer, or any other frame, may be missing.
    pub timeout: Duration,
}

/// What an HTTP proxy is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: TunnelMethod,
    /// A name or an address.
    pub host: Arc<str>,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelMethod {
    #[default]
    Connect,
    /// Bytes are the bodies of a request and of its answer.
    Post,
}

/// As an authority.
impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tunnel { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A version of the PROXY protocol (proxy-protocol.txt of HAProxy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProxyHeader {
    /// A line of text.
    V1,
    V2,
}

/// TCP's probes of a silent connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Keepalive {
    /// Probes without an answer after which it is given up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub probes: Option<u32>,
    /// Silence before the first one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub time: Option<Duration>,
    /// Between two of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interval: Option<Duration>,
}
