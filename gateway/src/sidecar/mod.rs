//! What only the sidecar has: the rules of a pod that lead its connections to it, what it does for the application beside its
//! traffic (names, probes, metrics), and what is told to a running one.

pub mod agent;
pub mod call;
pub mod dns;
pub mod redirect;
pub(crate) mod resolv_conf;
