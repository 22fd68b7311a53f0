//! The webhooks: what the API server is told about an object before it is stored, and what it adds to pods.
//!
//! The validating one decides: what is denied (errors of the object itself) and what is a warning (what is legal but doubtful, or refers to
//! something that is not there yet: objects may come in any order). The parser, the translation and so the words are those
//! of the command line. It never stands in the way of a deletion or of a status, and the API server goes on without it
//! (`failurePolicy: Ignore`): a controller that is away must not keep users from repairing what is broken; what slips
//! through is told in the object's status. The mutating one adds sidecars to pods that ask for them, as `inject` says; those
//! that ask must not start without (`failurePolicy: Fail`), and nobody else's come here.

mod bundle;
mod inject;
mod judge;
mod review;
mod selection;
mod server;

pub use bundle::Bundle;
pub use inject::Injector;
pub use judge::{Judge, Verdict};
pub use selection::CurrentSelection;
pub use server::{Webhooks, serve};
