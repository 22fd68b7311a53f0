//! How long a request, and each of its tries, may take. Without limits there is no timer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// That of the route: of all tries, and of the answer.
    Route,
    /// That of one try, whose answer did not begin.
    Try,
}

pub(super) struct Clock {
    route: Option<Pin<Box<Sleep>>>,
    /// So long each try may take until its answer begins.
    per_try: Option<Duration>,
    /// Of the try that runs.
    current: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub(super) fn new(end: Option<Instant>, per_try: Option<Duration>) -> Clock {
        Clock { route: end.map(|end| Box::pin(sleep_until(end))), per_try, current: None }
    }

    /// `complete`: all of the request is there.
    pub(super) fn begin_try(&mut self, complete: bool) {
        self.current = None;
        if complete {
            self.request_complete();
        }
    }

    /// From here on the time of a try counts, as with Envoy: a long upload is no slow upstream.
    pub(super) fn request_complete(&mut self) {
        if let (None, Some(limit)) = (&self.current, self.per_try) {
            self.current = Some(Box::pin(sleep(limit)));
        }
    }

    /// It is the last try: its answer is on its way to the client.
    pub(super) fn answer_began(&mut self) {
        (self.current, self.per_try) = (None, None);
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        for (timer, over) in [(&mut self.route, Over::Route), (&mut self.current, Over::Try)] {
            if let Some(timer) = timer
                && timer.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(over);
            }
        }
        Poll::Pending
    }

    /// The future's output, if it comes in time.
    pub(super) async fn until<F: Future>(&mut self, future: F) -> Result<F::Output, Over> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }
}
