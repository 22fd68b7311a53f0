//! Where requests arrive at a proxy, as two configurations are compared: an address, with TLS or without, and a server name.

use std::collections::{BTreeMap, BTreeSet};

use super::Side;
use crate::model::{HostPattern, Key, Listener, ListenerProtocol, PathNormalization, RouteSet, Serves};
use crate::snapshot::{CompiledProtocol, HostTable};

/// A listener, by what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Door {
    pub listener: Key,
    pub tls: bool,
}

/// What stands behind a door, for a name.
#[derive(Clone, Copy)]
pub(super) enum Behind<'a> {
    /// Nobody listens.
    Nothing,
    /// No server of the listener has the name: the handshake fails.
    NoServer,
    Http(&'a HostTable),
    /// Not looked into. A server name decides if TLS is passed through.
    Bytes {
        table: &'a HostTable,
        named: bool,
    },
}

/// The doors of both sides, with the names that are told apart there by any of them.
pub(super) fn doors(old: &Side<'_>, new: &Side<'_>) -> BTreeMap<Door, BTreeSet<HostPattern>> {
    let mut doors: BTreeMap<Door, BTreeSet<HostPattern>> = BTreeMap::new();
    for side in [old, new] {
        for listener in side.set.listeners.values() {
            let tls = match &listener.protocol {
                ListenerProtocol::Http { .. } | ListenerProtocol::Tcp { .. } => false,
                ListenerProtocol::Tls { .. } => true,
                ListenerProtocol::Outbound(_) | ListenerProtocol::Inbound(_) => continue,
            };
            let names = doors.entry(Door { listener: Key::clone(&listener.key), tls }).or_default();
            let tables = keys(listener).into_iter().filter_map(|key| side.set.routes.get(key));
            tables.for_each(|routes| names.extend(names_of(routes)));
            if let ListenerProtocol::Tls { servers } = &listener.protocol {
                names.extend(servers.iter().flat_map(|server| server.hosts.iter().cloned()));
            } else if let ListenerProtocol::Tcp { .. } = &listener.protocol {
                names.insert(HostPattern::Any);
            }
        }
    }
    doors
}

fn keys(listener: &Listener) -> Vec<&Key> {
    match &listener.protocol {
        ListenerProtocol::Http { routes } | ListenerProtocol::Tcp { routes } => vec![routes],
        ListenerProtocol::Tls { servers } => servers.iter().map(|server| &server.routes).collect(),
        ListenerProtocol::Outbound(_) | ListenerProtocol::Inbound(_) => Vec::new(),
    }
}

fn names_of(routes: &RouteSet) -> impl Iterator<Item = HostPattern> {
    let hosts = routes.virtual_hosts.iter().flat_map(|host| std::iter::once(&host.host).chain(&host.aliases));
    hosts.chain(routes.tcp.iter().flat_map(|route| &route.sni)).cloned()
}

impl Door {
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// For a server name, which is the host of requests too.
    pub(super) fn behind<'a>(&self, side: &Side<'a>, name: &str) -> Behind<'a> {
        let Some(listener) = side.snapshot.listeners.get(&self.listener) else { return Behind::Nothing };
        match &listener.protocol {
            CompiledProtocol::Http(table) if !self.tls => Behind::Http(table),
            CompiledProtocol::Tcp(table) if !self.tls => Behind::Bytes { table, named: false },
            CompiledProtocol::Tls(servers) if self.tls => match servers.server(Some(name)) {
                None => Behind::NoServer,
                Some(server) => match server.server.serves {
                    Serves::Http => Behind::Http(&server.routes),
                    Serves::Bytes => Behind::Bytes { table: &server.routes, named: false },
                    Serves::Passthrough | Serves::MeshPassthrough => {
                        Behind::Bytes { table: &server.routes, named: true }
                    }
                },
            },
            _ => Behind::Nothing,
        }
    }

    /// Port that users wrote, and the form of paths.
    pub(super) fn of<'a>(&self, old: &Side<'a>, new: &Side<'a>) -> (u16, PathNormalization) {
        let found = [new, old].into_iter().find_map(|side| side.set.listeners.get(&self.listener));
        found.map_or((0, PathNormalization::Base), |listener| (listener.port, listener.path_normalization))
    }
}
