//! How an answer ended, and what that means for the client's connection.

use std::borrow::Cow;
use std::time::Instant;

use super::engine::After;
use super::exchange::Exchange;
use super::failure::Failure;
use super::message::{Downstream, UpstreamError};
use super::pump::Direction;
use super::retry::{Tried, grpc_code};
use crate::observe::ResponseFlags;

/// What cut an answer short.
pub(super) enum Cut {
    Client,
    Upstream(UpstreamError),
    Timeout,
    /// The client does not take the answer.
    Stalled,
}

/// What the endpoint says of its load in the head of its answer, or behind it.
pub(super) fn hear_load(headers: &http::HeaderMap, exchange: &Exchange) {
    let outcome = &exchange.outcome;
    if let (Some(cluster), Some(endpoint)) = (&outcome.cluster, &outcome.endpoint)
        && cluster.balancer.hears_load()
    {
        cluster.balancer.hear_load(endpoint, headers, Instant::now());
    }
}

/// Whether the endpoint may still say it in trailers.
pub(super) fn may_tell_load(headers: &http::HeaderMap, exchange: &Exchange) -> bool {
    let cluster = exchange.outcome.cluster.as_ref().filter(|cluster| cluster.balancer.hears_load());
    cluster.is_some() && !mesh_core::lb::LoadReport::is_in(headers)
}

pub(super) fn client_gone(exchange: &mut Exchange) -> After {
    let reply = Failure::ClientGone.reply(1);
    exchange.outcome.flags |= reply.flags;
    exchange.outcome.details = reply.details;
    After::Abort
}

/// Notes how the answer ended, and what that means for the client's connection. `tells`: trailers may say what load there is.
pub(super) fn note_end<D: Downstream>(
    end: Result<(), Cut>,
    upload: &Direction,
    download: Direction,
    client: &D,
    exchange: &mut Exchange,
    tells: bool,
) -> Tried {
    if let Some(trailers) = download.trailers.as_ref().filter(|_| tells) {
        hear_load(trailers, exchange);
    }
    let outcome = &mut exchange.outcome;
    outcome.bytes_received = upload.bytes;
    outcome.bytes_sent = download.bytes;
    outcome.request_messages = upload.messages.as_ref().map_or(0, |counter| counter.messages);
    outcome.response_messages = download.messages.as_ref().map_or(0, |counter| counter.messages);
    if let Some(code) = download.trailers.as_ref().filter(|_| exchange.grpc).and_then(grpc_code) {
        outcome.grpc_status = Some(code);
    }
    let cut = match end {
        Ok(()) if upload.is_ended() && client.is_done() => return Tried::Done(After::Continue),
        // The upstream answered without reading the whole request; the client's connection cannot be used again.
        Ok(()) => return Tried::Done(After::Close),
        Err(cut) => cut,
    };
    Tried::Done(match cut {
        Cut::Client => client_gone(exchange),
        Cut::Timeout => {
            outcome.flags |= ResponseFlags::UT;
            outcome.details = Cow::Borrowed("response_timeout");
            After::Abort
        }
        Cut::Stalled => {
            let reply = Failure::Stalled.reply(1);
            outcome.flags |= reply.flags;
            outcome.details = reply.details;
            After::Abort
        }
        Cut::Upstream(error) => {
            let (flag, reason) = match error {
                UpstreamError::Closed => (ResponseFlags::UC, "connection_termination"),
                UpstreamError::Protocol => (ResponseFlags::UPE, "protocol_error"),
                UpstreamError::Reset | UpstreamError::Refused => (ResponseFlags::UR, "remote_reset"),
            };
            outcome.flags |= flag;
            outcome.details = format!("upstream_reset_after_response_started{{{reason}}}").into();
            After::Abort
        }
    })
}
