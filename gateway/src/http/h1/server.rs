//! The client-facing side of a connection: requests in, responses out.
//!
//! Every method is poll-based over `&mut self` and keeps its progress in the codec, so one task can pump both
//! directions and drop any wait without losing bytes. Pipelined requests stay in the read buffer and are served one
//! after another.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::BodyReader;
use super::chunked::Chunked;
use super::error::{BodyError, HeadError};
use super::fields;
use super::head::{self, HeadReader, RequestHead};
use super::read::ReadBuffer;
use super::write::{BodyWriter, WriteBuffer};
use super::{BodyFraming, BodyLength, Frame, Limits, Version};

/// Pipelined bytes read ahead while a request is being answered. Beyond them the client has to wait.
const READ_AHEAD: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No request is being served.
    Idle,
    /// A request was read; its final response head was not sent.
    Answering,
    /// The final response head was sent.
    Sending,
    /// The response was finished.
    Finished,
    /// 101 was sent: the bytes belong to another protocol.
    Upgraded,
}

pub struct ServerCodec<S> {
    io: S,
    limits: Limits,
    read: ReadBuffer,
    head: HeadReader,
    body: BodyReader,
    write: WriteBuffer,
    out: BodyWriter,
    phase: Phase,
    /// What the current request decides about its answer.
    version: Version,
    head_request: bool,
    /// Whether another request may follow.
    persistent: bool,
    /// A head could not be parsed, or a response was cut short.
    broken: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerCodec<S> {
    pub fn new(io: S, limits: Limits) -> ServerCodec<S> {
        ServerCodec {
            io,
            read: ReadBuffer::new(limits.largest_read),
            limits,
            head: HeadReader::default(),
            body: BodyReader::Done,
            write: WriteBuffer::default(),
            out: BodyWriter::Idle,
            phase: Phase::Idle,
            version: Version::V1_1,
            head_request: false,
            persistent: true,
            broken: false,
        }
    }

    pub fn io(&self) -> &S {
        &self.io
    }

    pub fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// The next request; `None` if the connection ended between requests, or must not be used for another.
    /// May be dropped at any time. The deadline is the caller's.
    pub async fn read_head(&mut self) -> Result<Option<RequestHead>, HeadError> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    /// See [`Self::read_head`]. Also writes what still waits, once no complete head is in the buffer.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RequestHead>, HeadError>> {
        if self.phase != Phase::Idle && !self.can_keep_alive() || self.broken || !self.persistent {
            return Poll::Ready(Ok(None));
        }
        loop {
            match head::read(&mut self.head, &mut self.read.bytes, &self.limits) {
                Ok(Some(head)) => {
                    self.begin(&head);
                    return Poll::Ready(Ok(Some(head)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.refuse(error))),
            }
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(self.refuse(HeadError::Io(error))));
            }
            self.write.release();
            self.read.rest();
            match ready!(self.read.poll_fill(&mut self.io, cx, 0)) {
                Ok(0) if self.read.bytes.is_empty() => {
                    self.persistent = false;
                    return Poll::Ready(Ok(None));
                }
                Ok(0) => return Poll::Ready(Err(self.refuse(HeadError::Incomplete))),
                Ok(_) => {}
                // Nothing was asked: a reset is as good an end as any.
                Err(_) if self.read.bytes.is_empty() => {
                    self.persistent = false;
                    return Poll::Ready(Ok(None));
                }
                Err(error) => return Poll::Ready(Err(self.refuse(HeadError::Io(error)))),
            }
        }
    }

    fn refuse(&mut self, error: HeadError) -> HeadError {
        self.broken = true;
        self.persistent = false;
        self.phase = Phase::Answering;
        self.head_request = false;
        error
    }

    fn begin(&mut self, head: &RequestHead) {
        self.phase = Phase::Answering;
        self.version = head.version;
        self.head_request = head.method == Method::HEAD;
        self.persistent = head.keep_alive;
        self.out = BodyWriter::Idle;
        self.body = match head.body {
            BodyLength::None => BodyReader::Done,
            BodyLength::Length(length) => BodyReader::Length(length),
            BodyLength::Chunked => BodyReader::Chunked(Chunked::new(&self.limits, head.wire_bytes, head.headers.len())),
        };
    }

    /// Whether bytes of a request head arrived that is not complete: a timeout then deserves 408.
    pub fn has_partial_head(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Finished) && !self.read.bytes.is_empty()
    }

    /// The next piece of the request's body; `None` after the last. Never waits for anything but the client.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.body.poll_frame(&mut self.read, &mut self.io, &self.limits, cx);
        if matches!(frame, Poll::Ready(Some(Err(_)))) {
            self.persistent = false;
        }
        frame
    }

    /// Whether the request's body was read to its end. Becomes true with the last data of a body of known length, and
    /// with that of a chunked one whose end has arrived.
    pub fn body_done(&self) -> bool {
        self.body.is_done()
    }

    /// Makes the response that follows the last one of this connection.
    pub fn close_after_response(&mut self) {
        self.persistent = false;
    }

    /// Whether another request may be read after this one: both sides complete, nobody wants to close.
    pub fn can_keep_alive(&self) -> bool {
        self.persistent && !self.broken && self.body.is_done() && self.phase == Phase::Finished
    }

    /// Buffers an interim response (RFC 9110 section 15.2); clients of HTTP/1.0 get none.
    pub fn send_informational(&mut self, status: StatusCode, headers: &HeaderMap) {
        if self.version == Version::V1_0 || self.phase != Phase::Answering {
            return;
        }
        self.write.put_status_line(status, None, headers);
        self.write.put_fields(headers);
        self.write.end_head();
    }

    /// Buffers the response head: it leaves with the first data, or with `poll_flush`. `reason` is the standard
    /// phrase if absent. Writes the framing headers and `connection: close` or `keep-alive` itself where they are
    /// needed.
    pub fn send_head(&mut self, status: StatusCode, reason: Option<&str>, headers: &HeaderMap, framing: BodyFraming) {
        if matches!(self.phase, Phase::Sending | Phase::Upgraded) {
            // A second head inside a response would be read as its body, or as the answer to a request of somebody
            // else.
            self.broken = true;
            return;
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            self.write.put_status_line(status, reason, headers);
            self.write.put_fields(headers);
            self.put_connection(headers);
            self.write.end_head();
            self.phase = Phase::Upgraded;
            self.persistent = false;
            self.out = BodyWriter::UntilClose;
            return;
        }
        let framing = match framing {
            BodyFraming::Chunked if self.version == Version::V1_0 => BodyFraming::UntilClose,
            other => other,
        };
        let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
        let silent = bodiless || self.head_request || status == StatusCode::NOT_MODIFIED;
        let asks_close = fields::members(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"close"));
        if asks_close || (framing == BodyFraming::UntilClose && !silent) {
            self.persistent = false;
        }
        self.write.put_status_line(status, reason, headers);
        self.write.put_fields(headers);
        if !bodiless {
            self.put_framing(framing, silent, headers);
        }
        self.put_connection(headers);
        if !self.persistent && !asks_close {
            self.write.put_field(b"connection", b"close");
        } else if self.persistent && self.version == Version::V1_0 {
            self.write.put_field(b"connection", b"keep-alive");
        }
        self.write.end_head();
        self.phase = Phase::Sending;
        self.out = match framing {
            _ if silent => BodyWriter::Empty,
            BodyFraming::None => BodyWriter::Empty,
            BodyFraming::Length(length) => BodyWriter::Length(length),
            BodyFraming::Chunked => BodyWriter::Chunked,
            BodyFraming::UntilClose => BodyWriter::UntilClose,
        };
    }

    /// RFC 9110 section 8.6: the answer to HEAD and 304 may say the length that GET would have had.
    fn put_framing(&mut self, framing: BodyFraming, silent: bool, headers: &HeaderMap) {
        match framing {
            BodyFraming::Length(length) => self.write.put_content_length(length),
            BodyFraming::Chunked => self.write.put_chunked_coding(),
            BodyFraming::UntilClose => {}
            BodyFraming::None if silent => {
                if let Some(length) = headers.get(CONTENT_LENGTH) {
                    self.write.put_field(b"content-length", length.as_bytes());
                }
            }
            BodyFraming::None => self.write.put_content_length(0),
        }
    }

    fn put_connection(&mut self, headers: &HeaderMap) {
        for value in headers.get_all(CONNECTION) {
            self.write.put_field(b"connection", value.as_bytes());
        }
    }

    /// Ready when the response may grow: at most the high-water mark waits to be written. Pending registers with the
    /// socket.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write.len() < self.limits.high_water {
            return Poll::Ready(Ok(()));
        }
        self.write.poll_write_down_to(&mut self.io, cx, self.limits.high_water.saturating_sub(1))
    }

    /// Bytes that wait to be written.
    pub fn buffered(&self) -> usize {
        self.write.len()
    }

    /// Buffers a piece of the response's body. Data beyond what the head announced is dropped, and the connection
    /// ends after the response.
    pub fn send_frame(&mut self, frame: Frame) {
        if !self.out.put(&mut self.write, frame) {
            self.broken = true;
        }
    }

    /// Ends the response. A body shorter than announced breaks the connection: close it, so that the client notices.
    pub fn finish(&mut self) {
        if self.phase == Phase::Upgraded {
            return;
        }
        if !self.out.finish(&mut self.write) {
            self.broken = true;
        }
        if self.phase == Phase::Sending {
            self.phase = Phase::Finished;
            // An answer without a request (408) is no answer to this one.
            self.head_request = false;
            self.version = Version::V1_1;
        }
    }

    /// Writes everything that waits and flushes the stream.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write.poll_write_down_to(&mut self.io, cx, 0))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Ready when the client is certainly gone, seen while waiting for an upstream. A client that only closed its
    /// sending side (it looks the same as one that closed both, until we write) is not gone: it gets its answer.
    /// Bytes that arrive are kept for `poll_frame` and `poll_head`; with 16 KiB of them unread nothing more is read,
    /// and a reset is noticed by the next write.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.read.eof && self.read.bytes.len() < READ_AHEAD {
            if ready!(self.read.poll_fill(&mut self.io, cx, 0)).is_err() {
                self.persistent = false;
                self.broken = true;
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Reads and drops until the client closes: done for a moment after a last response while the client still sends,
    /// because closing with unread bytes makes TCP reset the connection and the client lose the response (RFC 9112
    /// section 9.6). The deadline is the caller's.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.persistent = false;
        loop {
            self.read.bytes.clear();
            match ready!(self.read.poll_fill(&mut self.io, cx, 0)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
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
