//! How long a request, and each of its tries, may take, and how long its client may keep it waiting. Without limits there is
//! no timer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::exchange::Exchange;
use super::grpc_status;
use super::stall::Stall;

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
    /// The client's part, where there is a client.
    stall: Option<Stall>,
}

impl Clock {
    pub(super) fn new(end: Option<Instant>, per_try: Option<Duration>) -> Clock {
        Clock { route: end.map(|end| Box::pin(sleep_until(end))), per_try, current: None, stall: None }
    }

    /// So long the client may neither send nor take a byte while it is waited for.
    pub(super) fn with_stall(self, limit: Duration) -> Clock {
        Clock { stall: Some(Stall::new(limit)), ..self }
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

    /// `waits`: for the client. `bytes`: moved so far. Ready: it was for too long.
    pub(super) fn poll_stall(&mut self, waits: bool, bytes: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.stall.as_mut().map_or(Poll::Pending, |stall| stall.poll(waits, bytes, cx))
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

/// The smaller of the route's timeout and what a gRPC client allows.
pub(super) fn effective_timeout(route: Option<Duration>, exchange: &Exchange) -> Option<Duration> {
    if !exchange.grpc {
        return route;
    }
    let asked =
        exchange.head.headers.get("grpc-timeout").and_then(|value| grpc_status::parse_timeout(value.as_bytes()));
    match (route, asked) {
        (Some(route), Some(asked)) => Some(route.min(asked)),
        (route, asked) => route.or(asked),
    }
}

/// The upstream hears the timeout that applies, in place of one that is longer or makes no sense.
pub(super) fn tell_grpc_timeout(timeout: Option<Duration>, exchange: &mut Exchange) {
    const GRPC_TIMEOUT: http::HeaderName = http::HeaderName::from_static("grpc-timeout");
    let headers = &mut exchange.head.headers;
    let Some(asked) = headers.get(&GRPC_TIMEOUT) else { return };
    if grpc_status::parse_timeout(asked.as_bytes()).is_some_and(|asked| Some(asked) == timeout) {
        return;
    }
    match timeout.and_then(|timeout| http::HeaderValue::try_from(grpc_status::format_timeout(timeout)).ok()) {
        Some(value) => drop(headers.insert(GRPC_TIMEOUT, value)),
        None => drop(headers.remove(&GRPC_TIMEOUT)),
    }
}
