//! Values that many fields share: names, hosts, addresses, ports, labels, durations, regular expressions.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::Duration;
use super::Problem;

pub(super) type Check = Result<(), Problem>;

fn refuse<T>(message: impl Into<String>, help: &str) -> Result<T, Problem> {
    Err(Problem::new(message, help))
}

pub(super) fn port(number: u32) -> Check {
    if (1..=65535).contains(&number) {
        return Ok(());
    }
    refuse(format!("`{number}` is not a port"), "allowed: 1 to 65535")
}

/// DNS-1123 label, upper case too, as Istio has it.
pub(super) fn is_label(text: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && alphanumeric(text.chars().next())
        && alphanumeric(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

const LABEL_HELP: &str = "allowed: letters, digits and `-`, at most 63, a letter or digit at both ends";

pub(super) fn label(text: &str, what: &str) -> Check {
    if is_label(text) { Ok(()) } else { refuse(format!("`{text}` is not {what}"), LABEL_HELP) }
}

/// `*`, `*-label`, `*label` or a label.
fn is_wildcard_label(text: &str) -> bool {
    let rest = text.strip_prefix("*-").or_else(|| text.strip_prefix('*')).unwrap_or(text);
    text == "*" || (text.len() <= 63 && is_label(rest))
}

fn domain_length(name: &str) -> Check {
    if name.is_empty() {
        return refuse("an empty host is not allowed", "");
    }
    if name.len() > 255 {
        return refuse(format!("the host `{}…` is longer than 255", name.get(..40).unwrap_or_default()), "");
    }
    Ok(())
}

/// Labels between dots; the last one may be empty (`a.example.`), but not a number.
fn domain_labels(whole: &str, labels: &str) -> Check {
    let top = labels.rsplit('.').next().unwrap_or_default();
    if !top.is_empty() && top.bytes().all(|b| b.is_ascii_digit()) {
        return refuse(format!("the host `{whole}` is not valid: its last label `{top}` is a number"), "");
    }
    if labels.is_empty() {
        return Ok(());
    }
    for label in labels.strip_suffix('.').unwrap_or(labels).split('.') {
        if !is_label(label) {
            return refuse(format!("the host `{whole}` is not valid: its label `{label}` is not"), LABEL_HELP);
        }
    }
    Ok(())
}

/// `a.example`, also a short name.
pub(super) fn host_name(name: &str) -> Check {
    domain_length(name)?;
    domain_labels(name, name)
}

/// A host whose first label may be `*` or start with it.
pub(super) fn wildcard_host(name: &str) -> Check {
    domain_length(name)?;
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    if !is_wildcard_label(first) {
        let help = "allowed: a DNS name such as `a.example`, or `*` or `*.example` for many";
        return refuse(format!("the host `{name}` is not valid: its label `{first}` is not"), help);
    }
    rest.map_or(Ok(()), |rest| domain_labels(name, rest))
}

/// A whole name, not one that grows in a namespace.
pub(super) fn whole_host(name: &str) -> Check {
    if name != "*" && !name.is_empty() && !name.contains('.') {
        return refuse(format!("`{name}` is a short name"), "write the whole DNS name, for example `a.example.com`");
    }
    wildcard_host(name).and_then(|()| no_partial_wildcard(name))
}

/// `*bar.com`: only whole labels can be wildcards.
pub(super) fn no_partial_wildcard(name: &str) -> Check {
    if name.contains('*') && name.len() != 1 && !name.starts_with("*.") {
        let help = "`*` must be the whole host or its whole first label, as in `*.example`";
        return refuse(format!("`{name}` has a partial wildcard"), help);
    }
    Ok(())
}

pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

pub(super) fn address(text: &str) -> Check {
    if is_address(text) { Ok(()) } else { refuse(format!("`{text}` is not an IP address"), "") }
}

/// An address, or a block such as `10.0.0.0/8`.
pub(super) fn subnet(text: &str) -> Check {
    let valid = match text.split_once('/') {
        Some((address, bits)) => address.parse::<IpAddr>().is_ok_and(|address| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u32>().is_ok_and(|bits| bits <= most)
        }),
        None => is_address(text),
    };
    if valid { Ok(()) } else { refuse(format!("`{text}` is not an IP address or a block such as `10.0.0.0/8`"), "") }
}

/// `sun_path` of unix(7), without the zero at its end.
const LONGEST_SOCKET: usize = 107;

/// What follows `unix://`.
pub(super) fn unix_path(path: &str) -> Check {
    if path.len() > LONGEST_SOCKET || path.contains('\0') {
        let message = format!("`unix://{path}` cannot be the name of a socket");
        return refuse(message, "allowed: at most 107 bytes, none of them zero");
    }
    if path.starts_with('@') || (path.starts_with('/') && !path.ends_with('/')) {
        return Ok(());
    }
    refuse(format!("`unix://{path}` does not name a socket"), "allowed: `unix:///absolute/path` or `unix://@abstract`")
}

/// Kubernetes labels.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> Check {
    for (key, value) in labels {
        let (prefix, name) = match key.split_once('/') {
            Some((prefix, name)) => (Some(prefix), name),
            None => (None, key.as_str()),
        };
        let prefix_ok = prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_label));
        if !prefix_ok || name.len() > 63 || !is_qualified(name) {
            return refuse(format!("`{key}` is not a label's key"), "allowed: `name` or `prefix.example/name`");
        }
        if !value.is_empty() && !is_qualified(value) {
            let help = "allowed: letters, digits, `-`, `_` and `.`, a letter or digit at both ends";
            return refuse(format!("`{value}` is not the value of a label"), help);
        }
    }
    Ok(())
}

fn is_qualified(text: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    alphanumeric(text.chars().next())
        && alphanumeric(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A selector's labels: `*` is no wildcard there.
pub(super) fn selector(labels: &BTreeMap<String, String>) -> Check {
    for (key, value) in labels {
        if key.is_empty() {
            return refuse("an empty key is not allowed in a selector", "");
        }
        if key.contains('*') || value.contains('*') {
            return refuse(format!("`{key}: {value}`: wildcards are not allowed in a selector"), "");
        }
    }
    Ok(())
}

/// At least 1 ms, in whole milliseconds.
pub(super) fn duration(duration: Duration) -> Check {
    let duration = duration.get();
    if duration < std::time::Duration::from_millis(1) {
        return refuse(
            format!("`{duration:?}` is too short"),
            "allowed: 1ms and more; leave the field out for no limit",
        );
    }
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return refuse(format!("`{duration:?}` is too precise"), "allowed: whole milliseconds");
    }
    Ok(())
}

/// RE2 syntax, at most 1024 bytes (Istio's stand-in for Envoy's limit of the program's size).
pub(super) fn regex(pattern: &str) -> Check {
    if pattern.is_empty() {
        return refuse("an empty regular expression is not allowed", "");
    }
    if pattern.len() > 1024 {
        let message = format!("the regular expression has {} bytes", pattern.len());
        return refuse(message, "allowed: at most 1024 bytes");
    }
    match crate::re2::parse(pattern) {
        Ok(_) => Ok(()),
        Err(reason) => {
            let help = "RE2 syntax: https://github.com/google/re2/wiki/Syntax";
            refuse(format!("`{pattern}` is not a regular expression: {reason}"), help)
        }
    }
}

/// `Percent`: 0, or 0.0001 to 100.
pub(super) fn percentage(value: f64) -> Check {
    if value == 0.0 || (0.0001..=100.0).contains(&value) {
        return Ok(());
    }
    refuse(format!("`{value}` is not a share"), "allowed: 0, or 0.0001 to 100.0")
}

pub(super) fn percent(value: i32) -> Check {
    if (0..=100).contains(&value) { Ok(()) } else { refuse(format!("`{value}` is not a share"), "allowed: 0 to 100") }
}

pub(super) fn not_negative(value: i32) -> Check {
    if value >= 0 { Ok(()) } else { refuse(format!("`{value}` is negative"), "") }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
