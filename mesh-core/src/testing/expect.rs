//! What must come of a request, and what must be said of a configuration.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Matcher;

/// Every key that is given must hold. A runner that cannot see one says so.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub status: Option<u16>,
    /// Who answered.
    pub backend: Option<String>,
    /// `namespace/name[http]`, or `none`.
    pub rule: Option<String>,
    /// Name of the route in the access log, as the user gave it: `<route>.<match>`; `-`: it has none.
    pub route: Option<String>,
    /// The request as the backend got it: `method`, `path` (with query), `authority`, `protocol`, `body`, `header.NAME`,
    /// `trailer.NAME`, and `proxy`, what the connection began with: `V1 CLIENT:PORT SERVER:PORT`.
    pub saw: BTreeMap<String, Matcher>,
    /// The answer as the client got it: `body`, `protocol`, `header.NAME`, `trailer.NAME`, and of a TLS connection `alpn`,
    /// `certificate` (a DNS name in it), `tls` (its version), `cipher`, `group` (of the key exchange).
    pub reply: BTreeMap<String, Matcher>,
    /// Share per backend over `repeat` requests: `0.9±0.03`.
    pub split: BTreeMap<String, Share>,
    /// Share per status over all requests of the step, whoever answered.
    pub statuses: BTreeMap<u16, Share>,
    /// All of the `repeat` requests get the same backend, whichever it is.
    pub one_backend: bool,
    /// Backends that get requests beside the one that answers (copies of a mirror, questions to an authorizer): for which share of
    /// the requests, and the last one as it was got. They must get nothing else from this step.
    pub copies: BTreeMap<String, Copies>,
    /// How many connections are opened to these backends in this step.
    pub connections: BTreeMap<String, u32>,
    /// TCP's probes of a silent connection, as the proxy has them on all of its connections to these backends.
    pub probes: BTreeMap<String, Probes>,
    /// The connection fails: `refused` (no listener), `tls` (no handshake), `closed` (closed without an answer).
    pub error: Option<String>,
    /// Response flags of the access log.
    pub flags: Option<String>,
    /// Details of the access log.
    pub details: Option<String>,
    /// The answer takes at least, at most so long.
    pub after_ms: Option<u64>,
    pub within_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copies {
    pub share: Share,
    /// As [`Expect::saw`].
    #[serde(default)]
    pub saw: BTreeMap<String, Matcher>,
}

/// What is not said is as the system has it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    /// Seconds of silence before the first one.
    #[serde(default)]
    pub time: Option<u64>,
    /// Seconds between two.
    #[serde(default)]
    pub interval: Option<u64>,
    /// Without an answer, after which the connection is given up.
    #[serde(default)]
    pub count: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    pub share: f64,
    pub tolerance: f64,
}

impl Share {
    pub fn accepts(&self, count: u32, of: u32) -> bool {
        (f64::from(count) / f64::from(of.max(1)) - self.share).abs() <= self.tolerance + f64::EPSILON
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(f64),
        }
        let number = |text: &str| {
            text.trim().parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is no share such as 0.9±0.03")))
        };
        match Written::deserialize(deserializer)? {
            Written::Number(share) => Ok(Share { share, tolerance: 0.0 }),
            Written::Text(text) => match text.split_once('±') {
                Some((share, tolerance)) => Ok(Share { share: number(share)?, tolerance: number(tolerance)? }),
                None => Ok(Share { share: number(&text)?, tolerance: 0.0 }),
            },
        }
    }
}

/// Every key that is given must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectedDiagnostic {
    pub code: Option<String>,
    /// `Kind/namespace/name`
    pub object: Option<String>,
    pub field: Option<String>,
    /// Line in `config`, from 1.
    pub line: Option<u32>,
    pub severity: Option<String>,
    pub message: Option<Matcher>,
}
