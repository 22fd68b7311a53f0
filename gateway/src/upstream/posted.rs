//! A tunnel by POST (`tunnel.protocol: POST`): bytes there are the body of a request, and bytes back that of its answer, which
//! the proxy must begin before the request has ended. As Envoy asks for one (`use_post`): `POST /` for the target.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;
use super::dial::ConnectError;
use crate::http::h1::{BodyFraming, ClientCodec, Frame, Limits};

/// See the module.
pub struct Posted {
    codec: ClientCodec<Stream>,
    /// Read, and not taken yet.
    rest: Bytes,
}

impl Posted {
    /// The caller limits its time.
    pub(super) async fn open(stream: Stream, target: &str) -> Result<Posted, ConnectError> {
        let fail = |what: String| ConnectError::Other(what.into());
        let mut codec = ClientCodec::new(stream, Limits::default());
        let mut headers = HeaderMap::new();
        let host = HeaderValue::try_from(target).map_err(|_| fail(format!("{target} is no authority")))?;
        headers.insert(HOST, host);
        codec.send_head(&Method::POST, "/", &headers, BodyFraming::Chunked);
        poll_fn(|cx| codec.poll_flush(cx)).await?;
        loop {
            let head = poll_fn(|cx| codec.poll_head(cx)).await;
            let head = head.map_err(|error| fail(format!("the proxy's answer to POST {target}: {error}")))?;
            if head.status.is_success() {
                return Ok(Posted { codec, rest: Bytes::new() });
            }
            if !head.is_informational() {
                return Err(fail(format!("the proxy answered POST {target} with {}", head.status.as_u16())));
            }
        }
    }

    /// To the proxy.
    pub fn stream(&self) -> &Stream {
        self.codec.io()
    }
}

impl AsyncRead for Posted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(this.codec.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => this.rest = data,
                Some(Ok(Frame::Trailers(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(this.rest.get(..count).unwrap_or_default());
        this.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Posted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !bytes.is_empty() {
            ready!(this.codec.poll_ready(cx))?;
            this.codec.send_frame(Frame::Data(Bytes::copy_from_slice(bytes)));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().codec.poll_flush(cx)
    }

    /// Ends the request; its answer goes on.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.codec.request_done() {
            this.codec.finish();
        }
        this.codec.poll_flush(cx)
    }
}
