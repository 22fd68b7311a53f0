//! gRPC over HTTP as far as a proxy must know it: content type, status, timeout.

use std::time::Duration;

use http::HeaderMap;

/// `application/grpc` or `application/grpc+…`, not `application/grpc-web`.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else { return false };
    match value.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+')),
        None => false,
    }
}

/// The gRPC status of a local reply, as Envoy maps it.
#[must_use]
pub fn from_http(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// What the status of a call means as one of HTTP, for those who count errors (Envoy's table).
#[must_use]
pub fn to_http(status: u16) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// `300m`, `5S`; none if it is not a valid `grpc-timeout`.
#[must_use]
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut number = 0u64;
    for digit in digits {
        number = number * 10 + u64::from(char::from(*digit).to_digit(10)?);
    }
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// As Envoy writes it: milliseconds while they fit in eight digits. At least `1m`: zero would mean no time at all.
#[must_use]
pub fn format_timeout(timeout: Duration) -> String {
    const LIMIT: u128 = 99_999_999;
    let milliseconds = timeout.as_millis().max(1);
    if milliseconds <= LIMIT {
        return format!("{milliseconds}m");
    }
    let seconds = u128::from(timeout.as_secs());
    if seconds <= LIMIT { format!("{seconds}S") } else { format!("{}H", (seconds / 3600).min(LIMIT)) }
}

/// A text as `grpc-message` has it: what is not printable ASCII, and `%`, percent-encoded (the gRPC protocol, "Responses").
#[must_use]
pub fn encode_message(text: &[u8]) -> Vec<u8> {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'%' | ..b' ' | 0x7f.. => out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]),
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::hop_by_hop::tests::map;

    #[test]
    fn content_types() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc+json; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(&map(&[("content-type", value)])), expected, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    /// Envoy's mapping.
    #[test]
    fn statuses() {
        for (http, grpc) in [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14)] {
            assert_eq!(from_http(http), grpc);
        }
        for http in [201, 302, 405, 408, 409, 412, 413, 431, 499, 500, 501, 511, 555] {
            assert_eq!(from_http(http), 2);
        }
    }

    #[test]
    fn messages() {
        assert_eq!(encode_message(b"no healthy upstream"), b"no healthy upstream");
        assert_eq!(encode_message("100 % \u{e4}\n".as_bytes()), b"100 %25 %C3%A4%0A");
    }

    #[test]
    fn timeouts() {
        for (text, expected) in [
            ("300m", Some(Duration::from_millis(300))),
            ("5S", Some(Duration::from_secs(5))),
            ("2M", Some(Duration::from_secs(120))),
            ("1H", Some(Duration::from_secs(3600))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("0m", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000m", None),
            ("m", None),
            ("", None),
            ("5", None),
            ("5s", None),
            ("-1S", None),
            ("1.5S", None),
            (" 1S", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), expected, "{text}");
        }
        for (seconds, text) in [(1, "1000m"), (99_999, "99999000m"), (100_000, "100000S"), (1_000_000_000, "277777H")] {
            assert_eq!(format_timeout(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format_timeout(Duration::from_nanos(1)), "1m");
    }
}
