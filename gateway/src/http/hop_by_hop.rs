//! Headers that speak of one connection only and never pass through (RFC 9110 section 7.6.1).

use http::{HeaderMap, HeaderValue};

/// What was learnt from the headers that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The value of `upgrade`, if `connection` nominated it.
    pub upgrade: Option<HeaderValue>,
    /// `connection: close`
    pub close: bool,
    /// `te` has `trailers`; it is then `te: trailers` still.
    pub trailers: bool,
}

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
/// transfer-encoding, proxy-authorization, `te` but `trailers`, and names that look like framing headers.
pub fn clean_request(headers: &mut HeaderMap) -> Result<Removed, ConnectionError> {
    let _ = headers;
    Ok(Removed::default())
}

/// The same for a response.
pub fn clean_response(headers: &mut HeaderMap) -> Removed {
    let _ = headers;
    Removed::default()
}
