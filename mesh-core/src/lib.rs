//! `mesh-core` decides: what users wrote becomes a validated model, the model becomes tables, and the tables answer
//! requests. The crate is pure: no socket, task, file, clock or Kubernetes client; time and randomness are passed in.
//!
//! ```text
//! ApiObject --World::apply--> World --translate(world, proxy)--> ResourceSet --compile(set, prev)--> Snapshot --route--> Decision
//! ```

pub mod acme;
pub mod analyze;
pub mod api;
pub mod attribute;
pub mod certificate;
pub mod compile;
pub mod diag;
pub mod identity;
pub mod lb;
pub mod model;
pub mod object;
mod re2;
mod reach;
pub mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
pub mod translate;
pub mod wire;
pub mod world;
