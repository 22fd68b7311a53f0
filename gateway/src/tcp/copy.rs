//! Bytes both ways between two streams, each direction until its own end: a side that has said everything may still listen.
//!
//! A connection that is quiet holds no buffer: what is read lands in one of the thread's, and only what the other side does
//! not take at once is kept.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once.
const READ: usize = 64 * 1024;

thread_local! {
    static LANDING: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// Which side broke, and how.
#[derive(Debug)]
pub enum Broken {
    Client(io::Error),
    Upstream(io::Error),
}

/// Both directions.
pub struct Copy<C, U> {
    client: C,
    upstream: U,
    /// From the client.
    pub received: Half,
    /// To the client.
    pub sent: Half,
    /// The upstream takes nothing any more. What it said before is still the client's.
    deaf: Option<io::Error>,
}

/// One direction.
#[derive(Default)]
pub struct Half {
    /// Read, and not taken yet by the other side.
    kept: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// Something was written that is not flushed.
    owes_flush: bool,
    /// The reader has said everything.
    ended: bool,
    /// And the writer knows.
    done: bool,
    /// So far.
    pub bytes: u64,
}

enum HalfBroken {
    Read(io::Error),
    Write(io::Error),
}

impl<C, U> Copy<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub fn new(client: C, upstream: U) -> Self {
        Self { client, upstream, received: Half::default(), sent: Half::default(), deaf: None }
    }

    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Ready when both directions are done, or one broke.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let up = self.received.poll(Pin::new(&mut self.client), Pin::new(&mut self.upstream), cx);
        match up {
            Poll::Ready(Err(HalfBroken::Read(error))) => return Poll::Ready(Err(Broken::Client(error))),
            Poll::Ready(Err(HalfBroken::Write(error))) => {
                self.received.done = true;
                self.deaf = Some(error);
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let down = self.sent.poll(Pin::new(&mut self.upstream), Pin::new(&mut self.client), cx);
        if let Poll::Ready(Err(broken)) = down {
            return Poll::Ready(Err(match broken {
                HalfBroken::Read(error) => Broken::Upstream(error),
                HalfBroken::Write(error) => Broken::Client(error),
            }));
        }
        if !(self.received.done && down.is_ready()) {
            return Poll::Pending;
        }
        Poll::Ready(self.deaf.take().map_or(Ok(()), |error| Err(Broken::Upstream(error))))
    }
}

impl Half {
    fn poll<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        mut reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), HalfBroken>> {
        while !self.done {
            ready!(self.poll_kept(writer.as_mut(), cx)).map_err(HalfBroken::Write)?;
            if self.ended {
                ready!(writer.as_mut().poll_shutdown(cx)).map_err(HalfBroken::Write)?;
                self.done = true;
                break;
            }
            if LANDING
                .with_borrow_mut(|landing| self.poll_move(landing, reader.as_mut(), writer.as_mut(), cx))?
                .is_pending()
            {
                // What is gathered must not wait for what may never come.
                if self.owes_flush {
                    ready!(writer.as_mut().poll_flush(cx)).map_err(HalfBroken::Write)?;
                    self.owes_flush = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// One read, and as much of writing as goes at once.
    fn poll_move<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        landing: &mut [u8],
        reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, HalfBroken> {
        let mut landed = ReadBuf::new(landing);
        match reader.poll_read(cx, &mut landed) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(read) => read.map_err(HalfBroken::Read)?,
        }
        let mut bytes = landed.filled();
        self.ended = bytes.is_empty();
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        while !bytes.is_empty() {
            match writer.as_mut().poll_write(cx, bytes) {
                Poll::Pending => {
                    self.kept.extend_from_slice(bytes);
                    break;
                }
                Poll::Ready(written) => {
                    self.owes_flush = true;
                    bytes = bytes.get(some(written).map_err(HalfBroken::Write)?..).unwrap_or_default();
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn poll_kept<W: AsyncWrite>(&mut self, mut writer: Pin<&mut W>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let rest = self.kept.get(self.taken..).unwrap_or_default();
            if rest.is_empty() {
                (self.kept, self.taken) = (Vec::new(), 0);
                return Poll::Ready(Ok(()));
            }
            self.taken += some(ready!(writer.as_mut().poll_write(cx, rest)))?;
            self.owes_flush = true;
        }
    }
}

/// Who takes nothing will never take anything.
fn some(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
