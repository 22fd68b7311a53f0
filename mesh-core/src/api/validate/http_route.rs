//! One HTTP rule of a VirtualService: what `validateHTTPRoute` refuses, and what only Envoy would have refused.

use super::super::{
    CorsPolicy, HttpBody, HttpDirectResponse, HttpFault, HttpMatch, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute,
    StringMatch, grpc_status,
};
use super::virtual_service::{Outer, claim, destination, gateways, weights};
use super::{Checks, Problem, header, is_set, names};

/// Conditions of `retryOn`: Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`. Status codes are allowed too.
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

const CORS_METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

const SET_PERCENTAGE: &str = "set `percentage.value`, 100 for all";

/// Envoy's `max_direct_response_body_size_bytes` as Istio sets it.
const MAX_BODY: usize = 1024 * 1024;

pub(super) fn check(route: &HttpRoute, outer: &Outer, checks: &mut Checks<'_>) {
    let at = format!("spec.http[{}]", route.index);
    conflicts(&at, route, outer, checks);
    for (index, one) in route.r#match.iter().enumerate() {
        check_match(&format!("{at}.match[{index}]"), one, outer, checks);
    }
    header::operations(&at, route.headers.as_deref(), checks);
    header::one_authority(&at, route.rewrite.as_ref(), route.headers.as_deref(), checks);
    for (index, one) in route.route.iter().enumerate() {
        let at = format!("{at}.route[{index}]");
        destination(&format!("{at}.destination"), &one.destination, checks);
        header::operations(&at, one.headers.as_ref(), checks);
        header::one_authority(&at, None, one.headers.as_ref(), checks);
    }
    weights(&at, route.route.iter().map(|one| one.weight), checks);
    if let Some(policy) = &route.cors_policy {
        cors(&format!("{at}.corsPolicy"), policy, checks);
    }
    if let Some(injected) = &route.fault {
        fault(&format!("{at}.fault"), injected, checks);
    }
    mirrors(&at, route, checks);
    if let Some(to) = &route.redirect {
        redirect(&format!("{at}.redirect"), to, &route.r#match, checks);
    }
    if let Some(response) = &route.direct_response {
        direct_response(&format!("{at}.directResponse"), response, checks);
    }
    if let Some(policy) = &route.retries {
        retries(&format!("{at}.retries"), policy, checks);
    }
    if let Some(to) = &route.rewrite {
        rewrite(&format!("{at}.rewrite"), to, checks);
    }
    if let Some(timeout) = route.timeout {
        checks.check(format_args!("{at}.timeout"), names::duration(timeout));
    }
}

/// Exactly one of route, redirect, directResponse and delegate; some fields only go with some of them.
fn conflicts(at: &str, route: &HttpRoute, outer: &Outer, checks: &mut Checks<'_>) {
    let fields = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
    ];
    let mut given = fields.into_iter().filter(|(_, given)| *given).map(|(field, _)| field);
    let Some(first) = given.next() else {
        let help = "give the rule a `route`, a `redirect` or a `directResponse`";
        return checks.missing(at, "the rule does nothing", help);
    };
    if let Some(second) = given.next() {
        let message = format!("`{second}` cannot be combined with `{first}`");
        checks.error(format_args!("{at}.{second}"), message, "a rule does one thing");
    }
    if outer.delegate && route.delegate.is_some() {
        let message = "a delegate cannot delegate";
        checks.error(format_args!("{at}.delegate"), message, "only a VirtualService with `hosts` can delegate");
    }
    let answers = if route.redirect.is_some() { "redirect" } else { "directResponse" };
    if route.redirect.is_some() || route.direct_response.is_some() {
        for (field, given) in [("fault", route.fault.is_some()), ("rewrite", route.rewrite.is_some())] {
            if given {
                checks.error(
                    format_args!("{at}.{field}"),
                    format!("`{field}` cannot be combined with `{answers}`"),
                    "",
                );
            }
        }
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        checks.error(format_args!("{at}.mirrors"), "`mirrors` cannot be combined with `mirror`", "use `mirrors` alone");
    }
}

fn check_match(at: &str, one: &HttpMatch, outer: &Outer, checks: &mut Checks<'_>) {
    for (field, headers) in [("headers", &one.headers), ("withoutHeaders", &one.without_headers)] {
        for (name, value) in headers {
            checks.check(format_args!("{at}.{field}.{name}"), header::match_name(name));
            claim(format_args!("{at}.{field}.{name}"), name, outer, checks);
            // Istio reads the regex `*` of `withoutHeaders` as "present".
            if field == "headers" || *value != StringMatch::Regex("*".to_owned()) {
                check_string(format_args!("{at}.{field}.{name}"), value, checks);
            }
        }
    }
    for (name, value) in &one.query_params {
        check_string(format_args!("{at}.queryParams.{name}"), value, checks);
    }
    for (field, value) in [("scheme", &one.scheme), ("method", &one.method), ("authority", &one.authority)] {
        if let Some(value) = value {
            check_string(format_args!("{at}.{field}"), value, checks);
        }
    }
    // An empty prefix is allowed here only: it matches every path.
    if let Some(StringMatch::Regex(pattern)) = &one.uri {
        checks.check(format_args!("{at}.uri.regex"), names::regex(pattern));
    }
    if let Some(port) = one.port.filter(|port| *port != 0) {
        checks.check(format_args!("{at}.port"), names::port(port));
    }
    checks.check(format_args!("{at}.sourceLabels"), names::labels(&one.source_labels));
    gateways(at, &one.gateways, checks);
    if let Some(namespace) = one.source_namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        checks.check(format_args!("{at}.sourceNamespace"), names::label(namespace, "a namespace"));
    }
}

fn check_string(field: std::fmt::Arguments<'_>, value: &StringMatch, checks: &mut Checks<'_>) {
    match value {
        StringMatch::Prefix(prefix) if prefix.is_empty() => {
            let help = "use `{}` to match any value that is present";
            checks.error(format_args!("{field}.prefix"), "an empty prefix is not allowed here", help);
        }
        StringMatch::Regex(pattern) => checks.check(format_args!("{field}.regex"), names::regex(pattern)),
        StringMatch::Exact(_) | StringMatch::Prefix(_) | StringMatch::Present => {}
    }
}

fn cors(at: &str, policy: &CorsPolicy, checks: &mut Checks<'_>) {
    for (index, origin) in policy.allow_origins.iter().enumerate() {
        let field = format!("{at}.allowOrigins[{index}]");
        match origin {
            StringMatch::Regex(pattern) => checks.check(format_args!("{field}.regex"), names::regex(pattern)),
            StringMatch::Exact(text) | StringMatch::Prefix(text) if !text.is_empty() => {}
            _ => {
                checks.error(&field, "an origin cannot be empty", "allowed: `exact`, `prefix` or `regex` with a value")
            }
        }
    }
    if !policy.allow_origin.is_empty() {
        let message = "`allowOrigin` is deprecated";
        checks.doubt(format_args!("{at}.allowOrigin"), message, "use `allowOrigins` with `exact`");
    }
    for (index, method) in policy.allow_methods.iter().enumerate() {
        if !CORS_METHODS.contains(&method.as_str()) {
            let help = format!("allowed: `{}`", CORS_METHODS.join("`, `"));
            checks.error(format_args!("{at}.allowMethods[{index}]"), format!("`{method}` is not a method"), &help);
        }
    }
    for (field, list) in [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)] {
        for (index, name) in list.iter().enumerate() {
            checks.check(format_args!("{at}.{field}[{index}]"), header::cors_name(name));
        }
    }
    if let Some(age) = policy.max_age {
        checks.check(format_args!("{at}.maxAge"), names::duration(age));
        if age.get().subsec_nanos() != 0 {
            checks.error(
                format_args!("{at}.maxAge"),
                format!("`{:?}` is too precise", age.get()),
                "allowed: whole seconds",
            );
        }
    }
}

fn fault(at: &str, fault: &HttpFault, checks: &mut Checks<'_>) {
    if fault.abort.is_none() && fault.delay.is_none() {
        checks.missing(at, "a fault needs an `abort` or a `delay`", "");
    }
    if let Some(abort) = &fault.abort {
        let at = format!("{at}.abort");
        match abort.percentage {
            Some(percentage) => {
                checks.check(format_args!("{at}.percentage"), names::percentage(percentage.value.unwrap_or(0.0)));
            }
            None => checks.doubt(&at, "the abort has no percentage, so it happens to no request", SET_PERCENTAGE),
        }
        let kinds = [abort.http_status.is_some(), abort.grpc_status.is_some(), abort.http2_error.is_some()];
        match kinds.into_iter().filter(|given| *given).count() {
            0 => checks.doubt(&at, "the abort has no status, so it does nothing", "set `httpStatus` or `grpcStatus`"),
            1 => {}
            _ => checks.error(&at, "only one of `httpStatus`, `grpcStatus` and `http2Error` can be set", ""),
        }
        if let Some(status) = abort.http_status {
            // Istio's webhook lets 600 pass.
            checks.check(format_args!("{at}.httpStatus"), http_status(i64::from(status), 600));
        }
        if let Some(status) = abort.grpc_status.as_deref().filter(|status| !grpc_status::NAMES.contains(status)) {
            let help = format!("allowed: `{}`", grpc_status::NAMES.join("`, `"));
            checks.error(format_args!("{at}.grpcStatus"), format!("`{status}` is not a gRPC status"), &help);
        }
        if abort.http2_error.is_some() {
            let help = "use `httpStatus` or `grpcStatus`";
            checks.error(format_args!("{at}.http2Error"), "`http2Error` is not supported, by Istio neither", help);
        }
    }
    if let Some(delay) = &fault.delay {
        let at = format!("{at}.delay");
        match (delay.percentage, delay.percent) {
            (Some(percentage), _) => {
                checks.check(format_args!("{at}.percentage"), names::percentage(percentage.value.unwrap_or(0.0)));
            }
            (None, Some(_)) => {
                checks.doubt(format_args!("{at}.percent"), "`percent` is deprecated", "use `percentage`");
            }
            (None, None) => {
                checks.doubt(&at, "the delay has no percentage, so it happens to no request", SET_PERCENTAGE)
            }
        }
        if let Some(fixed) = delay.fixed_delay {
            checks.check(format_args!("{at}.fixedDelay"), names::duration(fixed));
        }
        if delay.exponential_delay.is_some() {
            let message = "`exponentialDelay` is not supported, by Istio neither";
            checks.error(format_args!("{at}.exponentialDelay"), message, "use `fixedDelay`");
        }
    }
}

fn http_status(status: i64, most: i64) -> names::Check {
    if (200..=most).contains(&status) {
        return Ok(());
    }
    Err(Problem::new(format!("`{status}` is not an HTTP status that can be answered"), "allowed: 200 to 599"))
}

fn mirrors(at: &str, route: &HttpRoute, checks: &mut Checks<'_>) {
    let share = |value: Option<f64>| match value.unwrap_or(0.0) {
        value if (0.0..=100.0).contains(&value) => Ok(()),
        value => Err(Problem::new(format!("`{value}` is not a share"), "allowed: 0 to 100")),
    };
    if let Some(to) = &route.mirror {
        destination(&format!("{at}.mirror"), to, checks);
    }
    if let Some(percent) = route.mirror_percent {
        checks.check(format_args!("{at}.mirrorPercent"), share(Some(f64::from(percent))));
        checks.doubt(format_args!("{at}.mirrorPercent"), "`mirrorPercent` is deprecated", "use `mirrorPercentage`");
    }
    if let Some(percentage) = route.mirror_percentage {
        checks.check(format_args!("{at}.mirrorPercentage.value"), share(percentage.value));
    }
    for (index, one) in route.mirrors.iter().enumerate() {
        destination(&format!("{at}.mirrors[{index}].destination"), &one.destination, checks);
        if let Some(percentage) = one.percentage {
            checks.check(format_args!("{at}.mirrors[{index}].percentage.value"), share(percentage.value));
        }
    }
}

fn redirect(at: &str, to: &HttpRedirect, matches: &[HttpMatch], checks: &mut Checks<'_>) {
    let prefix = is_set(to.prefix_rewrite.as_ref());
    if is_set(to.uri.as_ref()) && prefix {
        checks.error(format_args!("{at}.prefixRewrite"), "`prefixRewrite` cannot be combined with `uri`", "");
    }
    if prefix && matches.iter().any(|one| one.uri.as_ref().is_some_and(|uri| !matches!(uri, StringMatch::Prefix(_)))) {
        let help = "every `match` of the rule must have `uri.prefix`";
        checks.error(format_args!("{at}.prefixRewrite"), "`prefixRewrite` needs a prefix to replace", help);
    }
    if to.port.is_some() && to.derive_port.is_some() {
        checks.error(format_args!("{at}.derivePort"), "`derivePort` cannot be combined with `port`", "");
    }
    let says = prefix || is_set(to.uri.as_ref()) || is_set(to.authority.as_ref()) || is_set(to.scheme.as_ref());
    if !says && to.port.is_none() && to.derive_port.is_none() {
        let help = "set `uri`, `prefixRewrite`, `authority`, `scheme` or `port`";
        checks.missing(at, "the redirect does not say where to", help);
    }
    // 3xx in general passes Istio's webhook; Envoy knows these five and refuses the table for any other.
    if let Some(code) = to.redirect_code.filter(|code| !matches!(code, 0 | 301 | 302 | 303 | 307 | 308)) {
        let message = format!("`{code}` is not the status of a redirect");
        checks.error(format_args!("{at}.redirectCode"), message, "allowed: 301, 302, 303, 307, 308");
    }
    if let Some(scheme) = to.scheme.as_deref().filter(|scheme| !matches!(*scheme, "" | "http" | "https")) {
        let message = format!("`{scheme}` is not a scheme for a redirect");
        checks.error(format_args!("{at}.scheme"), message, "allowed: `http`, `https`");
    }
    if let Some(port) = to.port.filter(|port| *port != 0) {
        checks.check(format_args!("{at}.port"), names::port(port));
    }
}

fn direct_response(at: &str, response: &HttpDirectResponse, checks: &mut Checks<'_>) {
    // Istio's webhook lets 600 pass; Envoy refuses the table then.
    checks.check(format_args!("{at}.status"), http_status(i64::from(response.status), 599));
    let size = match &response.body {
        Some(HttpBody::String(text)) => text.len(),
        Some(HttpBody::Bytes(bytes)) => bytes.len(),
        None => 0,
    };
    if size > MAX_BODY {
        let help = format!("allowed: at most {MAX_BODY}");
        checks.error(format_args!("{at}.body"), format!("the body has {size} bytes"), &help);
    } else if size > 100 * 1024 {
        let message = format!("the body has {size} bytes, which every proxy keeps in memory");
        checks.doubt(format_args!("{at}.body"), message, "serve it from a backend");
    }
}

fn retries(at: &str, policy: &HttpRetry, checks: &mut Checks<'_>) {
    let attempts = policy.attempts.unwrap_or(0);
    checks.check(format_args!("{at}.attempts"), names::not_negative(attempts));
    let configured = policy.per_try_timeout.is_some() || is_set(policy.retry_on.as_ref());
    if attempts == 0 && (configured || policy.retry_remote_localities.is_some()) {
        let message = "retries are configured, but `attempts` is 0, which switches them off";
        checks.error(at, message, "set `attempts`");
    }
    for (field, duration) in [("perTryTimeout", policy.per_try_timeout), ("backoff", policy.backoff)] {
        if let Some(duration) = duration {
            checks.check(format_args!("{at}.{field}"), names::duration(duration));
        }
    }
    let Some(on) = policy.retry_on.as_deref().filter(|on| !on.is_empty()) else { return };
    for condition in on.split(',') {
        let status = condition.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status));
        if !status && !RETRY_ON.contains(&condition) {
            let help = format!("allowed, separated by `,` without spaces: a status code, `{}`", RETRY_ON.join("`, `"));
            checks.error(format_args!("{at}.retryOn"), format!("`{condition}` is not a reason to retry"), &help);
        }
    }
}

fn rewrite(at: &str, rewrite: &HttpRewrite, checks: &mut Checks<'_>) {
    let uri = is_set(rewrite.uri.as_ref());
    if uri && rewrite.uri_regex_rewrite.is_some() {
        checks.error(format_args!("{at}.uriRegexRewrite"), "`uriRegexRewrite` cannot be combined with `uri`", "");
    }
    if !uri && rewrite.uri_regex_rewrite.is_none() && !is_set(rewrite.authority.as_ref()) {
        checks.missing(at, "the rewrite changes nothing", "set `uri`, `uriRegexRewrite` or `authority`");
    }
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        if regex.rewrite.is_empty() || regex.r#match.is_empty() {
            checks.missing(format_args!("{at}.uriRegexRewrite"), "both `match` and `rewrite` are required", "");
        }
        if !regex.r#match.is_empty() {
            checks.check(format_args!("{at}.uriRegexRewrite.match"), names::regex(&regex.r#match));
        }
    }
}
