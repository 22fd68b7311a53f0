//! A scripted stream and drivers for the codecs' tests: what is read arrives in given pieces, and everything that
//! happens is an event.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// What follows the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Silence,
    Close,
    Reset,
}

pub struct Script {
    pieces: VecDeque<Vec<u8>>,
    end: End,
    pub written: Vec<u8>,
    /// Bytes accepted before writes are pending.
    pub room: usize,
}

impl Script {
    pub fn new(pieces: Vec<Vec<u8>>, end: End) -> Script {
        Script { pieces: pieces.into(), end, written: Vec::new(), room: usize::MAX }
    }

    pub fn push(&mut self, piece: &[u8]) {
        self.pieces.push_back(piece.to_vec());
    }
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while let Some(mut piece) = self.pieces.pop_front() {
            if piece.is_empty() {
                continue;
            }
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
            return Poll::Ready(Ok(()));
        }
        match self.end {
            End::Silence => Poll::Pending,
            End::Close => Poll::Ready(Ok(())),
            End::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.room);
        if count == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        self.room -= count;
        self.written.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a peer did, independent of how its bytes were split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Request {
        line: String,
        host: String,
        headers: Vec<(String, Vec<u8>)>,
        body: BodyLength,
    },
    Response {
        status: u16,
        headers: Vec<(String, Vec<u8>)>,
        body: ResponseBody,
    },
    Body(Vec<u8>),
    Trailers(Vec<(String, Vec<u8>)>),
    /// The status of the answer (0 if none is possible) and its details.
    Refused(u16, String),
    BodyRefused(u16, String),
    Waiting,
    Closed,
}

pub fn list(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

pub fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn body_events(
    events: &mut Vec<Event>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>,
) -> bool {
    let mut body = Vec::new();
    let last = loop {
        match poll(&mut context()) {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                assert!(!data.is_empty(), "empty data frame");
                body.extend_from_slice(&data);
            }
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => break Some(Event::Trailers(list(&trailers))),
            Poll::Ready(Some(Err(error))) => {
                let status = error.status().map_or(0, |status| status.as_u16());
                break Some(Event::BodyRefused(status, error.details().to_owned()));
            }
            Poll::Ready(None) => break None,
            Poll::Pending => break Some(Event::Waiting),
        }
    };
    if !body.is_empty() {
        events.push(Event::Body(body));
    }
    let complete = !matches!(last, Some(Event::BodyRefused(..) | Event::Waiting));
    events.extend(last);
    complete
}

/// Serves every request with an empty 200 and says what was read, and what was written.
pub fn serve(pieces: Vec<Vec<u8>>, end: End, limits: Limits) -> (Vec<Event>, Vec<u8>) {
    let mut codec = ServerCodec::new(Script::new(pieces, end), limits);
    let mut events = Vec::new();
    loop {
        match codec.poll_head(&mut context()) {
            Poll::Ready(Ok(Some(head))) => {
                events.push(Event::Request {
                    line: format!("{} {}", head.method, head.path_and_query()),
                    host: head.authority().to_owned(),
                    headers: list(&head.headers),
                    body: head.body,
                });
                if !body_events(&mut events, |cx| codec.poll_frame(cx)) {
                    break;
                }
                assert!(codec.body_done());
                codec.send_head(StatusCode::OK, None, &HeaderMap::new(), BodyFraming::None);
                codec.finish();
            }
            Poll::Ready(Ok(None)) => break events.push(Event::Closed),
            Poll::Ready(Err(error)) => {
                let status = error.status().map_or(0, |status| status.as_u16());
                break events.push(Event::Refused(status, error.details().to_owned()));
            }
            Poll::Pending => break events.push(Event::Waiting),
        }
    }
    let _ = codec.poll_flush(&mut context());
    (events, codec.into_parts().0.written)
}

pub fn serve_once(input: &[u8]) -> Vec<Event> {
    serve(vec![input.to_vec()], End::Silence, Limits::default()).0
}

/// Asks with `method` and says what the upstream answered, and whether the connection could be used again.
pub fn ask(method: Method, upgrade: bool, pieces: Vec<Vec<u8>>, end: End) -> (Vec<Event>, bool) {
    let mut codec = ClientCodec::new(Script::new(pieces, end), Limits::default());
    let mut headers = HeaderMap::new();
    if upgrade {
        headers.insert("connection", "Upgrade".parse().unwrap());
        headers.insert("upgrade", "websocket".parse().unwrap());
    }
    codec.send_head(&method, "/", &headers, BodyFraming::None);
    codec.finish();
    assert!(codec.poll_flush(&mut context()).is_ready());
    let mut events = Vec::new();
    loop {
        match codec.poll_head(&mut context()) {
            Poll::Ready(Ok(head)) => {
                events.push(Event::Response {
                    status: head.status.as_u16(),
                    headers: list(&head.headers),
                    body: head.body,
                });
                if head.is_informational() {
                    continue;
                }
                body_events(&mut events, |cx| codec.poll_frame(cx));
            }
            Poll::Ready(Err(error)) => {
                let status = if error.is_protocol_error() { 502 } else { 503 };
                events.push(Event::Refused(status, error.to_string()));
            }
            Poll::Pending => events.push(Event::Waiting),
        }
        return (events, codec.reusable());
    }
}

/// `bytes` cut at `at`.
pub fn cut(bytes: &[u8], at: usize) -> Vec<Vec<u8>> {
    let (a, b) = bytes.split_at(at);
    vec![a.to_vec(), b.to_vec()]
}

pub fn one_by_one(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}
