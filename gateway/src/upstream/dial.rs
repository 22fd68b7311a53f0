//! One new connection to an upstream, within a time limit.

use std::borrow::Cow;

/// A connection to an upstream.
pub type Stream = tokio::net::TcpStream;

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

use std::sync::Arc;

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

    /// What stands in braces in the response code details:
    /// `remote_connection_failure|delayed_connect_error:_Connection_refused` or `connection_timeout`.
    #[must_use]
    pub fn detail(&self) -> Cow<'static, str> {
        match self {
            ConnectError::Refused => {
                Cow::Borrowed("remote_connection_failure|delayed_connect_error:_Connection_refused")
            }
            ConnectError::Timeout => Cow::Borrowed("connection_timeout"),
            ConnectError::Other(_) => {
                Cow::Owned(format!("remote_connection_failure|{}", self.transport_failure().unwrap_or_default()))
            }
        }
    }
}
