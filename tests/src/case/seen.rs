//! What the memory runner sees of an exchange.

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::snapshot::CompiledRule;
use mesh_core::testing::{BackendKind, BackendSettings};

use super::verdict::{self, Observation};

/// What else is known comes first.
pub(super) fn headers_or(headers: HeaderMap, otherwise: verdict::Look<'_>) -> verdict::Look<'_> {
    Box::new(move |key| match key.strip_prefix("header.") {
        Some(name) if !added_by_engine(name) => match otherwise(key) {
            Some(values) if !values.is_empty() => Some(values),
            _ => Some(lines(&headers, name)),
        },
        _ => otherwise(key),
    })
}

/// As in the access log.
pub(super) fn route_name(rule: &CompiledRule) -> String {
    rule.name.as_deref().unwrap_or("-").to_owned()
}

/// A request as it leaves the tables.
pub(super) struct Sent {
    pub method: String,
    pub path: String,
    pub authority: String,
    pub body: String,
    pub headers: HeaderMap,
}

pub(super) fn forwarded<'a>(rule: String, backend: &str, settings: &BackendSettings, sent: Sent) -> Observation<'a> {
    let plain = settings.kind == BackendKind::Echo && settings.fail_first.is_none() && settings.delay_ms == 0;
    Observation {
        status: plain.then_some(settings.status),
        backend: (settings.kind == BackendKind::Echo).then(|| backend.to_owned()),
        rule: Some(rule),
        saw: Box::new(move |key| match key {
            "method" => Some(vec![sent.method.clone()]),
            "path" => Some(vec![sent.path.clone()]),
            "authority" => Some(vec![sent.authority.clone()]),
            "body" => Some(vec![sent.body.clone()]),
            _ => {
                let name = key.strip_prefix("header.")?;
                (!added_by_engine(name)).then(|| lines(&sent.headers, name))
            }
        }),
        ..Observation::default()
    }
}

pub(super) fn backend_headers(name: &str, settings: &BackendSettings) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let mut insert = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    };
    insert("x-backend", name);
    for (name, value) in &settings.headers {
        insert(name, value);
    }
    headers
}

/// Headers that only the engine knows of.
fn added_by_engine(name: &str) -> bool {
    const ENGINE: &[&str] = &[
        "host",
        "server",
        "date",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "x-request-id",
        "proxy-connection",
        "proxy-authorization",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "expect",
    ];
    ENGINE.contains(&name) || name.starts_with("x-envoy-") || name.starts_with("x-forwarded-")
}

fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

pub(super) fn own_answer<'a>(status: u16, rule: &str, body: &str) -> Observation<'a> {
    let body = body.to_owned();
    Observation {
        status: Some(status),
        backend: Some("none".to_owned()),
        rule: Some(rule.to_owned()),
        reply: Box::new(move |key| match key {
            "body" => Some(vec![body.clone()]),
            _ => None,
        }),
        ..Observation::default()
    }
}

pub(super) fn redirect<'a>(status: u16, rule: &str, location: String) -> Observation<'a> {
    let mut seen = own_answer(status, rule, "");
    seen.reply = Box::new(move |key| match key {
        "header.location" => Some(vec![location.clone()]),
        "body" => Some(vec![String::new()]),
        _ => None,
    });
    seen
}
