//! Finds out by a connection's first bytes whether its client speaks HTTP/2 without having negotiated it. The bytes stay
//! to be read.

use std::io;
use std::time::Duration;

use pingora_core::protocols::ALPN;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Connection;

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// More than the preface: the head of most requests comes with the first bytes and need not be read twice.
const ENOUGH: usize = 2048;
/// How long a silent connection stays when its listener ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Http1,
    Http2,
    /// So far it is the preface.
    Open,
}

fn verdict(bytes: &[u8]) -> Verdict {
    let count = bytes.len().min(PREFACE.len());
    if bytes.get(..count) != PREFACE.get(..count) {
        Verdict::Http1
    } else if count == PREFACE.len() {
        Verdict::Http2
    } else {
        Verdict::Open
    }
}

/// Waits for enough bytes to know. Who stops within the preface is handed on as HTTP/1, whose time limits then apply.
/// False if there is nobody to hand on: the client left, or said nothing within the limit, or a little after the end of
/// the listener, as its first request may be under way.
pub(super) async fn sniff(
    connection: &mut Connection,
    limit: Duration,
    drain: &mut watch::Receiver<bool>,
) -> io::Result<bool> {
    let mut deadline = Instant::now() + limit;
    let mut buffer = [0; ENOUGH];
    let mut filled = 0;
    let mut told = false;
    let spoken = loop {
        let Some(room) = buffer.get_mut(filled..) else { break Verdict::Http1 };
        let count = tokio::select! {
            biased;
            count = connection.read(room) => count?,
            () = tokio::time::sleep_until(deadline) => 0,
            _ = drain.wait_for(|drain| *drain), if !told => {
                told = true;
                deadline = deadline.min(Instant::now() + LAST_WORDS);
                continue;
            }
        };
        filled += count;
        if filled == 0 {
            return Ok(false);
        }
        match verdict(buffer.get(..filled).unwrap_or_default()) {
            Verdict::Open if count > 0 => {}
            Verdict::Open => break Verdict::Http1,
            known => break known,
        }
    };
    connection.unread(buffer.get(..filled).unwrap_or_default());
    if spoken == Verdict::Http2 {
        connection.set_alpn(ALPN::H2);
    }
    Ok(true)
}

#[cfg(test)]
#[path = "sniff_tests.rs"]
mod tests;
