//! The engine's client where a question is asked: it keeps the answer. What there is to send is read ahead.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use super::super::h1::Frame;
use super::super::message::{BodySize, Downstream, DownstreamError, Sink, Source};

/// Longest body of an answer, in bytes. A longer one is none.
const LONGEST: usize = 1024 * 1024;

#[derive(Default)]
pub(super) struct Collector {
    head: Option<(StatusCode, HeaderMap)>,
    received: BytesMut,
    trailers: HeaderMap,
    /// Too long.
    spilt: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Collector {
    /// None: there is no whole one.
    pub(super) fn answer(self) -> Option<Answer> {
        let (status, headers) = self.head.filter(|_| !self.spilt)?;
        Some(Answer { status, headers, body: self.received.freeze(), trailers: self.trailers })
    }
}

impl Source for Collector {
    type Error = DownstreamError;

    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, DownstreamError>>> {
        Poll::Ready(None)
    }

    fn is_done(&self) -> bool {
        true
    }
}

impl Sink for Collector {
    type Error = DownstreamError;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, frame: Frame, _: bool) -> Result<(), DownstreamError> {
        match frame {
            Frame::Data(data) if self.received.len().saturating_add(data.len()) > LONGEST => {
                self.spilt = true;
                return Err(DownstreamError::Gone);
            }
            Frame::Data(data) => self.received.extend_from_slice(&data),
            Frame::Trailers(trailers) => self.trailers = trailers,
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DownstreamError> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        Poll::Ready(Ok(()))
    }
}

impl Downstream for Collector {
    fn send_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        _: BodySize,
        _: bool,
    ) -> Result<(), DownstreamError> {
        self.head = Some((status, headers));
        Ok(())
    }

    fn send_informational(&mut self, _: StatusCode, _: HeaderMap) {}

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
