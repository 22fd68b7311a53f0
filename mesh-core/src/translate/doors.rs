//! By which doors the connections of a workload come in: its sidecar has them redirected, or listens where the workload calls it.

use std::net::SocketAddr;

use crate::model::Key;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Door {
    /// Redirected, whatever the address.
    Port(u16),
    /// Redirected on the way to this address.
    Address(SocketAddr),
    /// To a listener of its own.
    Own(SocketAddr),
}

impl Door {
    /// Key of the table of its hosts.
    pub fn key(self) -> Key {
        match self {
            Door::Port(port) => port.to_string().into(),
            Door::Address(address) => format!("redirected|{address}").into(),
            Door::Own(address) => address.to_string().into(),
        }
    }
}

/// A door, and what is seen there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub door: Door,
    /// Place among the listeners of `egress`; none: everything is seen.
    pub listener: Option<usize>,
}
