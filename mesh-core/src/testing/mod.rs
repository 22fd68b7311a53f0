//! The schema of case files: configuration, requests, expectations. It only says what a case is; the runners are in the
//! `e2e` crate. See `tests/cases/README.md` for the words in prose.

mod case;
mod expect;
mod matcher;

pub use case::*;
pub use expect::*;
pub use matcher::*;
