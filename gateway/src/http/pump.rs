//! Moves one body from a source to a sink, with backpressure and without buffering more than one piece.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use super::h1::Frame;
use super::message::{Sink, Source};
use super::mirror::Taps;
use super::retry::Kept;

/// What ended a direction early.
#[derive(Debug, PartialEq, Eq)]
pub enum PumpError<R, W> {
    Read(R),
    Write(W),
}

/// What a direction came to.
type Moved<S, K> = Result<(), PumpError<<S as Source>::Error, <K as Sink>::Error>>;

/// Who a direction waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waits {
    #[default]
    No,
    /// More is to come from the source.
    Source,
    /// The sink has no room, or keeps what was given to it.
    Sink,
}

/// The state of one direction.
#[derive(Debug, Default)]
pub struct Direction {
    /// The last piece was handed to the sink.
    ended: bool,
    /// And has left it.
    flushed: bool,
    /// Since the last poll.
    waits: Waits,
    /// A piece was taken from the source, trailers included.
    pub moved: bool,
    /// Body bytes moved so far.
    pub bytes: u64,
    /// gRPC messages seen so far, when counted.
    pub messages: Option<super::grpc::MessageCounter>,
    pub trailers: Option<http::HeaderMap>,
    /// Keep a copy of the trailers (gRPC status for metrics).
    pub keep_trailers: bool,
    /// Pieces that were taken from the source before.
    pub(super) ahead: VecDeque<Frame>,
    /// What was taken from the source, as far as it may be wanted again.
    pub(super) kept: Option<Kept>,
    /// Copies that want to have the body too.
    pub(super) taps: Taps,
}

impl Direction {
    /// A direction without body: the head already carried the end.
    pub fn ended() -> Self {
        Self { ended: true, ..Self::default() }
    }

    pub fn is_done(&self) -> bool {
        self.flushed
    }

    /// The source has been read to its end.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Stops the direction: what is left of the source is not wanted.
    pub fn stop(&mut self) {
        self.ended = true;
        self.flushed = true;
        self.waits = Waits::No;
    }

    /// Who was waited for when it was polled the last time.
    pub fn waits(&self) -> Waits {
        self.waits
    }

    /// Moves what can be moved. Ready when everything has left the sink.
    pub fn poll<S: Source, K: Sink>(
        &mut self,
        source: &mut S,
        sink: &mut K,
        cx: &mut Context<'_>,
    ) -> Poll<Moved<S, K>> {
        // Unless the source is found to be empty.
        self.waits = Waits::Sink;
        let moved = self.poll_all(source, sink, cx);
        if moved.is_ready() {
            self.waits = Waits::No;
        }
        moved
    }

    fn poll_all<S: Source, K: Sink>(
        &mut self,
        source: &mut S,
        sink: &mut K,
        cx: &mut Context<'_>,
    ) -> Poll<Moved<S, K>> {
        loop {
            if self.flushed {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                ready!(sink.poll_flush(cx)).map_err(PumpError::Write)?;
                self.flushed = true;
                return Poll::Ready(Ok(()));
            }
            ready!(sink.poll_ready(cx)).map_err(PumpError::Write)?;
            if let Some(frame) = self.ahead.pop_front() {
                // Copies have it already: each try sends it again.
                let end = self.ahead.is_empty() && source.is_done();
                self.count(&frame);
                sink.send(frame, end).map_err(PumpError::Write)?;
                self.ended = end;
                continue;
            }
            match source.poll_frame(cx) {
                Poll::Pending => {
                    self.waits = Waits::Source;
                    // Nothing more for now: what is buffered must not wait for it.
                    if let Poll::Ready(Err(error)) = sink.poll_flush(cx) {
                        return Poll::Ready(Err(PumpError::Write(error)));
                    }
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    self.taps.iter().for_each(|tap| tap.pass(None, true));
                    sink.finish().map_err(PumpError::Write)?;
                    self.ended = true;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.moved = true;
                    if let Some(kept) = &mut self.kept
                        && !kept.add(&frame)
                    {
                        self.kept = None;
                    }
                    self.count(&frame);
                    let end = source.is_done();
                    self.taps.iter().for_each(|tap| tap.pass(Some(&frame), end));
                    sink.send(frame, end).map_err(PumpError::Write)?;
                    self.ended = end;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(PumpError::Read(error))),
            }
        }
    }

    fn count(&mut self, frame: &Frame) {
        match frame {
            Frame::Data(data) => {
                self.bytes += data.len() as u64;
                if let Some(counter) = &mut self.messages {
                    counter.feed(data);
                }
            }
            Frame::Trailers(trailers) => {
                if self.keep_trailers {
                    self.trailers = Some(trailers.clone());
                }
            }
        }
    }
}
