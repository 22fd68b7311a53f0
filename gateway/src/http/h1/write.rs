//! What waits to be written: small pieces are copied together, big ones are kept as they are, and both leave in one
//! vectored write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use tokio::io::AsyncWrite;

use super::Frame;

/// Copying less than this is cheaper than one more entry of a vectored write.
const COPY_BELOW: usize = 4 * 1024;
/// Entries of one vectored write.
const SLICES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    queue: VecDeque<Bytes>,
    /// After everything in the queue.
    tail: BytesMut,
    length: usize,
}

impl WriteBuffer {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Gives the memory back, if nothing waits.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.tail = BytesMut::new();
            self.queue = VecDeque::new();
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
        self.length += bytes.len();
    }

    fn put_number(&mut self, number: u64, radix: u64) {
        let mut digits = [0u8; 20];
        let mut rest = number;
        let mut used = 0;
        for slot in digits.iter_mut().rev() {
            let digit = (rest % radix) as u8;
            *slot = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            rest /= radix;
            used += 1;
            if rest == 0 {
                break;
            }
        }
        self.put(digits.get(digits.len() - used..).unwrap_or_default());
    }

    pub fn put_data(&mut self, data: Bytes) {
        if data.len() < COPY_BELOW {
            self.put(&data);
            return;
        }
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        self.length += data.len();
        self.queue.push_back(data);
    }

    /// RFC 9112 section 7.1. An empty chunk would end the body: nothing is written for it.
    pub fn put_chunk(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.put_number(data.len() as u64, 16);
        self.put(b"\r\n");
        self.put_data(data);
        self.put(b"\r\n");
    }

    /// The last chunk with its trailer section (RFC 9112 section 7.1.2).
    pub fn put_last_chunk(&mut self, trailers: Option<&HeaderMap>) {
        self.put(b"0\r\n");
        if let Some(trailers) = trailers {
            for (name, value) in trailers {
                if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                    self.put_field(name.as_str().as_bytes(), value.as_bytes());
                }
            }
        }
        self.put(b"\r\n");
    }

    pub fn put_status_line(&mut self, status: StatusCode, reason: Option<&str>, headers: &HeaderMap) {
        self.reserve(96, headers);
        if status == StatusCode::OK && reason.is_none() {
            self.put(b"HTTP/1.1 200 OK\r\n");
            return;
        }
        self.put(b"HTTP/1.1 ");
        self.put(status.as_str().as_bytes());
        self.put(b" ");
        let reason = reason.filter(|reason| reason.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f)));
        self.put(reason.or(status.canonical_reason()).unwrap_or("Unknown").as_bytes());
        self.put(b"\r\n");
    }

    /// The caller answers for a method and a target without blanks and control bytes.
    pub fn put_request_line(&mut self, method: &str, target: &str, headers: &HeaderMap) {
        self.reserve(method.len() + target.len() + 64, headers);
        self.put(method.as_bytes());
        self.put(b" ");
        self.put(target.as_bytes());
        self.put(b" HTTP/1.1\r\n");
    }

    fn reserve(&mut self, rest: usize, headers: &HeaderMap) {
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        self.tail.reserve(rest + fields);
    }

    /// Every field except those that frame the message, which [`Self::put_framing`] and its callers write.
    pub fn put_fields(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            if name != CONTENT_LENGTH && name != TRANSFER_ENCODING && name != CONNECTION {
                self.put_field(name.as_str().as_bytes(), value.as_bytes());
            }
        }
    }

    /// `HeaderName` and `HeaderValue` hold no CR, LF or NUL by construction.
    pub fn put_field(&mut self, name: &[u8], value: &[u8]) {
        self.put(name);
        self.put(b": ");
        self.put(value);
        self.put(b"\r\n");
    }

    pub fn put_content_length(&mut self, length: u64) {
        self.put(b"content-length: ");
        self.put_number(length, 10);
        self.put(b"\r\n");
    }

    pub fn put_chunked_coding(&mut self) {
        self.put(b"transfer-encoding: chunked\r\n");
    }

    pub fn end_head(&mut self) {
        self.put(b"\r\n");
    }

    /// Writes until at most `low` bytes wait.
    pub fn poll_write_down_to<S>(&mut self, io: &mut S, cx: &mut Context<'_>, low: usize) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while self.length > low {
            let count = ready!(self.poll_write_once(io, cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.consume(count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_once<S>(&self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite + Unpin,
    {
        let Some(first) = self.queue.front() else {
            return Pin::new(io).poll_write(cx, &self.tail);
        };
        if !io.is_write_vectored() {
            return Pin::new(io).poll_write(cx, first);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        let parts = self.queue.iter().map(|part| &part[..]).chain(Some(&self.tail[..]).filter(|tail| !tail.is_empty()));
        for (slot, part) in slices.iter_mut().zip(parts) {
            *slot = IoSlice::new(part);
            used += 1;
        }
        Pin::new(io).poll_write_vectored(cx, slices.get(..used).unwrap_or_default())
    }

    fn consume(&mut self, mut count: usize) {
        self.length = self.length.saturating_sub(count);
        while let Some(front) = self.queue.front_mut() {
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.queue.pop_front();
        }
        self.tail.advance(count.min(self.tail.len()));
    }
}

/// The body that is being sent after a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyWriter {
    /// No head was sent, or the message is complete.
    Idle,
    /// A head was sent that has no body; not finished.
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
}

impl BodyWriter {
    /// Writes a frame; false if it does not fit what the head announced.
    pub fn put(&mut self, buffer: &mut WriteBuffer, frame: Frame) -> bool {
        match (*self, frame) {
            (BodyWriter::Length(left), Frame::Data(data)) => {
                let length = data.len() as u64;
                if length > left {
                    return false;
                }
                *self = BodyWriter::Length(left - length);
                buffer.put_data(data);
                true
            }
            (BodyWriter::Chunked, Frame::Data(data)) => {
                buffer.put_chunk(data);
                true
            }
            (BodyWriter::Chunked, Frame::Trailers(trailers)) => {
                buffer.put_last_chunk(Some(&trailers));
                *self = BodyWriter::Empty;
                true
            }
            (BodyWriter::UntilClose, Frame::Data(data)) => {
                buffer.put_data(data);
                true
            }
            // Only chunked bodies have a place for trailers; HEAD, 204 and 304 have none for data.
            (_, Frame::Trailers(_)) | (BodyWriter::Empty, Frame::Data(_)) => true,
            (BodyWriter::Idle, Frame::Data(data)) => data.is_empty(),
        }
    }

    /// Ends the message; false if it is shorter than its head announced.
    pub fn finish(&mut self, buffer: &mut WriteBuffer) -> bool {
        let state = std::mem::replace(self, BodyWriter::Idle);
        match state {
            BodyWriter::Chunked => {
                buffer.put_last_chunk(None);
                true
            }
            BodyWriter::Length(left) => left == 0,
            BodyWriter::Idle | BodyWriter::Empty | BodyWriter::UntilClose => true,
        }
    }
}
