//! An HTTP/1 connection of a client: one request after the other.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderMap;
use pingora_core::protocols::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::engine::{After, Engine};
use super::exchange::{Exchange, Peer, Protocol, Recorded, RequestHead, Scheme};
use super::failure::reason;
use super::h1::{self, BodyFraming, Frame, HeadError, ServerCodec};
use super::h1_stream::{H1Downstream, body_size};
use super::message::BodySize;
use super::{forwarded, hop_by_hop};
use crate::listen::ConnectionInfo;
use crate::observe::ResponseFlags;

type Codec = ServerCodec<Stream>;

impl Engine {
    pub(super) async fn serve_h1(
        self: &Arc<Self>,
        stream: Stream,
        info: Arc<ConnectionInfo>,
        drain: watch::Receiver<bool>,
    ) {
        let peer = self.peer(&info);
        let mut codec = Codec::new(stream, self.settings.h1);
        let mut wait = Wait::new(drain.clone(), self.settings.head_timeout);
        loop {
            let head = match self.next_head(&mut codec, &mut wait).await {
                Ok(Some(head)) => head,
                Ok(None) => return self.close(codec, false).await,
                Err(error) => {
                    self.refuse(&mut codec, &peer, &error).await;
                    return self.close(codec, true).await;
                }
            };
            wait.first = false;
            let takes_trailers = hop_by_hop::takes_trailers(&head.headers);
            let mut exchange = Recorded::new(Exchange::new(peer.clone(), request_head(head)), &self.observer);
            let after = {
                let mut client = H1Downstream::new(&mut codec, takes_trailers, &drain);
                self.run(&mut exchange, &mut client).await
            };
            match after {
                After::Continue if codec.can_keep_alive() => exchange.end(),
                After::Continue | After::Close => {
                    exchange.end();
                    return self.close(codec, true).await;
                }
                After::Abort => {
                    exchange.end();
                    // What was sent of the answer still goes out; the client sees that it is cut.
                    let _ = timeout(self.settings.linger, poll_fn(|cx| codec.poll_shutdown(cx))).await;
                    return;
                }
                After::Tunnel(tunnel) => {
                    let (stream, leftover) = codec.into_parts();
                    let moved = tunnel.run(stream, leftover).await;
                    exchange.outcome.bytes_received = moved.received;
                    exchange.outcome.bytes_sent = moved.sent;
                    if moved.error.is_some() {
                        exchange.outcome.flags |= ResponseFlags::UC;
                    }
                    return exchange.end();
                }
            }
        }
    }

    /// The next head, within the time for it: idle time before its first byte, head time from then on. While draining a
    /// connection that was used a moment ago stays for its next request, whose answer says `connection: close`: closing
    /// it at once would lose the request that is on its way.
    async fn next_head(&self, codec: &mut Codec, wait: &mut Wait) -> Result<Option<h1::RequestHead>, HeadError> {
        let mut since: Option<Instant> = None;
        let mut partial = false;
        poll_fn(|cx| {
            if let Poll::Ready(head) = codec.poll_head(cx) {
                return Poll::Ready(head);
            }
            if codec.has_partial_head() && !partial {
                partial = true;
                since = None;
            }
            let draining = wait.poll_drain(cx);
            // A client that connects and says nothing is given as long as one that begins and stops.
            let limit = match partial || wait.first {
                true => self.settings.head_timeout,
                false if draining => self.settings.idle_timeout.min(self.settings.drain_idle_timeout),
                false => self.settings.idle_timeout,
            };
            let due = *since.get_or_insert_with(Instant::now) + limit;
            if wait.poll_due(due, cx) {
                return Poll::Ready(if partial { Err(HeadError::Timeout) } else { Ok(None) });
            }
            Poll::Pending
        })
        .await
    }

    /// Answers what is no request: 4xx or 5xx, close, and a line in the access log without method and path.
    async fn refuse(&self, codec: &mut Codec, peer: &Arc<Peer>, error: &HeadError) {
        let Some(status) = error.status() else { return };
        let head = RequestHead {
            method: http::Method::from_bytes(b"-").unwrap_or_default(),
            protocol: Protocol::Http11,
            target: "-".to_owned(),
            authority: String::new(),
            scheme: None,
            headers: HeaderMap::new(),
            body: BodySize::Empty,
        };
        let mut exchange = Recorded::new(Exchange::new(peer.clone(), head), &self.observer);
        exchange.outcome.generation = self.cells.live.load().snapshot.generation;
        exchange.outcome.status = status.as_u16();
        exchange.outcome.details = error.details().into();
        if error.is_protocol_error() {
            exchange.outcome.flags = ResponseFlags::DPE;
        }
        let body = if matches!(error, HeadError::MissingHost) { "" } else { reason(status.as_u16()) };
        let mut headers = HeaderMap::with_capacity(4);
        if !body.is_empty() {
            headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
        }
        forwarded::finish_local_reply(&mut headers, peer.server_name(), exchange.start);
        codec.close_after_response();
        codec.send_head(status, None, &headers, BodyFraming::Length(body.len() as u64));
        codec.send_frame(Frame::Data(bytes::Bytes::from_static(body.as_bytes())));
        codec.finish();
        exchange.outcome.bytes_sent = body.len() as u64;
        let _ = timeout(self.settings.linger, poll_fn(|cx| codec.poll_flush(cx))).await;
        exchange.end();
    }

    /// Ends a connection whose last answer is complete. With `linger` what the client still sends is read for a moment,
    /// because closing with unread bytes makes TCP drop the answer (RFC 9112 section 9.6).
    async fn close(&self, mut codec: Codec, linger: bool) {
        let _ = timeout(self.settings.linger, async {
            let _ = poll_fn(|cx| codec.poll_shutdown(cx)).await;
            if linger {
                poll_fn(|cx| codec.poll_discard(cx)).await;
            }
        })
        .await;
    }
}

/// What a connection between two requests waits for besides the next one. Made once per connection; the timer is set anew
/// only when it fires or must fire earlier, so that a busy connection never touches it.
struct Wait {
    timer: Pin<Box<Sleep>>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    drained: bool,
    /// No request was read yet.
    first: bool,
}

impl Wait {
    fn new(mut drain: watch::Receiver<bool>, limit: std::time::Duration) -> Self {
        Self {
            timer: Box::pin(sleep_until(Instant::now() + limit)),
            draining: Box::pin(async move {
                // A sender that is gone means the end of the process, which needs no sign.
                let _ = drain.wait_for(|draining| *draining).await;
            }),
            drained: false,
            first: true,
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.drained {
            self.drained = self.draining.as_mut().poll(cx).is_ready();
        }
        self.drained
    }

    fn poll_due(&mut self, due: Instant, cx: &mut Context<'_>) -> bool {
        if self.timer.deadline() > due {
            self.timer.as_mut().reset(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                return true;
            }
            self.timer.as_mut().reset(due);
        }
        false
    }
}

fn request_head(head: h1::RequestHead) -> RequestHead {
    let scheme = match &head.target {
        h1::Target::Absolute { scheme: h1::Scheme::Https, .. } => Some(Scheme::Https),
        h1::Target::Absolute { scheme: h1::Scheme::Http, .. } => Some(Scheme::Http),
        _ => None,
    };
    RequestHead {
        authority: head.authority().to_owned(),
        target: head.path_and_query().to_owned(),
        scheme,
        protocol: if head.version == h1::Version::V1_0 { Protocol::Http10 } else { Protocol::Http11 },
        body: body_size(head.body),
        method: head.method,
        headers: head.headers,
    }
}
