//! HTTP/2 over the h2 crate.

use anyhow::Context;
use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderMap;

use super::{BoxIo, Lines, Request, Response};

/// One connection.
pub struct H2 {
    pub sender: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
    https: bool,
}

impl H2 {
    pub async fn handshake(io: BoxIo) -> anyhow::Result<H2> {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(io)
            .await?;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(H2 { sender, connection, https: false })
    }

    /// `:scheme` of the requests from now on.
    #[must_use]
    pub fn over_tls(mut self) -> H2 {
        self.https = true;
        self
    }

    pub fn head(&self, request: &Request) -> anyhow::Result<http::Request<()>> {
        let scheme = if self.https { "https" } else { "http" };
        let uri = format!("{scheme}://{}{}", request.host, request.path);
        let mut head = http::Request::builder().method(request.method.as_str()).uri(uri).version(http::Version::HTTP_2);
        for (name, value) in &request.headers {
            head = head.header(name.as_str(), value.as_str());
        }
        Ok(head.body(())?)
    }

    pub async fn send(&mut self, request: &Request) -> anyhow::Result<Response> {
        let mut sender = self.sender.clone().ready().await?;
        let ends = request.body.is_none() && request.trailers.is_empty();
        let (answer, mut stream) = sender.send_request(self.head(request)?, ends)?;
        if !ends {
            let body = Bytes::from(request.body.clone().unwrap_or_default());
            // The answer may be there already, and the stream closed: then what is left to say does not matter.
            let sent = stream.send_data(body, request.trailers.is_empty());
            if sent.is_ok() && !request.trailers.is_empty() {
                let _ = stream.send_trailers(map(&request.trailers)?);
            }
        }
        read(answer.await?).await
    }
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The whole answer.
pub async fn read(answer: http::Response<h2::RecvStream>) -> anyhow::Result<Response> {
    let (head, mut body) = answer.into_parts();
    let mut response = Response { status: head.status.as_u16(), headers: lines(&head.headers), ..Response::default() };
    response.protocol = "h2";
    while let Some(data) = body.data().await {
        let data = match data {
            // A complete answer to a request that is not: no error (RFC 9113, section 8.1).
            Err(error) if error.reason() == Some(h2::Reason::NO_ERROR) => return Ok(response),
            data => data.context("the body breaks off")?,
        };
        let _ = body.flow_control().release_capacity(data.len());
        response.body.extend(data);
    }
    match body.trailers().await {
        Ok(trailers) => response.trailers = trailers.as_ref().map(lines).unwrap_or_default(),
        Err(error) if error.reason() == Some(h2::Reason::NO_ERROR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(response)
}

pub fn lines(headers: &HeaderMap) -> Lines {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

pub fn map(lines: &Lines) -> anyhow::Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(http::HeaderName::try_from(name.as_str())?, value.parse()?);
    }
    Ok(map)
}
