//! Request targets and hosts (RFC 9112 section 3.2, RFC 9110 section 7.2).

use std::fmt;
use std::ops::Deref;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;

use super::error::HeadError;
use super::fields::slice;
use crate::http::authority;

/// ASCII text that is a slice of the buffer it was read from.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Ascii(Bytes);

impl Ascii {
    /// `None` if a byte is not ASCII.
    pub fn new(bytes: Bytes) -> Option<Ascii> {
        bytes.is_ascii().then_some(Ascii(bytes))
    }

    pub const fn from_static(text: &'static str) -> Ascii {
        Ascii(Bytes::from_static(text.as_bytes()))
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Deref for Ascii {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Ascii {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// RFC 9112 section 3.2: the four forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Path with query, as sent; begins with `/`.
    Origin(Ascii),
    /// `https` on a clear-text connection is for the caller to refuse (403, `http1.https_url_on_plaintext_connection`).
    Absolute { scheme: Scheme, authority: Ascii, path_and_query: Ascii },
    /// `OPTIONS *`
    Asterisk,
    /// `CONNECT host:port`
    Authority(Ascii),
}

/// Reads a target that holds no space.
pub(super) fn parse(block: &Bytes, start: usize, end: usize, method: &http::Method) -> Result<Target, HeadError> {
    let target = slice(block, start, end);
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(HeadError::Target);
    }
    if *method == http::Method::CONNECT {
        return connect(target);
    }
    match target.first() {
        Some(b'/') => Ok(Target::Origin(Ascii(target))),
        Some(b'*') if target.len() == 1 && *method == http::Method::OPTIONS => Ok(Target::Asterisk),
        _ => absolute(&target),
    }
}

/// RFC 9112 section 3.2.3: only host and port, both present.
fn connect(target: Bytes) -> Result<Target, HeadError> {
    let has_port = target.last().is_some_and(u8::is_ascii_digit)
        && memchr::memrchr(b':', &target).is_some_and(|colon| !target.get(colon..).unwrap_or_default().contains(&b']'));
    if has_port && authority::parse(&target).is_ok() {
        Ok(Target::Authority(Ascii(target)))
    } else {
        Err(HeadError::Target)
    }
}

/// RFC 9112 section 3.2.2.
fn absolute(target: &Bytes) -> Result<Target, HeadError> {
    let colon = memchr(b':', target).ok_or(HeadError::Target)?;
    let (scheme, rest) = target.split_at(colon);
    let scheme = if scheme.eq_ignore_ascii_case(b"http") {
        Scheme::Http
    } else if scheme.eq_ignore_ascii_case(b"https") {
        Scheme::Https
    } else {
        return Err(HeadError::Target);
    };
    let after = rest.strip_prefix(b"://").ok_or(HeadError::Target)?;
    let length = after.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(after.len());
    let start = target.len() - after.len();
    let authority = slice(target, start, start + length);
    authority::parse(&authority).map_err(|_| HeadError::InvalidHost)?;
    let path = slice(target, start + length, target.len());
    let path_and_query = match path.first() {
        Some(b'/') => Ascii(path),
        None => Ascii::from_static("/"),
        Some(_) => {
            let mut rooted = BytesMut::with_capacity(path.len() + 1);
            rooted.put_u8(b'/');
            rooted.put_slice(&path);
            Ascii(rooted.freeze())
        }
    };
    Ok(Target::Absolute { scheme, authority: Ascii(authority), path_and_query })
}
