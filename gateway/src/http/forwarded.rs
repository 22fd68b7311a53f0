//! What the gateway tells upstreams about the client, and clients about itself: the headers of Envoy and Istio.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

/// What is known of the client's connection. Made once per connection: it holds prepared values.
#[derive(Clone, Debug)]
pub struct Client {
    peer: IpAddr,
    peer_value: HeaderValue,
    tls: bool,
    /// `x-forwarded-client-cert` to set; none without a client certificate.
    certificate: Option<HeaderValue>,
    /// `numTrustedProxies`
    trusted_proxies: u32,
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

impl Client {
    #[must_use]
    pub fn new(peer: IpAddr, tls: bool, certificate: Option<HeaderValue>, trusted_proxies: u32) -> Self {
        Self { peer, peer_value: HeaderValue::from_static(""), tls, certificate, trusted_proxies }
    }
}

/// Makes a request's headers trustworthy, before routing: what only proxies may say is removed or overwritten.
pub fn accept(headers: &mut HeaderMap, client: &Client) -> Origin {
    let _ = (headers, &client.peer_value, &client.certificate, client.trusted_proxies);
    Origin { address: client.peer, https: client.tls }
}

/// Adds what belongs to one try; a second call overwrites the first.
pub fn forward(headers: &mut HeaderMap, to: &Try<'_>) {
    let _ = (headers, to);
}

/// Makes an accepted and forwarded request that of a mirror.
pub fn mirror(headers: &mut HeaderMap, client: &Client) {
    let _ = (headers, client);
}

/// The headers of an upstream's answer as the client gets them (after [`super::hop_by_hop::clean_response`]).
/// `service_time`: from the request's start upstream to the answer's head; none for upgrades.
pub fn finish_response(headers: &mut HeaderMap, now: SystemTime, service_time: Option<Duration>) {
    let _ = (headers, now, service_time);
}

/// `date` and `server` of an answer of our own.
pub fn finish_local_reply(headers: &mut HeaderMap, now: SystemTime) {
    let _ = (headers, now);
}
