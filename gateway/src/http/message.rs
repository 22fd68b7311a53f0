//! What the engine asks of the two sides of an exchange, whatever protocol they speak. All of it is polled from one task
//! with `&mut`, so that both directions flow at once without locks, channels or further tasks.

use std::task::{Context, Poll};

use http::{HeaderMap, StatusCode};

use super::h1::Frame;

/// Where a body comes from.
pub trait Source {
    type Error;

    /// The next piece; `None` after the last one.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Self::Error>>>;

    /// Nothing more will come. May be known before `poll_frame` yields `None`, so that the last piece can carry the end.
    fn is_done(&self) -> bool;
}

/// Where a body goes to.
pub trait Sink {
    type Error;

    /// There is room for one more piece.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// Takes a piece after `poll_ready`; `end`: it is the last.
    fn send(&mut self, frame: Frame, end: bool) -> Result<(), Self::Error>;

    /// Ends a body whose last piece did not say so.
    fn finish(&mut self) -> Result<(), Self::Error>;

    /// Everything that was sent has left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;
}

/// Length of a response's body as far as its head tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// No body follows, whatever the headers say (HEAD, 204, 304, END_STREAM).
    Empty,
    Known(u64),
    Unknown,
}

/// How a client failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownstreamError {
    /// It went away.
    Gone,
    /// Its body is malformed: the status to answer with, and the details for the log.
    Malformed { status: u16, detail: &'static str },
}

/// A client with one request.
pub trait Downstream: Source<Error = DownstreamError> + Sink<Error = DownstreamError> {
    /// The head of the final answer. `close`: the connection ends after it (HTTP/1).
    fn send_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        body: BodySize,
        close: bool,
    ) -> Result<(), DownstreamError>;

    /// 1xx other than 101.
    fn send_informational(&mut self, status: StatusCode, headers: HeaderMap);

    /// Ready when the client is gone for good: nobody would read an answer.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The head of an upstream's answer.
#[derive(Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: BodySize,
}

/// How an upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// Closed or reset before a byte of the answer came.
    Closed,
    /// Not HTTP, or cut inside a head or a body.
    Protocol,
    /// The HTTP/2 stream was reset.
    Reset,
    /// The HTTP/2 stream was refused before the upstream looked at it: it is safe to send it again.
    Refused,
}

/// An upstream with one request.
pub trait Upstream: Source<Error = UpstreamError> + Sink<Error = UpstreamError> {
    /// 1xx heads first, one by one, then the final head.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, UpstreamError>>;
}
