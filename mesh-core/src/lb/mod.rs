//! Which endpoint gets a request. Neither locks nor allocates; randomness is passed in.

mod balancer;
mod endpoints;

pub use balancer::Balancer;
pub use endpoints::{ActiveGuard, EndpointSet, EndpointState};

#[cfg(test)]
mod lb_tests;
