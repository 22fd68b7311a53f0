//! Authorizers that are asked by `envoy.service.auth.v3.Authorization/Check` (`envoyExtAuthzGrpc`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mesh_core::model::BodyInCheck;
use prost::Message as _;

use super::super::exchange::{Exchange, Protocol, RequestHead};
use super::super::failure::Refusal;
use super::super::message::BodySize;
use super::collector::Answer;
use super::messages::{
    Address, AttributeContext, CheckRequest, CheckResponse, HeaderValueOption, HttpRequest, Peer, Request,
    SocketAddress, Timestamp, TlsSession,
};
use super::{Changes, Mode, NoVerdict, PARTIAL_BODY, Unanswered, Verdict, is_framing};

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Flags and length before a message.
const PREFIX: usize = 5;

pub(super) fn question(
    exchange: &Exchange,
    authorizer: &str,
    body: Option<BodyInCheck>,
    shown: Bytes,
    whole: bool,
) -> (RequestHead, Bytes) {
    let message = CheckRequest { attributes: Some(attributes(exchange, body, shown, whole)) }.encode_to_vec();
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let head = RequestHead {
        method: Method::POST,
        protocol: Protocol::Http2,
        target: METHOD.to_owned(),
        // Not the client's: what it wrote is in the question.
        authority: authorizer.to_owned(),
        scheme: None,
        headers,
        body: BodySize::Known(framed.len() as u64),
    };
    (head, framed.freeze())
}

fn attributes(exchange: &Exchange, body: Option<BodyInCheck>, shown: Bytes, whole: bool) -> AttributeContext {
    let info = &exchange.peer.info;
    let since = exchange.start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    };
    let peer = info.tls.as_ref().and_then(|tls| tls.peer.as_deref());
    let principal = peer.and_then(|peer| peer.uri()).unwrap_or_default().to_owned();
    let sni = info.tls.as_ref().and_then(|tls| tls.sni.clone());
    let tls_session = sni.map(|sni| TlsSession { sni: sni.to_string() });
    AttributeContext {
        source: Some(Peer { address: Some(address(info.client)), principal }),
        destination: Some(Peer { address: Some(address(info.local)), principal: String::new() }),
        request: Some(Request { time: Some(time), http: Some(request(exchange, body, shown, whole)) }),
        tls_session,
    }
}

fn address(address: SocketAddr) -> Address {
    let socket = SocketAddress { address: address.ip().to_string(), port_value: u32::from(address.port()) };
    Address { socket_address: Some(socket) }
}

fn request(exchange: &Exchange, body: Option<BodyInCheck>, shown: Bytes, whole: bool) -> HttpRequest {
    let head = &exchange.head;
    let mut headers: HashMap<String, String> = HashMap::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = headers.entry(name.as_str().to_owned()).or_default();
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(&value);
    }
    let method = head.method.as_str();
    let pseudo =
        [(":method", method), (":path", &head.target), (":authority", &head.authority), (":scheme", exchange.scheme())];
    headers.extend(pseudo.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if body.is_some() {
        headers.insert(PARTIAL_BODY.as_str().to_owned(), (!whole).to_string());
    }
    let size = match head.body {
        BodySize::Empty => 0,
        BodySize::Known(size) => i64::try_from(size).unwrap_or(i64::MAX),
        BodySize::Unknown => -1,
    };
    let as_bytes = body.is_some_and(|body| body.bytes);
    let text = if as_bytes { String::new() } else { String::from_utf8_lossy(&shown).into_owned() };
    HttpRequest {
        id: headers.get("x-request-id").cloned().unwrap_or_default(),
        method: method.to_owned(),
        headers,
        path: head.target.clone(),
        host: head.authority.clone(),
        scheme: exchange.scheme().to_owned(),
        size,
        protocol: head.protocol.as_str().to_owned(),
        body: text,
        raw_body: if as_bytes { shown } else { Bytes::new() },
    }
}

pub(super) fn verdict(answer: &Answer) -> Result<Verdict, NoVerdict> {
    let status = answer.trailers.get("grpc-status").or_else(|| answer.headers.get("grpc-status"));
    if answer.status != StatusCode::OK || status.is_none_or(|status| status.as_bytes() != b"0") {
        return Err(Unanswered);
    }
    // Compressed messages were not asked for.
    let Some((&[0, a, b, c, d], message)) = answer.body.split_first_chunk::<PREFIX>() else { return Err(Unanswered) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let message = message.get(..length).ok_or(Unanswered)?;
    let response = CheckResponse::decode(message).map_err(|_| Unanswered)?;
    let code = response.status.map_or(0, |status| status.code);
    if code == 0 {
        let ok = response.ok_response.unwrap_or_default();
        let added = ok.response_headers_to_add.iter().filter_map(header).map(|(name, value, _)| (name, value));
        let removed = ok.headers_to_remove.iter().filter_map(|name| HeaderName::try_from(name).ok());
        return Ok(Verdict::Allowed(Changes {
            remove: removed.filter(|name| !is_framing(name)).collect(),
            request: ok.headers.iter().filter_map(header).collect(),
            response: added.collect(),
        }));
    }
    let denied = response.denied_response.unwrap_or_default();
    let status = denied.status.map_or(0, |status| status.code);
    let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status)).unwrap_or(403);
    let mut headers = HeaderMap::new();
    for (name, value, _) in denied.headers.iter().filter_map(header) {
        headers.append(name, value);
    }
    Ok(Verdict::Refused(Refusal { status, headers, body: denied.body.into() }))
}

/// None: it cannot be a header, or would make another message of this one.
fn header(option: &HeaderValueOption) -> Option<(HeaderName, HeaderValue, Mode)> {
    let header = option.header.as_ref()?;
    let name = HeaderName::try_from(&header.key).ok().filter(|name| !is_framing(name))?;
    let value = if header.raw_value.is_empty() {
        HeaderValue::try_from(&header.value)
    } else {
        HeaderValue::from_maybe_shared(header.raw_value.clone())
    };
    let mode = match (option.append.as_ref(), option.append_action) {
        (Some(append), _) if append.value => Mode::Append,
        (_, 1) => Mode::AddIfAbsent,
        (_, 3) => Mode::OverwriteIfExists,
        // Without a word of it, an authorizer's headers replace the client's.
        _ => Mode::Overwrite,
    };
    Some((name, value.ok()?, mode))
}
