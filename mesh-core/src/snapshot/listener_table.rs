//! From a listener to its routes, for TLS by the name that the client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use super::{CompiledInbound, CompiledOutbound, HostTable};
use crate::model::{HostPattern, Listener, TlsServer};

#[derive(Clone, Debug)]
pub struct CompiledListener {
    pub listener: Arc<Listener>,
    pub protocol: CompiledProtocol,
}

#[derive(Clone, Debug)]
pub enum CompiledProtocol {
    Http(Arc<HostTable>),
    Tls(TlsTable),
    Outbound(CompiledOutbound),
    Inbound(CompiledInbound),
}

/// One server of a listener that terminates TLS.
#[derive(Debug)]
pub struct CompiledTlsServer {
    pub server: TlsServer,
    pub routes: Arc<HostTable>,
}

/// Servers by SNI: exact, then the longest `*.suffix`, then `*`.
#[derive(Clone, Debug, Default)]
pub struct TlsTable {
    servers: Vec<Arc<CompiledTlsServer>>,
    exact: HashMap<Arc<str>, usize>,
    suffix: HashMap<Arc<str>, usize>,
    any: Option<usize>,
}

impl TlsTable {
    pub(crate) fn new(servers: Vec<Arc<CompiledTlsServer>>) -> TlsTable {
        let mut table = TlsTable::default();
        for (index, server) in servers.iter().enumerate() {
            for host in &server.server.hosts {
                match host {
                    HostPattern::Exact(host) => {
                        table.exact.entry(host.clone()).or_insert(index);
                    }
                    HostPattern::Suffix(suffix) => {
                        table.suffix.entry(suffix.clone()).or_insert(index);
                    }
                    HostPattern::Any => {
                        table.any.get_or_insert(index);
                    }
                }
            }
        }
        table.servers = servers;
        table
    }

    /// The server that answers to this name; without a name only one for `*`. Any case, and a trailing dot, are accepted.
    pub fn server(&self, sni: Option<&str>) -> Option<&Arc<CompiledTlsServer>> {
        let index = sni.and_then(|name| self.lookup(name)).or(self.any)?;
        self.servers.get(index)
    }

    pub fn servers(&self) -> impl Iterator<Item = &Arc<CompiledTlsServer>> {
        self.servers.iter()
    }

    fn lookup(&self, name: &str) -> Option<usize> {
        // Once per handshake, beside which an allocation is nothing.
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Some(index) = self.exact.get(name.as_str()) {
            return Some(*index);
        }
        name.match_indices('.')
            .filter(|(at, _)| *at > 0)
            .find_map(|(at, _)| name.get(at..).and_then(|suffix| self.suffix.get(suffix)))
            .copied()
    }
}
