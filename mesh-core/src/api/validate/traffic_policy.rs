//! `trafficPolicy` of a rule, a subset or a port. An invalid block is taken out; the default of its kind applies.

use super::super::{
    ClientTls, ClientTlsMode, ConnectionPool, Duration, H2UpgradePolicy, HttpSettings, OutlierDetection,
    PortTrafficPolicy, TcpSettings, TrafficPolicy, Tunnel,
};
use super::{Checks, Wrong, is_set, load_balancer, names};

pub(super) fn check(at: &str, policy: &mut TrafficPolicy, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    const FIELDS: &[&str] = &[
        "loadBalancer",
        "connectionPool",
        "outlierDetection",
        "tls",
        "portLevelSettings",
        "tunnel",
        "proxyProtocol",
        "retryBudget",
    ];
    checks.part(|checks| {
        if !FIELDS.iter().any(|field| checks.positions.has(&format!("{at}.{field}"))) {
            let help = format!("set one of `{}`", FIELDS.join("`, `"));
            checks.missing(at, "the traffic policy is empty", &help);
        }
        if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
            checks.error(format_args!("{at}.proxyProtocol"), "`proxyProtocol` cannot be combined with `tunnel`", "");
        }
        if let Some(tls) = &policy.tls {
            client_tls(&format!("{at}.tls"), tls, checks);
        }
    })?;
    keep(&mut policy.load_balancer, checks, |lb, checks| {
        load_balancer::check(&format!("{at}.loadBalancer"), lb, policy.outlier_detection.is_some(), checks);
    });
    keep(&mut policy.outlier_detection, checks, |o, c| outlier_detection(&format!("{at}.outlierDetection"), o, c));
    keep(&mut policy.connection_pool, checks, |p, c| connection_pool(&format!("{at}.connectionPool"), p, c));
    keep(&mut policy.tunnel, checks, |t, c| tunnel(&format!("{at}.tunnel"), t, c));
    keep(&mut policy.retry_budget, checks, |budget, checks| {
        if budget.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            checks.error(format_args!("{at}.retryBudget.percent"), "this is not a share", "allowed: 0 to 100");
        }
        // Nothing, as where it is not said.
        let interval = budget.budget_interval.filter(|interval| !interval.get().is_zero());
        durations(&format!("{at}.retryBudget"), &[("budgetInterval", interval)], checks);
    });
    let mut index = 0;
    policy.port_level_settings.retain_mut(|port| {
        let valid = port_policy(&format!("{at}.portLevelSettings[{index}]"), port, checks);
        index += 1;
        valid.is_ok()
    });
    Ok(())
}

/// Takes a block out if its checks find an error.
pub(super) fn keep<T>(block: &mut Option<T>, checks: &mut Checks<'_>, check: impl FnOnce(&T, &mut Checks<'_>)) {
    if let Some(value) = block.as_ref()
        && checks.part(|checks| check(value, checks)).is_err()
    {
        *block = None;
    }
}

fn port_policy(at: &str, policy: &mut PortTrafficPolicy, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| {
        match policy.port {
            Some(port) => checks.check(format_args!("{at}.port.number"), names::port(port.number)),
            None => checks.missing(format_args!("{at}.port"), "settings for a port need its number", ""),
        }
        let fields = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];
        if !fields.iter().any(|field| checks.positions.has(&format!("{at}.{field}"))) {
            let help = format!("set one of `{}`", fields.join("`, `"));
            checks.missing(at, "the settings of this port are empty", &help);
        }
        if let Some(tls) = &policy.tls {
            client_tls(&format!("{at}.tls"), tls, checks);
        }
    })?;
    keep(&mut policy.load_balancer, checks, |lb, checks| {
        load_balancer::check(&format!("{at}.loadBalancer"), lb, policy.outlier_detection.is_some(), checks);
    });
    keep(&mut policy.outlier_detection, checks, |o, c| outlier_detection(&format!("{at}.outlierDetection"), o, c));
    keep(&mut policy.connection_pool, checks, |p, c| connection_pool(&format!("{at}.connectionPool"), p, c));
    Ok(())
}

fn durations(at: &str, durations: &[(&str, Option<Duration>)], checks: &mut Checks<'_>) {
    for (field, duration) in durations {
        if let Some(duration) = duration {
            checks.check(format_args!("{at}.{field}"), names::duration(*duration));
        }
    }
}

fn not_negative(at: &str, numbers: &[(&str, Option<i32>)], checks: &mut Checks<'_>) {
    for (field, number) in numbers {
        checks.check(format_args!("{at}.{field}"), names::not_negative(number.unwrap_or(0)));
    }
}

fn outlier_detection(at: &str, outlier: &OutlierDetection, checks: &mut Checks<'_>) {
    durations(at, &[("interval", outlier.interval), ("baseEjectionTime", outlier.base_ejection_time)], checks);
    for (field, value) in
        [("maxEjectionPercent", outlier.max_ejection_percent), ("minHealthPercent", outlier.min_health_percent)]
    {
        checks.check(format_args!("{at}.{field}"), names::percent(value.unwrap_or(0)));
    }
    let split = outlier.split_external_local_origin_errors.unwrap_or(false);
    if !split && outlier.consecutive_local_origin_failures.is_some_and(|count| count > 0) {
        let message = "`consecutiveLocalOriginFailures` needs `splitExternalLocalOriginErrors: true`";
        checks.error(format_args!("{at}.consecutiveLocalOriginFailures"), message, "");
    }
    if outlier.consecutive_errors.is_some_and(|count| count != 0) {
        let message = "`consecutiveErrors` is deprecated and has no effect, as with Istio";
        let help = "use `consecutiveGatewayErrors` or `consecutive5xxErrors`";
        checks.doubt(format_args!("{at}.consecutiveErrors"), message, help);
    }
}

pub(super) fn connection_pool(at: &str, pool: &ConnectionPool, checks: &mut Checks<'_>) {
    if pool.tcp.is_none() && pool.http.is_none() {
        checks.missing(at, "the connection pool is empty", "set `tcp` or `http`");
    }
    if let Some(http) = &pool.http {
        http_settings(&format!("{at}.http"), http, checks);
    }
    if let Some(tcp) = &pool.tcp {
        tcp_settings(&format!("{at}.tcp"), tcp, checks);
    }
}

fn http_settings(at: &str, http: &HttpSettings, checks: &mut Checks<'_>) {
    let numbers = [
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ];
    not_negative(at, &numbers, checks);
    durations(at, &[("idleTimeout", http.idle_timeout)], checks);
    if http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) && http.use_client_protocol == Some(true) {
        let message = "`useClientProtocol` cannot be combined with `h2UpgradePolicy: UPGRADE`";
        checks.error(format_args!("{at}.useClientProtocol"), message, "");
    }
    if let Some(keep_alive) = &http.http2_keep_alive {
        let at = format!("{at}.http2KeepAlive");
        let fields = [("interval", keep_alive.interval), ("timeout", keep_alive.timeout)];
        let help = "allowed: whole milliseconds, at least 1ms; to send no PING, leave `http2KeepAlive` out";
        for (field, duration) in fields {
            let field_path = format!("{at}.{field}");
            match duration {
                None => checks.missing(field_path, format!("the field `{field}` is required"), help),
                Some(duration) => {
                    if let Err(problem) = names::duration(duration) {
                        checks.error(field_path, problem.message, help);
                    }
                }
            }
        }
    }
}

fn tcp_settings(at: &str, tcp: &TcpSettings, checks: &mut Checks<'_>) {
    not_negative(at, &[("maxConnections", tcp.max_connections)], checks);
    // 0 switches the idle timeout off.
    let idle = tcp.idle_timeout.filter(|timeout| timeout.get().as_millis() != 0);
    let fields = [
        ("connectTimeout", tcp.connect_timeout),
        ("maxConnectionDuration", tcp.max_connection_duration),
        ("idleTimeout", idle),
    ];
    durations(at, &fields, checks);
    if let Some(keepalive) = &tcp.tcp_keepalive {
        let at = format!("{at}.tcpKeepalive");
        durations(&at, &[("time", keepalive.time), ("interval", keepalive.interval)], checks);
    }
}

fn client_tls(at: &str, tls: &ClientTls, checks: &mut Checks<'_>) {
    let mode = tls.mode.unwrap_or_default();
    let credential = is_set(tls.credential_name.as_ref());
    let ca = is_set(tls.ca_certificates.as_ref());
    if tls.insecure_skip_verify == Some(true) {
        let verified = ca || !tls.subject_alt_names.is_empty() || (credential && mode == ClientTlsMode::Simple);
        if matches!(mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) && verified {
            let message = "`insecureSkipVerify` cannot be combined with what would be verified";
            let help = "leave out `caCertificates`, `subjectAltNames`, and `credentialName` in mode SIMPLE";
            checks.error(format_args!("{at}.insecureSkipVerify"), message, help);
        }
    }
    let certificate = is_set(tls.client_certificate.as_ref());
    let key = is_set(tls.private_key.as_ref());
    if matches!(mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) && credential {
        if certificate || ca || key || is_set(tls.ca_crl.as_ref()) {
            let message = "`credentialName` cannot be combined with files of certificates";
            checks.error(format_args!("{at}.credentialName"), message, "");
        }
    } else if mode == ClientTlsMode::Mutual {
        for (field, given) in [("clientCertificate", certificate), ("privateKey", key)] {
            if !given {
                let help = "mode MUTUAL needs `credentialName`, or `clientCertificate` and `privateKey`";
                checks.missing(format_args!("{at}.{field}"), format!("the field `{field}` is required"), help);
            }
        }
    }
}

fn tunnel(at: &str, tunnel: &Tunnel, checks: &mut Checks<'_>) {
    if let Some(protocol) = tunnel.protocol.as_deref().filter(|protocol| !matches!(*protocol, "" | "CONNECT" | "POST"))
    {
        let message = format!("`{protocol}` is not a protocol of a tunnel");
        checks.error(format_args!("{at}.protocol"), message, "allowed: `CONNECT`, `POST`");
    }
    if !names::is_address(&tunnel.target_host) {
        checks.check(format_args!("{at}.targetHost"), names::host_name(&tunnel.target_host));
    }
    checks.check(format_args!("{at}.targetPort"), names::port(tunnel.target_port));
}
