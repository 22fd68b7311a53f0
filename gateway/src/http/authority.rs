//! The authority of a request: what is refused, and where host and port part.

/// A valid authority, as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The whole of it.
    pub text: &'a str,
    /// Without port; an IPv6 address keeps its brackets.
    pub host: &'a str,
    pub port: Option<u16>,
}

/// Why an authority is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("no host")]
    Missing,
    #[error("invalid authority")]
    Invalid,
}

impl AuthorityError {
    /// For the access log.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            AuthorityError::Missing => "missing_host_header",
            AuthorityError::Invalid => "http.invalid_authority",
        }
    }
}

/// Checks `Host` or `:authority`.
pub fn parse(value: &[u8]) -> Result<Authority<'_>, AuthorityError> {
    let text = std::str::from_utf8(value).map_err(|_| AuthorityError::Invalid)?;
    Ok(Authority { text, host: text, port: None })
}
