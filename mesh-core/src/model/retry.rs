//! When a request is tried again, in Envoy's words (`retryOn`).

use std::fmt;
use std::ops::BitOr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;

/// Between tries: a random time up to this, doubled each time, at most ten times as much (Envoy's default).
const BACKOFF: Duration = Duration::from_millis(25);

/// Tries beyond the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Extra tries; 0: none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub on: RetryOn,
    /// Answers of these statuses are tried again, too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub statuses: Vec<u16>,
    /// So long one try may take until its answer begins; none: the timeout of the rule.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_try_timeout: Option<Duration>,
    /// Instead of the 25 ms of before the second try.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backoff: Option<Duration>,
    /// Endpoints that were tried are as good as others (`retryIgnorePreviousHosts: false`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub same_hosts: bool,
    /// After each two tries endpoints are looked for that are nearer or farther than those before (`retryRemoteLocalities`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub remote_localities: bool,
}

/// Reasons to try again: a set of bits, so that asking for one costs nothing. It travels as the user's text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RetryOn(u16);

/// A try that ended before its answer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No connection: nothing was sent.
    NotConnected,
    /// The upstream refused the HTTP/2 stream before it looked at the request.
    Refused,
    /// Closed, reset, or not HTTP: the upstream may have read the request.
    Reset,
    /// The time of the try was over, before anything was sent.
    LateUnsent,
    /// The same, after that.
    LateSent,
}

/// What decides of an answer's head.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerHead {
    pub status: u16,
    /// `grpc-status`
    pub grpc_status: Option<u16>,
    /// It has `x-envoy-ratelimited`: a limit of the upstream's proxy made it.
    pub rate_limited: bool,
}

impl RetryOn {
    pub const SERVER_ERROR: RetryOn = RetryOn(1);
    pub const GATEWAY_ERROR: RetryOn = RetryOn(1 << 1);
    pub const RESET: RetryOn = RetryOn(1 << 2);
    pub const RESET_BEFORE_REQUEST: RetryOn = RetryOn(1 << 3);
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1 << 4);
    pub const RATE_LIMITED: RetryOn = RetryOn(1 << 5);
    pub const RETRIABLE_4XX: RetryOn = RetryOn(1 << 6);
    pub const REFUSED_STREAM: RetryOn = RetryOn(1 << 7);
    pub const CANCELLED: RetryOn = RetryOn(1 << 8);
    pub const DEADLINE_EXCEEDED: RetryOn = RetryOn(1 << 9);
    pub const INTERNAL: RetryOn = RetryOn(1 << 10);
    pub const RESOURCE_EXHAUSTED: RetryOn = RetryOn(1 << 11);
    pub const UNAVAILABLE: RetryOn = RetryOn(1 << 12);

    const WORDS: &[(RetryOn, &str)] = &[
        (Self::SERVER_ERROR, "5xx"),
        (Self::GATEWAY_ERROR, "gateway-error"),
        (Self::RESET, "reset"),
        (Self::RESET_BEFORE_REQUEST, "reset-before-request"),
        (Self::CONNECT_FAILURE, "connect-failure"),
        (Self::RATE_LIMITED, "envoy-ratelimited"),
        (Self::RETRIABLE_4XX, "retriable-4xx"),
        (Self::REFUSED_STREAM, "refused-stream"),
        (Self::CANCELLED, "cancelled"),
        (Self::DEADLINE_EXCEEDED, "deadline-exceeded"),
        (Self::INTERNAL, "internal"),
        (Self::RESOURCE_EXHAUSTED, "resource-exhausted"),
        (Self::UNAVAILABLE, "unavailable"),
    ];

    /// Those about statuses and headers of answers, and about the statuses of gRPC.
    const ANSWERS: RetryOn =
        RetryOn(Self::SERVER_ERROR.0 | Self::GATEWAY_ERROR.0 | Self::RATE_LIMITED.0 | Self::RETRIABLE_4XX.0);
    const GRPC_ANSWERS: RetryOn = RetryOn(
        Self::CANCELLED.0
            | Self::DEADLINE_EXCEEDED.0
            | Self::INTERNAL.0
            | Self::RESOURCE_EXHAUSTED.0
            | Self::UNAVAILABLE.0,
    );

    /// Each with the number of its status.
    const GRPC: &[(RetryOn, u16)] = &[
        (Self::CANCELLED, 1),
        (Self::DEADLINE_EXCEEDED, 4),
        (Self::RESOURCE_EXHAUSTED, 8),
        (Self::INTERNAL, 13),
        (Self::UNAVAILABLE, 14),
    ];

    /// None: it is no such word, or one that needs what nobody can configure (`retriable-headers`).
    pub fn of_word(word: &str) -> Option<RetryOn> {
        Self::WORDS.iter().find(|(_, known)| *known == word).map(|(on, _)| *on)
    }

    /// Whether it has any of these.
    pub fn has(self, one: RetryOn) -> bool {
        self.0 & one.0 != 0
    }

    fn grpc(self, status: u16) -> bool {
        Self::GRPC.iter().any(|(on, number)| *number == status && self.has(*on))
    }
}

impl BitOr for RetryOn {
    type Output = RetryOn;
    fn bitor(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Self::WORDS.iter().filter(|(on, _)| self.has(*on)).map(|(_, word)| *word);
        words.next().map_or(Ok(()), |first| f.write_str(first))?;
        words.try_for_each(|word| write!(f, ",{word}"))
    }
}

impl fmt::Debug for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetryOn({self})")
    }
}

impl From<RetryOn> for String {
    fn from(on: RetryOn) -> String {
        on.to_string()
    }
}

impl TryFrom<String> for RetryOn {
    type Error = String;

    fn try_from(text: String) -> Result<RetryOn, String> {
        text.split(',').filter(|word| !word.is_empty()).try_fold(RetryOn::default(), |on, word| {
            Self::of_word(word).map(|one| on | one).ok_or_else(|| format!("this version does not know `{word}`"))
        })
    }
}

impl RetryPolicy {
    pub fn is_none(&self) -> bool {
        self.attempts == 0
    }

    /// Whether a try that was lost is made again.
    pub fn after(&self, loss: Loss) -> bool {
        let wide = self.on.has(RetryOn::RESET | RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR);
        let unsent = self.on.has(RetryOn::RESET_BEFORE_REQUEST);
        wide || match loss {
            Loss::NotConnected => unsent || self.on.has(RetryOn::CONNECT_FAILURE),
            Loss::Refused => unsent || self.on.has(RetryOn::REFUSED_STREAM),
            Loss::LateUnsent => unsent,
            Loss::Reset | Loss::LateSent => false,
        }
    }

    /// Whether a try whose answer begins so is made again.
    pub fn after_answer(&self, head: &AnswerHead) -> bool {
        if head.rate_limited {
            return self.on.has(RetryOn::RATE_LIMITED);
        }
        (self.on.has(RetryOn::SERVER_ERROR) && (500..=599).contains(&head.status))
            || (self.on.has(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&head.status))
            || (self.on.has(RetryOn::RETRIABLE_4XX) && head.status == 409)
            || head.grpc_status.is_some_and(|status| self.on.grpc(status))
            || self.statuses.contains(&head.status)
    }

    /// Whether there is an answer after which it may be tried again.
    pub fn looks_at_answers(&self, grpc: bool) -> bool {
        self.on.has(RetryOn::ANSWERS) || !self.statuses.is_empty() || (grpc && self.on.has(RetryOn::GRPC_ANSWERS))
    }

    /// Whether a request may be tried again after its body was sent, so that the body has to be kept.
    pub fn keeps_body(&self, grpc: bool, http2: bool) -> bool {
        let refused = http2 && self.on.has(RetryOn::REFUSED_STREAM | RetryOn::RESET_BEFORE_REQUEST);
        self.attempts > 0 && (refused || self.on.has(RetryOn::RESET) || self.looks_at_answers(grpc))
    }

    /// The pause after try `attempt` (from 1). `random` yields a number below its argument.
    pub fn pause(&self, attempt: u32, random: impl FnOnce(u64) -> u64) -> Duration {
        let base = self.backoff.unwrap_or(BACKOFF);
        let limit = base.saturating_mul(1 << attempt.clamp(1, 5).saturating_sub(1)).min(base.saturating_mul(10));
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(if micros == 0 { 0 } else { random(micros) })
    }
}

/// `up to 2 more tries on connect-failure,503, each within 1s`
impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts == 0 {
            return f.write_str("none");
        }
        let tries = if self.attempts == 1 { "try" } else { "tries" };
        write!(f, "up to {} more {tries} on {}", self.attempts, self.on)?;
        for (index, status) in self.statuses.iter().enumerate() {
            let comma = if index == 0 && self.on == RetryOn::default() { "" } else { "," };
            write!(f, "{comma}{status}")?;
        }
        if let Some(limit) = self.per_try_timeout {
            write!(f, ", each within {limit:?}")?;
        }
        if self.remote_localities { f.write_str(", after two tries farther away") } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
