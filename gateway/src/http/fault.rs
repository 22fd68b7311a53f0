//! Trouble that a rule makes on purpose (`fault`): a delay, an abort, or first the one and then the other. Policies were
//! asked before; nothing was forwarded yet.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use mesh_core::model::Fault;
use tokio::time::sleep;

use super::exchange::Exchange;
use super::failure::Failure;
use super::message::Downstream;
use crate::observe::ResponseFlags;

/// Does to this request what its share of the faults is. `Err`: it is answered instead of forwarded.
pub(super) async fn inject<D: Downstream>(
    fault: &Fault,
    exchange: &mut Exchange,
    client: &mut D,
) -> Result<(), Failure> {
    let mut random = |below: u32| fastrand::u32(..below.max(1));
    if let Some(delay) = fault.delay.as_ref().filter(|delay| delay.share.takes(&mut random)) {
        exchange.outcome.flags |= ResponseFlags::DI;
        wait(delay.time, client).await?;
        exchange.delayed = exchange.started.elapsed();
    }
    match fault.abort.as_ref().filter(|abort| abort.share.takes(&mut random)) {
        Some(abort) => Err(Failure::Aborted(abort.status)),
        None => Ok(()),
    }
}

/// `Err`: the client did not want to wait for so long.
async fn wait<D: Downstream>(time: Duration, client: &mut D) -> Result<(), Failure> {
    let mut over = pin!(sleep(time));
    poll_fn(|cx| {
        // As long as its body is not read, nobody can tell whether a client is still there.
        if client.is_done() && client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        over.as_mut().poll(cx).map(Ok)
    })
    .await
}
