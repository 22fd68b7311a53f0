//! The read buffer of a connection: sized by what arrives, given back while nothing does.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Reads up to this size land on the stack first and only what arrived is kept on the heap: an idle connection owns
/// no buffer, and a small request costs an allocation of its own size.
const STACK: usize = 8 * 1024;
/// Smallest heap buffer, so that a head that arrives in pieces does not grow byte by byte.
const SMALLEST: usize = 1024;

#[derive(Debug)]
pub(super) struct ReadBuffer {
    pub bytes: BytesMut,
    /// The peer sent its last byte.
    pub eof: bool,
    /// Size of the next read: grows while reads come back full.
    next: usize,
    largest: usize,
}

impl ReadBuffer {
    pub fn new(largest: usize) -> ReadBuffer {
        ReadBuffer { bytes: BytesMut::new(), eof: false, next: STACK, largest: largest.max(STACK) }
    }

    /// Between messages: gives an empty buffer back, so that the next head does not pin one as big as the last body
    /// wanted.
    pub fn rest(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.next = STACK;
        }
    }

    /// Reads once and appends; 0 means the end of the stream. `want` is how many bytes are known to come, 0 if unknown.
    /// Holds no buffer while pending, unless bytes are already in it.
    pub fn poll_fill<S>(&mut self, io: &mut S, cx: &mut Context<'_>, want: u64) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        let size = self.next.max(usize::try_from(want).unwrap_or(usize::MAX)).min(self.largest);
        let read = if self.bytes.is_empty() && size <= STACK {
            self.read_small(io, cx)
        } else {
            if self.bytes.capacity() - self.bytes.len() < size / 2 {
                self.bytes.reserve(size);
            }
            // Without state of its own: dropping it while pending loses nothing.
            pin!(io.read_buf(&mut self.bytes)).poll(cx)
        };
        if read.is_pending() && self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
        let count = ready!(read)?;
        self.eof = count == 0;
        if count >= size {
            self.next = size.saturating_mul(4).min(self.largest);
        } else if count < size / 4 {
            self.next = (size / 2).max(STACK);
        }
        Poll::Ready(Ok(count))
    }

    fn read_small<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        let mut storage = [MaybeUninit::<u8>::uninit(); STACK];
        let mut buffer = ReadBuf::uninit(&mut storage);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        let filled = buffer.filled();
        if self.bytes.capacity() < filled.len() {
            self.bytes = BytesMut::with_capacity(filled.len().max(SMALLEST));
        }
        self.bytes.extend_from_slice(filled);
        Poll::Ready(Ok(filled.len()))
    }
}
