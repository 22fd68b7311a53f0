//! What clients learn about the gateway: `server`, `date`, the upstream's time.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{DATE, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::forwarded::number;

static X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// What clients take this proxy for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerName {
    /// At the edge, and before a workload.
    IstioEnvoy,
    /// Behind a workload that is a client.
    Envoy,
}

impl ServerName {
    fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            ServerName::IstioEnvoy => "istio-envoy",
            ServerName::Envoy => "envoy",
        })
    }
}

/// The headers of an upstream's answer as the client gets them (after [`super::hop_by_hop::clean_response`]).
/// `service_time`: from the request's start upstream to the answer's head; none for upgrades.
pub fn finish_response(headers: &mut HeaderMap, name: ServerName, now: SystemTime, service_time: Option<Duration>) {
    if headers.keys().any(is_metadata) {
        headers.remove("x-envoy-peer-metadata");
        headers.remove("x-envoy-peer-metadata-id");
    }
    headers.insert(SERVER, name.value());
    if !headers.contains_key(DATE) {
        headers.insert(DATE, date(now));
    }
    if let Some(time) = service_time {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        headers.insert(&X_ENVOY_UPSTREAM_SERVICE_TIME, number(milliseconds));
    }
}

/// `date` and `server` of an answer of our own.
pub fn finish_local_reply(headers: &mut HeaderMap, name: ServerName, now: SystemTime) {
    headers.insert(DATE, date(now));
    headers.insert(SERVER, name.value());
}

fn is_metadata(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-envoy-peer-metadata")
}

thread_local! {
    /// The value of `date`, and the second that it is for.
    static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((u64::MAX, HeaderValue::from_static(""))) };
}

/// Made once per second and worker.
fn date(now: SystemTime) -> HeaderValue {
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second {
            // `fmt_http_date` panics on times before 1970 and after 9999.
            let time = UNIX_EPOCH + Duration::from_secs(second.min(253_402_300_799));
            *value = HeaderValue::try_from(httpdate::fmt_http_date(time)).unwrap_or(HeaderValue::from_static(""));
            *last = second;
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::hop_by_hop::tests::{lines, map};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn answers_of_upstreams() {
        let mut headers = map(&[
            ("server", "nginx"),
            ("server", "x"),
            ("x-envoy-upstream-service-time", "99"),
            ("x-envoy-peer-metadata", "a"),
            ("x-envoy-peer-metadata-id", "b"),
            ("x-envoy-other", "c"),
        ]);
        finish_response(&mut headers, ServerName::IstioEnvoy, at(784_111_777), Some(Duration::from_micros(1999)));
        assert_eq!(
            lines(&headers),
            [
                "date: Sun, 06 Nov 1994 08:49:37 GMT",
                "server: istio-envoy",
                "x-envoy-other: c",
                "x-envoy-upstream-service-time: 1",
            ]
        );
        let mut headers = map(&[("date", "Thu, 01 Jan 1970 00:00:00 GMT")]);
        finish_response(&mut headers, ServerName::IstioEnvoy, at(784_111_778), None);
        assert_eq!(lines(&headers), ["date: Thu, 01 Jan 1970 00:00:00 GMT", "server: istio-envoy"]);
        finish_response(&mut headers, ServerName::IstioEnvoy, at(784_111_778), Some(Duration::from_millis(1234)));
        assert_eq!(headers["x-envoy-upstream-service-time"], "1234");
    }

    #[test]
    fn answers_of_our_own() {
        let mut headers = HeaderMap::new();
        finish_local_reply(&mut headers, ServerName::IstioEnvoy, at(784_111_778));
        assert_eq!(lines(&headers), ["date: Sun, 06 Nov 1994 08:49:38 GMT", "server: istio-envoy"]);
        finish_local_reply(&mut headers, ServerName::IstioEnvoy, at(784_111_779));
        assert_eq!(headers[DATE], "Sun, 06 Nov 1994 08:49:39 GMT");
        finish_local_reply(&mut headers, ServerName::IstioEnvoy, at(u64::from(u32::MAX) * 1000));
        finish_local_reply(&mut headers, ServerName::IstioEnvoy, UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(headers[DATE], "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
