//! What the gateway tells upstreams about the client, and clients about itself: the headers of Envoy and Istio
//! (as Envoy does at an Istio gateway, and at both ends of a connection in the mesh). At the edge, what only proxies may say is
//! never taken from a client; a sidecar leaves what it finds, for there was an edge before it.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::client_cert::{CertificateHeader, X_FORWARDED_CLIENT_CERT, append_forward};
use crate::tls::peer_verify::Identity;

pub use super::response_headers::{ServerName, finish_local_reply, finish_response};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
static X_ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
static X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
static X_ENVOY_EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
static X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
static X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

/// What is known of the client's connection. Made once per connection: it holds prepared values.
#[derive(Clone, Debug)]
pub struct Client {
    peer: IpAddr,
    peer_value: HeaderValue,
    tls: bool,
    /// What becomes of `x-forwarded-client-cert`.
    certificate: CertificateHeader,
    /// `numTrustedProxies`
    trusted_proxies: u32,
}

impl Client {
    /// `peer` is the other end of the connection, or who a PROXY header says it is.
    #[must_use]
    pub fn new(peer: IpAddr, tls: bool, certificate: CertificateHeader, trusted_proxies: u32) -> Self {
        // An IPv4 client of a socket for both families.
        let peer = peer.to_canonical();
        Self { peer, peer_value: address_value(peer), tls, certificate, trusted_proxies }
    }
}

/// What the headers say of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address as far as it can be trusted.
    pub address: IpAddr,
    /// The client speaks https (to us, or to a trusted proxy).
    pub https: bool,
}

/// What is told to the upstream about one try.
#[derive(Clone, Copy, Debug, Default)]
pub struct Try<'a> {
    /// From 1.
    pub attempt: u32,
    /// The timeout that applies.
    pub timeout: Option<Duration>,
    /// Path and query before the rewrite, if there was one.
    pub original_path: Option<&'a str>,
    /// Authority before the rewrite, if there was one.
    pub original_host: Option<&'a str>,
}

/// Makes a request's headers trustworthy, before routing: what only proxies may say is removed or overwritten.
pub fn accept(headers: &mut HeaderMap, client: &Client) -> Origin {
    let found = Found::look(headers);
    for name in &found.forbidden {
        headers.remove(name);
    }
    let address = match client.trusted_proxies {
        0 => client.peer,
        // Read before our own entry is appended.
        count => entry_from_right(headers, count).unwrap_or(client.peer),
    };
    if found.forwarded_for {
        append_peer(headers, client);
    } else {
        headers.insert(&X_FORWARDED_FOR, client.peer_value.clone());
    }
    let https = forwarded_proto(headers, client);
    client.certificate.apply(headers, found.client_certificate);
    let external = if address == client.peer { client.peer_value.clone() } else { address_value(address) };
    headers.insert(&X_ENVOY_EXTERNAL_ADDRESS, external);
    headers.insert(&X_REQUEST_ID, request_id(found.client_trace));
    Origin { address, https }
}

/// The same for a request that a workload sends: its own words stay as they are.
pub fn accept_outbound(headers: &mut HeaderMap, client: &Client) -> Origin {
    headers.remove(&X_FORWARDED_CLIENT_CERT);
    let https = complete(headers, client);
    Origin { address: client.peer, https }
}

/// The same for a request that arrives at a workload. `own`: the URI of this workload.
pub fn accept_inbound(headers: &mut HeaderMap, client: &Client, own: &str, peer: Option<&Identity>) -> Origin {
    append_forward(headers, own, peer);
    let address = entry_from_right(headers, 1).unwrap_or(client.peer);
    let https = complete(headers, client);
    Origin { address, https }
}

/// Says what nobody has said yet. Whether the client speaks https, as far as was said.
fn complete(headers: &mut HeaderMap, client: &Client) -> bool {
    if !headers.contains_key(&X_REQUEST_ID) {
        headers.insert(&X_REQUEST_ID, request_id(false));
    }
    match headers.get(&X_FORWARDED_PROTO) {
        Some(said) => said.as_bytes().eq_ignore_ascii_case(b"https"),
        None => {
            let proto = if client.tls { "https" } else { "http" };
            headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(proto));
            client.tls
        }
    }
}

/// Adds what belongs to one try; a second call overwrites the first.
pub fn forward(headers: &mut HeaderMap, to: &Try<'_>) {
    headers.insert(&X_ENVOY_ATTEMPT_COUNT, number(u64::from(to.attempt)));
    if let Some(timeout) = to.timeout {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        headers.insert(&X_ENVOY_EXPECTED_TIMEOUT, number(milliseconds));
    }
    for (name, original) in [(&X_ENVOY_ORIGINAL_PATH, to.original_path), (&X_ENVOY_ORIGINAL_HOST, to.original_host)] {
        if let Some(value) = original.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok()) {
            headers.insert(name, value);
        }
    }
}

/// A copy has come one proxy further (Envoy: the address is there twice) and is known as made by a proxy.
pub fn mirrored(headers: &mut HeaderMap, client: &Client) {
    append_peer(headers, client);
    headers.insert(&X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
}

/// What a request has of the headers that concern us.
#[derive(Default)]
struct Found {
    forwarded_for: bool,
    client_trace: bool,
    client_certificate: bool,
    /// To be removed.
    forbidden: Vec<HeaderName>,
}

impl Found {
    fn look(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            let Some(rest) = name.as_str().strip_prefix("x-") else { continue };
            match rest {
                "forwarded-for" => found.forwarded_for = true,
                "client-trace-id" => found.client_trace = true,
                "forwarded-client-cert" => found.client_certificate = true,
                _ if rest.strip_prefix("envoy-").is_some_and(is_forbidden) => found.forbidden.push(name.clone()),
                _ => {}
            }
        }
        found
    }
}

/// `x-envoy-…` that a client outside may not say: Envoy's list, and the metadata that its Istio filters exchange.
fn is_forbidden(name: &str) -> bool {
    matches!(
        name,
        "internal"
            | "original-path"
            | "original-host"
            | "original-url"
            | "upstream-rq-timeout-ms"
            | "upstream-rq-per-try-timeout-ms"
            | "upstream-stream-duration-ms"
            | "upstream-alt-stat-name"
            | "expected-rq-timeout-ms"
            | "max-retries"
            | "retry-on"
            | "retry-grpc-on"
            | "retriable-status-codes"
            | "retriable-header-names"
            | "hedge-on-per-try-timeout"
            | "is-timeout-retry"
            | "ip-tags"
            | "decorator-operation"
            | "downstream-service-cluster"
            | "downstream-service-node"
            | "force-trace"
            | "attempt-count"
            | "peer-metadata"
            | "peer-metadata-id"
    )
}

fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// The client's entries and then the peer, joined with `,`.
fn append_peer(headers: &mut HeaderMap, client: &Client) {
    let mut list = Vec::with_capacity(64);
    for value in headers.get_all(&X_FORWARDED_FOR) {
        list.extend_from_slice(value.as_bytes());
        list.push(b',');
    }
    list.extend_from_slice(client.peer_value.as_bytes());
    let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(list));
    headers.insert(&X_FORWARDED_FOR, value.unwrap_or_else(|_| client.peer_value.clone()));
}

/// The address that the `count`th trusted proxy from here saw: entries further left are the client's word.
fn entry_from_right(headers: &HeaderMap, count: u32) -> Option<IpAddr> {
    let skip = usize::try_from(count).ok()?.checked_sub(1)?;
    let values = headers.get_all(&X_FORWARDED_FOR).iter().rev();
    let mut entries = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let entry = std::str::from_utf8(entries.nth(skip)?.trim_ascii()).ok()?;
    entry.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Sets `x-forwarded-proto` unless a trusted proxy did. Whether it says https.
fn forwarded_proto(headers: &mut HeaderMap, client: &Client) -> bool {
    if client.trusted_proxies > 0 {
        let mut values = headers.get_all(&X_FORWARDED_PROTO).iter();
        if let (Some(value), None) = (values.next(), values.next()) {
            if value.as_bytes().eq_ignore_ascii_case(b"https") {
                return true;
            }
            if value.as_bytes().eq_ignore_ascii_case(b"http") {
                return false;
            }
        }
    }
    headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(if client.tls { "https" } else { "http" }));
    client.tls
}

/// A fresh UUIDv4. Envoy hides in the variant digit why a request is traced: `b` where the client asked for it.
fn request_id(client_trace: bool) -> HeaderValue {
    let mut text = [0; Hyphenated::LENGTH];
    Uuid::new_v4().hyphenated().encode_lower(&mut text);
    if client_trace && let Some(digit) = text.get_mut(14) {
        *digit = b'b';
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Small numbers are most of them and cost nothing.
pub(super) fn number(number: u64) -> HeaderValue {
    const SMALL: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];
    match usize::try_from(number).ok().and_then(|index| SMALL.get(index)) {
        Some(text) => HeaderValue::from_static(text),
        None => HeaderValue::from(number),
    }
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
