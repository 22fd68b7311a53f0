//! HTTP/2 streams as the engine sees them, on both sides, over the `h2` crate.

use std::future::Future;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};

use super::h1::Frame;
use super::message::{BodySize, Downstream, DownstreamError, ResponseHead, Sink, Source, Upstream, UpstreamError};

/// The receiving half of a stream: data, then trailers.
#[derive(Debug)]
struct Receiver {
    stream: RecvStream,
    data_done: bool,
    done: bool,
    /// Found while looking ahead; told at the next poll.
    failed: Option<h2::Error>,
}

impl Receiver {
    fn new(stream: RecvStream) -> Self {
        let done = stream.is_end_stream();
        Self { stream, data_done: done, done, failed: None }
    }

    /// After a piece: was it the last? `is_end_stream` is also true after a reset, and only polling tells them apart; it
    /// answers at once here.
    fn look_ahead(&mut self, cx: &mut Context<'_>) {
        if !self.stream.is_end_stream() {
            return;
        }
        match self.stream.poll_data(cx) {
            Poll::Ready(None) => {
                self.data_done = true;
                if let Poll::Ready(Ok(None)) = self.stream.poll_trailers(cx) {
                    self.done = true;
                }
            }
            Poll::Ready(Some(Err(error))) => self.failed = Some(error),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, h2::Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Some(error) = self.failed.take() {
            self.done = true;
            return Poll::Ready(Some(Err(error)));
        }
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The sink takes a piece only when it has room, so this is the backpressure.
                    if let Err(error) = self.stream.flow_control().release_capacity(data.len()) {
                        return Poll::Ready(Some(Err(error)));
                    }
                    self.look_ahead(cx);
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_done = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.done = true;
        match trailers {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::Trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

/// Waits until the stream may send at least a byte; a larger piece waits inside `h2`, one at a time.
fn poll_capacity(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
    if stream.capacity() > 0 {
        return Poll::Ready(Ok(()));
    }
    stream.reserve_capacity(1);
    loop {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(0)) => {}
            Some(Ok(_)) => return Poll::Ready(Ok(())),
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }
}

/// Yields what the stream has no room for, if anything.
fn send_what_fits(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    end: bool,
) -> Result<Option<(Bytes, bool)>, h2::Error> {
    stream.reserve_capacity(data.len());
    let room = stream.capacity();
    if room >= data.len() {
        return stream.send_data(data, end).map(|()| None);
    }
    if room > 0 {
        stream.send_data(data.split_to(room), false)?;
    }
    Ok(Some((data, end)))
}

fn send(stream: &mut SendStream<Bytes>, frame: Frame, end: bool) -> Result<(), h2::Error> {
    match frame {
        Frame::Data(data) => stream.send_data(data, end),
        Frame::Trailers(trailers) => stream.send_trailers(trailers),
    }
}

/// A client's request on an HTTP/2 stream.
#[derive(Debug)]
pub struct H2Downstream {
    receiver: Receiver,
    respond: h2::server::SendResponse<Bytes>,
    sender: Option<SendStream<Bytes>>,
    /// Of the last piece, what the client has no room for yet, and whether it is the end. What `h2` holds nobody watches, and a
    /// client may give a thousand streams a window of one byte each.
    rest: Option<(Bytes, bool)>,
    /// The answer's end was sent.
    ended: bool,
}

impl H2Downstream {
    pub fn new(body: RecvStream, respond: h2::server::SendResponse<Bytes>) -> Self {
        Self { receiver: Receiver::new(body), respond, sender: None, rest: None, ended: false }
    }

    /// Sends what is left of the last piece, as the client makes room.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let Some(sender) = &mut self.sender else { return Poll::Ready(Ok(())) };
        while let Some((rest, end)) = self.rest.take() {
            match poll_capacity(sender, cx) {
                Poll::Ready(room) => room?,
                Poll::Pending => {
                    self.rest = Some((rest, end));
                    return Poll::Pending;
                }
            }
            self.rest = send_what_fits(sender, rest, end)?;
        }
        Poll::Ready(Ok(()))
    }

    /// No body follows the head.
    pub fn has_no_body(&self) -> bool {
        self.receiver.done
    }

    /// A reset overtakes what is queued, so the connection task must have taken that before: see `serve_stream`.
    pub fn abort(&mut self) {
        if !self.ended || self.rest.is_some() {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    /// Refuses the stream as malformed (RFC 9113 section 8.1.1).
    pub fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
        self.ended = true;
    }
}

impl Source for H2Downstream {
    type Error = DownstreamError;

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, DownstreamError>>> {
        self.receiver.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|_| DownstreamError::Gone)))
    }

    fn is_done(&self) -> bool {
        self.receiver.done
    }
}

impl Sink for H2Downstream {
    type Error = DownstreamError;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        ready!(self.poll_rest(cx)).map_err(|_| DownstreamError::Gone)?;
        match &mut self.sender {
            Some(sender) => poll_capacity(sender, cx).map_err(|_| DownstreamError::Gone),
            None => Poll::Ready(Ok(())),
        }
    }

    fn send(&mut self, frame: Frame, end: bool) -> Result<(), DownstreamError> {
        let end = end || matches!(frame, Frame::Trailers(_));
        self.ended |= end;
        let Some(sender) = &mut self.sender else { return Ok(()) };
        let sent = match (frame, &mut self.rest) {
            (Frame::Data(data), None) => send_what_fits(sender, data, end).map(|rest| self.rest = rest),
            // Nobody asked whether there is room.
            (Frame::Data(data), Some((rest, ends))) => {
                *rest = [&**rest, &*data].concat().into();
                *ends = end;
                Ok(())
            }
            (Frame::Trailers(trailers), _) => sender.send_trailers(trailers),
        };
        sent.map_err(|_| DownstreamError::Gone)
    }

    fn finish(&mut self) -> Result<(), DownstreamError> {
        if self.ended {
            return Ok(());
        }
        self.send(Frame::Data(Bytes::new()), true)
    }

    /// The connection task writes; a stream cannot wait for that, but for its client's room.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        self.poll_rest(cx).map_err(|_| DownstreamError::Gone)
    }
}

impl Downstream for H2Downstream {
    fn send_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        body: BodySize,
        _close: bool,
    ) -> Result<(), DownstreamError> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let end = matches!(body, BodySize::Empty | BodySize::Known(0));
        self.ended = end;
        let sender = self.respond.send_response(response, end).map_err(|_| DownstreamError::Gone)?;
        self.sender = Some(sender);
        Ok(())
    }

    fn send_informational(&mut self, status: StatusCode, headers: HeaderMap) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        // A stream that is gone will say so when the final head is sent.
        let _ = self.respond.send_informational(response);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sender {
            Some(sender) => sender.poll_reset(cx).map(|_| ()),
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }
}

/// A request of ours on an HTTP/2 stream to an upstream.
pub struct H2Upstream {
    response: Option<h2::client::ResponseFuture>,
    sender: SendStream<Bytes>,
    receiver: Option<Receiver>,
    ended: bool,
}

impl H2Upstream {
    /// `ended`: the request has no body, its head carried the end.
    pub fn new(response: h2::client::ResponseFuture, sender: SendStream<Bytes>, ended: bool) -> Self {
        Self { response: Some(response), sender, receiver: None, ended }
    }
}

impl Drop for H2Upstream {
    /// A stream that is not over is cancelled, so that the upstream stops working for nobody.
    fn drop(&mut self) {
        if !self.ended || self.receiver.as_ref().is_none_or(|receiver| !receiver.done) {
            self.sender.send_reset(Reason::CANCEL);
        }
    }
}

fn upstream_error(error: &h2::Error, started: bool) -> UpstreamError {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_remote() => UpstreamError::Refused,
        Some(Reason::PROTOCOL_ERROR) => UpstreamError::Protocol,
        Some(_) if error.is_reset() && error.is_remote() => UpstreamError::Reset,
        Some(Reason::NO_ERROR) if error.is_go_away() && !started => UpstreamError::Refused,
        Some(_) if error.is_go_away() => UpstreamError::Reset,
        Some(_) => UpstreamError::Protocol,
        None => UpstreamError::Closed,
    }
}

impl Source for H2Upstream {
    type Error = UpstreamError;

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, UpstreamError>>> {
        match &mut self.receiver {
            Some(receiver) => receiver
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|error| upstream_error(&error, true)))),
            None => Poll::Ready(None),
        }
    }

    fn is_done(&self) -> bool {
        self.receiver.as_ref().is_none_or(|receiver| receiver.done)
    }
}

impl Sink for H2Upstream {
    type Error = UpstreamError;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        poll_capacity(&mut self.sender, cx).map_err(|error| upstream_error(&error, false))
    }

    fn send(&mut self, frame: Frame, end: bool) -> Result<(), UpstreamError> {
        let end = end || matches!(frame, Frame::Trailers(_));
        self.ended |= end;
        send(&mut self.sender, frame, end).map_err(|error| upstream_error(&error, false))
    }

    fn finish(&mut self) -> Result<(), UpstreamError> {
        if self.ended {
            return Ok(());
        }
        self.send(Frame::Data(Bytes::new()), true)
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }
}

impl Upstream for H2Upstream {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, UpstreamError>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(UpstreamError::Protocol));
        };
        match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(head))) => {
                let (parts, ()) = head.into_parts();
                return Poll::Ready(Ok(ResponseHead {
                    status: parts.status,
                    headers: parts.headers,
                    body: BodySize::Empty,
                }));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(upstream_error(&error, false))),
            Poll::Ready(None) | Poll::Pending => {}
        }
        let (parts, body) = match ready!(std::pin::Pin::new(response).poll(cx)) {
            Ok(response) => response.into_parts(),
            Err(error) => return Poll::Ready(Err(upstream_error(&error, false))),
        };
        self.response = None;
        let receiver = Receiver::new(body);
        let body =
            match parts.headers.get(http::header::CONTENT_LENGTH).map(|v| v.to_str().ok().and_then(|v| v.parse().ok()))
            {
                _ if receiver.done => BodySize::Empty,
                // The stream goes on: trailers may come, and the client's stream must not end with the head.
                None | Some(Some(0)) => BodySize::Unknown,
                Some(Some(length)) => BodySize::Known(length),
                Some(None) => return Poll::Ready(Err(UpstreamError::Protocol)),
            };
        self.receiver = Some(receiver);
        Poll::Ready(Ok(ResponseHead { status: parts.status, headers: parts.headers, body }))
    }
}
