//! `WorkloadEntry`, also as an endpoint of a ServiceEntry: what `validateWorkloadEntry` refuses.

use std::collections::BTreeSet;

use super::super::WorkloadEntry;
use super::{Checks, Wrong, is_set, names};

pub(super) fn check_object(entry: &WorkloadEntry, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| check("spec", entry, None, true, checks))
}

/// `ports`: names of the service's ports, if there is a service. `host_names`: whether the address may be a DNS name.
pub(super) fn check(
    at: &str,
    entry: &WorkloadEntry,
    ports: Option<&BTreeSet<&str>>,
    host_names: bool,
    checks: &mut Checks<'_>,
) {
    address(at, entry, ports, host_names, checks);
    for (name, port) in &entry.ports {
        let field = format_args!("{at}.ports.{name}").to_string();
        checks.check(&field, names::label(name, "the name of a port"));
        checks.check(&field, names::port(*port));
        if let Some(ports) = ports.filter(|ports| !ports.contains(name.as_str())) {
            let known: Vec<&str> = ports.iter().copied().collect();
            let help = format!("ports of the service: `{}`", known.join("`, `"));
            checks.error(&field, format!("the service has no port `{name}`"), &help);
        }
    }
    checks.check(format_args!("{at}.labels"), names::labels(&entry.labels));
}

fn address(at: &str, entry: &WorkloadEntry, ports: Option<&BTreeSet<&str>>, host_names: bool, checks: &mut Checks<'_>) {
    let field = format_args!("{at}.address").to_string();
    let address = entry.address.as_str();
    if address.is_empty() {
        if is_set(entry.network.as_ref()) {
            checks.doubt(at, "without an address, only the gateway of the network can reach this workload", "");
        } else {
            checks.missing(&field, "an address is required", "an IP address, a DNS name or `unix://` and a path");
        }
    } else if let Some(path) = address.strip_prefix("unix://") {
        checks.check(&field, names::unix_path(path));
        if !entry.ports.is_empty() {
            checks.error(format_args!("{at}.ports"), "a Unix socket has no ports", "");
        }
        if ports.is_some_and(|ports| ports.len() != 1) {
            checks.error(&field, "a Unix socket can only serve a service with exactly one port", "");
        }
    } else if !names::is_address(address) {
        if !host_names {
            let help = "with resolution STATIC, endpoints are IP addresses; use `resolution: DNS` for names";
            checks.error(&field, format!("`{address}` is not an IP address"), help);
        } else if names::host_name(address).is_err() {
            checks.error(&field, format!("`{address}` is neither an IP address nor a DNS name"), "");
        }
    }
}
