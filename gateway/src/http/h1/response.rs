//! The strict parser of response heads (RFC 9112 sections 4 to 6).

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use memchr::memchr;

use super::error::ResponseError;
use super::fields::{self, BlockScan};
use super::framing::{self, Declared};
use super::head::connection_options;
use super::{Limits, Version};

/// How a response's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseBody {
    None,
    Length(u64),
    Chunked,
    UntilClose,
    /// 101: what follows is the other protocol; take it with `into_parts`.
    Upgraded,
}

/// A response head as received, except that names are lower case, values trimmed and framing headers canonical. A
/// response to HEAD keeps its `content-length` or `transfer-encoding`.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    pub status: StatusCode,
    /// As received; may hold bytes from 0x80 up.
    pub reason: Bytes,
    pub headers: HeaderMap,
    pub version: Version,
    pub body: ResponseBody,
    /// Whether the upstream lets the connection be used again.
    pub keep_alive: bool,
    /// Bytes of the head on the wire.
    pub wire_bytes: usize,
}

impl ResponseHead {
    /// True for 1xx but 101: another head follows.
    pub fn is_informational(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// What of the request decides how its response ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub head: bool,
    pub upgrade: bool,
}

impl Asked {
    pub fn new(method: &Method, headers: &HeaderMap) -> Asked {
        let upgrade = headers.contains_key(http::header::UPGRADE) && connection_options(headers, Version::V1_1).1;
        Asked { head: *method == Method::HEAD, upgrade }
    }
}

/// Takes a head off the front of `buffer`; `None` if more bytes are needed.
pub(super) fn read(
    scan: &mut BlockScan,
    buffer: &mut BytesMut,
    asked: Asked,
    limits: &Limits,
) -> Result<Option<ResponseHead>, ResponseError> {
    if scan.lines == 0 && !buffer.iter().zip(b"HTTP/").all(|(byte, expected)| byte == expected) {
        return Err(ResponseError::StatusLine);
    }
    // The status line is a line, too.
    let complete = scan.advance(buffer, limits.head_bytes, limits.headers + 1)?;
    let Some(length) = complete else { return Ok(None) };
    let lines = scan.lines;
    *scan = BlockScan::default();
    parse(&buffer.split_to(length).freeze(), lines, asked).map(Some)
}

fn parse(block: &Bytes, lines: usize, asked: Asked) -> Result<ResponseHead, ResponseError> {
    let line_end = memchr(b'\r', block).ok_or(ResponseError::StatusLine)?;
    let line = block.get(..line_end).unwrap_or_default();
    let (version, rest) = line.split_at_checked(8).ok_or(ResponseError::StatusLine)?;
    let version = response_version(version)?;
    // The blank before an absent reason is missing in practice, though RFC 9112 section 4 wants it.
    let (status, reason_start) = match rest {
        [b' ', a, b, c] => ([*a, *b, *c], line_end),
        [b' ', a, b, c, b' ', ..] => ([*a, *b, *c], 13),
        _ => return Err(ResponseError::StatusLine),
    };
    let status = StatusCode::from_bytes(&status).map_err(|_| ResponseError::StatusLine)?;
    let reason = fields::slice(block, reason_start, line_end);
    if !reason.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)) {
        return Err(ResponseError::StatusLine);
    }
    let mut headers = fields::parse(block, line_end + 2, lines.saturating_sub(1))?;
    let declared = framing::declared(&mut headers, version)?;
    let body = body(status, declared, asked)?;
    let (keep_alive, _) = connection_options(&headers, version);
    let keep_alive = keep_alive && !matches!(body, ResponseBody::UntilClose | ResponseBody::Upgraded);
    Ok(ResponseHead { status, reason, headers, version, body, keep_alive, wire_bytes: block.len() })
}

/// RFC 9110 section 2.5: a later minor version is read as the highest we know; another major version is not ours.
fn response_version(version: &[u8]) -> Result<Version, ResponseError> {
    match version {
        b"HTTP/1.0" => Ok(Version::V1_0),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Ok(Version::V1_1),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(ResponseError::Version)
        }
        _ => Err(ResponseError::StatusLine),
    }
}

/// RFC 9112 section 6.3, in its order.
fn body(status: StatusCode, declared: Declared, asked: Asked) -> Result<ResponseBody, ResponseError> {
    let announces_body = !matches!(declared, Declared::Nothing | Declared::Length(0));
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        if announces_body {
            return Err(ResponseError::ForbiddenBody);
        }
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(ResponseBody::None);
        }
        return if asked.upgrade { Ok(ResponseBody::Upgraded) } else { Err(ResponseError::UnaskedUpgrade) };
    }
    if asked.head || status == StatusCode::NOT_MODIFIED {
        return Ok(ResponseBody::None);
    }
    Ok(match declared {
        Declared::Nothing => ResponseBody::UntilClose,
        Declared::Length(0) => ResponseBody::None,
        Declared::Length(length) => ResponseBody::Length(length),
        Declared::Chunked => ResponseBody::Chunked,
    })
}
