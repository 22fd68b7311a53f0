//! `ServiceEntry`: what `ValidateServiceEntry` and the CRD's rules refuse. The scope is one endpoint.

use std::collections::BTreeSet;

use super::super::{Location, Meta, Protocol, Resolution, ServiceEntry};
use super::{Checks, Wrong, names, visibility, workload_entry};

pub(super) fn check(entry: &mut ServiceEntry, meta: &Meta, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    let resolution = entry.resolution.unwrap_or_default();
    checks.part(|checks| {
        hosts(entry, resolution, checks);
        addresses(entry, resolution, checks);
        ports(entry, resolution, checks);
        shape(entry, resolution, checks);
        waypoint(entry, meta, resolution, checks);
        visibility::check(&entry.export_to, true, checks);
    })?;
    let ports: BTreeSet<&str> = entry.ports.iter().map(|port| port.name.as_str()).collect();
    entry.endpoints.retain(|endpoint| {
        let at = format!("spec.endpoints[{}]", endpoint.index);
        let names = resolution != Resolution::Static;
        checks.part(|checks| workload_entry::check(&at, endpoint, Some(&ports), names, checks)).is_ok()
    });
    Ok(())
}

fn hosts(entry: &ServiceEntry, resolution: Resolution, checks: &mut Checks<'_>) {
    if entry.hosts.is_empty() {
        checks.missing("spec.hosts", "a ServiceEntry needs at least one host", "");
    }
    let resolved_by_name =
        matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin) && entry.endpoints.is_empty();
    for (index, host) in entry.hosts.iter().enumerate() {
        let field = format_args!("spec.hosts[{index}]").to_string();
        if host == "*" {
            checks.error(&field, "`*` is not allowed here", "name a host, or many by `*.example`");
            continue;
        }
        checks.check(&field, names::wildcard_host(host));
        if resolved_by_name && host.contains('*') {
            let help = "a name with `*` cannot be looked up; give endpoints or another resolution";
            checks.error(&field, format!("`{host}` cannot be resolved by DNS"), help);
        } else if resolution == Resolution::DynamicDns && !host.starts_with('*') {
            checks.error(&field, format!("`{host}` has no wildcard"), "DYNAMIC_DNS is for hosts such as `*.example`");
        } else if let Err(problem) = names::no_partial_wildcard(host) {
            checks.doubt(&field, problem.message, "`*` must be the whole first label, as in `*.example`");
        }
    }
}

fn addresses(entry: &ServiceEntry, resolution: Resolution, checks: &mut Checks<'_>) {
    for (index, address) in entry.addresses.iter().enumerate() {
        let field = format_args!("spec.addresses[{index}]").to_string();
        checks.check(&field, names::subnet(address));
        if address.contains('/') && !matches!(resolution, Resolution::None | Resolution::Static) {
            let message = format!("the block `{address}` needs resolution NONE or STATIC");
            checks.error(&field, message, "");
        }
    }
    if resolution == Resolution::DynamicDns && !entry.addresses.is_empty() {
        checks.error("spec.addresses", "`addresses` cannot be combined with resolution DYNAMIC_DNS", "");
    }
}

fn ports(entry: &ServiceEntry, resolution: Resolution, checks: &mut Checks<'_>) {
    let (mut port_names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let several = entry.hosts.len() > 1 && resolution != Resolution::None;
    for (index, port) in entry.ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        checks.check(format_args!("{at}.number"), names::port(port.number));
        checks.check(format_args!("{at}.name"), names::label(&port.name, "the name of a port"));
        if let Some(target) = port.target_port.filter(|port| *port != 0) {
            checks.check(format_args!("{at}.targetPort"), names::port(target));
        }
        if !port_names.insert(&port.name) {
            checks.error(format_args!("{at}.name"), format!("the port name `{}` is used before", port.name), "");
        }
        if !numbers.insert(port.number) {
            checks.error(format_args!("{at}.number"), format!("the port {} is listed before", port.number), "");
        }
        let split = port.protocol.is_some_and(|protocol| protocol.is_http() || protocol.is_tls());
        if several && !split {
            let message = "several hosts share a port whose protocol does not tell them apart";
            checks.error(format_args!("{at}.protocol"), message, "use one host, or an HTTP, HTTPS or TLS port");
        }
        let dynamic = matches!(port.protocol, Some(Protocol::Http | Protocol::Tls | Protocol::Grpc | Protocol::Http2));
        if resolution == Resolution::DynamicDns && !dynamic {
            let message = "this protocol cannot be combined with resolution DYNAMIC_DNS";
            checks.error(format_args!("{at}.protocol"), message, "allowed: HTTP, HTTP2, GRPC, TLS");
        }
    }
}

/// What goes with which resolution.
fn shape(entry: &ServiceEntry, resolution: Resolution, checks: &mut Checks<'_>) {
    let endpoints = checks.positions.has("spec.endpoints[0]");
    if let Some(selector) = &entry.workload_selector {
        checks.check("spec.workloadSelector.labels", names::selector(&selector.labels));
        if checks.positions.has("spec.endpoints") {
            checks.error("spec.endpoints", "`endpoints` cannot be combined with `workloadSelector`", "");
        }
        if selector.labels.is_empty() {
            checks.doubt("spec.workloadSelector", "the selector has no labels, so it selects every workload", "");
        }
        if resolution == Resolution::None {
            checks.doubt("spec.workloadSelector", "with resolution NONE, no workloads are selected", "");
        }
    }
    match resolution {
        Resolution::None | Resolution::DynamicDns if endpoints => {
            let message = "`endpoints` cannot be combined with this resolution";
            checks.error("spec.endpoints", message, "set `resolution: STATIC` or `resolution: DNS`");
        }
        Resolution::DnsRoundRobin if entry.endpoints.len() > 1 => {
            let message = "resolution DNS_ROUND_ROBIN takes at most one endpoint";
            checks.error("spec.endpoints", message, "set `resolution: DNS` for several");
        }
        _ => {}
    }
}

fn waypoint(entry: &ServiceEntry, meta: &Meta, resolution: Resolution, checks: &mut Checks<'_>) {
    let waypoint = meta.labels.get("istio.io/use-waypoint").is_some_and(|name| !matches!(name.as_str(), "" | "none"));
    if resolution == Resolution::DynamicDns && entry.location == Some(Location::MeshInternal) && waypoint {
        let message = "MESH_INTERNAL cannot be combined with resolution DYNAMIC_DNS for a service with a waypoint";
        checks.error("spec.location", message, "");
    }
}
