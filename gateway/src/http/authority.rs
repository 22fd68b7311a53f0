//! The authority of a request: what is refused, and where host and port part. Stricter than Envoy, which forwards user
//! information, empty hosts and ports that are none: another server might read another host out of them.

use std::net::Ipv6Addr;

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

/// Checks `Host` or `:authority`: `uri-host [":" port]` of RFC 9110 section 7.2, with a port from 1 to 65535. The comma,
/// which RFC 3986 allows in names, is refused: it is what becomes of two Host headers that somebody joined.
pub fn parse(value: &[u8]) -> Result<Authority<'_>, AuthorityError> {
    if value.is_empty() {
        return Err(AuthorityError::Missing);
    }
    let text = std::str::from_utf8(value).map_err(|_| AuthorityError::Invalid)?;
    let (host, port) = if text.starts_with('[') { split_ip_literal(text)? } else { split_name(text)? };
    let port = port.map(parse_port).transpose()?;
    Ok(Authority { text, host, port })
}

fn split_name(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    let mut end = text.len();
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => {}
            b'%' => {
                let mut digit = || bytes.next().is_some_and(|(_, byte)| byte.is_ascii_hexdigit());
                if !(digit() && digit()) {
                    return Err(AuthorityError::Invalid);
                }
            }
            b':' => {
                end = at;
                break;
            }
            _ => return Err(AuthorityError::Invalid),
        }
    }
    match text.split_at_checked(end) {
        Some(("", _)) | None => Err(AuthorityError::Invalid),
        Some((host, rest)) => Ok((host, rest.strip_prefix(':'))),
    }
}

fn split_ip_literal(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    let end = text.find(']').ok_or(AuthorityError::Invalid)?;
    let (host, rest) = text.split_at_checked(end + 1).ok_or(AuthorityError::Invalid)?;
    let address = host.get(1..end).unwrap_or_default();
    if address.parse::<Ipv6Addr>().is_err() {
        return Err(AuthorityError::Invalid);
    }
    match rest {
        "" => Ok((host, None)),
        _ => rest.strip_prefix(':').map(|port| (host, Some(port))).ok_or(AuthorityError::Invalid),
    }
}

fn parse_port(digits: &str) -> Result<u16, AuthorityError> {
    // `parse` alone would take `+80`.
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::Invalid);
    }
    digits.parse().ok().filter(|port| *port != 0).ok_or(AuthorityError::Invalid)
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
