//! By which doors the connections of a workload come in: its sidecar has them redirected, or listens where the workload calls it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::{Key, ListenAddress};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Door {
    /// Redirected, whatever the address.
    Port(u16),
    /// Redirected on the way to this address.
    Address(SocketAddr),
    /// To a listener of its own.
    Own(ListenAddress),
    /// Of what comes in by another door, requests whose authority has this port: the port of that door says nothing.
    Within(Arc<Door>, u16),
}

impl Door {
    /// Key of the table of its hosts.
    pub fn key(&self) -> Key {
        match self {
            Door::Port(port) => port.to_string().into(),
            Door::Address(address) => format!("redirected|{address}").into(),
            Door::Own(address) => address.to_string().into(),
            Door::Within(door, port) => format!("{}|{port}", door.key()).into(),
        }
    }

    /// Where connections come in.
    pub fn outer(&self) -> &Door {
        match self {
            Door::Within(door, _) => door,
            door => door,
        }
    }
}

/// A door, and what is seen there.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub door: Door,
    /// Place among the listeners of `egress`; none: everything is seen.
    pub listener: Option<usize>,
}
