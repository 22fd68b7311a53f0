//! Reading a body to its end, however that end is announced (RFC 9112 section 6.3).

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;

use super::chunked::{Chunked, Step};
use super::error::BodyError;
use super::read::ReadBuffer;
use super::{Frame, Limits};

#[derive(Debug)]
pub(super) enum BodyReader {
    Done,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    /// Broken: there is no end to be found any more.
    Failed,
}

impl BodyReader {
    pub fn is_done(&self) -> bool {
        matches!(self, BodyReader::Done)
    }

    fn wanted(&self) -> u64 {
        match self {
            BodyReader::Length(left) => *left,
            BodyReader::Chunked(chunked) => chunked.wanted(),
            _ => 0,
        }
    }

    fn step(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Step, BodyError> {
        match self {
            BodyReader::Done | BodyReader::Failed => Ok(Step::End),
            BodyReader::Chunked(chunked) => {
                let step = chunked.decode(buffer, limits);
                if chunked.is_done() {
                    *self = BodyReader::Done;
                }
                step
            }
            BodyReader::Length(_) | BodyReader::UntilClose if buffer.is_empty() => Ok(Step::More),
            BodyReader::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= take as u64;
                if *left == 0 {
                    *self = BodyReader::Done;
                }
                Ok(Step::Data(take_front(buffer, take)))
            }
            BodyReader::UntilClose => Ok(Step::Data(take_front(buffer, buffer.len()))),
        }
    }

    /// The next piece; `None` once, after the last. After an error the body stays failed.
    pub fn poll_frame<S>(
        &mut self,
        read: &mut ReadBuffer,
        io: &mut S,
        limits: &Limits,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>>
    where
        S: AsyncRead + Unpin,
    {
        let error = loop {
            match self.step(&mut read.bytes, limits) {
                Ok(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(Step::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::Trailers(trailers)))),
                Ok(Step::End) => return Poll::Ready(None),
                Ok(Step::More) => {}
                Err(error) => break error,
            }
            match ready!(read.poll_fill(io, cx, self.wanted())) {
                Ok(0) if matches!(self, BodyReader::UntilClose) => {
                    *self = BodyReader::Done;
                    return Poll::Ready(None);
                }
                Ok(0) => break BodyError::Truncated,
                Ok(_) => {}
                Err(error) => break BodyError::Io(error),
            }
        };
        *self = BodyReader::Failed;
        Poll::Ready(Some(Err(error)))
    }
}

fn take_front(buffer: &mut BytesMut, count: usize) -> Bytes {
    buffer.split_to(count).freeze()
}
