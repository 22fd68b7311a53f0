//! What the objects themselves say about how far they are.
//!
//! Decides: whether an object is accepted, and whether all proxies that it concerns have it. Each replica counts its own
//! proxies ([`Ledger`]) and tells the others; the leader adds up and writes. Must not know: how proxies are told.

mod condition;
mod known;
mod ledger;
mod peers;
mod tally;
mod withdraw;
mod write;
mod writer;
mod writes;

pub use condition::{Condition, Desired, Merged, ValidationMessage, desired, merge};
pub use known::{Known, Ours};
pub use ledger::Ledger;
pub use peers::Peers;
pub use tally::{Finding, Progress, RefusedBy, Tally, keep_tally};
pub use withdraw::{Told, told};
pub use writer::{KINDS, Writer};
pub use writes::Writes;
