//! Headers that a service hands on from the request it answers to the requests it makes for it: without them traces
//! fall apart, and rules on `end-user` deeper in the mesh see nothing.

use http::HeaderMap;

const FORWARDED: &[&str] = &[
    // Whoever records traces.
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "grpc-trace-bin",
    "x-cloud-trace-context",
    "sw8",
    // Whoever decides by the user.
    "end-user",
    "user-agent",
    "authorization",
    "cookie",
    "jwt",
];

/// The headers of `incoming` that travel along, repeats included.
pub fn forwarded(incoming: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for &name in FORWARDED {
        for value in incoming.get_all(name) {
            out.append(http::HeaderName::from_static(name), value.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_on_trace_and_user_and_nothing_else() {
        let mut incoming = HeaderMap::new();
        incoming.append("x-request-id", "r".parse().unwrap());
        incoming.append("end-user", "jason".parse().unwrap());
        incoming.append("tracestate", "a=1".parse().unwrap());
        incoming.append("tracestate", "b=2".parse().unwrap());
        incoming.append("accept", "text/html".parse().unwrap());
        let out = forwarded(&incoming);
        assert_eq!(out.len(), 4);
        assert_eq!(out.get_all("tracestate").iter().count(), 2);
        assert!(out.get("accept").is_none());
    }
}
