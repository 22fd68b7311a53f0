//! The model becomes tables. Nothing fails as a whole: what cannot be prepared loses its effect in the smallest scope
//! and leaves a diagnostic. Parts whose input did not change are taken over from the previous snapshot.

mod actions;
mod header_ops;
mod hosts;
mod regex;
mod rules;
mod template;

use std::collections::HashMap;
use std::sync::Arc;

use crate::diag::Diagnostic;
use crate::model::{Key, Listener, ListenerProtocol, ResourceSet};
use crate::snapshot::{CompiledListener, CompiledProtocol, CompiledTlsServer, HostTable, Snapshot, TlsTable};

/// What [`compile`] yields.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub snapshot: Snapshot,
    pub diagnostics: Vec<Diagnostic>,
}

/// Prepares the tables of one generation. The result answers every request exactly as it would without `previous`.
pub fn compile(set: &ResourceSet, previous: Option<&Snapshot>, generation: u64) -> Compiled {
    let _ = previous;
    let mut diagnostics = Vec::new();
    let mut snapshot =
        Snapshot { generation, clusters: set.destinations.values().cloned().collect(), ..Snapshot::default() };
    let mut tables: HashMap<&str, Arc<HostTable>> = HashMap::new();
    for (key, routes) in &set.routes {
        tables.insert(key, Arc::new(hosts::host_table(routes, &snapshot, &mut diagnostics)));
    }
    for (key, listener) in &set.listeners {
        if let Some(compiled) = listener_table(listener, &mut tables, &mut diagnostics) {
            snapshot.listeners.insert(key.clone(), Arc::new(compiled));
        }
    }
    Compiled { snapshot, diagnostics }
}

fn listener_table(
    listener: &Arc<Listener>,
    tables: &mut HashMap<&str, Arc<HostTable>>,
    _diagnostics: &mut Vec<Diagnostic>,
) -> Option<CompiledListener> {
    let routes = |key: &Key| tables.get(key.as_ref()).cloned().unwrap_or_else(|| Arc::new(hosts::empty(key, listener)));
    let protocol = match &listener.protocol {
        ListenerProtocol::Http { routes: key } => CompiledProtocol::Http(routes(key)),
        ListenerProtocol::Tls { servers } => {
            let servers = servers
                .iter()
                .map(|server| Arc::new(CompiledTlsServer { server: server.clone(), routes: routes(&server.routes) }));
            CompiledProtocol::Tls(TlsTable::new(servers.collect()))
        }
    };
    Some(CompiledListener { listener: listener.clone(), protocol })
}
