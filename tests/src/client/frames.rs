//! HTTP/2 as frames (RFC 9113 section 4.1), written one by one: also those that no library would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BoxIo, DEADLINE};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// `SETTINGS_INITIAL_WINDOW_SIZE`
pub const INITIAL_WINDOW: u16 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn setting(id: u16, value: u32) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(value.to_be_bytes());
    bytes
}

/// A literal field without indexing (RFC 7541 section 6.2.2), shorter than 127 bytes each.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).unwrap_or(126));
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The fields of a request that is well-formed.
pub fn request(method: &str, host: &str, path: &str) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// What came back, as far as a test asks.
#[derive(Debug, Default)]
pub struct Heard {
    /// `(kind, stream, payload)`
    pub frames: Vec<(u8, u32, Vec<u8>)>,
    /// The other side ended the connection.
    pub closed: bool,
}

impl Heard {
    pub fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.0 == kind).count()
    }

    /// Error code of the last GOAWAY.
    pub fn goaway(&self) -> Option<u32> {
        let (.., payload) = self.frames.iter().rfind(|frame| frame.0 == GOAWAY)?;
        Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?))
    }
}

/// A connection after the preface.
pub struct Frames {
    io: BoxIo,
    buffer: Vec<u8>,
}

impl Frames {
    /// Prior knowledge.
    pub async fn open(mut io: BoxIo, settings: &[u8]) -> anyhow::Result<Frames> {
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        io.write_all(&frame(SETTINGS, 0, 0, settings)).await?;
        io.flush().await?;
        Ok(Frames { io, buffer: Vec::new() })
    }

    /// False: the other side takes nothing more, or ended the connection.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        let writing = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        tokio::time::timeout(Duration::from_secs(5), writing).await.is_ok_and(|written| written.is_ok())
    }

    /// Reads until it holds, the connection ends, or the deadline is over.
    pub async fn read_until(&mut self, enough: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = Heard::default();
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            while let Some(next) = self.take() {
                heard.frames.push(next);
            }
            if enough(&heard) {
                return heard;
            }
            match tokio::time::timeout_at(end, self.io.read_buf(&mut self.buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => {
                    heard.closed = true;
                    return heard;
                }
                Err(_) => return heard,
            }
        }
    }

    fn take(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let (head, rest) = self.buffer.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = rest.get(..length)?.to_vec();
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let kind = head[3];
        self.buffer.drain(..9 + length);
        Some((kind, stream, payload))
    }
}
