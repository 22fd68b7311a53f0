//! Names and values of headers in matches and operations.

use super::super::{HeaderOperations, Headers, HttpRewrite};
use super::Checks;
use super::Problem;
use super::names::Check;

/// RFC 9110 `token`.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Istio's routing on claims: `@request.auth.claims.sub`, `@request.auth.claims[sub]`.
pub(super) fn is_claim(name: &str) -> bool {
    const PREFIX: &str = "@request.auth.claims";
    let Some((head, rest)) = name.split_at_checked(PREFIX.len()) else { return false };
    let dotted = rest.starts_with('.') && rest.len() > 1;
    let bracketed = rest.starts_with('[') && rest.ends_with(']') && rest.len() > 2;
    head.eq_ignore_ascii_case(PREFIX) && (dotted || bracketed)
}

/// In a match: headers, pseudo headers, claims.
pub(super) fn match_name(name: &str) -> Check {
    let pseudo = matches!(name, ":method" | ":scheme" | ":authority" | ":path" | ":status");
    if pseudo || is_claim(name) || is_token(name) { Ok(()) } else { Err(not_a_name(name)) }
}

/// In `corsPolicy`: also `*`.
pub(super) fn cors_name(name: &str) -> Check {
    if is_token(name) { Ok(()) } else { Err(not_a_name(name)) }
}

fn not_a_name(name: &str) -> Problem {
    if name.is_empty() {
        return Problem::new("the name of a header is empty", "");
    }
    Problem::new(format!("`{name}` is not the name of a header"), "")
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// `set` and `add` of a request: the authority can be changed, other pseudo headers cannot.
fn request_name(name: &str) -> Check {
    if is_authority(name) { Ok(()) } else { operation_name(name) }
}

/// All other operations. Istio takes any name here and lets the data plane refuse what is none.
fn operation_name(name: &str) -> Check {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        let help = "the authority can be changed by `set` or `add` of a request, or by `rewrite.authority`";
        return Err(Problem::new(format!("the header `{name}` cannot be changed here"), help));
    }
    if is_token(name) { Ok(()) } else { Err(not_a_name(name)) }
}

/// No control characters, and Envoy's `%COMMAND(…)%` operators are complete.
fn value(value: &str) -> Check {
    if value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err(Problem::new(format!("the value {value:?} has control characters"), ""));
    }
    operators(value).map_err(|reason| {
        let help = "write `%%` for a percent sign, `%COMMAND%` or `%COMMAND(argument)%` for a command";
        Problem::new(format!("the value `{value}` is not valid: {reason}"), help)
    })
}

/// Where a scan of a value is: outside of an operator, in its name, its arguments, a quoted argument, or behind them.
enum Scan {
    Literal,
    Name,
    Arguments,
    Quoted,
    End,
}

fn operators(value: &str) -> Result<(), &'static str> {
    let mut bytes = value.bytes().peekable();
    let mut scan = Scan::Literal;
    while let Some(byte) = bytes.next() {
        scan = match (scan, byte) {
            (Scan::Literal, b'%') => match bytes.peek() {
                None => return Err("a lone `%` at the end"),
                Some(b'%') => {
                    bytes.next();
                    Scan::Literal
                }
                Some(_) => Scan::Name,
            },
            (Scan::Literal, _) => Scan::Literal,
            (Scan::Name, b'%') => Scan::Literal,
            (Scan::Name, b'(') => Scan::Arguments,
            (Scan::Name, _) => Scan::Name,
            (Scan::Arguments, b')') => Scan::End,
            (Scan::Arguments, b'"') => Scan::Quoted,
            (Scan::Quoted, b'"') => Scan::Arguments,
            (Scan::Arguments | Scan::Quoted, b'\\') if bytes.next().is_none() => return Err("a backslash at the end"),
            (Scan::Arguments, _) => Scan::Arguments,
            (Scan::Quoted, _) => Scan::Quoted,
            (Scan::End, b'%') => Scan::Literal,
            (Scan::End, b' ') => Scan::End,
            (Scan::End, _) => return Err("a `%` is missing behind `)`"),
        };
    }
    if matches!(scan, Scan::Literal) { Ok(()) } else { Err("a command that does not end with `%`") }
}

/// The `headers` of a rule or of one of its destinations.
pub(super) fn operations(at: &str, headers: Option<&Headers>, checks: &mut Checks<'_>) {
    let Some(headers) = headers else { return };
    if let Some(request) = &headers.request {
        one_side(&format!("{at}.headers.request"), request, request_name, checks);
    }
    if let Some(response) = &headers.response {
        one_side(&format!("{at}.headers.response"), response, operation_name, checks);
    }
}

fn one_side(at: &str, operations: &HeaderOperations, name_rule: fn(&str) -> Check, checks: &mut Checks<'_>) {
    for (kind, entries) in [("set", &operations.set), ("add", &operations.add)] {
        for (name, text) in entries {
            checks.check(format_args!("{at}.{kind}.{name}"), name_rule(name));
            checks.check(format_args!("{at}.{kind}.{name}"), value(text));
        }
    }
    for (index, name) in operations.remove.iter().enumerate() {
        checks.check(format_args!("{at}.remove[{index}]"), operation_name(name));
    }
}

/// The authority of a request can only be set in one place.
pub(super) fn one_authority(
    at: &str,
    rewrite: Option<&HttpRewrite>,
    headers: Option<&Headers>,
    checks: &mut Checks<'_>,
) {
    let request = headers.and_then(|headers| headers.request.as_ref());
    let rewritten = rewrite.and_then(|rewrite| rewrite.authority.as_ref()).is_some_and(|text| !text.is_empty());
    let set = request.into_iter().flat_map(|request| request.set.keys().map(|name| ("set", name)));
    let added = request.into_iter().flat_map(|request| request.add.keys().map(|name| ("add", name)));
    let mut places = set.chain(added).filter(|(_, name)| is_authority(name));
    let second = if rewritten { places.next() } else { places.nth(1) };
    if let Some((kind, name)) = second {
        let message = "the authority is set more than once";
        let help = "keep one of `rewrite.authority` and the header operations on `host` or `:authority`";
        checks.error(format_args!("{at}.headers.request.{kind}.{name}"), message, help);
    }
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
