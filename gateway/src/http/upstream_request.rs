//! The request as an upstream gets it, in either protocol.

use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use http::{Method, Request, Uri, Version};

use super::exchange::Exchange;
use super::h1::BodyFraming;
use super::h1_stream::H1Upstream;
use super::message::BodySize;
use mesh_core::snapshot::path;

pub(super) fn authority(exchange: &Exchange) -> &str {
    exchange.outcome.upstream_authority.as_deref().unwrap_or(&exchange.head.authority)
}

fn target(exchange: &Exchange) -> &str {
    exchange.outcome.upstream_target.as_deref().unwrap_or(&exchange.head.target)
}

pub(super) fn send_h1(exchange: &Exchange, upstream: &mut H1Upstream<'_>) {
    let head = &exchange.head;
    upstream.send_head(&head.method, target(exchange), &head.headers, framing(exchange), exchange.websocket.clone());
}

/// A length that the client's own `connection` header removed leaves a body of unknown length.
fn framing(exchange: &Exchange) -> BodyFraming {
    match exchange.head.body {
        BodySize::Empty if expects_length(&exchange.head.method) => BodyFraming::Length(0),
        BodySize::Empty => BodyFraming::None,
        BodySize::Known(length) if exchange.head.headers.contains_key(CONTENT_LENGTH) => BodyFraming::Length(length),
        BodySize::Known(_) | BodySize::Unknown => BodyFraming::Chunked,
    }
}

/// RFC 9110 section 8.6: a request without content should say so if its method anticipates content.
fn expects_length(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT)
}

/// None if authority or target cannot be said in HTTP/2; never another one in their place.
pub(super) fn h2(exchange: &Exchange) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = exchange.head.method.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = exchange.head.headers.clone();
    // RFC 9113 section 8.3.1: `:authority` says it.
    request.headers_mut().remove(HOST);
    *request.uri_mut() = uri(authority(exchange), target(exchange))?;
    Some(request)
}

/// Clear text to the upstream, so the scheme is http.
fn uri(authority: &str, target: &str) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(UriScheme::HTTP);
    parts.authority = Some(Authority::try_from(authority).ok()?);
    let path_and_query =
        PathAndQuery::try_from(target).or_else(|_| PathAndQuery::try_from(path::encode_for_uri(target)));
    parts.path_and_query = Some(path_and_query.ok()?);
    Uri::from_parts(parts).ok()
}
