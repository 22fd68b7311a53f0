//! What outlier detection hears of a try.

use mesh_core::lb::TryResult;

use super::exchange::Exchange;
use super::failure::Failure;
use super::grpc_status;
use super::message::ResponseHead;
use super::retry::{Tried, grpc_code};
use crate::observe::ResponseFlags;

/// What a try says of its endpoint, if anything.
pub(super) fn result(tried: &Tried, exchange: &Exchange) -> Option<TryResult> {
    match tried {
        Tried::Lost { .. } | Tried::Failed(Failure::Timeout) => Some(TryResult::Failed),
        // Of the connection or the client, not of the endpoint.
        Tried::Failed(_) | Tried::Stale => None,
        Tried::Unwanted => exchange.outcome.answered.map(TryResult::Answered),
        Tried::Done(_) => {
            let cut = [ResponseFlags::UC, ResponseFlags::UPE, ResponseFlags::UR];
            let is_cut = cut.into_iter().any(|flag| exchange.outcome.flags.contains(flag));
            if is_cut { Some(TryResult::Failed) } else { exchange.outcome.answered.map(TryResult::Answered) }
        }
    }
}

/// What the head of an answer means as an HTTP status.
pub(super) fn status(head: &ResponseHead, grpc: bool) -> u16 {
    let of_call = if grpc { grpc_code(&head.headers) } else { None };
    of_call.map_or(head.status.as_u16(), grpc_status::to_http)
}
