//! How one of a destination's endpoints is picked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balancing {
    /// Power of two choices.
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    /// The same endpoint for the same key, for as long as it is there (`consistentHash`). Without a key: at random.
    Hash(Box<Hashing>),
    /// In turn, by weights that follow from the load that endpoints report (`backendUtilization`).
    BackendUtilization(Box<Utilization>),
}

impl Balancing {
    fn hashing(&self) -> Option<&Hashing> {
        match self {
            Balancing::Hash(hashing) => Some(hashing),
            Balancing::LeastRequest | Balancing::RoundRobin | Balancing::Random | Balancing::BackendUtilization(_) => {
                None
            }
        }
    }

    /// The table that its endpoints need, if any.
    #[must_use]
    pub fn table(&self) -> Option<HashTable> {
        self.hashing().map(|hashing| hashing.table)
    }

    /// What of a request says where it goes, if anything does.
    #[must_use]
    pub fn key(&self) -> Option<&HashKey> {
        self.hashing()?.key.as_ref()
    }
}

/// In Istio's and Envoy's words, with what is hashed.
impl fmt::Display for Balancing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hashing = match self {
            Balancing::LeastRequest => return f.write_str("LEAST_REQUEST"),
            Balancing::RoundRobin => return f.write_str("ROUND_ROBIN"),
            Balancing::Random => return f.write_str("RANDOM"),
            Balancing::BackendUtilization(_) => return f.write_str("CLIENT_SIDE_WEIGHTED_ROUND_ROBIN"),
            Balancing::Hash(hashing) => hashing,
        };
        f.write_str(match hashing.table {
            HashTable::Ring { .. } => "RING_HASH",
            HashTable::Maglev { .. } => "MAGLEV",
        })?;
        match &hashing.key {
            Some(HashKey::Header(name)) => write!(f, " header {name}"),
            Some(HashKey::Query(name)) => write!(f, " query {name}"),
            Some(HashKey::Cookie(cookie)) => write!(f, " cookie {}", cookie.name),
            Some(HashKey::SourceIp) => f.write_str(" source IP"),
            None => Ok(()),
        }
    }
}

/// An endpoint that is new gets less than its weight at first (`warmup`): so much of it as of the time is over, to the power of
/// `1 / aggression`, and never less than the minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmup {
    /// Until then.
    pub window: Duration,
    /// Hundredths of a percent.
    pub minimum: u32,
    /// Thousandths, above zero.
    pub aggression: u32,
}

/// How the weight of an endpoint follows from what it reports: requests in a second, by how much of it is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Utilization {
    /// Of the share of requests that failed, what is added to how much is in use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub error_penalty_percent: u32,
    /// Names of what says how much is in use, where the application does not: the greatest counts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metrics: Vec<Arc<str>>,
    /// An endpoint has been reporting so long before its weight counts.
    pub stabilization: Duration,
    /// After that time without a report its weight does not count any more.
    pub expiration: Duration,
    /// Weights are made so often.
    pub update: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashing {
    /// None: no request has a key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub key: Option<HashKey>,
    pub table: HashTable,
}

/// What of a request is its key. A request that lacks it has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashKey {
    /// In lower case; also `:path` and the like. Of several lines their order does not count.
    Header(Arc<str>),
    /// The first value of a query parameter, as it stands.
    Query(Arc<str>),
    Cookie(HashCookie),
    /// The client's address, without port. The only one that connections of bytes have.
    SourceIp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashCookie {
    pub name: Arc<str>,
    /// Some: a client without the cookie is given one; zero: for its session.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ttl: Option<Duration>,
    /// What else the cookie says that is given: path and attributes, ready to be appended (`; Path=/; Secure; HttpOnly`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub attributes: Arc<str>,
}

/// Which table leads from keys to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashTable {
    /// Points on a ring, at least so many in all.
    Ring { minimum: u32 },
    /// So many slots, a prime.
    Maglev { size: u32 },
}
