//! What happens to a request that a rule matched.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Key;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Respond(DirectResponse),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// At least one; weights are relative and their sum is above zero.
    pub splits: Vec<Split>,
    pub rewrite: Rewrite,
    /// Whole request, retries included; none: no limit.
    pub timeout: Option<Duration>,
    pub retry: RetryPolicy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub destination: DestinationRef,
    pub weight: u32,
    pub headers: Arc<HeaderOps>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DestinationRef {
    /// Key of a [`Destination`](super::Destination) of the same set.
    Known(Key),
    /// Host, port or subset does not exist: 503 NC for this share. The name is what the key would have been.
    Unknown(Key),
}

/// Empty: nothing is rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    pub path: Option<PathRewrite>,
    /// New authority.
    pub authority: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    /// Replaces the matched prefix (rule with a prefix), the whole path (exact or regex), or the leading `/` (rule without
    /// a path condition). The query stays.
    Prefix(String),
    /// Every match of `pattern` (RE2, not anchored) in the path becomes `substitution`, in which `\1` is a group.
    Regex { pattern: String, substitution: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    pub scheme: Option<String>,
    /// Replaces host and port.
    pub authority: Option<String>,
    pub port: RedirectPort,
    pub path: Option<RedirectPath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectPort {
    /// As the request had it (but the old scheme's default port goes when the scheme changes).
    Keep,
    /// `port`
    Number(u16),
    /// `derivePort: FROM_PROTOCOL_DEFAULT`
    ProtocolDefault,
    /// `derivePort: FROM_REQUEST_PORT`: the listener's port.
    Request,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectPath {
    /// `uri`: replaces the whole path; the query stays unless this has one.
    Full(String),
    /// `prefixRewrite`: replaces the matched prefix.
    Prefix(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// At most 1 MiB.
    pub body: Option<Vec<u8>>,
}

/// Tries beyond the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Extra tries; 0: none.
    pub attempts: u32,
    /// A connection that could not be made (refused, timed out, TLS): the request was not sent.
    pub connect_failure: bool,
    /// The upstream refused the HTTP/2 stream before it looked at the request.
    pub refused_stream: bool,
}

/// In the order remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderOps {
    pub request: HeaderOp,
    pub response: HeaderOp,
}

/// Names are lower case. Values may hold `%COMMAND%` operators of Envoy's formatter; `:authority` in set or add of a
/// request rewrites the authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderOp {
    pub remove: Vec<String>,
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
}

impl HeaderOp {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
