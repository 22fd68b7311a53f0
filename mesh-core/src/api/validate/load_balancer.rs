//! `loadBalancer` of a traffic policy.

use std::collections::BTreeSet;

use super::super::{
    BackendUtilization, ConsistentHash, Failover, HttpCookie, LoadBalancer, LocalityLbSetting, ZoneAwareLbSetting,
};
use super::{Checks, names};

/// Envoy's limit of a Maglev table.
const MAX_TABLE: u64 = 5_000_011;

const TOPOLOGY: &[&str] =
    &["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

pub(super) fn check(at: &str, lb: &LoadBalancer, outlier_detection: bool, checks: &mut Checks<'_>) {
    let kinds = [lb.simple.is_some(), lb.consistent_hash.is_some(), lb.backend_utilization.is_some()];
    if kinds.into_iter().filter(|given| *given).count() > 1 {
        checks.error(at, "only one of `simple`, `consistentHash` and `backendUtilization` can be set", "");
    }
    if let Some(hash) = &lb.consistent_hash {
        consistent_hash(&format!("{at}.consistentHash"), hash, checks);
    }
    if let Some(rule) = &lb.backend_utilization {
        utilization(&format!("{at}.backendUtilization"), rule, checks);
    }
    if lb.locality_lb_setting.is_some() && lb.zone_aware_lb_setting.is_some() {
        let message = "`zoneAwareLbSetting` cannot be combined with `localityLbSetting`";
        checks.error(format_args!("{at}.zoneAwareLbSetting"), message, "");
    }
    if let Some(setting) = &lb.locality_lb_setting {
        locality(&format!("{at}.localityLbSetting"), setting, outlier_detection, checks);
    }
    if let Some(setting) = &lb.zone_aware_lb_setting {
        zone_aware(&format!("{at}.zoneAwareLbSetting"), setting, outlier_detection, checks);
    }
    if let Some(warmup) = &lb.warmup {
        let at = format!("{at}.warmup");
        checks.check(format_args!("{at}.duration"), names::duration(warmup.duration));
        if warmup.minimum_percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            checks.error(format_args!("{at}.minimumPercent"), "this is not a share", "allowed: 0 to 100");
        }
        if warmup.aggression.is_some_and(|aggression| aggression <= 0.0) {
            checks.error(format_args!("{at}.aggression"), "the aggression must be above 0", "");
        }
    }
}

/// Names that no report can have lead to nothing.
fn utilization(at: &str, rule: &BackendUtilization, checks: &mut Checks<'_>) {
    let maps = ["named_metrics.", "utilization.", "request_cost."];
    for (index, name) in rule.metric_names_for_computing_utilization.iter().enumerate() {
        let is_field = ["cpu_utilization", "mem_utilization", "application_utilization"].contains(&name.as_str());
        if !is_field && !maps.iter().any(|map| name.strip_prefix(map).is_some_and(|rest| !rest.is_empty())) {
            let message = format!("`{}` is in no load report", name.escape_debug());
            let help = "a metric of the application is `named_metrics.NAME`";
            checks.doubt(format_args!("{at}.metricNamesForComputingUtilization[{index}]"), message, help);
        }
    }
}

fn consistent_hash(at: &str, hash: &ConsistentHash, checks: &mut Checks<'_>) {
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    if keys.into_iter().filter(|given| *given).count() > 1 {
        let message =
            "only one of `httpHeaderName`, `httpCookie`, `useSourceIp` and `httpQueryParameterName` can be set";
        checks.error(at, message, "");
    }
    if let Some(cookie) = &hash.http_cookie {
        if cookie.name.is_empty() {
            checks.missing(format_args!("{at}.httpCookie.name"), "the cookie needs a name", "");
        }
        cookie_texts(&format!("{at}.httpCookie"), cookie, checks);
        let mut seen = BTreeSet::new();
        for (index, attribute) in cookie.attributes.iter().enumerate() {
            let field = format!("{at}.httpCookie.attributes[{index}].name");
            if attribute.name.is_empty() {
                checks.missing(&field, "the attribute needs a name", "");
            } else if !seen.insert(&attribute.name) {
                checks.error(&field, format!("the attribute `{}` is given twice", attribute.name), "");
            }
        }
    }
    let size = hash.minimum_ring_size.unwrap_or(0);
    if size != 0 {
        let help = "use `ringHash.minimumRingSize`";
        checks.doubt(format_args!("{at}.minimumRingSize"), "`minimumRingSize` is deprecated", help);
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            let message = "`minimumRingSize` cannot be combined with `ringHash` or `maglev`";
            checks.error(format_args!("{at}.minimumRingSize"), message, "");
        }
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        checks.error(format_args!("{at}.maglev"), "`maglev` cannot be combined with `ringHash`", "");
    }
    if let Some(maglev) = &hash.maglev {
        let size = maglev.table_size.unwrap_or(0);
        if size >= MAX_TABLE || !is_prime(size) {
            let message = format!("`{size}` is not the size of a Maglev table");
            let help = "allowed: a prime number below 5000011, for example 65537";
            checks.error(format_args!("{at}.maglev.tableSize"), message, help);
        }
    }
}

/// What would end up as something else in the header of an answer.
fn cookie_texts(at: &str, cookie: &HttpCookie, checks: &mut Checks<'_>) {
    let is_bad = |text: &str| text.contains(|c: char| c == ';' || c.is_control() || !c.is_ascii());
    let mut refuse = |field: String, text: &str| {
        checks.error(
            field,
            format!("`{}` cannot be part of a cookie", text.escape_debug()),
            "allowed: ASCII without `;`",
        );
    };
    if cookie.name.contains(|c: char| c == '=' || c.is_whitespace()) || is_bad(&cookie.name) {
        refuse(format!("{at}.name"), &cookie.name);
    }
    if let Some(path) = cookie.path.as_deref().filter(|path| is_bad(path)) {
        refuse(format!("{at}.path"), path);
    }
    for (index, attribute) in cookie.attributes.iter().enumerate() {
        for (field, text) in [("name", Some(&attribute.name)), ("value", attribute.value.as_ref())] {
            if let Some(text) = text.filter(|text| is_bad(text)) {
                refuse(format!("{at}.attributes[{index}].{field}"), text);
            }
        }
    }
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

pub(super) fn locality(at: &str, setting: &LocalityLbSetting, outlier_detection: bool, checks: &mut Checks<'_>) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        checks.error(format_args!("{at}.failover"), "`failover` cannot be combined with `distribute`", "");
    }
    if !setting.failover.is_empty()
        && let Some(label) = setting.failover_priority.iter().find(|label| TOPOLOGY.contains(&label.as_str()))
    {
        let message = format!("the label `{label}` cannot be combined with `failover`");
        checks.error(format_args!("{at}.failoverPriority"), message, "");
    }
    let sources: Vec<&str> = setting.distribute.iter().map(|one| one.from.as_deref().unwrap_or_default()).collect();
    localities(&format!("{at}.distribute"), &sources, checks);
    for (index, one) in setting.distribute.iter().enumerate() {
        let field = format!("{at}.distribute[{index}].to");
        let total: u64 = one.to.values().map(|weight| u64::from(*weight)).sum();
        if total != 100 || one.to.values().any(|weight| *weight == 0) {
            let message = format!("the weights sum up to {total}");
            checks.error(&field, message, "each must be at least 1, all together 100");
        }
        localities(&field, &one.to.keys().map(String::as_str).collect::<Vec<_>>(), checks);
    }
    failover(at, &setting.failover, &setting.failover_priority, outlier_detection, checks);
}

fn zone_aware(at: &str, setting: &ZoneAwareLbSetting, outlier_detection: bool, checks: &mut Checks<'_>) {
    if setting.min_cluster_size == Some(0) {
        checks.error(format_args!("{at}.minClusterSize"), "`0` is too small", "allowed: 1 and more");
    }
    if let Some(label) = setting.failover_priority.iter().find(|label| TOPOLOGY.contains(&label.as_str())) {
        let message = format!("the label `{label}` is handled by zone awareness itself");
        checks.error(format_args!("{at}.failoverPriority"), message, "");
    }
    failover(at, &setting.failover, &setting.failover_priority, outlier_detection, checks);
}

fn failover(at: &str, failover: &[Failover], priority: &[String], outlier_detection: bool, checks: &mut Checks<'_>) {
    if (!failover.is_empty() || !priority.is_empty()) && !outlier_detection {
        let message = "without `outlierDetection` nothing tells when to fail over";
        checks.doubt(at, message, "set `outlierDetection` in the same policy");
    }
    for (index, one) in failover.iter().enumerate() {
        let field = format!("{at}.failover[{index}]");
        let (from, to) = (one.from.as_deref().unwrap_or_default(), one.to.as_deref().unwrap_or_default());
        if from == to {
            checks.error(&field, format!("`from` and `to` are both `{from}`"), "name two regions");
        }
        for (name, region) in [("from", from), ("to", to)] {
            if region.contains(['/', '*']) {
                let message = format!("`{region}` is not a region");
                checks.error(format_args!("{field}.{name}"), message, "allowed: a region without zone and without `*`");
            }
        }
    }
}

/// `region/zone/subzone`, cut anywhere or with `*` at the end; none may cover another.
fn localities(field: &str, list: &[&str], checks: &mut Checks<'_>) {
    for (index, locality) in list.iter().enumerate() {
        let stars = locality.matches('*').count();
        if stars > 1 || (stars == 1 && !locality.ends_with('*')) || locality.splitn(3, '/').any(str::is_empty) {
            let help = "allowed: `region`, `region/zone`, `region/zone/subzone`, with `*` at the end for any";
            checks.error(field, format!("`{locality}` is not a locality"), help);
        }
        let before = list.iter().take(index).find(|before| covers(before, locality) || covers(locality, before));
        if let Some(before) = before {
            checks.error(field, format!("the localities `{before}` and `{locality}` overlap"), "");
        }
    }
}

/// Whether every place in `inner` is in `outer`.
fn covers(outer: &str, inner: &str) -> bool {
    let outer = outer.trim_end_matches('*').trim_end_matches('/');
    let inner = inner.trim_end_matches('*').trim_end_matches('/');
    outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
