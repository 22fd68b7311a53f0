//! The servers of a case, behind the gateway.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh_core::testing::{BackendKind, Case};

use super::config::Addresses;
use crate::backend::{Backend, Saw};
use crate::ports;

/// They listen until they are dropped.
pub struct Backends {
    running: BTreeMap<String, Backend>,
    pub addresses: Addresses,
}

impl Backends {
    /// `take` yields an address for each of them.
    pub async fn start(case: &Case, take: impl Fn() -> std::io::Result<IpAddr>) -> anyhow::Result<Backends> {
        let mut backends = Backends { running: BTreeMap::new(), addresses: Addresses::new() };
        for (name, backend) in &case.backends {
            let settings = backend.settings();
            let ip = take()?;
            let address = match settings.kind {
                BackendKind::Empty => continue,
                BackendKind::Refused => SocketAddr::new(ip, ports::free_port(ip)?),
                BackendKind::Echo
                | BackendKind::Close
                | BackendKind::Mute
                | BackendKind::Connect
                | BackendKind::Deaf => {
                    let backend = Backend::with_settings_at(SocketAddr::new(ip, 0), name, &settings).await?;
                    let address = backend.address;
                    backends.running.insert(name.clone(), backend);
                    address
                }
            };
            backends.addresses.insert(name.clone(), address);
        }
        Ok(backends)
    }

    /// How many requests this one saw.
    pub fn requests(&self, name: &str) -> u32 {
        self.running.get(name).map(Backend::requests).unwrap_or_default()
    }

    /// How many connections this one got.
    pub fn connections(&self, name: &str) -> u32 {
        self.running.get(name).map(Backend::connections).unwrap_or_default()
    }

    /// The last request that this one saw.
    pub fn last(&self, name: &str) -> Option<Saw> {
        self.running.get(name)?.last()
    }
}
