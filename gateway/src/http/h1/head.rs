//! The strict parser of request heads (RFC 9112 sections 2 to 6).

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderValue, Method};
use memchr::{memchr, memrchr};

use super::error::HeadError;
use super::fields::{self, BlockScan};
use super::framing::{self, Declared};
use super::target::{self, Target};
use super::{BodyLength, Limits, Version};
use crate::http::authority;

/// A request head, as received except that names are lower case, values trimmed, framing headers canonical, and
/// `host` is the authority of an absolute target when there is one (RFC 9112 section 3.2.2).
#[derive(Debug, Clone)]
pub struct RequestHead {
    pub method: Method,
    pub target: Target,
    pub version: Version,
    pub headers: HeaderMap,
    /// Whether the client wants the connection kept (RFC 9112 section 9.3).
    pub keep_alive: bool,
    pub body: BodyLength,
    /// Bytes of the head on the wire.
    pub wire_bytes: usize,
}

impl RequestHead {
    /// The authority as sent; empty only for an HTTP/1.0 request without Host.
    pub fn authority(&self) -> &str {
        match &self.target {
            Target::Absolute { authority, .. } | Target::Authority(authority) => authority.as_str(),
            Target::Origin(_) | Target::Asterisk => {
                self.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
            }
        }
    }

    /// Path with query as sent; `*` for `OPTIONS *`, empty for CONNECT.
    pub fn path_and_query(&self) -> &str {
        match &self.target {
            Target::Origin(path) | Target::Absolute { path_and_query: path, .. } => path.as_str(),
            Target::Asterisk => "*",
            Target::Authority(_) => "",
        }
    }
}

/// Progress of reading one head.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    scan: BlockScan,
    empty_lines: u8,
}

/// Takes a head off the front of `buffer`; `None` if more bytes are needed.
pub(super) fn read(
    reader: &mut HeadReader,
    buffer: &mut BytesMut,
    limits: &Limits,
) -> Result<Option<RequestHead>, HeadError> {
    skip_empty_lines(reader, buffer, limits)?;
    check_method(buffer, limits)?;
    // The request line is a line, too.
    let complete = reader.scan.advance(buffer, limits.head_bytes, limits.headers + 1)?;
    let Some(length) = complete else { return Ok(None) };
    let lines = reader.scan.lines;
    *reader = HeadReader::default();
    parse(&buffer.split_to(length).freeze(), lines, limits).map(Some)
}

/// RFC 9112 section 2.2: at least one empty line before the request line is ignored.
fn skip_empty_lines(reader: &mut HeadReader, buffer: &mut BytesMut, limits: &Limits) -> Result<(), HeadError> {
    if reader.scan.lines > 0 {
        return Ok(());
    }
    while buffer.starts_with(b"\r\n") {
        if reader.empty_lines >= limits.leading_empty_lines {
            return Err(HeadError::LeadingEmptyLines);
        }
        reader.empty_lines += 1;
        buffer.advance(2);
        reader.scan = BlockScan::default();
    }
    Ok(())
}

/// Refuses what will never be a request line (a TLS hello, a binary protocol) without waiting for the end of the
/// head. Looks at the same bytes however they arrive, so that the answer does not depend on it.
fn check_method(buffer: &[u8], limits: &Limits) -> Result<(), HeadError> {
    if buffer == b"\r" {
        return Ok(());
    }
    for (at, byte) in buffer.iter().enumerate().take(limits.method_bytes + 1) {
        match byte {
            b' ' if at > 0 => return Ok(()),
            byte if is_token(*byte) && at < limits.method_bytes => {}
            _ => return Err(HeadError::Method),
        }
    }
    Ok(())
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn parse(block: &Bytes, lines: usize, limits: &Limits) -> Result<RequestHead, HeadError> {
    let line_end = memchr(b'\r', block).ok_or(HeadError::RequestLine)?;
    let line = block.get(..line_end).unwrap_or_default();
    let method_end = memchr(b' ', line).ok_or(HeadError::RequestLine)?;
    let target_end = memrchr(b' ', line).ok_or(HeadError::RequestLine)?;
    let (before, version) = line.split_at(target_end);
    let method = before.get(..method_end).ok_or(HeadError::RequestLine)?;
    let method = Method::from_bytes(method).map_err(|_| HeadError::Method)?;
    let version = request_version(version.get(1..).unwrap_or_default())?;
    // A second space inside the target makes it non-graphic: refused there.
    let target = target::parse(block, method_end + 1, target_end, &method)?;
    let mut headers = fields::parse(block, line_end + 2, lines.saturating_sub(1))?;
    let declared = framing::declared(&mut headers, version)?;
    if version == Version::V1_0 && !limits.allow_http_1_0 {
        return Err(HeadError::LowVersion);
    }
    check_host(&mut headers, version, &target)?;
    let body = match declared {
        Declared::Nothing | Declared::Length(0) => BodyLength::None,
        Declared::Length(length) => BodyLength::Length(length),
        Declared::Chunked => BodyLength::Chunked,
    };
    let (keep_alive, _) = connection_options(&headers, version);
    let wire_bytes = block.len();
    Ok(RequestHead { method, target, version, headers, keep_alive, body, wire_bytes })
}

/// RFC 9112 section 2.3: `HTTP/` DIGIT `.` DIGIT, case-sensitive.
fn request_version(version: &[u8]) -> Result<Version, HeadError> {
    match version {
        b"HTTP/1.1" => Ok(Version::V1_1),
        b"HTTP/1.0" => Ok(Version::V1_0),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(HeadError::UnsupportedVersion)
        }
        _ => Err(HeadError::Version),
    }
}

/// RFC 9112 section 3.2: 400 for a request of HTTP/1.1 without Host, and for any with two or an invalid one.
fn check_host(headers: &mut HeaderMap, version: Version, target: &Target) -> Result<(), HeadError> {
    let mut hosts = headers.get_all(HOST).iter();
    match hosts.next() {
        None if version == Version::V1_0 => {}
        None => return Err(HeadError::MissingHost),
        Some(host) => {
            if hosts.next().is_some() {
                return Err(HeadError::DuplicateHost);
            }
            authority::parse(host.as_bytes()).map_err(|_| HeadError::InvalidHost)?;
        }
    }
    if let Target::Absolute { authority, .. } = target {
        let host = HeaderValue::from_maybe_shared(authority.bytes().clone()).map_err(|_| HeadError::InvalidHost)?;
        headers.insert(HOST, host);
    }
    Ok(())
}

/// RFC 9112 section 9.3: whether the connection persists, and whether Connection names Upgrade.
pub(super) fn connection_options(headers: &HeaderMap, version: Version) -> (bool, bool) {
    let (mut close, mut keep_alive, mut upgrade) = (false, version == Version::V1_1, false);
    for option in fields::members(headers, &CONNECTION) {
        close |= option.eq_ignore_ascii_case(b"close");
        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
    (keep_alive && !close, upgrade)
}

/// For tests and logs: the text of a target.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Origin(path) => f.write_str(path),
            Target::Absolute { path_and_query, .. } => f.write_str(path_and_query),
            Target::Asterisk => f.write_str("*"),
            Target::Authority(authority) => f.write_str(authority),
        }
    }
}
