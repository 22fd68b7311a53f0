//! Field lines (RFC 9112 section 5): where a block of lines ends, and what the lines say.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::{memchr, memchr2};

use super::error::Syntax;

/// Looks for the empty line that ends a block. Remembers how far it got, so that bytes are looked at once however
/// they arrive.
#[derive(Debug, Default)]
pub(super) struct BlockScan {
    /// Everything before was looked at.
    at: usize,
    line_start: usize,
    /// Complete lines so far, the empty one not counted.
    pub lines: usize,
}

/// Why a block of lines is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockError {
    Syntax(Syntax),
    TooLarge,
    TooManyLines,
}

impl BlockScan {
    /// The length of the block including its empty line; `None` if the end is not in `bytes` yet.
    /// `bytes` must be what the last call saw, plus what arrived since. Of several faults the first in the order of the
    /// bytes is told, so that the answer does not depend on how they arrive.
    pub fn advance(&mut self, bytes: &[u8], max_bytes: usize, max_lines: usize) -> Result<Option<usize>, BlockError> {
        let window = bytes.len().min(max_bytes);
        loop {
            let Some(found) = bytes.get(self.at..window).and_then(|rest| memchr2(b'\r', b'\n', rest)) else {
                self.at = self.at.max(window);
                return if bytes.len() > max_bytes { Err(BlockError::TooLarge) } else { Ok(None) };
            };
            let end = self.at + found;
            if bytes.get(end) == Some(&b'\n') {
                return Err(BlockError::Syntax(Syntax::BareLf));
            }
            match bytes.get(end + 1) {
                None => {
                    self.at = end;
                    return Ok(None);
                }
                Some(b'\n') if end + 2 > max_bytes => return Err(BlockError::TooLarge),
                Some(b'\n') => {}
                Some(_) => return Err(BlockError::Syntax(Syntax::BareCr)),
            }
            let empty = end == self.line_start;
            self.at = end + 2;
            self.line_start = end + 2;
            if empty {
                return Ok(Some(end + 2));
            }
            self.lines += 1;
            if self.lines > max_lines {
                return Err(BlockError::TooManyLines);
            }
        }
    }
}

/// Cuts `range` out of `block` without copying.
pub(super) fn slice(block: &Bytes, start: usize, end: usize) -> Bytes {
    if start <= end && end <= block.len() { block.slice(start..end) } else { Bytes::new() }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Reads the field lines of `block` from offset `from` to the empty line. `block` was accepted by [`BlockScan`]:
/// every line ends with CRLF and no other CR or LF is in it. Values are slices of `block`; bytes from 0x80 up are
/// allowed in them (RFC 9110 section 5.5).
pub(super) fn parse(block: &Bytes, from: usize, lines: usize) -> Result<HeaderMap, Syntax> {
    let mut headers = HeaderMap::with_capacity(lines);
    let mut start = from;
    while let Some(rest) = block.get(start..) {
        let Some(length) = memchr(b'\r', rest) else { break };
        let Some(line) = rest.get(..length) else { break };
        if line.is_empty() {
            break;
        }
        if line.first().copied().is_some_and(is_blank) {
            return Err(Syntax::ObsFold);
        }
        let colon = memchr(b':', line).ok_or(Syntax::MissingColon)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        let left = value.iter().take_while(|b| is_blank(**b)).count();
        let right = value.iter().rev().take_while(|b| is_blank(**b)).count();
        let name = HeaderName::from_bytes(name).map_err(|_| Syntax::InvalidName)?;
        let value_start = start + colon + 1 + left;
        let value_end = value_start.max(start + length - right);
        let value =
            HeaderValue::from_maybe_shared(slice(block, value_start, value_end)).map_err(|_| Syntax::InvalidValue)?;
        if !looks_like_framing(name.as_str()) {
            headers.append(name, value);
        }
        start += length + 2;
    }
    Ok(headers)
}

/// `transfer_encoding` and `content_length`: backends that turn headers into variables (CGI) cannot tell them from
/// the real ones.
fn looks_like_framing(name: &str) -> bool {
    let same = |real: &str| {
        name.len() == real.len() && name.bytes().zip(real.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    };
    memchr(b'_', name.as_bytes()).is_some() && (same("transfer-encoding") || same("content-length"))
}

/// The comma-separated members of every line of `name` (RFC 9110 section 5.6.1), blanks trimmed, empty members left
/// out.
pub(super) fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}
