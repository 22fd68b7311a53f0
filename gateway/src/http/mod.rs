//! HTTP: the engine and the pure rules it applies.

pub mod authority;
pub mod forwarded;
pub mod grpc_status;
pub mod h1;
pub mod hop_by_hop;
pub mod path;
