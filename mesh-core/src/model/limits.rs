//! How much may go on with a destination at a time, and how its connections are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;

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
