//! `Sidecar`: what `ValidateSidecar` refuses. The scope is one listener, in a listener of egress one host. Where none is left of
//! those that were written, nothing of the object is: to leave them out would open what they were to close.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::{
    CaptureMode, ConnectionPool, EgressListener, H2UpgradePolicy, IngressListener, ServerTls, ServerTlsMode, Sidecar,
    SidecarOutboundMode, SidecarOutboundPolicy, SidecarPort,
};
use super::{Checks, Problem, Wrong, is_set, names, tls_options, traffic_policy, virtual_service};

pub(super) fn check(sidecar: &mut Sidecar, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| {
        selector(sidecar, checks);
        let fields = ["egress", "ingress", "outboundTrafficPolicy", "inboundConnectionPool"];
        if !fields.iter().any(|field| checks.positions.has(&format!("spec.{field}"))) {
            checks.missing("spec", "the Sidecar is empty", &format!("set one of `{}`", fields.join("`, `")));
        }
        if let Some(policy) = &sidecar.outbound_traffic_policy {
            outbound_policy(policy, checks);
        }
    })?;
    let mut ports = BTreeSet::new();
    sidecar.ingress.retain_mut(|listener| checks.part(|checks| ingress(listener, &mut ports, checks)).is_ok());
    let mut taken = Taken::default();
    let last = last(checks);
    sidecar.egress.retain_mut(|listener| {
        let valid = checks.part(|checks| egress(listener, last, &mut taken, checks));
        hosts(listener, checks).and(valid).is_ok()
    });
    traffic_policy::keep(&mut sidecar.inbound_connection_pool, checks, |pool, checks| {
        pool_of_workload("spec.inboundConnectionPool", pool, checks);
    });
    let lost = |field: &str, left: bool| !left && checks.positions.has(&format!("spec.{field}[0]"));
    if lost("ingress", !sidecar.ingress.is_empty()) || lost("egress", !sidecar.egress.is_empty()) {
        return Err(Wrong);
    }
    Ok(())
}

fn selector(sidecar: &Sidecar, checks: &mut Checks<'_>) {
    let Some(selector) = &sidecar.workload_selector else { return };
    checks.check("spec.workloadSelector.labels", names::selector(&selector.labels));
    if selector.labels.is_empty() {
        let message = "the selector has no labels, so it selects every workload of the namespace";
        checks.doubt("spec.workloadSelector", message, "");
    }
}

fn outbound_policy(policy: &SidecarOutboundPolicy, checks: &mut Checks<'_>) {
    let Some(proxy) = &policy.egress_proxy else { return };
    let at = "spec.outboundTrafficPolicy.egressProxy";
    if policy.mode.unwrap_or_default() != SidecarOutboundMode::AllowAny {
        return checks.error(at, "`egressProxy` needs `mode: ALLOW_ANY`", "");
    }
    if proxy.host != "*" && names::wildcard_host(&proxy.host).is_ok() {
        checks.check(format_args!("{at}.host"), names::host_name(&proxy.host));
    }
    if proxy.port.is_none() {
        checks.missing(format_args!("{at}.port"), "the port is required", "");
    }
    virtual_service::destination(at, proxy, checks);
}

fn port(at: &str, port: &SidecarPort, checks: &mut Checks<'_>) {
    if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
        checks.check(format_args!("{at}.port.name"), names::label(name, "the name of a port"));
    }
    if port.target_port.is_some_and(|port| port > 0) {
        checks.error(format_args!("{at}.port.targetPort"), "`targetPort` has no effect in a Sidecar", "");
    }
}

fn ingress(listener: &mut IngressListener, ports: &mut BTreeSet<u32>, checks: &mut Checks<'_>) {
    let at = format!("spec.ingress[{}]", listener.index);
    port(&at, &listener.port, checks);
    checks.check(format_args!("{at}.port.number"), names::port(listener.port.number()));
    if !ports.insert(listener.port.number()) {
        let message = format!("the port {} is that of a listener before", listener.port.number());
        checks.error(format_args!("{at}.port.number"), message, "");
    }
    if let Some(bind) = listener.bind.as_ref().filter(|bind| !bind.is_empty()) {
        checks.check(format_args!("{at}.bind"), names::address(bind));
    }
    if let Some(endpoint) = listener.default_endpoint.as_ref().filter(|endpoint| !endpoint.is_empty()) {
        checks.check(format_args!("{at}.defaultEndpoint"), default_endpoint(endpoint));
    }
    if let Some(tls) = &listener.tls {
        ingress_tls(&format!("{at}.tls"), tls, &listener.port, checks);
    }
    let has_http = listener.connection_pool.as_ref().is_some_and(|pool| pool.http.is_some());
    traffic_policy::keep(&mut listener.connection_pool, checks, |pool, checks| {
        pool_of_workload(&format!("{at}.connectionPool"), pool, checks);
    });
    if has_http && !listener.port.protocol.is_some_and(|protocol| protocol.is_http()) {
        let message = "the protocol of the port is not HTTP, so settings of HTTP have no effect";
        checks.doubt(format_args!("{at}.connectionPool.http"), message, "");
    }
}

/// Settings of the connections from its sidecar.
fn pool_of_workload(at: &str, pool: &ConnectionPool, checks: &mut Checks<'_>) {
    traffic_policy::connection_pool(at, pool, checks);
    let policy = pool.http.as_ref().and_then(|http| http.h2_upgrade_policy);
    if policy == Some(H2UpgradePolicy::Upgrade) {
        let message =
            "`h2UpgradePolicy` has no effect in a Sidecar, as with Istio: the workload is spoken to as its port says";
        let help = "a DestinationRule can ask for HTTP/2 between sidecars";
        checks.doubt(format_args!("{at}.http.h2UpgradePolicy"), message, help);
    }
}

fn default_endpoint(text: &str) -> Result<(), Problem> {
    if let Some(path) = text.strip_prefix("unix://") {
        return names::unix_path(path);
    }
    let help = "allowed: `127.0.0.1:PORT`, `0.0.0.0:PORT`, `[::1]:PORT`, `[::]:PORT`, `unix:///path`";
    let refuse = || Err(Problem::new(format!("`{text}` is not where a workload listens"), help));
    let Some((host, port)) = text.rsplit_once(':') else { return refuse() };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let own = |address: IpAddr| address.is_unspecified() || matches!(host, "127.0.0.1" | "::1");
    if !host.is_empty() && !host.parse().is_ok_and(own) {
        return refuse();
    }
    match port.parse() {
        Ok(port) => names::port(port),
        Err(_) => refuse(),
    }
}

fn ingress_tls(at: &str, tls: &ServerTls, port: &SidecarPort, checks: &mut Checks<'_>) {
    let given = [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("httpsRedirect", tls.https_redirect == Some(true)),
        ("credentialName", is_set(tls.credential_name.as_ref())),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        let help = "certificates of a Sidecar are files: `serverCertificate`, `privateKey`, `caCertificates`";
        checks.error(format_args!("{at}.{field}"), format!("`{field}` is not supported in a Sidecar"), help);
    }
    if matches!(tls.mode, Some(ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough)) {
        checks.error(format_args!("{at}.mode"), "this mode is not supported in a Sidecar", "allowed: SIMPLE, MUTUAL");
    }
    if !port.protocol.is_some_and(|protocol| protocol.is_tls()) {
        checks.error(at, "only a port with protocol HTTPS or TLS can terminate TLS", "");
    }
    // It goes with `credentialName`: without that it is nobody's CA, as with Istio.
    let with_files = ServerTls { ca_cert_credential_name: None, ..tls.clone() };
    tls_options::check(at, &with_files, checks);
}

/// What listeners before have.
#[derive(Default)]
struct Taken {
    ports: BTreeSet<u32>,
    sockets: BTreeSet<String>,
}

/// Index of the last listener of egress that was written.
fn last(checks: &Checks<'_>) -> usize {
    let written = (0_usize..).take_while(|index| checks.positions.has(&format!("spec.egress[{index}]")));
    written.last().unwrap_or_default()
}

fn egress(listener: &EgressListener, last: usize, taken: &mut Taken, checks: &mut Checks<'_>) {
    let at = format!("spec.egress[{}]", listener.index);
    match &listener.port {
        None if listener.index != last => {
            let message = "a listener without a port is for all ports that the others leave: it must be the last one";
            checks.error(format_args!("{at}.port"), message, "");
        }
        None => {}
        Some(own) => {
            port(&at, own, checks);
            place(&at, listener, own, taken, checks);
        }
    }
    if listener.hosts.is_empty() {
        let help = "`*/*` stands for every host, `~/*` for none";
        checks.missing(format_args!("{at}.hosts"), "a listener needs at least one host", help);
    }
    repeated(&at, &listener.hosts, checks);
}

/// Takes wrong hosts out. Wrong: none is left.
fn hosts(listener: &mut EgressListener, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    let at = format!("spec.egress[{}].hosts", listener.index);
    let mut index = 0;
    listener.hosts.retain(|host| {
        let valid = checks.part(|checks| check_host(&format!("{at}[{index}]"), host, checks));
        index += 1;
        valid.is_ok()
    });
    if listener.hosts.is_empty() { Err(Wrong) } else { Ok(()) }
}

fn place(at: &str, listener: &EgressListener, port: &SidecarPort, taken: &mut Taken, checks: &mut Checks<'_>) {
    let bind = listener.bind.as_deref().unwrap_or_default();
    if port.number() != 0 {
        checks.check(format_args!("{at}.port.number"), names::port(port.number()));
        if !bind.is_empty() {
            checks.check(format_args!("{at}.bind"), names::address(bind));
        }
        if !taken.ports.insert(port.number()) {
            let message = format!("the port {} is that of a listener before", port.number());
            checks.error(format_args!("{at}.port.number"), message, "");
        }
        return;
    }
    match bind.strip_prefix("unix://") {
        Some(path) => checks.check(format_args!("{at}.bind"), names::unix_path(path)),
        None => checks.error(format_args!("{at}.bind"), "port 0 is for Unix sockets: `bind` must name one", ""),
    }
    if listener.capture_mode == Some(CaptureMode::Iptables) {
        checks.error(format_args!("{at}.captureMode"), "nothing is redirected to a Unix socket", "");
    }
    if !taken.sockets.insert(bind.to_owned()) {
        checks.error(format_args!("{at}.bind"), format!("`{bind}` is that of a listener before"), "");
    }
}

/// Hosts that say nothing new.
fn repeated(at: &str, hosts: &[String], checks: &mut Checks<'_>) {
    let mut seen: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (index, text) in hosts.iter().enumerate() {
        let Some((namespace, host)) = text.split_once('/').filter(|(namespace, _)| !namespace.starts_with('~')) else {
            continue;
        };
        let namespace = if namespace == "." { checks.namespace.clone() } else { namespace.to_owned() };
        let known = seen.entry(namespace).or_default();
        let again = if host == "*" { !known.is_empty() } else { known.contains("*") || known.contains(host) };
        if again {
            let message = format!("`{text}` overlaps with other hosts of its namespace");
            checks.doubt(format_args!("{at}.hosts[{index}]"), message, "");
        }
        known.insert(host);
    }
    if seen.len() > 1 && seen.get("*").is_some_and(|hosts| hosts.contains("*")) {
        checks.doubt(format_args!("{at}.hosts"), "`*/*` stands for every host already: the others say nothing", "");
    }
}

/// `namespace/host`; `~` before the namespace takes the host out.
fn check_host(field: &str, text: &str, checks: &mut Checks<'_>) {
    let help = "write `namespace/host`: `./*` is all of this namespace, `*/a.example.com` one host of any";
    let Some((namespace, host)) = text.split_once('/') else {
        return checks.error(field, format!("`{text}` names no namespace"), help);
    };
    if namespace.is_empty() || host.is_empty() {
        return checks.error(field, format!("`{text}` lacks a namespace or a host"), help);
    }
    let name = namespace.strip_prefix('~').unwrap_or(namespace);
    if !matches!(name, "" | "*" | ".") && !names::is_label(name) {
        let help =
            "allowed before the `/`: a namespace's name, `.` (this one) or `*` (any), each after `~` to take out";
        checks.error(field, format!("`{namespace}` in `{text}` is not a namespace"), help);
    }
    checks.check(field, names::whole_host(host));
}
