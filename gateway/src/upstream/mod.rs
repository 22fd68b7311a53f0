//! Connections to upstreams: dialling, mutual TLS in the mesh, pools, names. The room decides whether a connection is new or reused and when an
//! unused one goes; it knows nothing of requests, routes or retries, and never chooses an endpoint.

mod connect;
mod dial;
mod dns;
mod h2;
mod host;
mod jwks;
mod named;
mod ping;
mod pool;
mod posted;
mod proxy_header;
mod stream;
mod sweep;

pub use dial::ConnectError;
pub use dns::Resolver;
pub use jwks::{Algorithm, KeyCell, KeyStore, Keys, Mismatch};
pub use named::NamedHosts;
pub use pool::{Asked, BytesLease, H1Lease, H2Lease, PoolLimits, PoolStats, Pools, Upstream};
pub use stream::Stream;
