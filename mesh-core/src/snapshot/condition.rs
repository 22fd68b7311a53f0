//! The conditions of a rule other than its path, tested one by one on the candidates of the index.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use smallvec::SmallVec;

use super::{Pattern, Request};

/// One condition. All of a rule's conditions must hold.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Method(TextMatch),
    Scheme(TextMatch),
    Authority(TextMatch),
    Header { name: HeaderKey, value: TextMatch, invert: bool },
    Query { name: Box<str>, value: TextMatch },
    Claim { names: Box<[String]>, value: TextMatch, invert: bool },
}

/// What a header condition reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HeaderKey {
    Line(HeaderName),
    Method,
    /// With query.
    Path,
    Authority,
    Scheme,
    /// Not a name that a header can have: never there.
    Impossible(Box<str>),
}

/// Case-sensitive.
#[derive(Clone, Debug)]
pub(crate) enum TextMatch {
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Arc<Pattern>),
    Present,
}

impl TextMatch {
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        match self {
            TextMatch::Exact(text) => value == text.as_bytes(),
            TextMatch::Prefix(text) => value.starts_with(text.as_bytes()),
            TextMatch::Regex(pattern) => pattern.is_match(value),
            TextMatch::Present => true,
        }
    }
}

impl Condition {
    pub(crate) fn holds(&self, request: &Request<'_>) -> bool {
        match self {
            Condition::Method(value) => value.matches(request.method.as_bytes()),
            Condition::Scheme(value) => value.matches(request.scheme.as_bytes()),
            Condition::Authority(value) => value.matches(request.authority.as_bytes()),
            Condition::Query { name, value } => {
                request.query_value(name).is_some_and(|text| value.matches(text.as_bytes()))
            }
            Condition::Claim { names, value, invert } => {
                request.token.is_some_and(|token| token.has(names, |text| value.matches(text))) != *invert
            }
            Condition::Header { name, value, invert } => header_holds(request, name, value, *invert),
        }
    }
}

/// Repeated lines are tested one by one, one that matches is enough; an inverted condition holds if none matches, and
/// a missing header counts as the empty string there, except for presence.
fn header_holds(request: &Request<'_>, name: &HeaderKey, value: &TextMatch, invert: bool) -> bool {
    let (found, matched) = name.test(request, |line| value.matches(line));
    match (invert, found) {
        (false, _) => matched,
        (true, true) => !matched,
        (true, false) => matches!(value, TextMatch::Present) || !value.matches(b""),
    }
}

impl HeaderKey {
    /// Whether there is such a header, and whether one of its lines passes.
    pub(crate) fn test(&self, request: &Request<'_>, passes: impl Fn(&[u8]) -> bool) -> (bool, bool) {
        match self {
            HeaderKey::Line(name) => {
                let mut lines = request.headers.get_all(name).iter();
                match lines.next() {
                    None => (false, false),
                    Some(first) => {
                        let passed = passes(first.as_bytes()) || lines.any(|line| passes(line.as_bytes()));
                        (true, passed)
                    }
                }
            }
            HeaderKey::Method => (true, passes(request.method.as_bytes())),
            HeaderKey::Scheme => (true, passes(request.scheme.as_bytes())),
            HeaderKey::Authority => (true, passes(request.authority.as_bytes())),
            HeaderKey::Path => (true, target_passes(request, passes)),
            HeaderKey::Impossible(_) => (false, false),
        }
    }
}

fn target_passes(request: &Request<'_>, passes: impl Fn(&[u8]) -> bool) -> bool {
    let Some(query) = request.query else { return passes(request.path.as_bytes()) };
    // Long targets only reach the heap here, when a rule asks for `:path` and the request has a query.
    let mut target: SmallVec<[u8; 1024]> = SmallVec::with_capacity(request.path_and_query_len());
    target.extend_from_slice(request.path.as_bytes());
    target.push(b'?');
    target.extend_from_slice(query.as_bytes());
    passes(&target)
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextMatch::Exact(text) => write!(f, "exact {text:?}"),
            TextMatch::Prefix(text) => write!(f, "prefix {text:?}"),
            TextMatch::Regex(pattern) => write!(f, "regex {:?}", pattern.text()),
            TextMatch::Present => f.write_str("present"),
        }
    }
}

impl fmt::Display for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeaderKey::Line(name) => name.as_str(),
            HeaderKey::Method => ":method",
            HeaderKey::Path => ":path",
            HeaderKey::Authority => ":authority",
            HeaderKey::Scheme => ":scheme",
            HeaderKey::Impossible(name) => name,
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Method(value) => write!(f, "method: {value}"),
            Condition::Scheme(value) => write!(f, "scheme: {value}"),
            Condition::Authority(value) => write!(f, "authority: {value}"),
            Condition::Header { name, value, invert: false } => write!(f, "headers[{name}]: {value}"),
            Condition::Header { name, value, invert: true } => write!(f, "withoutHeaders[{name}]: {value}"),
            Condition::Query { name, value } => write!(f, "queryParams[{name}]: {value}"),
            Condition::Claim { names, value, invert } => {
                let field = if *invert { "withoutHeaders" } else { "headers" };
                write!(f, "{field}[@request.auth.claims[{}]]: {value}", names.join("]["))
            }
        }
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
