//! Forwarding: pick an endpoint, connect, send, stream both ways; and try again where nothing was lost by it. The snapshot
//! stays the same through all tries.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::Method;
use mesh_core::lb::{EndpointState, Limit, Overflow};
use mesh_core::model::{Loss, RetryPolicy, UpstreamProtocol};
use mesh_core::snapshot::path;
use mesh_core::snapshot::{CompiledForward, CompiledRule, CompiledSplit};
use smallvec::SmallVec;

use super::clock::{Clock, Over, effective_timeout, tell_grpc_timeout};
use super::ending::{Cut, client_gone, hear_load, may_tell_load, note_end};
use super::engine::{After, Engine};
use super::exchange::{Exchange, Protocol};
use super::failure::Failure;
use super::h1_stream::H1Upstream;
use super::h2_stream::H2Upstream;
use super::message::{BodySize, Downstream, DownstreamError, ResponseHead, Sink, Upstream, UpstreamError};
use super::pump::{Direction, PumpError, Waits};
use super::retry::{Attempt, Tried, back_off, give_back, grpc_code, has_room};
use super::tunnel::Tunnel;
use super::workloads::hear_workload;
use super::{affinity, forwarded, hop_by_hop, outlier, upstream_request};
use crate::live::{Live, LiveCluster, Unfound};
use crate::observe::ResponseFlags;
use crate::upstream::{Asked, ConnectError, H1Lease, H2Lease, Upstream as Lease};

/// A dead idle connection is no failure of the endpoint; but not endlessly.
const MAX_STALE: u32 = 4;

/// What the tables say of a request that is forwarded.
pub(super) struct Way<'l> {
    pub live: &'l Live,
    pub rule: &'l CompiledRule,
    pub forward: &'l CompiledForward,
    pub split: &'l CompiledSplit,
    /// Of the virtual host, for the rule's mirrors.
    pub clusters: &'l [Option<u32>],
}

impl Engine {
    pub(super) async fn forward<D: Downstream>(
        self: &Arc<Self>,
        way: &Way<'_>,
        cluster: &Arc<LiveCluster>,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> After {
        let Way { live, rule, forward, split, clusters } = *way;
        if exchange.websocket.is_some() && cluster.destination.protocol == UpstreamProtocol::Http2 {
            return self.fail(&Failure::UpgradeOverHttp2, Some(&split.headers), exchange, client).await;
        }
        rewrite(rule, forward, split, exchange);
        let key = affinity::key_or_cookie(&cluster.destination.balancing, exchange);
        let timeout = effective_timeout(forward.timeout, exchange);
        if exchange.grpc {
            tell_grpc_timeout(timeout, exchange);
        }
        if !forward.mirrors.is_empty() {
            self.mirror(live, forward, clusters, timeout, exchange, client);
        }
        let policy = &*forward.retry;
        let per_try = policy.per_try_timeout.filter(|limit| timeout.is_none_or(|timeout| *limit < timeout));
        let begun = exchange.started + exchange.delayed;
        let end = timeout.map(|timeout| (begun + timeout).into());
        let mut clock = Clock::new(end, per_try).with_stall(self.settings.stall_timeout);
        let mut tried: SmallVec<[SocketAddr; 4]> = SmallVec::new();
        let mut stale = 0;
        exchange.outcome.attempts = 1;
        cluster.began(exchange.started);
        let failure = loop {
            let attempt = exchange.outcome.attempts;
            // The time of the try before does not count for this one.
            clock.begin_try(false);
            let endpoint = match clock.until(pick(cluster, policy, &tried, key, exchange)).await {
                Ok(Ok(endpoint)) => endpoint,
                Ok(Err(unfound)) => break unfound.into(),
                Err(_) => break Failure::Timeout,
            };
            self.prepare_try(attempt, per_try.or(timeout), exchange);
            let is_last = attempt > policy.attempts;
            let to = Attempt { cluster, endpoint: &endpoint, split, policy: Some(policy), is_last };
            match self.attempt(&to, exchange, client, &mut clock).await {
                Tried::Done(after) => return after,
                Tried::Failed(failure) => break failure,
                Tried::Stale if stale < MAX_STALE => {
                    stale += 1;
                    continue;
                }
                Tried::Stale => break Failure::UpstreamClosed,
                Tried::Lost { failure, how, .. } if !policy.after(how) => break failure,
                Tried::Lost { failure, .. } if is_last => {
                    exchange.outcome.flags |= ResponseFlags::URX;
                    break failure;
                }
                Tried::Lost { failure, whole, .. } if !whole || !has_room(cluster, exchange) => break failure,
                Tried::Lost { .. } | Tried::Unwanted => {}
            }
            tried.push(endpoint.address);
            let pause = policy.pause(attempt, |below| fastrand::u64(..below));
            if let Err(failure) = back_off(pause, &mut clock, client).await {
                break failure;
            }
            exchange.outcome.attempts += 1;
        };
        exchange.retrying = None;
        self.fail(&failure, Some(&split.headers), exchange, client).await
    }

    /// The headers that differ from try to try.
    pub(super) fn prepare_try(&self, attempt: u32, timeout: Option<Duration>, exchange: &mut Exchange) {
        if exchange.peer.is_inbound() {
            // The client's proxy has told the workload already.
            return;
        }
        let original_path = exchange.outcome.upstream_target.is_some().then_some(exchange.head.target.as_str());
        let original_host = exchange.outcome.upstream_authority.is_some().then_some(exchange.head.authority.as_str());
        let this = forwarded::Try { attempt, timeout, original_path, original_host };
        forwarded::forward(&mut exchange.head.headers, &this);
    }

    /// One try; outlier detection hears what came of it.
    pub(super) async fn attempt<D: Downstream>(
        &self,
        to: &Attempt<'_>,
        exchange: &mut Exchange,
        client: &mut D,
        clock: &mut Clock,
    ) -> Tried {
        let tried = self.try_once(to, exchange, client, clock).await;
        if let Some(result) = outlier::result(&tried, exchange) {
            to.cluster.note(to.endpoint, result);
        }
        tried
    }

    async fn try_once<D: Downstream>(
        &self,
        to: &Attempt<'_>,
        exchange: &mut Exchange,
        client: &mut D,
        clock: &mut Clock,
    ) -> Tried {
        let endpoint = to.endpoint;
        exchange.outcome.answered = None;
        exchange.outcome.endpoint = Some(endpoint.clone());
        exchange.outcome.upstream_peer = None;
        exchange.outcome.upstream_workload = None;
        let active = endpoint.enter();
        clock.begin_try(client.is_done());
        let lease = match clock.until(self.connect(to.cluster, endpoint, exchange)).await {
            Err(over) => return Tried::late(over),
            Ok(Err(ConnectError::Overflow)) => return Tried::Failed(Failure::Overflow),
            Ok(Err(error)) => return Tried::not_connected(&error),
            Ok(Ok(lease)) => lease,
        };
        let permit = match to.cluster.enter(Limit::Requests) {
            Ok(permit) => permit,
            Err(Overflow) => {
                if let Lease::H1(lease) = lease {
                    self.pools.release(lease);
                }
                return Tried::Failed(Failure::Overflow);
            }
        };
        let sent = Instant::now();
        let is_unknown = endpoint.endpoint.named_workload().is_none();
        let mut tried = match lease {
            Lease::H1(lease) => {
                exchange.outcome.upstream_local = lease.local;
                exchange.outcome.upstream_peer = lease.peer().cloned();
                exchange.outcome.upstream_said = is_unknown.then(|| lease.said().clone());
                self.tell_workload(exchange);
                self.attempt_h1(lease, to, exchange, client, clock, sent).await
            }
            Lease::H2(lease) => {
                exchange.outcome.upstream_local = lease.local;
                exchange.outcome.upstream_peer = lease.peer.clone();
                exchange.outcome.upstream_said = is_unknown.then(|| lease.said().clone());
                self.tell_workload(exchange);
                self.attempt_h2(lease, to, exchange, client, clock, sent).await
            }
        };
        if let Tried::Done(After::Tunnel(tunnel)) = &mut tried {
            tunnel.count(active, permit);
        }
        tried
    }

    /// A WebSocket begins in HTTP/1.1: backends that take it in HTTP/2 (RFC 8441) are rare, and none was asked for.
    async fn connect(
        &self,
        cluster: &Arc<LiveCluster>,
        endpoint: &Arc<EndpointState>,
        exchange: &Exchange,
    ) -> Result<Lease, ConnectError> {
        let asked = Asked { authority: Some(upstream_request::authority(exchange)), client: Some(&exchange.peer.info) };
        let as_client = cluster.destination.protocol == UpstreamProtocol::AsClient;
        if exchange.websocket.is_some() || (as_client && exchange.head.protocol != Protocol::Http2) {
            return self.pools.acquire_h1(cluster, endpoint, asked).await.map(Lease::H1);
        }
        self.pools.acquire(cluster, endpoint, asked).await
    }

    async fn attempt_h1<D: Downstream>(
        &self,
        mut lease: H1Lease,
        to: &Attempt<'_>,
        exchange: &mut Exchange,
        client: &mut D,
        clock: &mut Clock,
        sent: Instant,
    ) -> Tried {
        let mut upload = new_upload(exchange, client);
        to.keep_body(&mut upload, exchange, false);
        let mut upstream = H1Upstream::new(&mut lease.codec);
        upstream_request::send_h1(exchange, &mut upstream);
        if upload.is_ended() {
            // Also a body that turned out to be empty in a try before.
            let _ = upstream.finish();
        }
        let head = self.await_head(&mut upload, exchange, client, &mut upstream, clock).await;
        let tried = match head {
            Ok(head) if head.status == http::StatusCode::SWITCHING_PROTOCOLS => {
                return self.switch(lease, head, to.split, exchange, client).await;
            }
            Ok(head) if to.wants_another(&head, &mut upload, exchange) => Tried::Unwanted,
            Ok(head) => self.download(head, to.split, &mut upload, exchange, client, &mut upstream, clock, sent).await,
            Err(early) => self.before_head(early, lease.reused, &mut upload, exchange),
        };
        let over = matches!(tried, Tried::Done(After::Continue | After::Close) | Tried::Unwanted);
        if over && lease.codec.reusable() && upload.is_done() {
            self.pools.release(lease);
        }
        tried
    }

    async fn attempt_h2<D: Downstream>(
        &self,
        lease: H2Lease,
        to: &Attempt<'_>,
        exchange: &mut Exchange,
        client: &mut D,
        clock: &mut Clock,
        sent: Instant,
    ) -> Tried {
        let mut upload = new_upload(exchange, client);
        to.keep_body(&mut upload, exchange, true);
        let ready = match clock.until(lease.send.clone().ready()).await {
            Ok(ready) => ready,
            Err(over) => return Tried::late(over),
        };
        let Some(request) = upstream_request::h2(exchange) else { return Tried::Failed(Failure::BadPath) };
        let opened = ready.and_then(|mut send| send.send_request(request, upload.is_ended()));
        let (response, body) = match opened {
            Ok(opened) => opened,
            Err(_) if lease.reused => return Tried::Stale,
            Err(_) => {
                return Tried::Lost { failure: Failure::UpstreamClosed, how: Loss::NotConnected, whole: true };
            }
        };
        let mut upstream = H2Upstream::new(response, body, upload.is_ended());
        let head = self.await_head(&mut upload, exchange, client, &mut upstream, clock).await;
        match head {
            Ok(head) if head.status == http::StatusCode::SWITCHING_PROTOCOLS => {
                Tried::Failed(Failure::UpstreamProtocol)
            }
            Ok(head) if to.wants_another(&head, &mut upload, exchange) => Tried::Unwanted,
            Ok(head) => self.download(head, to.split, &mut upload, exchange, client, &mut upstream, clock, sent).await,
            Err(early) => self.before_head(early, lease.reused, &mut upload, exchange),
        }
    }

    /// Sends the request's body while it waits for the answer's head; relays interim answers.
    async fn await_head<D: Downstream, U: Upstream>(
        &self,
        upload: &mut Direction,
        exchange: &mut Exchange,
        client: &mut D,
        upstream: &mut U,
        clock: &mut Clock,
    ) -> Result<ResponseHead, Early> {
        loop {
            let head = poll_fn(|cx| {
                if !upload.is_done() {
                    match upload.poll(client, upstream, cx) {
                        Poll::Ready(Err(PumpError::Read(error))) => return Poll::Ready(Err(Early::Client(error))),
                        // It may have answered before it stopped reading.
                        Poll::Ready(Err(PumpError::Write(_))) => upload.stop(),
                        Poll::Ready(Ok(())) | Poll::Pending => {}
                    }
                }
                if let Poll::Ready(head) = upstream.poll_head(cx) {
                    return Poll::Ready(head.map_err(Early::Upstream));
                }
                if upload.is_ended() {
                    clock.request_complete();
                    if client.poll_gone(cx).is_ready() {
                        return Poll::Ready(Err(Early::Client(DownstreamError::Gone)));
                    }
                }
                // Who calls a stream of gRPC may be silent on it for as long as he likes.
                let waits = upload.waits() == Waits::Source && !exchange.grpc;
                if clock.poll_stall(waits, upload.bytes, cx).is_ready() {
                    return Poll::Ready(Err(Early::Stalled));
                }
                clock.poll(cx).map(|over| Err(Early::Over(over)))
            })
            .await;
            exchange.outcome.bytes_received = upload.bytes;
            let head = head?;
            if !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                exchange.outcome.answered = Some(outlier::status(&head, exchange.grpc));
                hear_load(&head.headers, exchange);
                return Ok(head);
            }
            let mut headers = head.headers;
            hop_by_hop::clean_response(&mut headers);
            client.send_informational(head.status, headers);
            if poll_fn(|cx| client.poll_flush(cx)).await.is_err() {
                return Err(Early::Client(DownstreamError::Gone));
            }
        }
    }

    /// A try that ended before its answer began.
    fn before_head(&self, early: Early, reused: bool, upload: &mut Direction, exchange: &mut Exchange) -> Tried {
        let (failure, how) = match early {
            Early::Client(DownstreamError::Gone) => return Tried::Failed(Failure::ClientGone),
            Early::Client(DownstreamError::Malformed { status, detail }) => {
                return Tried::Failed(Failure::BadBody { status, detail });
            }
            Early::Stalled => return Tried::Failed(Failure::Stalled),
            Early::Over(Over::Route) => return Tried::Failed(Failure::Timeout),
            Early::Over(Over::Try) => (Failure::TryTimeout, Loss::LateSent),
            Early::Upstream(UpstreamError::Closed) => (Failure::UpstreamClosed, Loss::Reset),
            Early::Upstream(UpstreamError::Protocol) => (Failure::UpstreamProtocol, Loss::Reset),
            Early::Upstream(UpstreamError::Refused) => (Failure::UpstreamReset { refused: true }, Loss::Refused),
            Early::Upstream(UpstreamError::Reset) => (Failure::UpstreamReset { refused: false }, Loss::Reset),
        };
        let whole = give_back(upload, exchange);
        // RFC 9110 section 9.2.2: an idempotent request may be repeated when the connection was closed under it.
        let repeatable = || exchange.repeatable || exchange.head.method.is_idempotent();
        if reused && whole && failure == Failure::UpstreamClosed && repeatable() {
            return Tried::Stale;
        }
        Tried::Lost { failure, how, whole }
    }

    /// Passes the answer on, while what is left of the request still goes up.
    #[allow(clippy::too_many_arguments)]
    async fn download<D: Downstream, U: Upstream>(
        &self,
        mut head: ResponseHead,
        split: &CompiledSplit,
        upload: &mut Direction,
        exchange: &mut Exchange,
        client: &mut D,
        upstream: &mut U,
        clock: &mut Clock,
        sent: Instant,
    ) -> Tried {
        clock.answer_began();
        let service_time = sent.elapsed();
        exchange.retrying = None;
        exchange.outcome.service_time = Some(service_time);
        exchange.outcome.details = std::borrow::Cow::Borrowed("via_upstream");
        let tells_load = may_tell_load(&head.headers, exchange);
        hop_by_hop::clean_response(&mut head.headers);
        finish_head(&mut head, split, service_time, exchange, self.keeps_response_headers());
        self.answer_metadata(exchange, &mut head.headers);
        if client.send_head(head.status, head.headers, head.body, false).is_err() {
            return Tried::Done(client_gone(exchange));
        }
        let mut download = if head.body == BodySize::Empty { Direction::ended() } else { Direction::default() };
        download.keep_trailers = exchange.grpc || tells_load;
        if exchange.grpc {
            download.messages = Some(super::grpc::MessageCounter::default());
        }
        let end = poll_fn(|cx| {
            if !upload.is_done() {
                match upload.poll(client, upstream, cx) {
                    Poll::Ready(Err(PumpError::Read(_))) => return Poll::Ready(Err(Cut::Client)),
                    Poll::Ready(Err(PumpError::Write(_))) => upload.stop(),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            match download.poll(upstream, client, cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(PumpError::Read(error))) => return Poll::Ready(Err(Cut::Upstream(error))),
                Poll::Ready(Err(PumpError::Write(_))) => return Poll::Ready(Err(Cut::Client)),
                Poll::Pending => exchange.outcome.bytes_sent = download.bytes,
            }
            // An answer that is quiet for long writes nothing that could fail: a client that cancels it must still be heard.
            if upload.is_ended() && client.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Cut::Client));
            }
            if clock.poll_stall(download.waits() == Waits::Sink, download.bytes, cx).is_ready() {
                return Poll::Ready(Err(Cut::Stalled));
            }
            clock.poll(cx).map(|_| Err(Cut::Timeout))
        })
        .await;
        note_end(end, upload, download, client, exchange, tells_load)
    }

    /// The upstream agreed to the WebSocket: the head goes to the client, the bytes to a tunnel.
    async fn switch<D: Downstream>(
        &self,
        lease: H1Lease,
        mut head: ResponseHead,
        split: &CompiledSplit,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> Tried {
        hop_by_hop::clean_response(&mut head.headers);
        head.body = BodySize::Empty;
        let _ = split.headers.response.apply(&mut head.headers, exchange);
        exchange.add_to(&mut head.headers);
        affinity::give_cookie(exchange, &mut head.headers);
        let name = exchange.peer.server_name();
        hear_workload(&mut head.headers, exchange);
        forwarded::finish_response(&mut head.headers, name, std::time::SystemTime::now(), None);
        self.answer_metadata(exchange, &mut head.headers);
        head.headers.insert(http::header::UPGRADE, http::HeaderValue::from_static("websocket"));
        head.headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
        exchange.retrying = None;
        exchange.outcome.status = head.status.as_u16();
        exchange.outcome.details = std::borrow::Cow::Borrowed("via_upstream");
        if client.send_head(head.status, head.headers, BodySize::Empty, false).is_err()
            || poll_fn(|cx| client.poll_flush(cx)).await.is_err()
        {
            return Tried::Done(client_gone(exchange));
        }
        let (codec, open) = lease.into_codec();
        let (io, leftover) = codec.into_parts();
        Tried::Done(After::Tunnel(Box::new(Tunnel::new(io, leftover, Box::new(open)))))
    }
}

/// Why a try ended before its answer began.
enum Early {
    Client(DownstreamError),
    Upstream(UpstreamError),
    Over(Over),
    /// The client does not send what it announced.
    Stalled,
}

/// The endpoint of the next try.
async fn pick(
    cluster: &LiveCluster,
    policy: &RetryPolicy,
    tried: &[SocketAddr],
    key: Option<u64>,
    exchange: &Exchange,
) -> Result<Arc<EndpointState>, Unfound> {
    let avoid = if policy.same_hosts { &[] } else { tried };
    let elsewhere = if policy.remote_localities { cluster.pick_elsewhere(tried, avoid) } else { None };
    match elsewhere {
        Some(endpoint) => Ok(endpoint),
        None => {
            let name = Some(upstream_request::authority(exchange));
            cluster.find(name, exchange.peer.info.original(), key, avoid).await
        }
    }
}

/// New path, new authority, header operations.
fn rewrite(rule: &CompiledRule, forward: &CompiledForward, split: &CompiledSplit, exchange: &mut Exchange) {
    let (request_path, query) = path::split_query(&exchange.head.target);
    if let Some(mut target) = rule.rewritten_path(forward, request_path) {
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        exchange.outcome.upstream_target = Some(target);
    }
    exchange.outcome.upstream_authority = forward.rewrite.authority.as_deref().map(str::to_owned);
    if !split.headers.request.is_empty() {
        let mut headers = std::mem::take(&mut exchange.head.headers);
        if let Some(authority) = split.headers.request.apply(&mut headers, exchange) {
            exchange.outcome.upstream_authority = Some(authority);
        }
        exchange.head.headers = headers;
    }
    if let Some(authority) = &exchange.outcome.upstream_authority
        && let Ok(host) = http::HeaderValue::from_str(authority)
    {
        exchange.head.headers.insert(http::header::HOST, host);
    }
}

fn new_upload<D: Downstream>(exchange: &Exchange, client: &D) -> Direction {
    let empty = client.is_done() && exchange.read_ahead.is_empty();
    let mut upload = if empty { Direction::ended() } else { Direction::default() };
    upload.ahead.extend(exchange.read_ahead.iter().cloned());
    if exchange.grpc {
        upload.messages = Some(super::grpc::MessageCounter::default());
    }
    upload.taps.clone_from(&exchange.taps);
    upload
}

fn finish_head(
    head: &mut ResponseHead,
    split: &CompiledSplit,
    service_time: Duration,
    exchange: &mut Exchange,
    keep: bool,
) {
    exchange.outcome.status = head.status.as_u16();
    if exchange.head.method == Method::HEAD {
        head.body = BodySize::Empty;
    }
    if !split.headers.response.is_empty() {
        let _ = split.headers.response.apply(&mut head.headers, exchange);
    }
    affinity::give_cookie(exchange, &mut head.headers);
    exchange.add_to(&mut head.headers);
    let (name, now) = (exchange.peer.server_name(), std::time::SystemTime::now());
    hear_workload(&mut head.headers, exchange);
    forwarded::finish_response(&mut head.headers, name, now, Some(service_time));
    if exchange.grpc {
        exchange.outcome.grpc_status = grpc_code(&head.headers);
    }
    if keep {
        exchange.outcome.response_headers = Some(head.headers.clone());
    }
}
