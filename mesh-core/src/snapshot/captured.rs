//! From where a captured connection was going to what is done with it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::choices::Choices;
use super::host_table::{host_of, port_of};
use super::{HostTable, TlsTable};
use crate::model::{
    InboundPort, Key, Listener, ListenerProtocol, OnDemand, Outbound, OutboundTcp, UnknownDestination, asked_address,
    asked_name,
};

/// What leaves the workload, by where it is going.
#[derive(Clone, Debug)]
pub struct CompiledOutbound {
    index: Arc<OutboundIndex>,
    /// By the numbers in the index.
    tables: Box<[Arc<HostTable>]>,
}

/// It depends on the listener alone, not on its routes.
#[derive(Debug)]
struct OutboundIndex {
    listener: Arc<Listener>,
    http: HashMap<u16, Http, RandomState>,
    /// By network and port.
    networks: HashMap<(IpNet, u16), Choices, RandomState>,
    /// Which sizes of networks there are at a port, narrowest first.
    sizes: HashMap<u16, Vec<Size>, RandomState>,
    /// Whatever the address.
    anywhere: HashMap<u16, Choices, RandomState>,
    /// Numbers of the tables of entries that have routes, by the entry's number.
    routes: HashMap<u32, u32, RandomState>,
    unknown: UnknownDestination,
}

#[derive(Clone, Debug)]
struct Http {
    table: u32,
    detect: bool,
    /// Numbers of tables by the port of an authority.
    by_port: Box<[(u16, u32)]>,
}

/// Port of an authority without one.
const HTTP_PORT: u16 = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    v6: bool,
    prefix: u8,
}

/// What is done with connections to one address.
#[derive(Clone, Copy, Debug)]
pub struct OutboundMatch<'a> {
    /// Routes of what is HTTP; none: it is not looked for. See [`OutboundMatch::routes`].
    pub http: Option<&'a Arc<HostTable>>,
    /// Numbers of tables that come before, by the port of an authority.
    by_port: &'a [(u16, u32)],
    /// Whether the client may wait for its server to speak first although there are routes for HTTP.
    pub detect: bool,
    /// Whether it is the routes of all hosts of the port, rather than of the one that has the address.
    by_name: bool,
    /// Whether the server name that TLS asks for has a say.
    pub named: bool,
    outbound: &'a CompiledOutbound,
    original: SocketAddr,
}

impl CompiledOutbound {
    /// Tables for the routes of a listener, in the order of [`route_keys`]. The index of `same` is taken over: it is that of an
    /// equal listener.
    pub(crate) fn new(
        listener: &Arc<Listener>,
        outbound: &Outbound,
        tables: Box<[Arc<HostTable>]>,
        same: Option<&CompiledOutbound>,
    ) -> CompiledOutbound {
        let index =
            same.map_or_else(|| Arc::new(OutboundIndex::new(listener, outbound)), |same| Arc::clone(&same.index));
        CompiledOutbound { index, tables }
    }

    pub(crate) fn has_tables_of(&self, other: &CompiledOutbound) -> bool {
        self.tables.len() == other.tables.len() && self.tables.iter().zip(&other.tables).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// What is done with a connection to this address.
    pub fn find(&self, original: SocketAddr) -> OutboundMatch<'_> {
        let original = SocketAddr::new(original.ip().to_canonical(), original.port());
        let mut found = OutboundMatch {
            http: None,
            by_port: &[],
            detect: false,
            by_name: false,
            named: false,
            outbound: self,
            original,
        };
        for choices in self.index.choices(original) {
            found.named |= choices.named.is_some();
            if let Some(plain) = choices.plain {
                found.http = self.index.routes.get(&plain).and_then(|table| self.table(*table));
                found.by_name = self.index.tcp(plain).is_some_and(|tcp| tcp.networks.is_empty());
                found.detect = found.http.is_some();
                // Bytes at a Unix socket may be for anybody, as its requests are.
                let beside = self.index.http.get(&original.port()).filter(|http| !http.by_port.is_empty());
                if let Some(http) = beside {
                    found.take(http);
                    found.detect = true;
                }
                return found;
            }
        }
        if let Some(http) = self.index.http.get(&original.port()) {
            found.take(http);
        }
        found
    }

    /// Whether services may have this address and nobody asked which: what is said about it here counts for nothing.
    pub fn lacks_address(&self, address: IpAddr) -> bool {
        self.on_demand()
            .is_some_and(|terms| terms.is_near(address) && !terms.answered.contains(&asked_address(address)))
    }

    /// The name to ask for before a request for this authority, to this address, is routed: nothing here is called just so. Where the
    /// address says whom all requests are for, nothing lacks.
    pub fn lacks_host(&self, original: SocketAddr, authority: &str) -> Option<Key> {
        self.on_demand()?;
        let found = self.find(original);
        let host = host_of(authority);
        if !found.by_name || found.routes(authority)?.names(host) { None } else { self.lacks_name(host) }
    }

    /// The name to ask for to know all that a host or an address without port means.
    pub fn lacks_name(&self, host: &str) -> Option<Key> {
        let terms = self.on_demand()?;
        if terms.answered.contains(host) {
            return None;
        }
        let name = asked_name(host)?;
        let is_far = || name.parse().is_ok_and(|address| !terms.is_near(address));
        (!terms.answered.contains(&name) && !is_far()).then_some(name)
    }

    fn on_demand(&self) -> Option<&OnDemand> {
        match &self.index.listener.protocol {
            ListenerProtocol::Outbound(outbound) => outbound.on_demand.as_ref(),
            _ => None,
        }
    }

    fn table(&self, number: u32) -> Option<&Arc<HostTable>> {
        self.tables.get(usize::try_from(number).ok()?)
    }
}

/// Keys of the routes that a listener names, in the order of its tables.
pub(crate) fn route_keys(outbound: &Outbound) -> impl Iterator<Item = &Key> {
    let http = outbound.http.values().flat_map(|http| std::iter::once(&http.routes).chain(http.by_port.values()));
    http.chain(outbound.tcp.iter().filter_map(|tcp| tcp.routes.as_ref()))
}

impl OutboundIndex {
    fn new(listener: &Arc<Listener>, outbound: &Outbound) -> OutboundIndex {
        let mut first = 0_u32;
        let mut next = || {
            first += 1;
            first - 1
        };
        // As in `route_keys`.
        let mut http = HashMap::default();
        for (port, one) in &outbound.http {
            let table = next();
            let by_port = one.by_port.keys().map(|port| (*port, next())).collect();
            http.insert(*port, Http { table, detect: one.detect, by_port });
        }
        let mut index = OutboundIndex {
            listener: Arc::clone(listener),
            http,
            networks: HashMap::default(),
            sizes: HashMap::default(),
            anywhere: HashMap::default(),
            routes: HashMap::default(),
            unknown: outbound.unknown.clone(),
        };
        let with_routes = outbound.tcp.iter().zip(0..).filter(|(tcp, _)| tcp.routes.is_some());
        index.routes = with_routes.zip(first..).map(|((_, entry), table)| (entry, table)).collect();
        for (tcp, number) in outbound.tcp.iter().zip(0_u32..) {
            if tcp.networks.is_empty() {
                index.anywhere.entry(tcp.port).or_default().add(&tcp.sni, number);
            }
            for network in &tcp.networks {
                let network = network.trunc();
                index.networks.entry((network, tcp.port)).or_default().add(&tcp.sni, number);
                let size = Size { v6: network.addr().is_ipv6(), prefix: network.prefix_len() };
                let sizes = index.sizes.entry(tcp.port).or_default();
                if !sizes.contains(&size) {
                    sizes.push(size);
                }
            }
        }
        index.sizes.values_mut().for_each(|sizes| sizes.sort_by_key(|size| std::cmp::Reverse(size.prefix)));
        index
    }

    /// Narrowest network first.
    fn choices(&self, original: SocketAddr) -> impl Iterator<Item = &Choices> {
        let port = original.port();
        let sizes = self.sizes.get(&port).map(Vec::as_slice).unwrap_or_default();
        let networks = sizes.iter().filter_map(move |size| {
            let network = size.network(original.ip())?;
            self.networks.get(&(network, port))
        });
        networks.chain(self.anywhere.get(&port))
    }

    fn tcp(&self, number: u32) -> Option<&OutboundTcp> {
        match &self.listener.protocol {
            ListenerProtocol::Outbound(outbound) => outbound.tcp.get(usize::try_from(number).ok()?),
            _ => None,
        }
    }
}

impl Size {
    fn network(self, ip: IpAddr) -> Option<IpNet> {
        (ip.is_ipv6() == self.v6).then(|| IpNet::new(ip, self.prefix).ok()).flatten().map(|network| network.trunc())
    }
}

impl<'a> OutboundMatch<'a> {
    fn take(&mut self, http: &'a Http) {
        (self.http, self.detect, self.by_name) = (self.outbound.table(http.table), http.detect, true);
        self.by_port = &http.by_port;
    }

    /// Routes of a request for this authority.
    pub fn routes(&self, authority: &str) -> Option<&'a Arc<HostTable>> {
        if self.by_port.is_empty() {
            return self.http;
        }
        let port = port_of(authority).unwrap_or(HTTP_PORT);
        let found = self.by_port.iter().find(|(known, _)| *known == port);
        found.and_then(|(_, table)| self.outbound.table(*table)).filter(|table| table.has_host(authority)).or(self.http)
    }

    /// Where bytes go that are not HTTP; `sni` is the server name if they are TLS and ask for one. None: nobody knows the
    /// address.
    pub fn tcp(&self, sni: Option<&str>) -> Option<&'a OutboundTcp> {
        let index = &self.outbound.index;
        let number = index.choices(self.original).find_map(|choices| choices.find(sni))?;
        index.tcp(number)
    }

    /// What is done where nobody knows the address.
    pub fn unknown(&self) -> &'a UnknownDestination {
        &self.outbound.index.unknown
    }
}

/// What arrives at the workload, by port.
#[derive(Clone, Debug)]
pub struct CompiledInbound {
    ports: HashMap<u16, CompiledInboundPort, RandomState>,
    others: CompiledInboundPort,
}

#[derive(Clone, Debug)]
pub struct CompiledInboundPort {
    pub port: InboundPort,
    /// Of what is HTTP.
    pub routes: Arc<HostTable>,
    /// The one server at which TLS ends.
    pub tls: Option<Arc<TlsTable>>,
}

impl CompiledInbound {
    pub(crate) fn new(
        ports: impl Iterator<Item = (u16, CompiledInboundPort)>,
        others: CompiledInboundPort,
    ) -> CompiledInbound {
        CompiledInbound { ports: ports.collect(), others }
    }

    pub(crate) fn has_tables_of(&self, other: &CompiledInbound) -> bool {
        let same = |a: &CompiledInboundPort, b: &CompiledInboundPort| Arc::ptr_eq(&a.routes, &b.routes);
        same(&self.others, &other.others)
            && self.ports.len() == other.ports.len()
            && self.ports.iter().all(|(port, a)| other.ports.get(port).is_some_and(|b| same(a, b)))
    }

    /// What is done with a connection to this port.
    pub fn port(&self, port: u16) -> &CompiledInboundPort {
        self.ports.get(&port).unwrap_or(&self.others)
    }
}

#[cfg(test)]
#[path = "captured_tests.rs"]
mod tests;
