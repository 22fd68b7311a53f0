//! Certificates that are ordered (ACME): what a CA is asked, and the tasks that do what the book of `mesh_core::acme` says is due.
//! Gateways that read files and the controller of a cluster do it alike; where things are kept and who shows a challenge is
//! theirs ([`House`]).

mod ca;
mod house;
mod https;
mod options;
mod orders;
mod status;

pub use ca::Issued;
pub use house::{House, Kept, Name};
pub use options::{Binding, DIRECTORIES, Directory, Options, parse_directory, parse_email, parse_profile};
pub use orders::{Counters, Done, Orders, Words};
pub use status::{OrderStatus, time};
