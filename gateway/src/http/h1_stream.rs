//! HTTP/1 connections as the engine sees them, on both sides, over the codecs of `h1`.

use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, TRAILER, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora_core::protocols::Stream;
use tokio::sync::watch;

use super::h1::{self, BodyError, BodyFraming, ClientCodec, Frame, ResponseBody, ResponseError, ServerCodec};
use crate::upstream;

use super::message::{BodySize, Downstream, DownstreamError, ResponseHead, Sink, Source, Upstream, UpstreamError};

/// A client's request on an HTTP/1 connection.
pub struct H1Downstream<'c> {
    codec: &'c mut ServerCodec<Stream>,
    /// The client said `te: trailers`; without it trailers are dropped (RFC 9110 section 6.5.1).
    takes_trailers: bool,
    /// True: the connection is to end with its next answer.
    drain: &'c watch::Receiver<bool>,
}

impl<'c> H1Downstream<'c> {
    pub fn new(codec: &'c mut ServerCodec<Stream>, takes_trailers: bool, drain: &'c watch::Receiver<bool>) -> Self {
        Self { codec, takes_trailers, drain }
    }
}

fn body_error(error: &BodyError) -> DownstreamError {
    match error.status() {
        Some(status) => DownstreamError::Malformed { status: status.as_u16(), detail: error.details() },
        None => DownstreamError::Gone,
    }
}

impl Source for H1Downstream<'_> {
    type Error = DownstreamError;

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, DownstreamError>>> {
        self.codec.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|error| body_error(&error))))
    }

    fn is_done(&self) -> bool {
        self.codec.body_done()
    }
}

impl Sink for H1Downstream<'_> {
    type Error = DownstreamError;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        self.codec.poll_ready(cx).map_err(|_| DownstreamError::Gone)
    }

    fn send(&mut self, frame: Frame, end: bool) -> Result<(), DownstreamError> {
        match frame {
            Frame::Trailers(_) if !self.takes_trailers => {}
            frame => self.codec.send_frame(frame),
        }
        if end {
            self.codec.finish();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DownstreamError> {
        self.codec.finish();
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        self.codec.poll_flush(cx).map_err(|_| DownstreamError::Gone)
    }
}

impl Downstream for H1Downstream<'_> {
    fn send_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        body: BodySize,
        close: bool,
    ) -> Result<(), DownstreamError> {
        if close || *self.drain.borrow() {
            self.codec.close_after_response();
        }
        // Only chunked framing has a place for the trailers that were announced.
        let trailers = self.takes_trailers && headers.contains_key(TRAILER);
        let framing = match body {
            BodySize::Known(_) if trailers => BodyFraming::Chunked,
            BodySize::Known(length) => BodyFraming::Length(length),
            BodySize::Unknown => BodyFraming::Chunked,
            BodySize::Empty => BodyFraming::None,
        };
        self.codec.send_head(status, None, &headers, framing);
        if matches!(body, BodySize::Empty | BodySize::Known(0)) {
            self.codec.finish();
        }
        Ok(())
    }

    fn send_informational(&mut self, status: StatusCode, headers: HeaderMap) {
        self.codec.send_informational(status, &headers);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.codec.poll_closed(cx)
    }
}

/// A request of ours on an HTTP/1 connection to an upstream.
pub struct H1Upstream<'c> {
    codec: &'c mut ClientCodec<upstream::Stream>,
}

impl<'c> H1Upstream<'c> {
    pub fn new(codec: &'c mut ClientCodec<upstream::Stream>) -> Self {
        Self { codec }
    }

    /// `upgrade`: the protocol to ask for. A request without body is complete with this.
    pub fn send_head(
        &mut self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        framing: BodyFraming,
        upgrade: Option<HeaderValue>,
    ) {
        match upgrade {
            None => self.codec.send_head(method, target, headers, framing),
            Some(protocol) => {
                let mut headers = headers.clone();
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(UPGRADE, protocol);
                self.codec.send_head(method, target, &headers, framing);
            }
        }
        if matches!(framing, BodyFraming::None | BodyFraming::Length(0)) {
            self.codec.finish();
        }
    }
}

impl Source for H1Upstream<'_> {
    type Error = UpstreamError;

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, UpstreamError>>> {
        // A body that is cut or malformed is a protocol error in Envoy's words, whatever cut it.
        self.codec.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|_| UpstreamError::Protocol)))
    }

    fn is_done(&self) -> bool {
        self.codec.body_done()
    }
}

impl Sink for H1Upstream<'_> {
    type Error = UpstreamError;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.codec.poll_ready(cx).map_err(|_| UpstreamError::Closed)
    }

    fn send(&mut self, frame: Frame, end: bool) -> Result<(), UpstreamError> {
        self.codec.send_frame(frame);
        if end {
            self.codec.finish();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), UpstreamError> {
        self.codec.finish();
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.codec.poll_flush(cx).map_err(|_| UpstreamError::Closed)
    }
}

impl Upstream for H1Upstream<'_> {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, UpstreamError>> {
        let head = match ready!(self.codec.poll_head(cx)) {
            Ok(head) => head,
            Err(ResponseError::Closed(_)) => return Poll::Ready(Err(UpstreamError::Closed)),
            Err(_) => return Poll::Ready(Err(UpstreamError::Protocol)),
        };
        let body = match head.body {
            ResponseBody::None | ResponseBody::Upgraded => BodySize::Empty,
            ResponseBody::Length(length) => BodySize::Known(length),
            ResponseBody::Chunked | ResponseBody::UntilClose => BodySize::Unknown,
        };
        Poll::Ready(Ok(ResponseHead { status: head.status, headers: head.headers, body }))
    }
}

/// A head of HTTP/1 as both protocols share it.
pub(super) fn body_size(body: h1::BodyLength) -> BodySize {
    match body {
        h1::BodyLength::None => BodySize::Empty,
        h1::BodyLength::Length(length) => BodySize::Known(length),
        h1::BodyLength::Chunked => BodySize::Unknown,
    }
}
