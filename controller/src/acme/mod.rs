//! Certificates that Gateways ask for with an annotation (ACME): the leader has them ordered (crate `mesh-acme`), keeps them in Secrets
//! of the gateways' namespaces, and has the gateways show what the CA wants to see.
//!
//! Decides: what is ordered of all that replicas say is wanted, and when a CA may look. Must not know: how proxies are told. What a
//! CA is to be shown goes through the API server, as an annotation of the Secret: so every replica knows it, and every gateway.

mod board;
mod leader;
mod secrets;
mod wanted;

pub use board::{Board, OrdersPage};
pub use leader::Leader;
pub use secrets::ACCOUNT;
pub use wanted::{Wanted, Watching};
