//! Trying again: what of a request is kept for it, which answers are not wanted, and the pause between tries. When a try is made
//! again is the policy's to say.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use mesh_core::lb::{EndpointState, Overflow};
use mesh_core::model::{AnswerHead, Loss, RetryPolicy};
use mesh_core::snapshot::CompiledSplit;
use tokio::time::sleep;

use super::clock::{Clock, Over};
use super::engine::After;
use super::exchange::Exchange;
use super::failure::Failure;
use super::h1::Frame;
use super::message::{Downstream, ResponseHead};
use super::pump::Direction;
use crate::live::LiveCluster;
use crate::observe::ResponseFlags;
use crate::upstream::ConnectError;

/// So much of a request's body is kept (Envoy's default); a larger one is not sent twice.
const MOST_KEPT: usize = 1024 * 1024;

/// One try.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'t> {
    pub cluster: &'t Arc<LiveCluster>,
    pub endpoint: &'t Arc<EndpointState>,
    pub split: &'t CompiledSplit,
    /// None: whatever comes is taken.
    pub policy: Option<&'t RetryPolicy>,
    /// The policy allows no other.
    pub is_last: bool,
}

/// What a try came to.
pub(super) enum Tried {
    Done(After),
    /// A connection that was idle turned out to be dead; the request was not processed.
    Stale,
    /// Its answer did not begin. `whole`: nothing of the request is lost, so that it can be sent once more.
    Lost {
        failure: Failure,
        how: Loss,
        whole: bool,
    },
    /// It was answered, but the policy wants another answer.
    Unwanted,
    /// Another try would not help.
    Failed(Failure),
}

impl Tried {
    pub(super) fn not_connected(error: &ConnectError) -> Tried {
        let failure = match error.transport_failure() {
            Some(detail) => Failure::ConnectFailed { detail },
            None => Failure::ConnectTimeout,
        };
        Tried::Lost { failure, how: Loss::NotConnected, whole: true }
    }

    /// Time was over before anything was sent.
    pub(super) fn late(over: Over) -> Tried {
        match over {
            Over::Route => Tried::Failed(Failure::Timeout),
            Over::Try => Tried::Lost { failure: Failure::TryTimeout, how: Loss::LateUnsent, whole: true },
        }
    }
}

impl Attempt<'_> {
    /// Has what is taken from the client kept, where that may be wanted again.
    pub(super) fn keep_body(&self, upload: &mut Direction, exchange: &Exchange, http2: bool) {
        let again = |policy: &RetryPolicy| !self.is_last && policy.keeps_body(exchange.grpc, http2);
        if !upload.is_ended() && self.policy.is_some_and(again) {
            let sizes = exchange.read_ahead.iter().map(|frame| match frame {
                Frame::Data(data) => data.len(),
                Frame::Trailers(_) => 0,
            });
            upload.kept = Some(Kept { room: MOST_KEPT.saturating_sub(sizes.sum()), ..Kept::default() });
        }
    }

    /// Whether the policy wants another answer in place of one that begins so, and the request can be sent once more.
    pub(super) fn wants_another(&self, head: &ResponseHead, upload: &mut Direction, exchange: &mut Exchange) -> bool {
        let Some(policy) = self.policy.filter(|policy| policy.looks_at_answers(exchange.grpc)) else { return false };
        let head = AnswerHead {
            status: head.status.as_u16(),
            grpc_status: if exchange.grpc { grpc_code(&head.headers) } else { None },
            rate_limited: head.headers.contains_key("x-envoy-ratelimited"),
        };
        if !policy.after_answer(&head) {
            return false;
        }
        if self.is_last {
            exchange.outcome.flags |= ResponseFlags::URX;
            return false;
        }
        has_room(self.cluster, exchange) && give_back(upload, exchange)
    }
}

/// Room for another try, until its answer begins; its place is not the one that the try before had.
pub(super) fn has_room(cluster: &LiveCluster, exchange: &mut Exchange) -> bool {
    exchange.retrying = None;
    match cluster.enter_retry() {
        Ok(permit) => {
            exchange.retrying = permit;
            true
        }
        Err(Overflow) => {
            exchange.outcome.flags |= ResponseFlags::UO;
            false
        }
    }
}

/// `grpc-status`
pub(super) fn grpc_code(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A copy of what was taken from a client.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// In one piece, so that many small ones cost no more than their bytes.
    data: BytesMut,
    trailers: Option<HeaderMap>,
    /// For so many bytes more.
    room: usize,
}

impl Kept {
    /// False: it is too much.
    pub(super) fn add(&mut self, frame: &Frame) -> bool {
        match frame {
            Frame::Data(data) => {
                let Some(room) = self.room.checked_sub(data.len()) else { return false };
                self.room = room;
                self.data.extend_from_slice(data);
            }
            Frame::Trailers(trailers) => self.trailers = Some(trailers.clone()),
        }
        true
    }
}

/// What a try took from the client is there again for the next one. False: some of it was not kept.
pub(super) fn give_back(upload: &mut Direction, exchange: &mut Exchange) -> bool {
    if !upload.moved {
        return true;
    }
    let Some(Kept { data, trailers, .. }) = upload.kept.take() else { return false };
    if !data.is_empty() {
        exchange.read_ahead.push(Frame::Data(data.freeze()));
    }
    exchange.read_ahead.extend(trailers.map(Frame::Trailers));
    true
}

/// Waits. An error: the request is over before.
pub(super) async fn back_off<D: Downstream>(pause: Duration, clock: &mut Clock, client: &mut D) -> Result<(), Failure> {
    clock.begin_try(false);
    let mut pause = pin!(sleep(pause));
    poll_fn(|cx| {
        // As long as its body is not read, nobody can tell whether a client is still there.
        if client.is_done() && client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        if pause.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        clock.poll(cx).map(|_| Err(Failure::Timeout))
    })
    .await
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
