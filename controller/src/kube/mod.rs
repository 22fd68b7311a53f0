//! From Kubernetes to the world: watches, and the one task that owns the world.

mod class;
mod client;
mod handle;
mod incomplete;
mod keeper;
mod leader;
mod list;
mod members;
mod objects;
mod rights;
mod roots;
mod unread;
mod watch;

pub use class::ClassState;
pub use client::{NoCluster, Unreachable, connect};
pub use handle::{Command, Joined, KeeperHandle, NotYet, Observed, Survey, Versions, View};
pub use keeper::Keeper;
pub use leader::{LEASE, Leadership, Lease, STOPPING, Term};
pub use list::{Listed, Unavailable, list};
pub use members::{Departure, Leaving};
pub(crate) use objects::{read_value, reference};
pub use rights::Reviews;
pub use roots::{OURS, ROOTS, publish_roots};
pub use watch::{Detail, Feed, KINDS, Scope, Source, Watched, sources, watch};
