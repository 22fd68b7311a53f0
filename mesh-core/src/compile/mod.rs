//! The model becomes tables. Nothing fails as a whole: what cannot be prepared loses its effect in the smallest scope
//! and leaves a diagnostic. Parts whose input did not change are taken over from the previous snapshot.

mod actions;
mod buckets;
mod cors;
mod header_ops;
mod hosts;
mod policies;
mod rate_limits;
mod regex;
mod reuse;
mod rules;
mod table;
mod template;

use std::collections::HashMap;
use std::sync::Arc;

use crate::diag::{self, Diagnostic};
use crate::model::{InboundPort, Key, Listener, ListenerProtocol, ResourceSet};
use crate::snapshot::{
    CompiledInbound, CompiledInboundPort, CompiledListener, CompiledOutbound, CompiledProtocol, CompiledTlsServer,
    DnsTable, HostTable, Snapshot, TlsTable, route_keys,
};
use hosts::Hosts;

/// What [`compile`] yields.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub snapshot: Snapshot,
    pub diagnostics: Vec<Diagnostic>,
}

/// Prepares the tables of one generation. The result answers every request exactly as it would without `previous`.
pub fn compile(set: &ResourceSet, previous: Option<&Snapshot>, generation: u64) -> Compiled {
    let mut snapshot = Snapshot { generation, ..Snapshot::default() };
    let moved = reuse::clusters(&mut snapshot, &set.destinations, previous);
    let mut hosts = Hosts::new(&snapshot, moved);
    let mut tables: HashMap<Key, Arc<HostTable>> = HashMap::with_capacity(set.routes.len());
    for (key, routes) in &set.routes {
        let old = previous.and_then(|previous| previous.tables.get(key));
        tables.insert(key.clone(), hosts.table(routes, old));
    }
    let mut diagnostics = hosts.diagnostics;
    let authorizer = previous.map(|previous| &previous.authorizer);
    snapshot.authorizer = policies::authorizer(&set.authorization, authorizer, &mut diagnostics);
    let limiter = previous.map(|previous| &previous.rate_limiter);
    snapshot.rate_limiter = rate_limits::limiter(&set.rate_limits, limiter, &mut diagnostics);
    for (key, listener) in &set.listeners {
        let old = previous.and_then(|previous| previous.listeners.get(key));
        let compiled = listener_table(listener, &tables, old, &mut diagnostics);
        snapshot.listeners.insert(key.clone(), reuse::listener(compiled, old));
    }
    snapshot.tables = tables;
    snapshot.dns = DnsTable::new(&set.dns);
    Compiled { snapshot, diagnostics }
}

fn listener_table(
    listener: &Arc<Listener>,
    tables: &HashMap<Key, Arc<HostTable>>,
    old: Option<&Arc<CompiledListener>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> CompiledListener {
    let mut routes = |key: &Key| {
        tables.get(key).cloned().unwrap_or_else(|| {
            let message =
                format!("listener {} names the routes {key}, which do not exist: it answers 404", listener.key);
            diagnostics.push(Diagnostic::new(diag::ROUTES_MISSING, message).object(&listener.origin));
            Arc::new(hosts::empty(key, listener))
        })
    };
    let protocol = match &listener.protocol {
        ListenerProtocol::Http { routes: key } => CompiledProtocol::Http(routes(key)),
        ListenerProtocol::Tcp { routes: key } => CompiledProtocol::Tcp(routes(key)),
        ListenerProtocol::Tls { servers } => {
            let servers = servers
                .iter()
                .map(|server| Arc::new(CompiledTlsServer { server: server.clone(), routes: routes(&server.routes) }));
            CompiledProtocol::Tls(TlsTable::new(servers.collect()))
        }
        ListenerProtocol::Outbound(outbound) => {
            let tables = route_keys(outbound).map(&mut routes).collect();
            let same = old.filter(|old| old.listener == *listener).and_then(|old| match &old.protocol {
                CompiledProtocol::Outbound(same) => Some(same),
                _ => None,
            });
            CompiledProtocol::Outbound(CompiledOutbound::new(listener, outbound, tables, same))
        }
        ListenerProtocol::Inbound(inbound) => {
            let mut compiled = |port: &InboundPort| {
                let routes = routes(&port.routes);
                let tls = port.tls.as_ref().map(|server| {
                    let server = CompiledTlsServer { server: server.clone(), routes: Arc::clone(&routes) };
                    Arc::new(TlsTable::new(vec![Arc::new(server)]))
                });
                CompiledInboundPort { port: port.clone(), routes, tls }
            };
            let ports = inbound.ports.iter().map(|(number, port)| (*number, compiled(port))).collect::<Vec<_>>();
            CompiledProtocol::Inbound(CompiledInbound::new(ports.into_iter(), compiled(&inbound.others)))
        }
    };
    CompiledListener { listener: listener.clone(), protocol }
}

#[cfg(test)]
mod compile_tests;
#[cfg(test)]
pub(crate) mod oracle_tests;
#[cfg(test)]
pub(crate) mod sample_tests;
