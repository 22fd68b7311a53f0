//! Connections that are not HTTP: bytes, both ways, to the destination that the tables name for where the client was going.
//!
//! target -> policies -> pick -> connect, to another endpoint if there is one -> copy -> record

mod copy;
mod passage;
mod proxy;
mod target;

pub use proxy::TcpProxy;
