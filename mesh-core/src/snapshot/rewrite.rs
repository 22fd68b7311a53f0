//! New paths and Location headers. All of it is raw string work, as Envoy does it: no slash is added or taken.

use std::fmt;
use std::fmt::Write as _;

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

use super::{CompiledForward, CompiledRule, PathKind, Request};
use crate::model::{Redirect, RedirectPath, RedirectPort};

/// How the path changes on its way upstream.
pub enum CompiledPathRewrite {
    /// Instead of the matched prefix, of the whole path (exact, regex), or of the leading `/` (no path condition).
    Prefix(Box<str>),
    /// Every match becomes the substitution.
    Regex { regex: Box<Regex>, substitution: Box<[SubstitutionPart]> },
}

/// A piece of a substitution: text, or the number of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubstitutionPart {
    Text(Box<str>),
    Group(usize),
}

impl fmt::Debug for CompiledPathRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompiledPathRewrite::Prefix(text) => f.debug_tuple("Prefix").field(text).finish(),
            CompiledPathRewrite::Regex { substitution, .. } => f.debug_tuple("Regex").field(substitution).finish(),
        }
    }
}

impl CompiledRule {
    /// The path (no query) that goes upstream; none: as it is.
    pub fn rewritten_path(&self, forward: &CompiledForward, path: &str) -> Option<String> {
        match forward.rewrite.path.as_ref()? {
            CompiledPathRewrite::Prefix(new) => Some(self.replace_matched(path, new)),
            CompiledPathRewrite::Regex { regex, substitution } => Some(replace_all(regex, substitution, path)),
        }
    }

    /// The Location of a redirect of this rule. `listener_port` is the port that the user wrote.
    pub fn location(&self, redirect: &Redirect, request: &Request<'_>, listener_port: u16) -> String {
        let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
        let mut location = String::with_capacity(
            scheme.len() + request.authority.len() + request.path_and_query_len() + "://:65535/".len(),
        );
        location.push_str(scheme);
        location.push_str("://");
        push_authority(&mut location, redirect, request, scheme, listener_port);
        let own_query = match &redirect.path {
            None => {
                location.push_str(request.path);
                false
            }
            Some(RedirectPath::Full(path)) => {
                if !path.starts_with('/') {
                    location.push('/');
                }
                location.push_str(path);
                path.contains('?')
            }
            Some(RedirectPath::Prefix(new)) => {
                location.push_str(&self.replace_matched(request.path, new));
                false
            }
        };
        if let (Some(query), false) = (request.query, own_query) {
            location.push('?');
            location.push_str(query);
        }
        location
    }

    fn replace_matched(&self, path: &str, new: &str) -> String {
        let matched = match self.path {
            PathKind::Prefix(length) => length,
            PathKind::Any => usize::from(path.starts_with('/')),
            PathKind::Exact | PathKind::Regex => path.len(),
        };
        // A prefix that ignores case is ASCII-folded, so its length is that of the matched text.
        let rest = path.get(matched..).unwrap_or("");
        let mut result = String::with_capacity(new.len() + rest.len());
        result.push_str(new);
        result.push_str(rest);
        result
    }
}

/// `authority` is taken verbatim. Otherwise the host of the request stays, and its port too, unless another is asked for
/// or it is the default of a scheme that is left.
fn push_authority(out: &mut String, redirect: &Redirect, request: &Request<'_>, scheme: &str, listener_port: u16) {
    let (host, port) = split_port(redirect.authority.as_deref().unwrap_or(request.authority));
    out.push_str(host);
    let explicit = match redirect.port {
        RedirectPort::Number(number) => Some(number),
        RedirectPort::Request => Some(listener_port),
        RedirectPort::Keep | RedirectPort::ProtocolDefault => None,
    };
    // Asking for the default port of the scheme is asking for nothing.
    let explicit = explicit.filter(|number| Some(*number) != default_port(scheme));
    if let Some(number) = explicit {
        let _ = write!(out, ":{number}");
        return;
    }
    let Some(port) = port else { return };
    let leaves_scheme = redirect.authority.is_none() && !scheme.eq_ignore_ascii_case(request.scheme);
    if leaves_scheme && port.parse::<u16>().ok().is_some_and(|port| Some(port) == default_port(request.scheme)) {
        return;
    }
    out.push(':');
    out.push_str(port);
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Host and port text, split at the last colon outside of brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let from = authority.rfind(']').unwrap_or(0);
    match authority.get(from..).and_then(|rest| rest.rfind(':')) {
        Some(at) => (authority.get(..from + at).unwrap_or(authority), authority.get(from + at + 1..)),
        None => (authority, None),
    }
}

/// Location of `httpsRedirect`: the authority verbatim, its port included, and the normalised path with its query.
pub fn https_location(request: &Request<'_>) -> String {
    let mut location = String::with_capacity("https://".len() + request.authority.len() + request.path_and_query_len());
    location.push_str("https://");
    location.push_str(request.authority);
    location.push_str(request.path);
    if let Some(query) = request.query {
        location.push('?');
        location.push_str(query);
    }
    location
}

/// Every match becomes the substitution, as RE2's GlobalReplace does it.
fn replace_all(regex: &Regex, substitution: &[SubstitutionPart], path: &str) -> String {
    let mut result = String::with_capacity(path.len());
    let mut done = 0;
    for captures in regex.captures_iter(path) {
        let Some(found) = captures.get_match() else { continue };
        result.push_str(path.get(done..found.start()).unwrap_or(""));
        push_substitution(&mut result, substitution, &captures, path);
        done = found.end();
    }
    result.push_str(path.get(done..).unwrap_or(""));
    result
}

fn push_substitution(out: &mut String, substitution: &[SubstitutionPart], captures: &Captures, path: &str) {
    for part in substitution {
        match part {
            SubstitutionPart::Text(text) => out.push_str(text),
            SubstitutionPart::Group(number) => {
                out.push_str(captures.get_group(*number).and_then(|span| path.get(span.range())).unwrap_or(""));
            }
        }
    }
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
