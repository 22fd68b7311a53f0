//! By what a request is known to a destination that hashes (`consistentHash`), and the cookie that a client gets which has none.

use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use mesh_core::lb::{hash_address, hash_key};
use mesh_core::model::{Balancing, HashCookie, HashKey};
use mesh_core::snapshot::FormatContext;

use super::cookie;
use super::exchange::Exchange;

/// Hash of the request's key; none where it has none, or the destination does not hash.
pub(super) fn key(balancing: &Balancing, exchange: &Exchange) -> Option<u64> {
    let key = balancing.key()?;
    match key {
        HashKey::Header(name) => header(exchange, name),
        HashKey::Query(name) => exchange.request().query_value(name).map(|value| hash_key(value.as_bytes())),
        HashKey::Cookie(own) => {
            let value = cookie::value(&exchange.head.headers, &own.name).filter(|value| !value.is_empty());
            value.map(|value| hash_key(value.as_bytes()))
        }
        HashKey::SourceIp => Some(hash_address(exchange.remote)),
    }
}

/// The same; a client without the cookie gets one, if there is one to be given.
pub(super) fn key_or_cookie(balancing: &Balancing, exchange: &mut Exchange) -> Option<u64> {
    let found = key(balancing, exchange);
    if let (None, Some(HashKey::Cookie(own))) = (found, balancing.key())
        && let Some(ttl) = own.ttl
    {
        let value = format!("{:016x}", fastrand::u64(..));
        exchange.affinity = set_cookie(own, &value, ttl);
        return Some(hash_key(value.as_bytes()));
    }
    found
}

/// Goes with the answer of the endpoint that the cookie leads to.
pub(super) fn give_cookie(exchange: &mut Exchange, headers: &mut HeaderMap) {
    if let Some(cookie) = exchange.affinity.take() {
        headers.append(SET_COOKIE, cookie);
    }
}

/// In Envoy's form: `user="1f…"; Max-Age=60; Path=/; HttpOnly`.
fn set_cookie(own: &HashCookie, value: &str, ttl: Duration) -> Option<HeaderValue> {
    let max_age = if ttl.is_zero() { String::new() } else { format!("; Max-Age={}", ttl.as_secs()) };
    HeaderValue::try_from(format!("{}=\"{value}\"{max_age}{}", own.name, own.attributes)).ok()
}

fn header(exchange: &Exchange, name: &str) -> Option<u64> {
    if name.starts_with(':') || name == "host" {
        return exchange.request_header(name).map(|value| hash_key(value.as_bytes()));
    }
    let lines = exchange.head.headers.get_all(name).iter();
    lines.map(|line| hash_key(line.as_bytes())).reduce(u64::wrapping_add)
}
