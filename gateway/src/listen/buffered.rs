//! A TCP stream whose small writes are gathered until a flush, so that a head and a short body, or several TLS records,
//! leave in one system call. It lies under TLS as well as under clear text.
//!
//! The buffer exists only while something waits in it: an idle connection holds none. Spare buffers are kept per thread.
//!
//! Under TLS reads are gathered too: rustls asks for 4 KiB at a time, a record may have 16 KiB.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::replay::Replay;

/// How much is gathered at most. A write that does not fit leaves at once, together with what was gathered.
const CAPACITY: usize = 16 * 1024;
/// How much is read at once under TLS.
const READ: usize = 32 * 1024;
/// Spare buffers per thread.
const SPARES: usize = 32;
/// Slices of one gathered write.
const SLICES: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    /// Where reads under TLS land before they are handed out.
    static LANDING: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
    static FLUSHES: Cell<Flushes> = const { Cell::new(Flushes::Done) };
}

/// What a flush on this thread does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flushes {
    Done,
    PutOff,
    /// Put off, and one was asked for.
    Owed,
}

/// Puts flushes off while `poll` runs: for users of a stream that flush after every piece, as the h2 crate does after every
/// DATA frame. True: something waits that has to be flushed later.
pub fn put_off_flushes<T>(poll: impl FnOnce() -> T) -> (T, bool) {
    FLUSHES.set(Flushes::PutOff);
    let result = poll();
    (result, FLUSHES.replace(Flushes::Done) == Flushes::Owed)
}

fn take_buffer() -> Vec<u8> {
    SPARE
        .try_with(|spare| spare.try_borrow_mut().ok().and_then(|mut spare| spare.pop()))
        .ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(CAPACITY))
}

fn give_buffer(mut buffer: Vec<u8>) {
    if buffer.capacity() != CAPACITY {
        return;
    }
    buffer.clear();
    let _ = SPARE.try_with(|spare| {
        if let Ok(mut spare) = spare.try_borrow_mut()
            && spare.len() < SPARES
        {
            spare.push(buffer);
        }
    });
}

/// See the module. Reads give back the bytes of `replay` first.
pub struct BufferedTcp {
    io: TcpStream,
    /// Gathered bytes. No allocation while empty.
    gathered: Vec<u8>,
    /// How many of `gathered` are already sent.
    sent: usize,
    /// Read already, not yet handed out.
    replay: Replay,
    reads_ahead: bool,
}

impl BufferedTcp {
    pub fn new(io: TcpStream) -> Self {
        Self { io, gathered: Vec::new(), sent: 0, replay: Replay::default(), reads_ahead: false }
    }

    /// For a TLS session to lie on it.
    pub fn under_tls(io: TcpStream) -> Self {
        Self { reads_ahead: true, ..Self::new(io) }
    }

    /// The bytes will be read again before those of the socket.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.replay.push_front(bytes);
    }

    pub fn get_ref(&self) -> &TcpStream {
        &self.io
    }

    /// Reads more than `buffer` can take, and keeps the rest.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        LANDING.with(|landing| {
            let Ok(mut landing) = landing.try_borrow_mut() else {
                return Pin::new(&mut self.io).poll_read(cx, buffer);
            };
            let mut landed = ReadBuf::new(&mut landing);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut landed))?;
            let count = landed.filled().len().min(buffer.remaining());
            let (now, later) = landed.filled().split_at(count);
            buffer.put_slice(now);
            self.replay.push_front(later);
            Poll::Ready(Ok(()))
        })
    }

    fn release(&mut self) {
        self.sent = 0;
        if self.gathered.capacity() != 0 {
            give_buffer(std::mem::take(&mut self.gathered));
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let waiting = self.gathered.get(self.sent..).unwrap_or_default();
            if waiting.is_empty() {
                break;
            }
            match ready!(Pin::new(&mut self.io).poll_write(cx, waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.release();
        Poll::Ready(Ok(()))
    }

    /// Sends what was gathered and then `slices`, with as few system calls as possible. Ready with how much of `slices`
    /// was taken.
    fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.gathered.get(self.sent..).unwrap_or_default();
            if waiting.is_empty() {
                self.release();
                return Pin::new(&mut self.io).poll_write_vectored(cx, slices);
            }
            let before = waiting.len();
            let mut all = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (to, from) in all.iter_mut().zip(std::iter::once(waiting).chain(slices.iter().map(|slice| &**slice))) {
                *to = IoSlice::new(from);
                count += 1;
            }
            let all = all.get(..count).unwrap_or_default();
            match ready!(Pin::new(&mut self.io).poll_write_vectored(cx, all))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n if n > before => {
                    self.release();
                    return Poll::Ready(Ok(n - before));
                }
                n => self.sent += n,
            }
        }
    }

    fn gather(&mut self, slices: &[IoSlice<'_>]) {
        if self.gathered.capacity() == 0 {
            self.gathered = take_buffer();
        }
        for slice in slices {
            self.gathered.extend_from_slice(slice);
        }
    }
}

impl AsyncRead for BufferedTcp {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.replay.read(buffer) {
            return Poll::Ready(Ok(()));
        }
        if this.reads_ahead && buffer.remaining() < READ {
            return this.poll_read_ahead(cx, buffer);
        }
        Pin::new(&mut this.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BufferedTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if this.gathered.len() + total > CAPACITY {
            return this.poll_send(cx, slices);
        }
        this.gather(slices);
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if FLUSHES.get() != Flushes::Done {
            if !self.gathered.is_empty() {
                FLUSHES.set(Flushes::Owed);
            }
            return Poll::Ready(Ok(()));
        }
        self.get_mut().poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl AsRawFd for BufferedTcp {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

impl fmt::Debug for BufferedTcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferedTcp").field("fd", &self.io.as_raw_fd()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "buffered_tests.rs"]
mod tests;
