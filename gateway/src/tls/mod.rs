//! TLS: certificates that can be exchanged while they are served, and how a server answers a ClientHello. One crypto
//! provider, aws-lc-rs. In the mesh: who this proxy is (`workload`, `renewal`), who its peers are (`peer_verify`), and how it
//! speaks to endpoints (`client`). The room knows nothing of routes.

pub mod certs;
pub mod challenges;
pub mod client;
mod client_verify;
pub mod names;
pub mod origination;
pub mod peer_verify;
pub mod provider;
pub mod renewal;
pub mod server;
#[cfg(test)]
pub(crate) mod testing;
pub mod workload;
