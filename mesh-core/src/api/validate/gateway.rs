//! `Gateway`: what `ValidateGateway` refuses. The scope is one server.

use std::collections::BTreeSet;

use super::super::{ACME, Gateway, Meta, Port, Server, ServerTlsMode};
use super::{Checks, Wrong, is_set, names, tls_options};
use crate::attribute;

/// A value that means nothing must not be taken for `false`.
fn acme(meta: &Meta, checks: &mut Checks<'_>) {
    let Some(value) = meta.annotations.get(ACME) else { return };
    if attribute::boolean(value).is_none() {
        let field = format!("metadata.annotations.{ACME}");
        checks.error(&field, format!("`{value}` is neither true nor false"), "");
    }
}

pub(super) fn check(gateway: &mut Gateway, meta: &Meta, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| {
        checks.check("metadata.name", names::label(&meta.name, "the name of a Gateway"));
        if !checks.positions.has("spec.servers[0]") {
            checks.missing("spec.servers", "a Gateway needs at least one server", "");
        }
    })?;
    acme(meta, checks);
    let mut ports = BTreeSet::new();
    gateway.servers.retain(|server| {
        let at = format!("spec.servers[{}]", server.index);
        let valid = checks.part(|checks| {
            check_server(&at, server, checks);
            if !server.port.name.is_empty() && !ports.insert(server.port.name.clone()) {
                let message = format!("the port name `{}` is used by a server before", server.port.name);
                checks.error(format_args!("{at}.port.name"), message, "names of ports must differ within a Gateway");
            }
        });
        valid.is_ok()
    });
    Ok(())
}

fn check_server(at: &str, server: &Server, checks: &mut Checks<'_>) {
    if server.hosts.is_empty() {
        checks.missing(format_args!("{at}.hosts"), "a server needs at least one host", "`*` stands for every host");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        check_host(&format!("{at}.hosts[{index}]"), host, checks);
    }
    let bind = server.bind.as_deref().unwrap_or_default();
    check_port(at, &server.port, bind, checks);
    check_tls(at, server, checks);
}

/// `host`, `ns/host`, `./host`, `*/host`.
fn check_host(field: &str, host: &str, checks: &mut Checks<'_>) {
    let name = match host.split_once('/') {
        Some((namespace, name)) => {
            if !matches!(namespace, "*" | ".") && !names::is_label(namespace) {
                let message = format!("`{namespace}` in `{host}` is not a namespace");
                checks.error(field, message, "allowed before the `/`: a namespace's name, `.` (this one) or `*` (any)");
            }
            name
        }
        None => host,
    };
    // That one is whole as it is (RFC 6761 section 6.3).
    if !names::is_address(name) && name != "localhost" {
        checks.check(field, names::whole_host(name));
    }
}

fn check_port(at: &str, port: &Port, bind: &str, checks: &mut Checks<'_>) {
    if port.name.is_empty() {
        checks.missing(format_args!("{at}.port.name"), "the port needs a name", "");
    }
    if port.target_port.is_some_and(|port| port > 0) {
        let help = "a Gateway follows the `targetPort` of the Service in front of it";
        checks.error(format_args!("{at}.port.targetPort"), "`targetPort` has no effect in a Gateway", help);
    }
    match bind.strip_prefix("unix://") {
        Some(path) => {
            checks.check(format_args!("{at}.bind"), names::unix_path(path));
            if port.number != 0 {
                let message = format!("the port must be 0 for a Unix socket, not {}", port.number);
                checks.error(format_args!("{at}.port.number"), message, "");
            }
        }
        None => {
            checks.check(format_args!("{at}.port.number"), names::port(port.number));
            if !bind.is_empty() {
                checks.check(format_args!("{at}.bind"), names::address(bind));
            }
        }
    }
}

fn check_tls(at: &str, server: &Server, checks: &mut Checks<'_>) {
    let protocol = server.port.protocol;
    let Some(tls) = &server.tls else {
        if protocol.is_tls() {
            let message = format!("a server with protocol {} needs `tls`", protocol.as_str());
            checks.missing(
                format_args!("{at}.tls"),
                message,
                "for example `tls: {mode: SIMPLE, credentialName: my-cert}`",
            );
        }
        return;
    };
    let field = format!("{at}.tls");
    tls_options::check(&field, tls, checks);
    if tls.https_redirect == Some(true) && !protocol.is_http() {
        let message = "`httpsRedirect` only has a meaning for HTTP servers";
        checks.doubt(format_args!("{field}.httpsRedirect"), message, "");
    }
    if protocol.is_tls() {
        return;
    }
    let passes = matches!(tls.mode.unwrap_or_default(), ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
    let files = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate];
    if !protocol.is_http() || !passes || files.into_iter().any(|text| is_set(text.as_ref())) {
        let message = format!("a server with protocol {} cannot terminate TLS", protocol.as_str());
        checks.error(&field, message, "use protocol HTTPS or TLS; an HTTP server can only have `httpsRedirect` here");
    }
}
