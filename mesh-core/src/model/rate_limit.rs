//! How many requests are let through. Limits are for the whole proxy: what concerns some of its requests says so in a condition.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Clause, Key, is_default};
use crate::object::ObjectRef;

/// The limits of one object of the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    /// `namespace/name`
    pub key: Key,
    pub limits: Vec<RequestLimit>,
    pub origin: ObjectRef,
}

/// A token bucket, or one for each combination of some values. It counts requests for which one of `from`, one of `to` (an empty
/// list holds) and all of `when` hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLimit {
    /// Index in `spec.limits`.
    pub index: u32,
    /// Among those of its object.
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub from: Vec<Vec<Clause>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub to: Vec<Vec<Clause>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub when: Vec<Clause>,
    pub amount: LimitAmount,
    /// Answers do not tell of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub silent: bool,
}

/// What is counted. As long as it stays the same, the count goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitAmount {
    /// In each `per`; at least 1, and at most a million a second.
    pub requests: u32,
    pub per: Duration,
    /// Size of the bucket; at least 1.
    pub burst: u32,
    /// What has a bucket of its own; empty: one for all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by: Vec<LimitKey>,
    /// Most buckets that are kept.
    #[serde(default = "usual_buckets", skip_serializing_if = "is_usual")]
    pub max_buckets: u32,
    /// All proxies count together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub global: bool,
}

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitKey {
    /// So many bits of the client's address, as far as proxies in front can be believed.
    ClientAddress { ipv4: u8, ipv6: u8 },
    /// Lower case.
    Header(String),
    /// A claim of the token, with the names of the claims that it is in.
    Claim(Vec<String>),
}

impl LimitAmount {
    /// Of limits that do not say it.
    pub const USUAL_BUCKETS: u32 = 1 << 16;
}

fn usual_buckets() -> u32 {
    LimitAmount::USUAL_BUCKETS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_usual(buckets: &u32) -> bool {
    *buckets == LimitAmount::USUAL_BUCKETS
}

/// `100 in 60s, 20 at once, by clientAddress/32/64 and header x-api-key`
impl fmt::Display for LimitAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}, {} at once", self.requests, self.per, self.burst)?;
        for (index, key) in self.by.iter().enumerate() {
            write!(f, "{}{key}", if index == 0 { ", by " } else { " and " })?;
        }
        if self.global {
            write!(f, ", over all proxies")?;
        }
        Ok(())
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitKey::ClientAddress { ipv4, ipv6 } => write!(f, "clientAddress/{ipv4}/{ipv6}"),
            LimitKey::Header(name) => write!(f, "header {name}"),
            LimitKey::Claim(names) => write!(f, "claim {}", names.join(".")),
        }
    }
}
