//! Names that a sidecar answers itself, where it is asked for them. All others are a matter of the pod's own resolver.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::object::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsName {
    /// The name, in lower case, without a dot at its end; or `*.` and what all names have at their end that it stands for.
    pub key: Key,
    /// At least one.
    pub addresses: Vec<IpAddr>,
    /// The ServiceEntry.
    pub origin: ObjectRef,
}
