//! The way through an HTTP proxy: what it is asked with CONNECT (RFC 9110 section 9.3.6), and what it says to that. Behind its
//! consent there are the target's bytes, none of which is taken here. With POST they are in messages: see `posted`.

use std::io;

use mesh_core::model::{Tunnel, TunnelMethod};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Stream;
use super::dial::ConnectError;
use super::posted::Posted;

/// The head of an answer is not longer.
const LONGEST: usize = 16 * 1024;
/// Interim answers (1xx) before the one that counts.
const INTERIM: usize = 8;
/// Of a head.
const END: &[u8] = b"\r\n\r\n";

/// A connection to a proxy becomes one to the target. The caller limits its time.
pub(super) async fn through(mut stream: Stream, tunnel: &Tunnel) -> Result<Stream, ConnectError> {
    let target = tunnel.to_string();
    if tunnel.method == TunnelMethod::Post {
        return Ok(Stream::Posted(Box::new(Posted::open(stream, &target).await?)));
    }
    let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    for _ in 0..=INTERIM {
        match status(&read_head(&mut stream).await?) {
            Some(200..=299) => return Ok(stream),
            Some(100 | 102..=199) => {}
            Some(status) => {
                return Err(ConnectError::Other(format!("the proxy answered CONNECT {target} with {status}").into()));
            }
            None => break,
        }
    }
    Err(ConnectError::Other(format!("the proxy's answer to CONNECT {target} is not HTTP/1.1").into()))
}

/// With its end, and nothing behind it.
async fn read_head(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(END) {
        if head.len() >= LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy's answer to CONNECT is too long"));
        }
        match stream {
            Stream::Plain(tcp) => read_piece(tcp, &mut head).await?,
            // Of what is in memory already.
            Stream::Tls(_) | Stream::Posted(_) => head.push(stream.read_u8().await.map_err(|error| closed(&error))?),
        }
    }
    Ok(head)
}

/// What is there, up to the end of the head: it is looked at first, so that what follows stays in the socket.
async fn read_piece(tcp: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<()> {
    let mut landing = [0; 1024];
    let count = tcp.peek(&mut landing).await?;
    let there = landing.get(..count).unwrap_or_default();
    if there.is_empty() {
        return Err(closed(&io::ErrorKind::UnexpectedEof.into()));
    }
    let before = head.len();
    for byte in there {
        head.push(*byte);
        if head.ends_with(END) {
            break;
        }
    }
    let taken = landing.get_mut(..head.len().saturating_sub(before)).unwrap_or_default();
    tcp.read_exact(taken).await.map(drop)
}

fn closed(error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other("the proxy closed the connection before it answered CONNECT"),
        kind => io::Error::new(kind, error.to_string()),
    }
}

/// None: it is no head of HTTP/1.
fn status(head: &[u8]) -> Option<u16> {
    let (b' ', rest) = head.strip_prefix(b"HTTP/1.0").or_else(|| head.strip_prefix(b"HTTP/1.1"))?.split_first()? else {
        return None;
    };
    let (digits, rest) = rest.split_first_chunk::<3>()?;
    let ends = matches!(rest.first(), Some(b' ' | b'\r'));
    let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    number.parse().ok().filter(|status| ends && *status >= 100)
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
