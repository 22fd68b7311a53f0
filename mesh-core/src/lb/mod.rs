//! Which endpoint gets a request. Neither locks nor allocates; randomness is passed in.

mod balancer;
mod breaker;
mod endpoints;
mod hash;
mod outlier;

pub use balancer::Balancer;
pub use breaker::{Breaker, Limit, Overflow, Permit};
pub use endpoints::{ActiveGuard, EndpointSet, EndpointState, Shape};
pub use hash::{hash_address, hash_key};
pub use outlier::{Cause, Ejections, TryResult};

#[cfg(test)]
mod lb_tests;
