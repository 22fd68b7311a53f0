//! An HTTP/2 connection of a client: Pingora's handshake over our stream, then one task per stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Request};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options, handshake};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::engine::{After, Engine};
use super::exchange::{Exchange, Peer, Protocol, Recorded, RequestHead, Scheme};
use super::failure::Failure;
use super::h2_stream::H2Downstream;
use super::message::{BodySize, Downstream};
use crate::listen::{ConnectionInfo, put_off_flushes};

/// Fields of a head, pseudo fields and cookie crumbs counted as Envoy does, crumbs as one.
const MAX_FIELDS: usize = 100;

impl Engine {
    fn h2_options(&self) -> H2Options {
        let mut options = default_h2_options();
        options
            .max_header_list_size(self.settings.h2_max_header_list)
            .max_concurrent_streams(self.settings.h2_max_streams)
            .initial_window_size(self.settings.h2_stream_window)
            .initial_connection_window_size(self.settings.h2_connection_window)
            .max_send_buffer_size(64 * 1024);
        options
    }

    pub(super) async fn serve_h2(
        self: Arc<Self>,
        stream: Stream,
        info: Arc<ConnectionInfo>,
        mut drain: watch::Receiver<bool>,
    ) {
        let peer = self.peer(&info);
        let handshake = handshake(stream, Some(self.h2_options()));
        let Ok(Ok(mut connection)) = tokio::time::timeout(self.settings.head_timeout, handshake).await else { return };
        let running = Arc::new(AtomicU32::new(0));
        let mut draining = *drain.borrow_and_update();
        if draining {
            connection.graceful_shutdown();
        }
        let idle = sleep_until(Instant::now() + self.settings.idle_timeout);
        tokio::pin!(idle);
        // Streams of this idle time: a connection that is used now and then goes only when it was not used for one.
        let mut used = false;
        loop {
            let accepted = tokio::select! {
                biased;
                changed = drain.changed(), if !draining => {
                    draining = true;
                    if changed.is_ok() || *drain.borrow() {
                        connection.graceful_shutdown();
                    }
                    continue;
                }
                accepted = poll_fn(|cx| poll_accept(&mut connection, cx)) => accepted,
                () = idle.as_mut() => {
                    if !std::mem::take(&mut used) && running.load(Ordering::Relaxed) == 0 {
                        connection.graceful_shutdown();
                        draining = true;
                    }
                    idle.as_mut().reset(Instant::now() + self.settings.idle_timeout.max(Duration::from_secs(1)));
                    continue;
                }
            };
            let Some(Ok((request, respond))) = accepted else { return };
            used = true;
            running.fetch_add(1, Ordering::Relaxed);
            let task = Running(running.clone());
            let (engine, peer) = (self.clone(), peer.clone());
            tokio::spawn(async move {
                engine.serve_stream(peer, request, respond).await;
                drop(task);
            });
        }
    }

    async fn serve_stream(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        request: Request<h2::RecvStream>,
        respond: h2::server::SendResponse<Bytes>,
    ) {
        let (parts, body) = request.into_parts();
        let mut client = H2Downstream::new(body, respond);
        let (head, problem) = match read_head(parts, &client) {
            Ok(head) => head,
            Err(reason) => return client.reset(reason),
        };
        // Opened and cancelled at once, a stream costs no route, no connection and no upstream work.
        if poll_fn(|cx| Poll::Ready(client.poll_gone(cx).is_ready())).await {
            return;
        }
        let mut exchange = Recorded::new(Exchange::new(peer, head), &self.observer);
        let after = match problem {
            None => self.run(&mut exchange, &mut client).await,
            Some(failure) => self.fail(&failure, None, &mut exchange, &mut client).await,
        };
        if let After::Abort | After::Tunnel(_) = after {
            // The connection task is woken and stands before us in this thread's queue: it writes what came before the cut.
            tokio::task::yield_now().await;
            client.abort();
        }
        // What is unread of the request is cancelled behind the answer when the stream is dropped.
        exchange.end();
    }
}

/// Opened by the client: the head of a stream and the way to answer it.
type Accepted = Option<Result<(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>), h2::Error>>;

/// Does what there is to do on the connection, and then flushes once: what all its streams had to say leaves in one system
/// call.
fn poll_accept(connection: &mut h2::server::Connection<Stream, Bytes>, cx: &mut Context<'_>) -> Poll<Accepted> {
    let (accepted, owes_flush) = put_off_flushes(|| connection.poll_accept(cx));
    if accepted.is_pending() && owes_flush { connection.poll_accept(cx) } else { accepted }
}

/// Counts running streams.
struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The head, and why it is answered at once if it is. `Err`: the stream is malformed (RFC 9113 section 8.1.1).
fn read_head(parts: http::request::Parts, client: &H2Downstream) -> Result<(RequestHead, Option<Failure>), Reason> {
    let mut headers = parts.headers;
    no_outer_blanks(&headers)?;
    let host = one_host(&mut headers)?;
    let written = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    let (authority, differs) = match (written, host) {
        (Some(authority), Some(host)) => {
            let differs = !authority.eq_ignore_ascii_case(&host);
            (authority, differs)
        }
        (Some(authority), None) => (authority, false),
        (None, Some(host)) => (host, false),
        (None, None) => (String::new(), false),
    };
    if let Ok(host) = HeaderValue::from_str(&authority) {
        headers.insert(HOST, host);
    }
    let fields = headers.len() - headers.get_all(COOKIE).iter().count().saturating_sub(1);
    join_cookies(&mut headers);
    let length = content_length(&headers)?;
    let body = if client.has_no_body() { BodySize::Empty } else { length.map_or(BodySize::Unknown, BodySize::Known) };
    let scheme = parts.uri.scheme_str().map(|scheme| match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => Scheme::Other,
    });
    let target = parts.uri.path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let head =
        RequestHead { method: parts.method, protocol: Protocol::Http2, target, authority, scheme, headers, body };
    let problem = if differs {
        Some(Failure::BadRequest { status: 400, detail: "http.invalid_authority" })
    } else if fields + 3 > MAX_FIELDS {
        Some(Failure::BadBody { status: 431, detail: "http2.too_many_headers" })
    } else {
        None
    };
    Ok((head, problem))
}

/// RFC 9113 section 8.2.1: a value neither begins nor ends with a blank. HTTP/1 parsers would trim it, so that we and the
/// upstream would see different values.
fn no_outer_blanks(headers: &HeaderMap) -> Result<(), Reason> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bad = headers.values().any(|value| blank(value.as_bytes().first()) || blank(value.as_bytes().last()));
    if bad { Err(Reason::PROTOCOL_ERROR) } else { Ok(()) }
}

/// Takes `host` out of the fields; two of them are malformed.
fn one_host(headers: &mut HeaderMap) -> Result<Option<String>, Reason> {
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Reason::PROTOCOL_ERROR);
    }
    match headers.remove(HOST) {
        Some(host) => Ok(Some(host.to_str().map_err(|_| Reason::PROTOCOL_ERROR)?.to_owned())),
        None => Ok(None),
    }
}

/// RFC 9113 section 8.2.3: crumbs are one field again before they go anywhere that is not HTTP/2.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = [first.as_bytes(), second.as_bytes()].join(&b"; "[..]);
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

/// RFC 9110 section 8.6: one value, digits only. `h2` compares it with what DATA frames carry.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Reason> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.as_bytes();
    let number = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    match (number.and_then(|text| text.parse::<u64>().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(Reason::PROTOCOL_ERROR),
    }
}

#[cfg(test)]
#[path = "h2_connection_tests.rs"]
mod tests;
