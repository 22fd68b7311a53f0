//! What happens to a request that a rule matched.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Key, RetryPolicy, StringMatch, is_default};

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
    #[serde(default, skip_serializing_if = "is_default")]
    pub rewrite: Rewrite,
    /// Whole request, retries included; none: no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Option<Duration>,
    /// Shared: nearly all rules have that of the mesh.
    #[serde(default, skip_serializing_if = "RetryPolicy::is_none")]
    pub retry: Arc<RetryPolicy>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub fault: Option<Box<Fault>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub mirrors: Vec<Mirror>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub cors: Option<Box<Cors>>,
}

/// Which pages of other origins may use what a rule serves (`corsPolicy`). The lists are values of headers; an empty one is not
/// sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// One is enough; none: no origin is allowed. An exact `*` is every origin.
    #[serde(default, skip_serializing_if = "is_default")]
    pub origins: Vec<StringMatch>,
    /// `access-control-allow-methods`; `*` is whichever was asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub methods: String,
    /// `access-control-allow-headers`; `*` are those that were asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: String,
    /// `access-control-expose-headers`
    #[serde(default, skip_serializing_if = "is_default")]
    pub expose: String,
    /// `access-control-max-age`, in seconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_age: Option<u64>,
    /// `access-control-allow-credentials`
    #[serde(default, skip_serializing_if = "is_default")]
    pub credentials: bool,
    /// Preflights of other origins are answered, without leave, instead of forwarded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub answer_unmatched: bool,
}

/// Trouble that is made on purpose (`fault`): first the delay, then the abort, before anything is forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    #[serde(default, skip_serializing_if = "is_default")]
    pub delay: Option<Delay>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub abort: Option<Abort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// The route's timeout begins after it.
    pub time: Duration,
    pub share: Share,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    pub status: AbortStatus,
    pub share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AbortStatus {
    /// 200 to 599; a gRPC client gets the status that it stands for.
    Http(u16),
    /// A client that does not speak gRPC gets 200.
    Grpc(u16),
}

/// A destination that is sent copies of requests; its answers are thrown away (`mirror`, `mirrors`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Nothing is sent to one that is unknown.
    pub destination: DestinationRef,
    #[serde(default = "Share::all", skip_serializing_if = "Share::is_all")]
    pub share: Share,
}

/// A share of the requests, in millionths: Envoy's finest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share(u32);

impl Share {
    pub const ALL: Share = Share(1_000_000);

    /// 0.0 to 100.0. None: of nothing.
    pub fn of_percent(percent: f64) -> Option<Share> {
        // The value fits: it was cut to the range, and NaN becomes 0.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let millionths = (percent.clamp(0.0, 100.0) * 10_000.0).round() as u32;
        (millionths > 0).then_some(Share(millionths))
    }

    /// Whether this request is one of them; `random` yields a number below its argument, and is asked only where it decides.
    pub fn takes(self, random: &mut dyn FnMut(u32) -> u32) -> bool {
        self == Share::ALL || random(Share::ALL.0) < self.0
    }

    /// Of so many, rounded down.
    pub fn part_of(self, count: u64) -> u64 {
        count.saturating_mul(u64::from(self.0)) / u64::from(Share::ALL.0)
    }

    fn all() -> Share {
        Share::ALL
    }

    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_all(&self) -> bool {
        *self == Share::ALL
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub destination: DestinationRef,
    pub weight: u32,
    #[serde(default, skip_serializing_if = "HeaderOps::is_empty")]
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
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: Option<PathRewrite>,
    /// New authority.
    #[serde(default, skip_serializing_if = "is_default")]
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
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheme: Option<String>,
    /// Replaces host and port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub authority: Option<String>,
    pub port: RedirectPort,
    #[serde(default, skip_serializing_if = "is_default")]
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
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: Option<Vec<u8>>,
}

/// In the order remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderOps {
    #[serde(default, skip_serializing_if = "is_default")]
    pub request: HeaderOp,
    #[serde(default, skip_serializing_if = "is_default")]
    pub response: HeaderOp,
}

/// Names are lower case. Values may hold `%COMMAND%` operators of Envoy's formatter; `:authority` in set or add of a
/// request rewrites the authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderOp {
    #[serde(default, skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub set: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub add: Vec<(String, String)>,
}

impl HeaderOps {
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

impl HeaderOp {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
