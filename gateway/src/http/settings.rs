//! Limits and habits of the engine. One table, so that every limit has a name, a default and a place.

use std::sync::Arc;
use std::time::Duration;

use super::h1;
use super::room::Room;
use crate::peer_metadata::OwnMetadata;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits of HTTP/1 heads and chunk framing.
    pub h1: h1::Limits,
    /// A head must be complete this long after its first byte.
    pub head_timeout: Duration,
    /// An unused client connection is closed after this.
    pub idle_timeout: Duration,
    /// The same while draining, of a client that speaks HTTP/1: nobody can tell it that its next request would be too late.
    pub drain_idle_timeout: Duration,
    /// A client that is waited for, to send what it announced or to take its answer, may do neither for so long.
    pub stall_timeout: Duration,
    /// For requests, those of all workers.
    pub room: Arc<Room>,
    /// Concurrent HTTP/2 streams per connection.
    pub h2_max_streams: u32,
    /// Bytes of a decoded HTTP/2 header list (RFC 9113 section 6.5.2).
    pub h2_max_header_list: u32,
    /// HTTP/2 flow control windows, bytes.
    pub h2_stream_window: u32,
    pub h2_connection_window: u32,
    /// How long a connection that must end is read, so that the client gets the answer and no reset.
    pub linger: Duration,
    /// `%HOSTNAME%`
    pub hostname: Arc<str>,
    /// What other proxies of the mesh are told of this one's workload.
    pub metadata: Option<OwnMetadata>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            h1: h1::Limits::default(),
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(3600),
            drain_idle_timeout: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(300),
            room: Arc::new(Room::of(65_536)),
            h2_max_streams: 1024,
            h2_max_header_list: 60 * 1024,
            h2_stream_window: 1 << 20,
            h2_connection_window: 16 << 20,
            linger: Duration::from_secs(1),
            hostname: Arc::from("-"),
            metadata: None,
        }
    }
}
