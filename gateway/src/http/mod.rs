//! HTTP: the engine, the codecs, and the pure rules it applies.
//!
//! ```text
//! h1_connection, h2_connection -> engine -> respond | forward -> h1_stream, h2_stream
//! ```

mod affinity;
pub mod authority;
mod authorize;
pub mod client_cert;
mod clock;
mod cookie;
mod cors;
#[cfg(test)]
mod drain_tests;
mod ending;
mod engine;
mod exchange;
mod ext_authz;
mod failure;
mod fault;
mod forward;
pub mod forwarded;
mod grpc;
pub mod grpc_status;
pub mod h1;
mod h1_connection;
mod h1_stream;
mod h2_connection;
mod h2_stream;
pub mod hop_by_hop;
mod jwt;
mod message;
mod mirror;
mod on_demand;
mod outlier;
mod pump;
pub(crate) mod rate_limit;
mod respond;
mod response_headers;
mod retry;
mod room;
mod settings;
mod stall;
#[cfg(test)]
pub(crate) mod testing;
mod tunnel;
mod upstream_request;
mod workloads;

pub use engine::Engine;
pub use room::Room;
pub use settings::Settings;
