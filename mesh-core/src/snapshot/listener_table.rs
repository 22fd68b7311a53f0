//! From a listener to its routes, for TLS by the name that the client asks for.

use std::sync::Arc;

use super::host_table::{HostIndex, host_of};
use super::{CompiledInbound, CompiledOutbound, HostTable};
use crate::model::{Listener, TlsServer};

#[derive(Clone, Debug)]
pub struct CompiledListener {
    pub listener: Arc<Listener>,
    pub protocol: CompiledProtocol,
}

#[derive(Clone, Debug)]
pub enum CompiledProtocol {
    Http(Arc<HostTable>),
    Tls(TlsTable),
    Tcp(Arc<HostTable>),
    Outbound(CompiledOutbound),
    Inbound(CompiledInbound),
}

/// One server of a listener for TLS.
#[derive(Debug)]
pub struct CompiledTlsServer {
    pub server: TlsServer,
    pub routes: Arc<HostTable>,
}

/// Servers by SNI: exact, then the longest `*.suffix`, then `*`. Of several for one name the first counts.
#[derive(Clone, Debug, Default)]
pub struct TlsTable {
    servers: Vec<Arc<CompiledTlsServer>>,
    names: HostIndex,
    /// Not all servers ask the same of their clients.
    is_mixed: bool,
    passes: bool,
}

impl TlsTable {
    pub(crate) fn new(servers: Vec<Arc<CompiledTlsServer>>) -> TlsTable {
        let mut names = HostIndex::default();
        for (server, number) in servers.iter().zip(0..) {
            let passes = server.server.serves.passes();
            let routes = server.routes.model.tcp.iter().filter(|_| passes).flat_map(|route| &route.sni);
            routes.chain(&server.server.hosts).for_each(|pattern| names.add(pattern, number));
        }
        let demands = || servers.iter().map(|server| server.server.tls.asks());
        let is_mixed = demands().zip(demands().skip(1)).any(|(one, other)| one != other);
        let passes = servers.iter().any(|server| server.server.serves.passes());
        TlsTable { servers, names, is_mixed, passes }
    }

    /// Whether some TLS goes on as it came.
    pub fn passes(&self) -> bool {
        self.passes
    }

    /// Whether this authority belongs to a server that asks something else of its clients than this one.
    pub fn asks_differently(&self, server: &CompiledTlsServer, authority: &str) -> bool {
        let other = || self.server(Some(host_of(authority)));
        self.is_mixed && other().is_some_and(|other| other.server.tls.asks() != server.server.tls.asks())
    }

    /// The server that answers to this name; without a name only one for `*`. Any case, and a trailing dot, are accepted.
    pub fn server(&self, sni: Option<&str>) -> Option<&Arc<CompiledTlsServer>> {
        let sni = sni.unwrap_or_default();
        let number = self.names.lookup(sni.strip_suffix('.').unwrap_or(sni))?;
        self.servers.get(usize::try_from(number).ok()?)
    }

    pub fn servers(&self) -> impl Iterator<Item = &Arc<CompiledTlsServer>> {
        self.servers.iter()
    }
}
