//! How shares of limits are lent that several proxies count together. Nobody is asked while a request waits: a proxy reports now and then
//! how much it was asked for and what it holds, and is lent a share for some seconds in return.
//!
//! One ledger lends, that of the replica that leads: replicas that lend parts of their own would need to know of each other what
//! each of them lends, and a proxy would get less only because of whom it is connected to. So a proxy asks any replica, and one that
//! does not lead says who does.
//!
//! What is lent never adds up to more than the whole. A share counts as lent until who holds it has said that it holds another one, or
//! it has run out; then what is left of it (`rest`) counts, for as long as the pod is there. A proxy counts the time of a lease from when it asked, and the
//! ledger from when it answered, so that loss and delay only make a lease shorter. A ledger that begins knows nothing of what was lent before:
//! it renews what proxies say they hold, and shares out nothing, until all of them can have come again.

mod holder;
mod ledger;
mod proto;

use std::time::Duration;

use crate::model::Part;

pub use holder::{Held, Holder};
pub use ledger::{Book, Ledger, Standing};
pub use proto::{LimitGrant, LimitReport, QuotaGrant, QuotaReport};

/// The gRPC method, a bidirectional stream: a grant for each report.
pub const LEND: &str = "/meshgate.v1.QuotaService/Lend";

/// Metadata of a refusal: where the replica is that lends, `IP:PORT`.
pub const LENDER: &str = "meshgate-lender";

/// Most limits of which one proxy may hold shares; of more, the others are held alone.
pub const MAX_SHARED: usize = 1024;

/// Largest report or grant, in bytes.
pub const MAX_QUOTA_MESSAGE: usize = 1 << 20;

/// How long a share is lent.
pub const LENT_FOR: Duration = Duration::from_secs(8);

/// How long a ledger that begins waits for proxies that hold something. They try again every [`COME_AGAIN`] at most, and what they were
/// lent has run out by then.
pub const GRACE: Duration = Duration::from_secs(12);

/// Longest pause between two attempts of a proxy to reach who lends.
pub const COME_AGAIN: Duration = Duration::from_secs(3);

/// Time between two reports where nothing is under way.
const PERIOD: Duration = Duration::from_secs(1);
/// The same while a share waits for others to give back.
const QUICK: Duration = Duration::from_millis(200);

/// What is lent in sum at most: four proxies that were never lent anything have [`Part::START`] of the rest, or are lent it. Of more that
/// come at once each has so much beside the sum, until others have given back: with N of them that is `(N - 4) / 512` of the limit.
const CEILING: Part = Part(Part::WHOLE.0 - 4 * Part::START.0);
/// What is shared out. A proxy that comes anew gets its first share at once of what lies between.
const POOL: Part = Part(CEILING.0 - 4 * Part::START.0);

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
