//! What a client speaks that may speak anything: HTTP by its first line, TLS by its ClientHello, or whatever else. The bytes
//! stay to be read. Nobody is waited for longer than is said: in many protocols the server speaks first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::ALPN;
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};

use super::Connection;
use super::handshake::{HANDSHAKE, canonical};

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LONGEST_METHOD: usize = 32;
/// Of a first line, or a ClientHello, that makes sense.
const LONGEST: usize = 64 * 1024;
const STEP: usize = 2048;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1.1.
    Http1,
    Http2,
    /// With the server name that it asks for.
    Tls(Option<Arc<str>>),
    /// Neither, or the client was silent for too long.
    Other,
    /// The client left before it said anything.
    Nothing,
}

/// What is to be found out.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub http: bool,
    pub tls: bool,
    /// Of a client that does not say what it speaks.
    pub patience: Duration,
}

/// Reads as much as is needed to know, and puts it back. Who speaks HTTP/2 is marked so.
pub async fn inspect(connection: &mut Connection, look: Look) -> io::Result<Speech> {
    let deadline = Instant::now() + look.patience;
    let mut bytes = Vec::new();
    let speech = loop {
        bytes.reserve(STEP);
        let count = match timeout_at(deadline, connection.read_buf(&mut bytes)).await {
            Ok(count) => count?,
            Err(_) => break Speech::Other,
        };
        if bytes.is_empty() {
            return Ok(Speech::Nothing);
        }
        match guess(&bytes, look) {
            Some(speech) => break speech,
            None if count == 0 || bytes.len() > LONGEST => break Speech::Other,
            None => {}
        }
    };
    connection.unread(&bytes);
    if speech == Speech::Http2 {
        connection.set_alpn(ALPN::H2);
    }
    Ok(speech)
}

/// None: more bytes are needed.
fn guess(bytes: &[u8], look: Look) -> Option<Speech> {
    if bytes.first() == Some(&HANDSHAKE) {
        return if look.tls { hello(bytes) } else { Some(Speech::Other) };
    }
    if look.http { http(bytes) } else { Some(Speech::Other) }
}

/// A first line of HTTP/1.1, or the preface of HTTP/2. HTTP/1.0 is not looked for: it goes on as it came, as with Istio.
fn http(bytes: &[u8]) -> Option<Speech> {
    let count = bytes.len().min(PREFACE.len());
    if bytes.get(..count) == PREFACE.get(..count) {
        return (count == PREFACE.len()).then_some(Speech::Http2);
    }
    let Some(end) = bytes.iter().position(|byte| !is_token(*byte)) else {
        return (bytes.len() > LONGEST_METHOD).then_some(Speech::Other);
    };
    if end == 0 || end > LONGEST_METHOD || bytes.get(end) != Some(&b' ') {
        return Some(Speech::Other);
    }
    let rest = bytes.get(end + 1..).unwrap_or_default();
    let ended = memchr::memchr(b'\n', rest).and_then(|at| rest.get(..at));
    let line = ended.unwrap_or(rest);
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\r') {
        return Some(Speech::Other);
    }
    let line = ended?.strip_suffix(b"\r").unwrap_or(line);
    Some(if line.ends_with(b" HTTP/1.1") { Speech::Http1 } else { Speech::Other })
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn hello(bytes: &[u8]) -> Option<Speech> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(0) | Err(_) => return Some(Speech::Other),
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Some(Speech::Tls(accepted.client_hello().server_name().map(canonical))),
            Err(_) => return Some(Speech::Other),
        }
    }
    None
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
