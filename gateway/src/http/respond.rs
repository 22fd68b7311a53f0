//! Answers that the gateway makes itself: redirects, direct responses, and failures in the words of Envoy.

use std::future::poll_fn;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mesh_core::model::{AbortStatus, DirectResponse};
use mesh_core::snapshot::CompiledHeaderOps;
use tokio::time::timeout;

use super::engine::{After, Engine};
use super::exchange::Exchange;
use super::failure::Failure;
use super::h1::Frame;
use super::message::{BodySize, Downstream, DownstreamError};
use super::{forwarded, grpc_status};

const X_ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const TEXT_PLAIN: HeaderValue = HeaderValue::from_static("text/plain");

impl Engine {
    /// Answers a failure. `ops`: the response operations of what matched so far.
    pub(super) async fn fail<D: Downstream>(
        &self,
        failure: &Failure,
        ops: Option<&CompiledHeaderOps>,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> After {
        let reply = failure.reply(exchange.outcome.attempts);
        exchange.note(&reply);
        if matches!(failure, Failure::ClientGone | Failure::TooOpen) {
            return After::Abort;
        }
        if let Failure::Aborted(AbortStatus::Grpc(code)) = failure {
            exchange.outcome.grpc_status = Some(*code);
        }
        let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let close = matches!(failure, Failure::UpgradeRefused | Failure::BadBody { .. } | Failure::Stalled)
            || matches!(failure, Failure::BadRequest { status: 400, .. });
        let mut headers = HeaderMap::with_capacity(8);
        if matches!(failure, Failure::BadToken { .. })
            && let Some(challenge) = challenge(exchange)
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Failure::RateLimited(limited) = failure {
            headers.insert(RETRY_AFTER, HeaderValue::from(limited.retry_after));
        }
        if matches!(failure, Failure::Overflow | Failure::Overload) {
            headers.insert(X_ENVOY_OVERLOADED, HeaderValue::from_static("true"));
        }
        let body = match failure {
            Failure::Refused(refusal) => {
                headers.extend(refusal.headers.clone());
                refusal.body.to_vec()
            }
            _ => reply.body.into_owned().into_bytes(),
        };
        self.send_reply(status, body, headers, ops, close, exchange, client).await
    }

    /// A direct response (VirtualService `directResponse`).
    pub(super) async fn respond<D: Downstream>(
        &self,
        response: &DirectResponse,
        ops: &CompiledHeaderOps,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> After {
        let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Envoy gives 201 and 3xx a Location of the request itself.
        let location = (status == StatusCode::CREATED || status.is_redirection())
            .then(|| {
                let request = format!("{}://{}{}", exchange.scheme(), exchange.head.authority, exchange.head.target);
                HeaderValue::from_str(&request).ok()
            })
            .flatten();
        let body = response.body.as_deref().unwrap_or_default();
        self.answer(status, body, location, Some(ops), exchange, client).await
    }

    /// An answer that the user asked for.
    pub(super) async fn answer<D: Downstream>(
        &self,
        status: StatusCode,
        body: &[u8],
        location: Option<HeaderValue>,
        ops: Option<&CompiledHeaderOps>,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> After {
        exchange.outcome.status = status.as_u16();
        exchange.outcome.details = std::borrow::Cow::Borrowed("direct_response");
        let mut headers = HeaderMap::with_capacity(8);
        if let Some(location) = location {
            headers.insert(LOCATION, location);
        }
        self.send_reply(status, body.to_vec(), headers, ops, false, exchange, client).await
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) async fn send_reply<D: Downstream>(
        &self,
        mut status: StatusCode,
        mut body: Vec<u8>,
        mut headers: HeaderMap,
        ops: Option<&CompiledHeaderOps>,
        close: bool,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> After {
        if exchange.grpc {
            status = as_grpc(status, &mut body, &mut headers, exchange);
        } else if !body.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(TEXT_PLAIN);
        }
        let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        if !bodiless {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if let Some(ops) = ops {
            let _ = ops.response.apply(&mut headers, exchange);
        }
        exchange.add_to(&mut headers);
        forwarded::finish_local_reply(&mut headers, exchange.peer.server_name(), std::time::SystemTime::now());
        self.answer_metadata(exchange, &mut headers);
        let silent = bodiless || exchange.head.method == Method::HEAD || body.is_empty();
        let size = match (silent, bodiless || exchange.head.method == Method::HEAD) {
            (_, true) => BodySize::Empty,
            (true, false) => BodySize::Known(0),
            (false, false) => BodySize::Known(body.len() as u64),
        };
        // A body that nobody reads cannot stay on the connection.
        let close = close || !client.is_done();
        if client.send_head(status, headers, size, close).is_err() {
            return After::Abort;
        }
        if !silent {
            exchange.outcome.bytes_sent = body.len() as u64;
        }
        let body = (!silent).then(|| Bytes::from(body));
        match timeout(self.settings.stall_timeout, send_body(body, client)).await {
            Ok(Ok(())) if close => After::Close,
            Ok(Ok(())) => After::Continue,
            Ok(Err(_)) => After::Abort,
            Err(_) => {
                exchange.outcome.flags |= Failure::Stalled.reply(1).flags;
                After::Abort
            }
        }
    }
}

async fn send_body<D: Downstream>(body: Option<Bytes>, client: &mut D) -> Result<(), DownstreamError> {
    if let Some(body) = body {
        poll_fn(|cx| client.poll_ready(cx)).await?;
        client.send(Frame::Data(body), true)?;
    }
    poll_fn(|cx| client.poll_flush(cx)).await
}

/// What a token is needed for (RFC 6750 section 3).
fn challenge(exchange: &Exchange) -> Option<HeaderValue> {
    let head = &exchange.head;
    let realm = format!("{}://{}{}", exchange.scheme(), head.authority, head.target).replace('"', "%22");
    HeaderValue::from_str(&format!("Bearer realm=\"{realm}\", error=\"invalid_token\"")).ok()
}

/// A gRPC client gets 200 and the status in `grpc-status`, the text in `grpc-message`.
fn as_grpc(status: StatusCode, body: &mut Vec<u8>, headers: &mut HeaderMap, exchange: &mut Exchange) -> StatusCode {
    let code = exchange.outcome.grpc_status.unwrap_or_else(|| grpc_status::from_http(status.as_u16()));
    exchange.outcome.grpc_status = Some(code);
    exchange.outcome.status = 200;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_bytes(&grpc_status::encode_message(body))
        && !body.is_empty()
    {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    body.clear();
    StatusCode::OK
}
