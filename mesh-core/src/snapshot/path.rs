//! The request target made canonical before anything looks at it: routing, policy and the log see the same path as the
//! upstream. As Envoy does it for Istio's `pathNormalization`, with broken percent-encoding refused instead of passed.

use std::borrow::Cow;

use crate::model::PathNormalization;

/// Why a target is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%` without two hexadecimal digits.
    #[error("invalid percent-encoding")]
    Percent,
    #[error("NUL in path")]
    Nul,
    #[error("path does not begin with a slash")]
    NotAbsolute,
}

impl PathError {
    /// For the access log.
    #[must_use]
    pub fn detail(self) -> &'static str {
        "path_normalization_failed"
    }
}

/// `target` is path and query as received. The path becomes canonical, the query stays as it is, a fragment is dropped.
/// Borrowed when nothing changes but the fragment.
pub fn normalize(target: &str, mode: PathNormalization) -> Result<Cow<'_, str>, PathError> {
    let end = memchr::memchr(b'#', target.as_bytes()).unwrap_or(target.len());
    let target = target.get(..end).unwrap_or(target);
    if !target.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if mode == PathNormalization::None {
        return Ok(Cow::Borrowed(target));
    }
    let Scan { path_length, clean } = scan(target.as_bytes(), mode)?;
    if clean {
        return Ok(Cow::Borrowed(target));
    }
    let (path, query) = target.split_at_checked(path_length).unwrap_or((target, ""));
    let mut canonical = rewrite(path.as_bytes(), mode, target.len());
    if merges(mode) {
        merge_slashes(&mut canonical);
    }
    if canonical == path.as_bytes() {
        return Ok(Cow::Borrowed(target));
    }
    canonical.extend_from_slice(query.as_bytes());
    Ok(Cow::Owned(into_string(canonical)))
}

/// `/p?q` is `/p` and `q`; `/p?` has an empty query, `/p` none.
#[must_use]
pub fn split_query(target: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b'?', target.as_bytes()).and_then(|at| target.split_at_checked(at)) {
        Some((path, query)) => (path, query.get(1..)),
        None => (target, None),
    }
}

/// A target with all that no URI may hold percent-encoded. For HTTP/2 upstreams: its library refuses what clients of
/// HTTP/1 may send in a query (`"`, `<`, `>`) and what rewrites may make.
#[must_use]
pub fn encode_for_uri(target: &str) -> String {
    let mut out = Vec::with_capacity(target.len() + 16);
    if !target.starts_with('/') {
        out.push(b'/');
    }
    for &byte in target.as_bytes() {
        match class_of(byte) {
            Class::Encode | Class::Backslash => encode(byte, &mut out),
            Class::Plain | Class::Slash | Class::Dot | Class::Percent | Class::Query => out.push(byte),
        }
    }
    into_string(out)
}

fn merges(mode: PathNormalization) -> bool {
    matches!(mode, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes)
}

/// What a byte of a path asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Dot,
    Percent,
    Backslash,
    /// Must not stand in a path as it is.
    Encode,
    Query,
}

const CLASSES: [Class; 256] = {
    let mut table = [Class::Encode; 256];
    let mut byte = 0u8;
    while byte < 128 {
        // The index is below the length by its type; const code knows no iterators.
        #[allow(clippy::indexing_slicing)]
        {
            table[byte as usize] = class(byte);
        }
        byte += 1;
    }
    table
};

const fn class(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'.' => Class::Dot,
        b'%' => Class::Percent,
        b'\\' => Class::Backslash,
        b'?' => Class::Query,
        b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' => Class::Encode,
        0x21..=0x7e => Class::Plain,
        _ => Class::Encode,
    }
}

fn class_of(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Encode)
}

struct Scan {
    /// Where the query begins.
    path_length: usize,
    /// Nothing asks for a change. May be false although nothing changes in the end.
    clean: bool,
}

/// One look at every byte: where the path ends, whether it is valid, whether it may stay. Runs of plain bytes, most of a
/// path, are skipped in a loop of their own.
fn scan(target: &[u8], mode: PathNormalization) -> Result<Scan, PathError> {
    let mut clean = true;
    let mut rest = target;
    let mut after_slash = false;
    while let Some(run) = rest.iter().position(|byte| class_of(*byte) != Class::Plain) {
        after_slash &= run == 0;
        let Some((&byte, tail)) = rest.get(run..).and_then(<[u8]>::split_first) else { break };
        rest = tail;
        match class_of(byte) {
            Class::Slash => {
                clean &= !(after_slash && merges(mode));
                after_slash = true;
                continue;
            }
            Class::Dot => clean &= !(after_slash && may_be_dots(rest.first().copied())),
            Class::Percent => clean &= stays_encoded(escape(rest)?, mode),
            Class::Encode if byte == 0 => return Err(PathError::Nul),
            Class::Backslash | Class::Encode => clean = false,
            Class::Query => return Ok(Scan { path_length: target.len() - rest.len() - 1, clean }),
            Class::Plain => {}
        }
        after_slash = false;
    }
    Ok(Scan { path_length: target.len(), clean })
}

/// After a dot that begins a segment.
fn may_be_dots(next: Option<u8>) -> bool {
    matches!(next, None | Some(b'/' | b'\\' | b'.' | b'%' | b';' | b'?'))
}

/// The byte that the two digits after a `%` stand for.
fn escape(digits: &[u8]) -> Result<u8, PathError> {
    let digit = |at: usize| digits.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(PathError::Percent) };
    match u8::try_from(high * 16 + low) {
        Ok(0) | Err(_) => Err(PathError::Nul),
        Ok(byte) => Ok(byte),
    }
}

/// RFC 3986 section 6.2.2.2: only unreserved characters mean the same encoded and decoded.
fn stays_encoded(byte: u8, mode: PathNormalization) -> bool {
    match byte {
        b'-' | b'.' | b'_' | b'~' => false,
        b'/' | b'\\' => mode != PathNormalization::DecodeAndMergeSlashes,
        _ => !byte.is_ascii_alphanumeric(),
    }
}

/// Decodes, encodes and resolves dot segments (RFC 3986 section 5.2.4) in one pass. `path` passed the scan.
fn rewrite(path: &[u8], mode: PathNormalization, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity + 16);
    out.push(b'/');
    let mut segment = out.len();
    let mut rest = path.get(1..).unwrap_or_default();
    while let Some((&byte, tail)) = rest.split_first() {
        let mut piece = byte;
        rest = tail;
        match class_of(byte) {
            Class::Percent => {
                let (digits, after) = tail.split_at_checked(2).unwrap_or((tail, &[]));
                rest = after;
                let decoded = escape(digits).unwrap_or(b'%');
                if stays_encoded(decoded, mode) {
                    out.push(b'%');
                    out.extend_from_slice(digits);
                    continue;
                }
                piece = if decoded == b'\\' { b'/' } else { decoded };
            }
            Class::Backslash => piece = b'/',
            Class::Encode => {
                encode(byte, &mut out);
                continue;
            }
            Class::Plain | Class::Slash | Class::Dot | Class::Query => {}
        }
        if piece != b'/' {
            out.push(piece);
        } else {
            if !resolve_dots(&mut out, segment) {
                out.push(b'/');
            }
            segment = out.len();
        }
    }
    resolve_dots(&mut out, segment);
    out
}

fn encode(byte: u8, out: &mut Vec<u8>) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}

/// Drops the last segment, which begins at `segment`, if it is `.` or `..` (and then the one before). Parameters do not
/// save it: servers that strip `;…` first would see `..`. Afterwards `out` ends with a slash.
fn resolve_dots(out: &mut Vec<u8>, segment: usize) -> bool {
    let last = out.get(segment..).unwrap_or_default();
    let name = last.split(|byte| *byte == b';').next().unwrap_or_default();
    match name {
        b"." => out.truncate(segment),
        b".." => {
            // Without the slash before the dots, what ends with the slash before that; `/` stays `/`.
            let parent = out.get(..segment.saturating_sub(1)).unwrap_or_default();
            let parent = memchr::memrchr(b'/', parent).map_or(1, |slash| slash + 1);
            out.truncate(parent);
        }
        _ => return false,
    }
    true
}

fn merge_slashes(path: &mut Vec<u8>) {
    let mut previous = 0u8;
    path.retain(|&byte| {
        let keep = byte != b'/' || previous != b'/';
        previous = byte;
        keep
    });
}

/// The path is ASCII by now and the query was a string.
fn into_string(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
