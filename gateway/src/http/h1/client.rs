//! The upstream-facing side of a connection: requests out, responses in. One request at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::header::CONNECTION;
use http::{HeaderMap, Method};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::BodyReader;
use super::chunked::Chunked;
use super::error::{BodyError, ResponseError};
use super::fields::{self, BlockScan};
use super::read::ReadBuffer;
use super::response::{self, Asked, ResponseBody, ResponseHead};
use super::write::{BodyWriter, WriteBuffer};
use super::{BodyFraming, Frame, Limits};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was asked.
    Idle,
    /// A request head was sent; the final response head was not read.
    Waiting,
    /// The final response head was read.
    Receiving,
    /// 101 was read: the bytes belong to another protocol.
    Upgraded,
}

pub struct ClientCodec<S> {
    io: S,
    limits: Limits,
    read: ReadBuffer,
    scan: BlockScan,
    asked: Asked,
    informational: usize,
    body: BodyReader,
    write: WriteBuffer,
    out: BodyWriter,
    phase: Phase,
    /// The request was sent to its end.
    request_done: bool,
    /// Whether another request may follow.
    persistent: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientCodec<S> {
    pub fn new(io: S, limits: Limits) -> ClientCodec<S> {
        ClientCodec {
            io,
            read: ReadBuffer::new(limits.largest_read),
            limits,
            scan: BlockScan::default(),
            asked: Asked::default(),
            informational: 0,
            body: BodyReader::Done,
            write: WriteBuffer::default(),
            out: BodyWriter::Idle,
            phase: Phase::Idle,
            request_done: true,
            persistent: true,
        }
    }

    pub fn io(&self) -> &S {
        &self.io
    }

    pub fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// Buffers a request head: it leaves with the first data, or with `poll_flush`. `target` must hold no blank or
    /// control byte; whatever does is refused by closing the connection. The framing headers come from `framing`;
    /// Host is in `headers`.
    pub fn send_head(&mut self, method: &Method, target: &str, headers: &HeaderMap, framing: BodyFraming) {
        self.phase = Phase::Waiting;
        self.informational = 0;
        self.scan = BlockScan::default();
        self.body = BodyReader::Done;
        self.asked = Asked::new(method, headers);
        self.request_done = false;
        if target.is_empty() || !target.bytes().all(|b| b > b' ' && b != 0x7f) {
            self.persistent = false;
            self.read.eof = true;
            return;
        }
        let close = fields::members(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"close"));
        self.persistent &= !close;
        self.write.put_request_line(method.as_str(), target, headers);
        self.write.put_fields(headers);
        for value in headers.get_all(CONNECTION) {
            self.write.put_field(b"connection", value.as_bytes());
        }
        self.out = match framing {
            BodyFraming::None | BodyFraming::UntilClose => BodyWriter::Empty,
            BodyFraming::Length(length) => {
                self.write.put_content_length(length);
                BodyWriter::Length(length)
            }
            BodyFraming::Chunked => {
                self.write.put_chunked_coding();
                BodyWriter::Chunked
            }
        };
        self.write.end_head();
    }

    /// Ready when the request may grow: at most the high-water mark waits to be written. An error does not mean that
    /// there is no response: an upstream may answer and close before it has read the request, so ask `poll_head`
    /// before giving up.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write.len() < self.limits.high_water {
            return Poll::Ready(Ok(()));
        }
        let written = self.write.poll_write_down_to(&mut self.io, cx, self.limits.high_water.saturating_sub(1));
        self.note_write(written)
    }

    /// Bytes that wait to be written.
    pub fn buffered(&self) -> usize {
        self.write.len()
    }

    /// Buffers a piece of the request's body. Data beyond what the head announced is dropped and the connection is
    /// not used again.
    pub fn send_frame(&mut self, frame: Frame) {
        if !self.out.put(&mut self.write, frame) {
            self.persistent = false;
        }
    }

    /// Ends the request.
    pub fn finish(&mut self) {
        if !self.out.finish(&mut self.write) {
            self.persistent = false;
        }
        self.request_done = true;
    }

    /// Writes everything that waits and flushes the stream.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = ready!(self.write.poll_write_down_to(&mut self.io, cx, 0));
        let flushed = match written {
            Ok(()) => Pin::new(&mut self.io).poll_flush(cx),
            Err(error) => Poll::Ready(Err(error)),
        };
        self.note_write(flushed)
    }

    fn note_write(&mut self, written: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if matches!(written, Poll::Ready(Err(_))) {
            self.persistent = false;
        }
        written
    }

    /// The next response head: interim ones (1xx but 101) one by one, then the final one. Does not write: poll
    /// `poll_flush` too.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ResponseError>> {
        let result = ready!(self.poll_head_inner(cx));
        if result.is_err() {
            self.persistent = false;
        }
        Poll::Ready(result)
    }

    fn poll_head_inner(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ResponseError>> {
        loop {
            if let Some(head) = response::read(&mut self.scan, &mut self.read.bytes, self.asked, &self.limits)? {
                return Poll::Ready(self.accept(head));
            }
            let error = match ready!(self.read.poll_fill(&mut self.io, cx, 0)) {
                Ok(0) => None,
                Ok(_) => continue,
                Err(error) => Some(error),
            };
            // After an interim response the upstream was at work: not the same as never having answered.
            let untouched = self.read.bytes.is_empty() && self.informational == 0;
            return Poll::Ready(Err(if untouched {
                ResponseError::Closed(error)
            } else {
                ResponseError::Incomplete(error)
            }));
        }
    }

    fn accept(&mut self, head: ResponseHead) -> Result<ResponseHead, ResponseError> {
        if head.is_informational() {
            self.informational += 1;
            if self.informational > self.limits.informational {
                return Err(ResponseError::TooManyInformational);
            }
            return Ok(head);
        }
        self.phase = Phase::Receiving;
        self.persistent &= head.keep_alive;
        self.body = match head.body {
            ResponseBody::None => BodyReader::Done,
            ResponseBody::Length(length) => BodyReader::Length(length),
            ResponseBody::Chunked => {
                BodyReader::Chunked(Chunked::new(&self.limits, head.wire_bytes, head.headers.len()))
            }
            ResponseBody::UntilClose => BodyReader::UntilClose,
            ResponseBody::Upgraded => {
                self.phase = Phase::Upgraded;
                BodyReader::Done
            }
        };
        Ok(head)
    }

    /// The next piece of the response's body; `None` after the last.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.body.poll_frame(&mut self.read, &mut self.io, &self.limits, cx);
        if matches!(frame, Poll::Ready(Some(Err(_)))) {
            self.persistent = false;
        }
        frame
    }

    /// Whether the response's body was read to its end. Becomes true with the last data of a body of known length, and
    /// with that of a chunked one whose end has arrived.
    pub fn body_done(&self) -> bool {
        self.body.is_done()
    }

    /// Whether `finish` was called for the current request.
    pub fn request_done(&self) -> bool {
        self.request_done
    }

    /// Whether the connection may carry another request: both messages are complete, nobody wants to close, and no
    /// stray byte came after the response.
    pub fn reusable(&self) -> bool {
        self.persistent
            && self.request_done
            && matches!(self.phase, Phase::Receiving | Phase::Idle)
            && self.body.is_done()
            && self.write.is_empty()
            && self.read.bytes.is_empty()
            && !self.read.eof
    }

    /// Gives the buffers back before the connection waits in a pool.
    pub fn release_buffers(&mut self) {
        self.write.release();
        self.read.rest();
    }

    /// For an idle connection: ready when it must not be used any more, because the upstream closed it or sent
    /// something unasked (a 408, or a response meant to be taken for the next one).
    pub fn poll_idle_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read.bytes.is_empty() && !self.read.eof {
            let _ = ready!(self.read.poll_fill(&mut self.io, cx, 0));
        }
        self.persistent = false;
        Poll::Ready(())
    }

    /// Writes everything and closes our sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.persistent = false;
        ready!(self.write.poll_write_down_to(&mut self.io, cx, 0))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// The stream and the bytes read but not used, for the protocol after 101. Flush first: what waits to be written
    /// is dropped.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.io, self.read.bytes)
    }
}
