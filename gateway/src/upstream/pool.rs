//! The pool of one worker.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::placeholder::{ClientCodec, EndpointState, LiveCluster};
use super::{ConnectError, Stream};

/// All connections to upstreams of one worker.
pub struct Pools {}

/// A connection for one request.
pub enum Upstream {
    H1(H1Lease),
    H2(H2Lease),
}

/// An HTTP/1 connection, for one request. Dropped without [`Pools::release`], it is closed.
pub struct H1Lease {
    pub codec: ClientCodec<Stream>,
    /// It served a request before: it may turn out to be dead although the endpoint is well.
    pub reused: bool,
    pub local: Option<SocketAddr>,
}

/// A place for one stream on an HTTP/2 connection. Keep it until the stream is over: it counts as one until it is dropped.
pub struct H2Lease {
    /// Wait for `ready()` before `send_request`.
    pub send: ::h2::client::SendRequest<Bytes>,
    pub reused: bool,
    pub local: Option<SocketAddr>,
}

/// For admin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStats {
    pub cluster: u64,
    pub address: SocketAddr,
    pub connects: u64,
    pub connect_failures: u64,
    /// Connections in use.
    pub active: u64,
    pub idle: u64,
}

impl Pools {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {})
    }

    /// An idle connection, else a new one. Must run on the worker's runtime.
    pub async fn acquire(
        &self,
        cluster: &Arc<LiveCluster>,
        endpoint: &Arc<EndpointState>,
    ) -> Result<Upstream, ConnectError> {
        let _ = (cluster, endpoint);
        Err(ConnectError::Timeout)
    }

    /// Gives a connection back whose exchange is over; one that cannot be used again is closed.
    pub fn release(&self, lease: H1Lease) {
        drop(lease);
    }

    #[must_use]
    pub fn stats(&self) -> Vec<PoolStats> {
        Vec::new()
    }
}
