//! Copies of requests for other destinations (`mirror`, `mirrors`). A copy goes its own way: it is sent once, its answer is
//! thrown away, and nothing that happens to it is noticed by the request. What it costs is limited: so many copies in flight,
//! so much of a body that waits for one, so long for an answer. Beyond that copies are given up, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use mesh_core::snapshot::{CompiledForward, CompiledSplit};
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::affinity;
use super::clock::Clock;
use super::engine::{After, Engine};
use super::exchange::{Exchange, RequestHead};
use super::h1::Frame;
use super::message::{BodySize, Downstream, DownstreamError, Sink, Source};
use super::retry::{Attempt, Tried};
use super::{forwarded, upstream_request};
use crate::live::{Live, LiveCluster};

/// Copies in flight, per worker.
const MOST_COPIES: usize = 1024;

/// Bytes of a body that wait for a copy to be written, and of all bodies of a worker.
const MOST_WAITING: usize = 1024 * 1024;
const MOST_WAITING_ALL: usize = 64 * 1024 * 1024;

/// For a copy and its answer, where the rule has no shorter timeout.
const LONGEST: Duration = Duration::from_secs(60);

/// A copy whose connection was dead is sent again on another one, so often.
const MOST_STALE: usize = 4;

/// The taps of a request: most have none.
pub(super) type Taps = SmallVec<[Tap; 1]>;

/// Where the pieces of a request's body are handed to a copy.
#[derive(Clone, Debug)]
pub(super) struct Tap {
    pieces: mpsc::UnboundedSender<Piece>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes that were handed over and not written yet.
    waiting: AtomicUsize,
    /// It did not keep up.
    lost: AtomicBool,
    all: Arc<Copies>,
}

/// The copies of a worker.
#[derive(Debug, Default)]
pub(super) struct Copies {
    in_flight: AtomicUsize,
    /// Bytes that wait for them.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Piece {
    frame: Option<Frame>,
    end: bool,
}

impl Tap {
    /// The next piece; `end`: it is the last. None: the body ended without another one.
    pub(super) fn pass(&self, frame: Option<&Frame>, end: bool) {
        let size = size(frame);
        let state = &self.state;
        if state.lost.load(Ordering::Relaxed) {
            return;
        }
        let own = state.waiting.fetch_add(size, Ordering::Relaxed).saturating_add(size);
        let all = state.all.waiting.fetch_add(size, Ordering::Relaxed).saturating_add(size);
        if own > MOST_WAITING || all > MOST_WAITING_ALL {
            state.lost.store(true, Ordering::Relaxed);
            return;
        }
        let _ = self.pieces.send(Piece { frame: frame.cloned(), end });
    }
}

impl State {
    fn written(&self, size: usize) {
        self.waiting.fetch_sub(size, Ordering::Relaxed);
        self.all.waiting.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.all.waiting.fetch_sub(*self.waiting.get_mut(), Ordering::Relaxed);
    }
}

/// What it takes to keep a piece: a body may come in pieces of one byte.
fn size(frame: Option<&Frame>) -> usize {
    let data = match frame {
        Some(Frame::Data(data)) => data.len(),
        Some(Frame::Trailers(_)) | None => 0,
    };
    data.saturating_add(size_of::<Piece>())
}

/// The client of a copy: it has the request's body, and looks at no answer.
struct Shadow {
    pieces: mpsc::UnboundedReceiver<Piece>,
    state: Arc<State>,
    ended: bool,
}

impl Source for Shadow {
    type Error = DownstreamError;

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, DownstreamError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.pieces.poll_recv(cx));
        // The request was cut, or this copy did not keep up with it.
        let Some(piece) = piece.filter(|_| !self.state.lost.load(Ordering::Relaxed)) else {
            return Poll::Ready(Some(Err(DownstreamError::Gone)));
        };
        self.ended = piece.end;
        self.state.written(size(piece.frame.as_ref()));
        Poll::Ready(piece.frame.map(Ok))
    }

    fn is_done(&self) -> bool {
        self.ended
    }
}

impl Sink for Shadow {
    type Error = DownstreamError;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, _: Frame, _: bool) -> Result<(), DownstreamError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DownstreamError> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        Poll::Ready(Ok(()))
    }
}

impl Downstream for Shadow {
    fn send_head(&mut self, _: StatusCode, _: HeaderMap, _: BodySize, _: bool) -> Result<(), DownstreamError> {
        Ok(())
    }

    fn send_informational(&mut self, _: StatusCode, _: HeaderMap) {}

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Counts copies in flight.
struct InFlight(Arc<Copies>);

impl InFlight {
    fn enter(copies: &Arc<Copies>) -> Option<InFlight> {
        let entered = InFlight(Arc::clone(copies));
        (copies.in_flight.fetch_add(1, Ordering::Relaxed) < MOST_COPIES).then_some(entered)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Sends the copies that the rule wants of this request, which is as its first try will send it.
    pub(super) fn mirror<D: Downstream>(
        self: &Arc<Self>,
        live: &Live,
        forward: &CompiledForward,
        clusters: &[Option<u32>],
        timeout: Option<Duration>,
        exchange: &mut Exchange,
        client: &D,
    ) {
        if exchange.websocket.is_some() {
            return;
        }
        for mirror in &forward.mirrors {
            let Some(cluster) = mirror.cluster(clusters).and_then(|index| live.cluster(index)) else { continue };
            if !mirror.share.takes(&mut |below| fastrand::u32(..below.max(1))) {
                continue;
            }
            let Some(in_flight) = InFlight::enter(&self.copies) else {
                self.observer.mirrored(false);
                continue;
            };
            let (sender, pieces) = mpsc::unbounded_channel();
            let state =
                State { waiting: AtomicUsize::new(0), lost: AtomicBool::new(false), all: Arc::clone(&self.copies) };
            let tap = Tap { pieces: sender, state: Arc::new(state) };
            let ended = client.is_done() && exchange.read_ahead.is_empty();
            let shadow = Shadow { pieces, state: Arc::clone(&tap.state), ended };
            // What was read of the body before; the rest comes when it is read.
            let last = exchange.read_ahead.len().saturating_sub(1);
            for (index, frame) in exchange.read_ahead.iter().enumerate() {
                tap.pass(Some(frame), index == last && client.is_done());
            }
            exchange.taps.push(tap);
            let (engine, cluster, to) = (Arc::clone(self), Arc::clone(cluster), Arc::clone(&mirror.to));
            let copy = copy(exchange);
            tokio::spawn(async move {
                let sent = engine.send_copy(&cluster, &to, copy, shadow, timeout).await;
                engine.observer.mirrored(sent);
                drop(in_flight);
            });
        }
    }

    /// Whether an answer came.
    async fn send_copy(
        &self,
        cluster: &Arc<LiveCluster>,
        to: &CompiledSplit,
        mut copy: Exchange,
        mut shadow: Shadow,
        timeout: Option<Duration>,
    ) -> bool {
        let limit = timeout.map_or(LONGEST, |timeout| timeout.min(LONGEST));
        let mut clock = Clock::new(Some(Instant::now() + limit), None);
        self.prepare_try(1, timeout, &mut copy);
        let key = affinity::key(&cluster.destination.balancing, &copy);
        for _ in 0..=MOST_STALE {
            let name = Some(upstream_request::authority(&copy));
            let found = cluster.find(name, copy.peer.info.original(), key, &[]);
            let Ok(Ok(endpoint)) = clock.until(found).await else { return false };
            let to = Attempt { cluster, endpoint: &endpoint, split: to, policy: None, is_last: true };
            match self.attempt(&to, &mut copy, &mut shadow, &mut clock).await {
                Tried::Stale => {}
                Tried::Done(After::Abort) => return false,
                Tried::Done(_) => return true,
                Tried::Lost { .. } | Tried::Unwanted | Tried::Failed(_) => return false,
            }
        }
        false
    }
}

/// The request once more, for itself. As with Envoy its host stays as it is, and it says that it was made by a proxy.
fn copy(exchange: &Exchange) -> Exchange {
    let head = &exchange.head;
    let head = RequestHead {
        method: head.method.clone(),
        protocol: head.protocol,
        target: head.target.clone(),
        authority: head.authority.clone(),
        scheme: head.scheme,
        headers: head.headers.clone(),
        body: head.body,
    };
    let mut copy = Exchange::new(Arc::clone(&exchange.peer), head);
    forwarded::mirrored(&mut copy.head.headers, &exchange.peer.client);
    (copy.https, copy.remote, copy.grpc) = (exchange.https, exchange.remote, exchange.grpc);
    copy.outcome.generation = exchange.outcome.generation;
    copy.outcome.upstream_target.clone_from(&exchange.outcome.upstream_target);
    copy.outcome.upstream_authority.clone_from(&exchange.outcome.upstream_authority);
    copy
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
