//! Headers that speak of one connection only and never pass through (RFC 9110 section 7.6.1). One walk over the names
//! finds what there is to do; most messages have a `connection: keep-alive` at most.

use http::header::{CONNECTION, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Some servers read `_` as `-`: to them these frame the message.
static TRANSFER_ENCODING_LOOKALIKE: HeaderName = HeaderName::from_static("transfer_encoding");
static CONTENT_LENGTH_LOOKALIKE: HeaderName = HeaderName::from_static("content_length");

/// Envoy's bound on what `connection` may name.
const MAX_TOKENS: usize = 10;

/// Why a request is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// `Connection: host`
    #[error("connection header nominates host")]
    NominatesHost,
    #[error("connection header rejected")]
    Rejected,
}

impl ConnectionError {
    /// For the access log.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            ConnectionError::NominatesHost => "missing_host_header",
            ConnectionError::Rejected => "http1.connection_header_rejected",
        }
    }
}

/// Removes from a request what does not pass: connection and all it nominates, keep-alive, proxy-connection, upgrade,
/// transfer-encoding, proxy-authorization, `te` but `trailers`, and names that look like framing headers. Yields the value of
/// `upgrade`, if `connection` nominated it.
pub fn clean_request(headers: &mut HeaderMap) -> Result<Option<HeaderValue>, ConnectionError> {
    let found = Found::look(headers);
    let mut upgrade = None;
    if found.connection {
        let nominated = Nominated::read(headers);
        nominated.check()?;
        if nominated.upgrade {
            upgrade = joined(headers, &UPGRADE);
        }
        nominated.remove(headers);
    }
    if found.te {
        reduce_te(headers);
    }
    if found.unusual {
        remove_unusual(headers);
        for name in [&PROXY_AUTHORIZATION, &TRANSFER_ENCODING_LOOKALIKE, &CONTENT_LENGTH_LOOKALIKE] {
            headers.remove(name);
        }
    }
    Ok(upgrade)
}

/// Removes from a response what does not pass: connection and all it nominates, keep-alive, proxy-connection, upgrade,
/// transfer-encoding.
pub fn clean_response(headers: &mut HeaderMap) {
    let found = Found::look(headers);
    if found.connection {
        Nominated::read(headers).remove(headers);
    }
    if found.unusual {
        remove_unusual(headers);
    }
}

/// The client said `te: trailers`: trailers of the answer may be sent to it (RFC 9110 section 6.5.1).
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

fn remove_unusual(headers: &mut HeaderMap) {
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &UPGRADE, &TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

/// What there is to do.
#[derive(Default)]
struct Found {
    connection: bool,
    te: bool,
    /// Any of the others.
    unusual: bool,
}

impl Found {
    fn look(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => found.connection = true,
                "te" => found.te = true,
                "keep-alive"
                | "proxy-connection"
                | "upgrade"
                | "transfer-encoding"
                | "proxy-authorization"
                | "transfer_encoding"
                | "content_length" => found.unusual = true,
                _ => {}
            }
        }
        found
    }
}

/// The tokens of `connection`.
#[derive(Default)]
struct Nominated {
    upgrade: bool,
    tokens: usize,
    host: bool,
    forbidden: bool,
    /// Headers that go because of it alone.
    others: Vec<HeaderName>,
}

impl Nominated {
    fn read(headers: &HeaderMap) -> Self {
        let mut nominated = Self::default();
        for value in headers.get_all(CONNECTION) {
            for token in tokens(value) {
                nominated.tokens += 1;
                nominated.add(token);
            }
        }
        nominated
    }

    fn add(&mut self, token: &[u8]) {
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        if is("keep-alive") || is("close") || is("te") {
            // Persistence is the codec's business; `te` is reduced to what may pass whether it was nominated or not.
        } else if is("upgrade") {
            self.upgrade = true;
        } else if is("host") {
            self.host = true;
        } else if token.starts_with(b":") || is("x-forwarded-for") || is("x-forwarded-proto") {
            self.forbidden = true;
        } else if self.others.len() < MAX_TOKENS {
            // What is no name names nothing.
            self.others.extend(HeaderName::from_bytes(token));
        }
    }

    fn check(&self) -> Result<(), ConnectionError> {
        if self.forbidden || self.tokens >= MAX_TOKENS {
            Err(ConnectionError::Rejected)
        } else if self.host {
            Err(ConnectionError::NominatesHost)
        } else {
            Ok(())
        }
    }

    fn remove(&self, headers: &mut HeaderMap) {
        headers.remove(CONNECTION);
        for name in &self.others {
            headers.remove(name);
        }
    }
}

/// The elements of a list, without blanks and empty ones.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// `te` becomes `trailers` or goes.
fn reduce_te(headers: &mut HeaderMap) {
    if takes_trailers(headers) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// All values of a header as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(first.clone()) };
    let mut all = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(b", ");
        all.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&all).ok()
}

#[cfg(test)]
#[path = "hop_by_hop_tests.rs"]
pub(super) mod tests;
