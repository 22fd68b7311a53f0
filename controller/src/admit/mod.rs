//! The validating webhook: what the API server is told about an object before it is stored.
//!
//! Decides: what is denied (errors of the object itself) and what is a warning (what is legal but doubtful, or refers to
//! something that is not there yet: objects may come in any order). The parser, the translation and so the words are those
//! of the command line. It never stands in the way of a deletion or of a status, and the API server goes on without it
//! (`failurePolicy: Ignore`): a controller that is away must not keep users from repairing what is broken; what slips
//! through is told in the object's status.

mod bundle;
mod judge;
mod review;
mod server;

pub use bundle::{Bundle, CONFIGURATION};
pub use judge::{Judge, Verdict};
pub use server::serve;
