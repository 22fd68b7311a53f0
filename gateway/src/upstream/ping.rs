//! Whether the other end of an HTTP/2 connection still answers: it is asked (PING, RFC 9113 section 6.7) now and then, and when it is
//! silent for too long after that, nobody waits for it any more.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use ::h2::{Ping, PingPong};
use mesh_core::model::PingRule;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use super::Stream;

/// How often bytes came.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<AtomicUsize>);

/// A connection that counts that.
pub(super) struct Listening {
    io: Stream,
    heard: Heard,
}

impl Listening {
    pub(super) fn new(io: Stream, heard: Heard) -> Listening {
        Listening { io, heard }
    }
}

/// Ends when the other end does not answer. As with Envoy whatever it sends within the time is a sign of life: an answer may stand
/// behind much that it has to say. An end that is silent is noticed after twice the timeout at the latest.
pub(super) async fn until_silent(mut pings: PingPong, rule: PingRule, heard: Heard) {
    let count = || heard.0.load(Ordering::Relaxed);
    loop {
        sleep(rule.interval).await;
        let mut before = count();
        let mut answer = std::pin::pin!(pings.ping(Ping::opaque()));
        loop {
            tokio::select! {
                answer = &mut answer => match answer {
                    Ok(_) => break,
                    // The connection has ended anyway, and its driver knows how.
                    Err(_) => return std::future::pending().await,
                },
                () = sleep(rule.timeout) => {
                    let now = count();
                    if now == before {
                        return;
                    }
                    before = now;
                }
            }
        }
    }
}

impl AsyncRead for Listening {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            this.heard.0.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Listening {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
