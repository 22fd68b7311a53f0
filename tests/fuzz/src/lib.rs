//! What the HTTP/1 targets share: a stream in memory, and what a codec makes of it, in a form that does not depend on how the bytes were split.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use gateway::http::h1::{BodyError, BodyFraming, ClientCodec, Frame, Limits, ServerCodec};
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Yields its pieces, one a read, then the end of the stream or silence.
pub struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    closes: bool,
    pub written: Vec<u8>,
}

impl Pieces {
    /// `size` bytes a read; the first input byte decides how the stream ends.
    pub fn new(bytes: &[u8], size: usize, closes: bool) -> Pieces {
        Pieces { pieces: bytes.chunks(size.max(1)).map(<[u8]>::to_vec).collect(), closes, written: Vec::new() }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.pieces.pop_front() {
            Some(mut piece) => {
                let rest = piece.split_off(piece.len().min(buffer.remaining()));
                buffer.put_slice(&piece);
                if !rest.is_empty() {
                    self.pieces.push_front(rest);
                }
                Poll::Ready(Ok(()))
            }
            None if self.closes => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// One line per event. The part of a body that arrived before it proved broken is left out: it depends on the splits.
fn body(
    log: &mut Vec<String>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>,
) -> bool {
    let mut data = Vec::new();
    loop {
        match poll(&mut context()) {
            Poll::Ready(Some(Ok(Frame::Data(bytes)))) => data.extend_from_slice(&bytes),
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => log.push(format!("trailers {trailers:?}")),
            Poll::Ready(None) => {
                log.push(format!("body {data:?}"));
                return true;
            }
            Poll::Ready(Some(Err(error))) => {
                log.push(format!("broken {}", error.details()));
                return false;
            }
            Poll::Pending => {
                log.push(format!("waiting after {data:?}"));
                return false;
            }
        }
    }
}

/// Serves what is in `bytes`, `size` bytes a read.
pub fn serve(bytes: &[u8], size: usize, closes: bool) -> Vec<String> {
    let limits = Limits { allow_http_1_0: true, ..Limits::default() };
    let mut codec = ServerCodec::new(Pieces::new(bytes, size, closes), limits);
    let mut log = Vec::new();
    loop {
        match codec.poll_head(&mut context()) {
            Poll::Ready(Ok(Some(head))) => {
                log.push(format!("{} {:?} {:?} {:?}", head.method, head.target, head.body, head.headers));
                if !body(&mut log, |cx| codec.poll_frame(cx)) {
                    return log;
                }
                codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::None);
                codec.finish();
            }
            Poll::Ready(Ok(None)) => log.push("closed".to_owned()),
            Poll::Ready(Err(error)) => log.push(format!("refused {:?} {}", error.status(), error.details())),
            Poll::Pending => log.push("waiting".to_owned()),
        }
        if !log.last().is_some_and(|last| last.starts_with("body") || last.starts_with("trailers")) {
            return log;
        }
    }
}

/// Reads what is in `bytes` as the answer to a request.
pub fn ask(bytes: &[u8], size: usize, closes: bool, method: Method) -> Vec<String> {
    let mut codec = ClientCodec::new(Pieces::new(bytes, size, closes), Limits::default());
    codec.send_head(&method, "/", &HeaderMap::new(), BodyFraming::None);
    codec.finish();
    let _ = codec.poll_flush(&mut context());
    let mut log = Vec::new();
    loop {
        match codec.poll_head(&mut context()) {
            Poll::Ready(Ok(head)) => {
                log.push(format!("{} {:?} {:?}", head.status, head.body, head.headers));
                if !head.is_informational() {
                    body(&mut log, |cx| codec.poll_frame(cx));
                    return log;
                }
            }
            Poll::Ready(Err(error)) => {
                log.push(format!("refused {}", error.is_protocol_error()));
                return log;
            }
            Poll::Pending => {
                log.push("waiting".to_owned());
                return log;
            }
        }
    }
}

/// The first byte chooses a piece size and an end, so that the fuzzer explores both.
pub fn choices(input: &[u8]) -> Option<(usize, bool, &[u8])> {
    let (choice, bytes) = input.split_first()?;
    Some((usize::from(choice >> 1).max(1), choice & 1 == 1, bytes))
}
