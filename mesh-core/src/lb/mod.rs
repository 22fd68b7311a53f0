//! Which endpoint gets a request. Neither locks nor allocates; randomness is passed in.

mod balancer;
mod breaker;
mod buckets;
mod endpoints;
mod groups;
mod hash;
mod load;
mod load_report;
mod outlier;
mod pool;
mod rate;
mod share;
mod tiers;
mod warmup;
mod zones;

pub use balancer::Balancer;
pub use breaker::{Breaker, Limit, Overflow, Permit};
pub use buckets::Buckets;
pub use endpoints::{ActiveGuard, EndpointSet, EndpointState, Shape};
pub use hash::{hash_address, hash_key};
pub use load::Load;
pub use load_report::{LoadReport, Unusable};
pub use outlier::{Cause, Ejections, TryResult};
pub use rate::{Exhausted, Level, Rate, RateCount};
pub use share::{Moment, ShareCell};

#[cfg(test)]
mod lb_tests;
