//! `gateway` moves bytes: listeners, TLS, the HTTP engine and upstream connections. What to do with a request is decided
//! by the tables of `mesh-core`; this crate never looks at users' objects on the data path.

pub mod acme;
pub mod admin;
pub mod app;
pub mod bootstrap;
pub mod check;
pub mod demand;
pub mod exit;
pub mod http;
pub mod listen;
pub mod live;
pub mod logging;
pub mod observe;
pub mod peer_metadata;
pub mod resident;
pub mod sidecar;
pub mod source;
pub mod store;
pub mod tcp;
pub mod tls;
pub mod upstream;
