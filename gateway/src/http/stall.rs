//! Clients that keep their own request from going on: they do not send what they announced, or do not take what they asked
//! for. Such a request holds memory here and a connection upstream, and costs the client nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Watches one direction of a request. There is a timer only once it was waited for.
pub(super) struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when nothing moved, and how much had then.
    since: Option<Instant>,
    bytes: u64,
}

impl Stall {
    /// `limit`: so long nothing at all may move.
    pub(super) fn new(limit: Duration) -> Stall {
        Stall { limit, timer: None, since: None, bytes: 0 }
    }

    /// `waits`: the client is waited for now. `bytes`: moved so far. Ready: it was for too long.
    pub(super) fn poll(&mut self, waits: bool, bytes: u64, cx: &mut Context<'_>) -> Poll<()> {
        if !waits {
            self.since = None;
            return Poll::Pending;
        }
        if bytes != self.bytes {
            (self.since, self.bytes) = (None, bytes);
        }
        let due = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // Set anew only when it fires: what moves on costs no more than a look at the clock.
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    async fn is_over(stall: &mut Stall, waits: bool, bytes: u64) -> bool {
        let over = poll_fn(|cx| Poll::Ready(stall.poll(waits, bytes, cx).is_ready()));
        over.await
    }

    #[tokio::test(start_paused = true)]
    async fn over_when_nothing_moved_for_so_long() {
        let mut stall = Stall::new(LIMIT);
        assert!(!is_over(&mut stall, true, 0).await);
        advance(LIMIT - Duration::from_secs(1)).await;
        assert!(!is_over(&mut stall, true, 0).await);
        advance(Duration::from_secs(2)).await;
        assert!(is_over(&mut stall, true, 0).await);
    }

    #[tokio::test(start_paused = true)]
    async fn every_byte_gives_it_the_whole_time_again() {
        let mut stall = Stall::new(LIMIT);
        for bytes in 0..5 {
            assert!(!is_over(&mut stall, true, bytes).await);
            advance(LIMIT - Duration::from_secs(1)).await;
        }
        assert!(!is_over(&mut stall, true, 4).await);
        advance(Duration::from_secs(2)).await;
        assert!(is_over(&mut stall, true, 4).await);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_others_are_waited_for_does_not_count() {
        let mut stall = Stall::new(LIMIT);
        assert!(!is_over(&mut stall, true, 1).await);
        advance(LIMIT - Duration::from_secs(1)).await;
        assert!(!is_over(&mut stall, false, 1).await);
        advance(LIMIT * 10).await;
        assert!(!is_over(&mut stall, true, 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_by_itself() {
        let mut stall = Stall::new(LIMIT);
        timeout(LIMIT * 2, poll_fn(|cx| stall.poll(true, 0, cx))).await.unwrap();
    }
}
