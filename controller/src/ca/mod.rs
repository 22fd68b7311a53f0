//! The controller's CA: certificates of its own servers, and of workloads for who they are.

mod authority;
mod counters;
mod csr;
mod current;
mod rotation;
mod server;
mod service;

pub use authority::{Authority, PLUGGED_IN, SECRET};
pub use counters::Counters;
pub use csr::{Refusal, WORKLOAD};
pub use current::{Current, Follower};
pub use rotation::{OVERLAP, ROTATE};
pub use server::{ServerCertificate, server_names};
pub use service::Certificates;
