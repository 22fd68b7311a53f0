//! Certificates that are ordered (ACME, RFC 8555): for which names, from whom, when, and when again after a failure. What a CA
//! is asked is the business of the crate `mesh-acme`; the time and chance are passed in.

mod book;
mod kept;
mod names;
mod proof;
mod schedule;

pub use book::{Book, Order};
pub use kept::{CHALLENGE, FAILURE, HOST, KeptFailure, OURS};
pub use names::{Authority, Want, Wants, authority, wants};
pub use proof::{lifetime, proven};
pub use schedule::{Lifetime, Trouble, Window, renewal, retry};

use std::time::SystemTime;

/// How the gateway shows that it serves a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Challenge {
    /// RFC 8555 section 8.3: a file at port 80.
    #[serde(rename = "http-01")]
    Http,
    /// RFC 8737: a handshake at port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
}

impl Challenge {
    #[must_use]
    pub fn other(self) -> Challenge {
        match self {
            Challenge::Http => Challenge::TlsAlpn,
            Challenge::TlsAlpn => Challenge::Http,
        }
    }

    /// As the CA calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Challenge::Http => "http-01",
            Challenge::TlsAlpn => "tls-alpn-01",
        }
    }
}

/// Why an order came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub trouble: Trouble,
    /// In words, with what the CA said.
    pub message: String,
    /// Before then the CA wants to hear nothing (`Retry-After`).
    pub not_before: Option<SystemTime>,
}

impl Failure {
    #[must_use]
    pub fn new(trouble: Trouble, message: impl Into<String>) -> Failure {
        Failure { trouble, message: message.into(), not_before: None }
    }
}
