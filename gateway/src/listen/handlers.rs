//! Who does what with a connection: HTTP has one handler, bytes another.

use std::sync::Arc;

use pingora_core::protocols::Stream;
use tokio::sync::watch;

use super::{ConnectionFuture, ConnectionHandler, ConnectionInfo};

/// Hands each connection to the handler for what is spoken on it.
pub struct Handlers {
    pub http: Arc<dyn ConnectionHandler>,
    pub bytes: Arc<dyn ConnectionHandler>,
}

impl ConnectionHandler for Handlers {
    fn handle(
        self: Arc<Self>,
        stream: Stream,
        info: Arc<ConnectionInfo>,
        drain: watch::Receiver<bool>,
    ) -> ConnectionFuture {
        let handler = if info.bytes { &self.bytes } else { &self.http };
        Arc::clone(handler).handle(stream, info, drain)
    }
}
