//! Which requests can reach a rule: predicates of the model as sets of requests, and a search for a request that some match
//! and others do not.
//!
//! Decides: whether there is such a request, with one as an example; or which predicates leave none. Where a limit is hit it
//! says that it does not know. Must not know: the users' API, hosts of a table, what a rule does with a request.
//!
//! How: a predicate is a conjunction of conditions on fields (path, method, one header, ...). A *cell* bounds each field by
//! sets of texts that its value must be in, or must not be in. To miss a rule is to fail one of its conditions, so the search
//! narrows a cell by one failed condition for each rule, and goes back where a field has no value left. Sets of texts are
//! automata; a value of a field is the shortest text that a product of them accepts.

mod cell;
mod example;
mod field;
mod find;
mod machine;
#[cfg(test)]
mod reach_tests;
mod search;
mod space;
mod universe;

pub use example::Example;
pub use search::Outcome;
pub use space::{Conjunction, Space};
pub use universe::Place;
