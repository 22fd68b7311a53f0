//! The chunked transfer coding (RFC 9112 section 7.1), without the leniencies that desynchronise proxies.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, header};
use memchr::memchr2;

use super::Limits;
use super::error::{BodyError, Syntax};
use super::fields::{self, BlockScan};

/// Digits of a chunk size; more only hide what it is.
const SIZE_DIGITS: usize = 16;

/// The end of a chunk's data, the last chunk, and no trailers.
const LAST: &[u8] = b"\r\n0\r\n\r\n";

#[derive(Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers(BlockScan),
    Done,
}

#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of extensions so far.
    extensions: usize,
    /// What the head left of the limits.
    trailer_bytes: usize,
    trailer_fields: usize,
}

pub(super) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    More,
    End,
}

impl Chunked {
    pub fn new(limits: &Limits, head_bytes: usize, head_fields: usize) -> Chunked {
        Chunked {
            state: State::Size,
            extensions: 0,
            trailer_bytes: limits.head_bytes.saturating_sub(head_bytes),
            trailer_fields: limits.headers.saturating_sub(head_fields),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes that are known to come.
    pub fn wanted(&self) -> u64 {
        if let State::Data(left) = self.state { left } else { 0 }
    }

    pub fn decode(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Step, BodyError> {
        loop {
            match &mut self.state {
                State::Size => match self.size(buffer, limits)? {
                    None => return Ok(Step::More),
                    Some(0) => self.state = State::Trailers(BlockScan::default()),
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Step::More);
                    }
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    *left -= take as u64;
                    let complete = *left == 0;
                    let data = buffer.split_to(take).freeze();
                    if complete && buffer.starts_with(LAST) {
                        // The usual end is here already: say so with the data, so that they are passed on as one.
                        buffer.advance(LAST.len());
                        self.state = State::Done;
                    } else if complete {
                        self.state = State::DataEnd;
                    }
                    return Ok(Step::Data(data));
                }
                State::DataEnd => match (buffer.first(), buffer.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(Step::More),
                    _ => return Err(BodyError::ChunkEnd),
                },
                State::Trailers(_) => return self.trailers(buffer),
                State::Done => return Ok(Step::End),
            }
        }
    }

    /// The size line; `None` if it is not complete.
    fn size(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Option<u64>, BodyError> {
        let Some(end) = memchr2(b'\r', b'\n', buffer) else {
            return incomplete_size(buffer, limits);
        };
        match (buffer.get(end), buffer.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => {}
            (Some(b'\r'), None) => return incomplete_size(buffer, limits),
            (Some(b'\r'), Some(_)) => return Err(Syntax::BareCr.into()),
            _ => return Err(Syntax::BareLf.into()),
        }
        let line = buffer.get(..end).unwrap_or_default();
        let (size, extension) = split_size(line)?;
        check_extension(extension)?;
        self.extensions += extension.len();
        if extension.len() > limits.chunk_extension_line || self.extensions > limits.chunk_extension_body {
            return Err(BodyError::ChunkExtensionTooLarge);
        }
        buffer.advance(end + 2);
        Ok(Some(size))
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Step, BodyError> {
        let State::Trailers(scan) = &mut self.state else { return Ok(Step::End) };
        // The empty line that ends a section without trailers is always allowed.
        let complete = scan.advance(buffer, self.trailer_bytes.max(2), self.trailer_fields)?;
        let lines = scan.lines;
        let Some(length) = complete else { return Ok(Step::More) };
        self.state = State::Done;
        if lines == 0 {
            buffer.advance(length);
            return Ok(Step::End);
        }
        let trailers = fields::parse(&buffer.split_to(length).freeze(), 0, lines)?;
        let trailers = without_forbidden(trailers);
        Ok(if trailers.is_empty() { Step::End } else { Step::Trailers(trailers) })
    }
}

/// Refuses early what cannot become a size line.
fn incomplete_size(buffer: &[u8], limits: &Limits) -> Result<Option<u64>, BodyError> {
    if buffer.len() > SIZE_DIGITS + limits.chunk_extension_line + 1 {
        return Err(BodyError::ChunkExtensionTooLarge);
    }
    match buffer.first() {
        Some(first) if !first.is_ascii_hexdigit() => Err(BodyError::ChunkSize),
        _ => Ok(None),
    }
}

fn split_size(line: &[u8]) -> Result<(u64, &[u8]), BodyError> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 || digits > SIZE_DIGITS {
        return Err(BodyError::ChunkSize);
    }
    let (size, extension) = line.split_at(digits);
    let size = str::from_utf8(size).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    match size {
        Some(size) if size <= i64::MAX as u64 => Ok((size, extension)),
        _ => Err(BodyError::ChunkSize),
    }
}

/// RFC 9112 section 7.1.1: blanks, then nothing or `;` and text without control bytes.
fn check_extension(extension: &[u8]) -> Result<(), BodyError> {
    let text = extension.iter().position(|b| *b != b' ' && *b != b'\t').and_then(|start| extension.get(start..));
    match text {
        None => Ok(()),
        Some([b';', rest @ ..]) if rest.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)) => Ok(()),
        // `2x` is a bad size, `2 x` a bad extension.
        Some(_) if extension.first().is_some_and(|b| *b != b' ' && *b != b'\t' && *b != b';') => {
            Err(BodyError::ChunkSize)
        }
        Some(_) => Err(BodyError::ChunkExtension),
    }
}

/// RFC 9110 section 6.5.1: fields for framing, routing, authentication, request modifiers, response control and
/// payload processing do not work as trailers; a recipient that merges them into the head would be fooled by them.
fn without_forbidden(trailers: HeaderMap) -> HeaderMap {
    if !trailers.keys().any(is_forbidden) {
        return trailers;
    }
    let mut kept = HeaderMap::with_capacity(trailers.keys_len());
    let mut last = None;
    for (name, value) in trailers {
        // The iterator names a field once, for the first of its values.
        if name.is_some() {
            last = name;
        }
        if let Some(name) = last.as_ref().filter(|name| !is_forbidden(name)) {
            kept.append(name, value);
        }
    }
    kept
}

fn is_forbidden(name: &HeaderName) -> bool {
    const NAMES: [HeaderName; 34] = [
        header::AGE,
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::DATE,
        header::EXPECT,
        header::EXPIRES,
        header::FORWARDED,
        header::HOST,
        header::IF_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_NONE_MATCH,
        header::IF_RANGE,
        header::IF_UNMODIFIED_SINCE,
        header::LOCATION,
        header::MAX_FORWARDS,
        header::PRAGMA,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::RANGE,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::VARY,
        header::VIA,
        header::WWW_AUTHENTICATE,
    ];
    let text = name.as_str();
    NAMES.contains(name)
        || text.starts_with("x-forwarded-")
        || text.starts_with("x-envoy-")
        || matches!(text, "keep-alive" | "proxy-connection" | "x-real-ip" | "x-request-id")
}
