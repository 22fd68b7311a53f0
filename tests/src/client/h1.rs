//! HTTP/1.1 as bytes: what is asked for is sent, even if it is wrong; what comes back is read strictly.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BoxIo, Lines, Request, Response};

const MAX_HEAD: usize = 256 * 1024;

/// One connection; requests can be pipelined.
pub struct H1 {
    io: BoxIo,
    /// Read, but not used yet.
    buffer: Vec<u8>,
}

/// The head of an answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub status: u16,
    pub reason: String,
    pub headers: Lines,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        super::values(&self.headers, name).first().copied()
    }
}

/// How the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl H1 {
    pub fn new(io: BoxIo) -> H1 {
        H1 { io, buffer: Vec::new() }
    }

    pub async fn send(&mut self, request: &Request) -> anyhow::Result<Response> {
        self.write(&encode(request)).await?;
        self.read_response(&request.method).await
    }

    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await?;
        Ok(())
    }

    /// No more requests will come (FIN).
    pub async fn half_close(&mut self) -> anyhow::Result<()> {
        Ok(self.io.shutdown().await?)
    }

    pub async fn read_response(&mut self, method: &str) -> anyhow::Result<Response> {
        let mut response = Response { protocol: "h1", ..Response::default() };
        let head = loop {
            let head = self.read_head().await?;
            if head.status >= 200 || head.status == 101 {
                break head;
            }
            response.informational.push((head.status, head.headers));
        };
        let framing = framing(method, &head)?;
        match framing {
            Framing::Length(length) => response.body = self.take(length).await?,
            Framing::Chunked => (response.body, response.trailers) = self.read_chunks().await?,
            Framing::UntilClose => {
                self.io.read_to_end(&mut self.buffer).await?;
                response.body = std::mem::take(&mut self.buffer);
            }
        }
        response.status = head.status;
        response.headers = head.headers;
        Ok(response)
    }

    pub async fn read_head(&mut self) -> anyhow::Result<Head> {
        let status_line = self.read_line().await?;
        let mut parts = status_line.splitn(3, ' ');
        ensure!(parts.next() == Some("HTTP/1.1"), "not an HTTP/1.1 answer: {status_line:?}");
        let status = parts.next().context("no status")?.parse().context("status")?;
        let reason = parts.next().unwrap_or_default().to_owned();
        Ok(Head { status, reason, headers: self.read_fields().await? })
    }

    async fn read_fields(&mut self) -> anyhow::Result<Lines> {
        let mut fields = Lines::new();
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').with_context(|| format!("no colon in {line:?}"))?;
            ensure!(!name.is_empty() && !name.contains([' ', '\t']), "bad name in {line:?}");
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// One chunk; `None` after the last one, whose trailers are then read.
    pub async fn read_chunk(&mut self) -> anyhow::Result<Result<Vec<u8>, Lines>> {
        let line = self.read_line().await?;
        let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .with_context(|| format!("chunk size {line:?}"))?;
        if size == 0 {
            return Ok(Err(self.read_fields().await?));
        }
        let data = self.take(size).await?;
        let end = self.read_line().await?;
        ensure!(end.is_empty(), "chunk data is not followed by CRLF");
        Ok(Ok(data))
    }

    async fn read_chunks(&mut self) -> anyhow::Result<(Vec<u8>, Lines)> {
        let mut body = Vec::new();
        loop {
            match self.read_chunk().await? {
                Ok(data) => body.extend(data),
                Err(trailers) => return Ok((body, trailers)),
            }
        }
    }

    /// A line without its CRLF.
    async fn read_line(&mut self) -> anyhow::Result<String> {
        let mut searched = 0;
        loop {
            let found = self.buffer.get(searched..).unwrap_or_default().iter().position(|byte| *byte == b'\n');
            if let Some(at) = found.map(|at| at + searched) {
                let rest = self.buffer.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                ensure!(line.pop() == Some(b'\r'), "a line ends without CR");
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            searched = self.buffer.len();
            ensure!(searched < MAX_HEAD, "a line without end");
            ensure!(self.fill().await? > 0, "closed in the middle of a head ({searched} bytes of it)");
        }
    }

    /// Exactly so many bytes.
    pub async fn take(&mut self, length: u64) -> anyhow::Result<Vec<u8>> {
        let length = usize::try_from(length)?;
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                bail!("closed after {} of {length} bytes", self.buffer.len());
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Whatever is there next; empty at the end.
    pub async fn read_some(&mut self) -> anyhow::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Everything up to the end.
    pub async fn read_to_end(&mut self) -> anyhow::Result<Vec<u8>> {
        while self.fill().await? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn fill(&mut self) -> anyhow::Result<usize> {
        Ok(self.io.read_buf(&mut self.buffer).await?)
    }
}

pub fn framing(method: &str, head: &Head) -> anyhow::Result<Framing> {
    if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    match (head.header("transfer-encoding"), head.header("content-length")) {
        (Some(_), Some(_)) => bail!("both transfer-encoding and content-length"),
        (Some("chunked"), None) => Ok(Framing::Chunked),
        (Some(other), None) => bail!("transfer-encoding {other:?}"),
        (None, Some(length)) => Ok(Framing::Length(length.parse().context("content-length")?)),
        (None, None) => Ok(Framing::UntilClose),
    }
}

/// Content-length for a body, chunks where trailers follow.
pub fn encode(request: &Request) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.path, request.host);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = request.body.as_deref();
    if !request.trailers.is_empty() {
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        let mut bytes = head.into_bytes();
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            bytes.extend(format!("{:x}\r\n", body.len()).as_bytes());
            bytes.extend(body);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n");
        for (name, value) in &request.trailers {
            bytes.extend(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend(b"\r\n");
        return bytes;
    }
    if let Some(body) = body {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend(body.unwrap_or_default());
    bytes
}
