//! Which values fields of requests have at all: what no client can send, or what never looks like that once it was made
//! canonical, reaches no rule.

use regex_syntax::hir::Hir;

use super::machine::Machine;
use crate::model::{HostPattern, PathNormalization};

/// Where the rules stand.
#[derive(Clone, Debug)]
pub struct Place {
    /// Names by which their host is called.
    pub hosts: Vec<HostPattern>,
    /// Names that another host of the table has, where they are the narrower.
    pub others: Vec<HostPattern>,
    /// How requests usually arrive. What trusted proxies say may be different.
    pub scheme: &'static str,
    pub normalization: PathNormalization,
}

/// Values that every request may have, in the syntax of `regex-syntax`.
pub(super) const METHODS: &str = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+";
pub(super) const NEVER_METHODS: [&str; 2] = ["CONNECT", "TRACE"];
pub(super) const SCHEMES: &str = "https?";
/// Without blanks around it, which are no part of a value. Bytes that are no UTF-8 are left aside: `.*` does not match them, and
/// nobody means that.
pub(super) const HEADER_VALUES: &str = r"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?";
pub(super) const QUERY_VALUES: &str = r"[^\x00-\x20\x7f&#]*";
pub(super) const CLAIM_TEXTS: &str = "(?s).*";

/// Canonical paths.
pub(super) fn paths(mode: PathNormalization) -> String {
    if mode == PathNormalization::None {
        return r"/[^\x00-\x20\x7f?#]*".to_owned();
    }
    // Only what is not unreserved stays encoded; `/` and `\` do as long as they are not decoded.
    let encoded = match mode {
        PathNormalization::DecodeAndMergeSlashes => {
            r"%(?:0[1-9A-Fa-f]|1[0-9A-Fa-f]|2[0-9A-Ca-c]|3[A-Fa-f]|40|5[BDEbde]|60|7[BCDFbcdf]|[89A-Fa-f][0-9A-Fa-f])"
        }
        _ => {
            r"%(?:0[1-9A-Fa-f]|1[0-9A-Fa-f]|2[0-9A-CFa-cf]|3[A-Fa-f]|40|5[B-Eb-e]|60|7[BCDFbcdf]|[89A-Fa-f][0-9A-Fa-f])"
        }
    };
    let plain = |but: &str| format!(r##"(?:[!-~&&[^"<>^`{{|}}\\#?%/{but}]]|{encoded})"##);
    let (any, no_dot, no_end, no_semicolon) = (plain(""), plain("."), plain(".;"), plain(";"));
    // No segment is `.` or `..`, with or without parameters.
    let segment = format!(r"(?:{no_dot}{any}*|\.{no_end}{any}*|\.\.{no_semicolon}{any}*)");
    match mode {
        PathNormalization::None | PathNormalization::Base => format!("(?-u)(?:/{segment}?)+"),
        PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes => {
            format!("(?-u)/|(?:/{segment})+/?")
        }
    }
}

/// Path and query.
pub(super) fn targets(mode: PathNormalization) -> String {
    format!(r"(?:{})(?:\?[^\x00-\x20\x7f#]*)?", paths(mode))
}

/// None: it is no such syntax, or too large.
pub(super) fn machine(pattern: &str) -> Option<Machine> {
    let hir: Hir = regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern).ok()?;
    Machine::of_pattern(&hir)
}

/// Authorities that a host pattern covers, with or without port.
pub(super) fn authorities(pattern: &HostPattern) -> String {
    let label = r"[0-9A-Za-z_\-]+";
    let port = "(?::[0-9]{1,5})?";
    match pattern {
        HostPattern::Exact(host) => format!("(?i:{}){port}", regex_syntax::escape(host)),
        HostPattern::Suffix(suffix) => {
            format!(r"{label}(?:\.{label})*(?i:{}){port}", regex_syntax::escape(suffix))
        }
        // Addresses too, those of IPv6 in brackets.
        HostPattern::Any => format!(r"(?:\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f/?#@:\[\]]+){port}"),
    }
}

impl Place {
    /// A name of the host that no other host has.
    #[must_use]
    pub fn authority(&self) -> Option<String> {
        let is_free = |host: &String| !self.others.iter().any(|other| covers(other, host));
        let usual = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(host) => vec![host.to_string()],
            HostPattern::Suffix(suffix) => ["www", "a", "any-name"].map(|name| format!("{name}{suffix}")).into(),
            HostPattern::Any => ["any.example", "any-name", "any-name.invalid"].map(str::to_owned).into(),
        };
        // There are more of these than others that could have them.
        let made_up = |pattern: &HostPattern| {
            let suffix = match pattern {
                HostPattern::Exact(_) => None,
                HostPattern::Suffix(suffix) => Some(suffix.to_string()),
                HostPattern::Any => Some(String::new()),
            };
            suffix.and_then(|suffix| (0..=self.others.len()).map(|n| format!("x{n}{suffix}")).find(is_free))
        };
        self.hosts.iter().flat_map(usual).find(is_free).or_else(|| self.hosts.iter().find_map(made_up))
    }
}

fn covers(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => **name == *host,
        HostPattern::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        HostPattern::Any => true,
    }
}
