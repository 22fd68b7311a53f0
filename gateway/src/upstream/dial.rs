//! One new connection to an upstream, within a time limit.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection to an upstream.
pub type Stream = TcpStream;

/// A dead peer (no FIN, no RST) is noticed after about two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Why there is no connection. The request was not sent, so any of them may be retried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("connection refused")]
    Refused,
    #[error("connection timeout")]
    Timeout,
    /// Reason in words, for example `No route to host`.
    #[error("{0}")]
    Other(Arc<str>),
}

impl ConnectError {
    /// As Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: `delayed_connect_error:_Connection_refused`. None for a timeout.
    #[must_use]
    pub fn transport_failure(&self) -> Option<Cow<'static, str>> {
        match self {
            ConnectError::Refused => Some(Cow::Borrowed("delayed_connect_error:_Connection_refused")),
            ConnectError::Timeout => None,
            ConnectError::Other(reason) => {
                Some(Cow::Owned(format!("delayed_connect_error:_{}", reason.replace(' ', "_"))))
            }
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused,
            io::ErrorKind::TimedOut => ConnectError::Timeout,
            _ => {
                let text = error.to_string();
                // "No route to host (os error 113)"
                let words = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
                ConnectError::Other(words.into())
            }
        }
    }
}

/// Connects. The kernel's own timeout would be two minutes; `limit` is the destination's.
pub(super) async fn connect(address: SocketAddr, limit: Duration) -> Result<Stream, ConnectError> {
    let stream = timeout(limit, TcpStream::connect(address)).await.map_err(|_| ConnectError::Timeout)??;
    // Requests are written in one piece; waiting for more would only delay the last segment.
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}
