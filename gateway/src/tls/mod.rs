//! TLS: certificates that can be exchanged while they are served, and how a server answers a ClientHello. One crypto
//! provider, aws-lc-rs. The room knows nothing of routes.

pub mod certs;
pub mod names;
pub mod provider;
pub mod server;
