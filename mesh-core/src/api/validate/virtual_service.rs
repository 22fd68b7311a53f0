//! `VirtualService`: what `ValidateVirtualService` refuses. The scope is one rule.

use super::super::{Destination, RouteDestination, TcpRoute, TlsMatch, TlsRoute, VirtualService};
use super::{Checks, Wrong, header, http_route, is_set, names, visibility};

/// What the rules of an object have in common.
pub(super) struct Outer {
    /// It has no hosts: another one delegates to it.
    pub delegate: bool,
    /// It names gateways, and not `mesh`.
    pub gateway_only: bool,
}

pub(super) fn check(service: &mut VirtualService, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    let gateway_only = !service.gateways.is_empty() && !service.gateways.iter().any(|name| name == "mesh");
    let outer = Outer { delegate: service.hosts.is_empty(), gateway_only };
    checks.part(|checks| {
        gateways("spec", &service.gateways, checks);
        hosts(service, &outer, checks);
        delegate(service, &outer, checks);
        visibility::check(&service.export_to, false, checks);
        if !["spec.http[0]", "spec.tls[0]", "spec.tcp[0]"].iter().any(|field| checks.positions.has(field)) {
            checks.missing("spec", "one of `http`, `tls` and `tcp` is required", "");
        }
    })?;
    service.http.retain(|route| checks.part(|checks| http_route::check(route, &outer, checks)).is_ok());
    let VirtualService { hosts, tls, tcp, .. } = service;
    tls.retain(|route| checks.part(|checks| tls_route(route, hosts, &outer, checks)).is_ok());
    tcp.retain(|route| checks.part(|checks| tcp_route(route, checks)).is_ok());
    Ok(())
}

/// Names of gateways, of the object or of one match.
pub(super) fn gateways(at: &str, gateways: &[String], checks: &mut Checks<'_>) {
    for (index, name) in gateways.iter().enumerate() {
        let field = format_args!("{at}.gateways[{index}]").to_string();
        match name.split_once('/') {
            Some((namespace, gateway)) => {
                checks.check(&field, names::label(namespace, "a namespace"));
                checks.check(&field, names::label(gateway, "the name of a Gateway"));
            }
            None => {
                checks.check(&field, names::host_name(name));
                if let Some((gateway, rest)) = name.split_once('.') {
                    let namespace = rest.split('.').next().unwrap_or_default();
                    let help = format!("write `{namespace}/{gateway}`");
                    checks.doubt(&field, format!("`{name}` is the old form of a Gateway's name"), &help);
                }
            }
        }
    }
}

fn hosts(service: &VirtualService, outer: &Outer, checks: &mut Checks<'_>) {
    let sni = service.tls.iter().any(|route| route.r#match.iter().any(|one| !one.sni_hosts.is_empty()));
    let valid = checks.part(|checks| {
        for (index, host) in service.hosts.iter().enumerate() {
            let field = format_args!("spec.hosts[{index}]").to_string();
            if host == "*" && !outer.gateway_only {
                let help = "name the hosts, or bind the VirtualService to gateways only";
                checks.error(&field, "the host `*` is not allowed for `mesh`", help);
                continue;
            }
            let generated = sni && outer.gateway_only && is_generated(host);
            if !generated && !names::is_address(host) {
                checks.check(&field, names::wildcard_host(host));
            }
        }
    });
    if valid.is_err() {
        return;
    }
    for (index, host) in service.hosts.iter().enumerate() {
        let covered = service.hosts.iter().take(index).find(|before| overlap(before, host));
        if let Some(before) = covered {
            let message = format!("the host `{host}` overlaps with `{before}`");
            checks.error(format_args!("spec.hosts[{index}]"), message, "each host may be listed once");
        }
    }
}

/// Names of clusters in SNI, between networks: `outbound_.80_._.a.example`.
fn is_generated(host: &str) -> bool {
    let mut parts = host.split('_');
    parts.next() == Some("outbound")
        && parts.next().is_some_and(|port| port.contains(|c: char| c.is_ascii_digit()))
        && parts.nth(1).is_some_and(|name| name.contains(|c: char| c.is_ascii_alphabetic()))
}

/// Whether the two hosts can match the same name.
fn overlap(a: &str, b: &str) -> bool {
    subset(a, b) || subset(b, a)
}

/// Whether every name that `inner` matches is matched by `outer`.
fn subset(inner: &str, outer: &str) -> bool {
    match (inner.strip_prefix('*'), outer.strip_prefix('*')) {
        (Some(inner), Some(outer)) => inner.len() >= outer.len() && ends_with(inner, outer),
        (None, Some(outer)) => inner.len() > outer.len() && ends_with(inner, outer),
        (Some(_), None) => false,
        (None, None) => inner.eq_ignore_ascii_case(outer),
    }
}

fn ends_with(text: &str, end: &str) -> bool {
    text.len().checked_sub(end.len()).and_then(|at| text.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

fn delegate(service: &VirtualService, outer: &Outer, checks: &mut Checks<'_>) {
    if !outer.delegate {
        return;
    }
    let has = |field: &str, checks: &Checks<'_>| checks.positions.has(&format!("spec.{field}[0]"));
    let given = [("gateways", !service.gateways.is_empty()), ("tls", has("tls", checks)), ("tcp", has("tcp", checks))];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        let message = format!("`{field}` is not allowed in a VirtualService without hosts");
        let help = "without `hosts` it can only be the delegate of another VirtualService";
        checks.error(format_args!("spec.{field}"), message, help);
    }
}

fn tls_route(route: &TlsRoute, hosts: &[String], outer: &Outer, checks: &mut Checks<'_>) {
    let at = format!("spec.tls[{}]", route.index);
    if route.r#match.is_empty() {
        checks.missing(format_args!("{at}.match"), "a TLS rule needs at least one match", "");
    }
    for (index, one) in route.r#match.iter().enumerate() {
        tls_match(&format!("{at}.match[{index}]"), one, hosts, outer, checks);
    }
    destinations(&at, &route.route, checks);
}

fn tls_match(at: &str, one: &TlsMatch, hosts: &[String], outer: &Outer, checks: &mut Checks<'_>) {
    if one.sni_hosts.is_empty() {
        checks.missing(format_args!("{at}.sniHosts"), "a TLS match needs at least one SNI host", "");
    }
    for (index, sni) in one.sni_hosts.iter().enumerate() {
        let field = format_args!("{at}.sniHosts[{index}]").to_string();
        if names::is_address(sni) {
            checks.doubt(&field, format!("`{sni}` is an IP address, which clients do not send as SNI"), "");
            continue;
        }
        if !(outer.gateway_only && is_generated(sni)) {
            checks.check(&field, names::wildcard_host(sni));
        }
        if !hosts.iter().any(|host| subset(sni, host)) {
            let message = format!("the SNI host `{sni}` is not covered by the hosts of the VirtualService");
            checks.error(&field, message, &format!("hosts: {}", hosts.join(", ")));
        }
    }
    connection(at, &one.destination_subnets, one.port, checks);
    checks.check(format_args!("{at}.sourceLabels"), names::labels(&one.source_labels));
    gateways(at, &one.gateways, checks);
}

fn tcp_route(route: &TcpRoute, checks: &mut Checks<'_>) {
    let at = format!("spec.tcp[{}]", route.index);
    for (index, one) in route.r#match.iter().enumerate() {
        let at = format!("{at}.match[{index}]");
        connection(&at, &one.destination_subnets, one.port, checks);
        checks.check(format_args!("{at}.sourceLabels"), names::labels(&one.source_labels));
        gateways(&at, &one.gateways, checks);
        if is_set(one.source_subnet.as_ref()) {
            let message = "`sourceSubnet` has no effect, as with Istio: the rule is for clients anywhere";
            checks.doubt(format_args!("{at}.sourceSubnet"), message, "an AuthorizationPolicy can ask for `ipBlocks`");
        }
    }
    destinations(&at, &route.route, checks);
}

fn connection(at: &str, subnets: &[String], port: Option<u32>, checks: &mut Checks<'_>) {
    for (index, subnet) in subnets.iter().enumerate() {
        checks.check(format_args!("{at}.destinationSubnets[{index}]"), names::subnet(subnet));
    }
    if let Some(port) = port.filter(|port| *port != 0) {
        checks.check(format_args!("{at}.port"), names::port(port));
    }
}

fn destinations(at: &str, route: &[RouteDestination], checks: &mut Checks<'_>) {
    if route.is_empty() {
        checks.missing(format_args!("{at}.route"), "a destination is required", "");
    }
    for (index, one) in route.iter().enumerate() {
        destination(&format!("{at}.route[{index}].destination"), &one.destination, checks);
    }
    weights(at, route.iter().map(|one| one.weight), checks);
}

pub(super) fn weights(at: &str, weights: impl ExactSizeIterator<Item = Option<i32>>, checks: &mut Checks<'_>) {
    let count = weights.len();
    let mut total: i64 = 0;
    for (index, weight) in weights.enumerate() {
        let weight = weight.unwrap_or(0);
        checks.check(format_args!("{at}.route[{index}].weight"), names::not_negative(weight));
        total += i64::from(weight.max(0));
    }
    if count > 1 && total == 0 {
        let help = "with several destinations, give at least one of them a `weight` above 0";
        checks.error(format_args!("{at}.route"), "the weights of the destinations sum up to 0", help);
    }
    if total > i64::from(u32::MAX) {
        checks.error(
            format_args!("{at}.route"),
            format!("the weights sum up to {total}"),
            "allowed: at most 4294967295",
        );
    }
}

pub(super) fn destination(at: &str, destination: &Destination, checks: &mut Checks<'_>) {
    if destination.host == "*" {
        checks.error(format_args!("{at}.host"), "`*` is not a destination", "");
    } else {
        checks.check(format_args!("{at}.host"), names::wildcard_host(&destination.host));
    }
    if let Some(subset) = destination.subset.as_deref().filter(|subset| !subset.is_empty()) {
        checks.check(format_args!("{at}.subset"), names::label(subset, "the name of a subset"));
    }
    if let Some(port) = destination.port {
        checks.check(format_args!("{at}.port.number"), names::port(port.number));
    }
}

/// Claims of a token are only known where tokens are verified for this purpose: at gateways.
pub(super) fn claim(field: impl std::fmt::Display, name: &str, outer: &Outer, checks: &mut Checks<'_>) {
    if header::is_claim(name) && !outer.gateway_only {
        let message = format!("routing on the claim `{name}` is only possible at gateways");
        checks.error(field, message, "bind the VirtualService to gateways, without `mesh`");
    }
}

#[cfg(test)]
#[path = "virtual_service_tests.rs"]
mod tests;
