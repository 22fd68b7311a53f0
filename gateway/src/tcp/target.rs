//! Where the bytes of a connection go, by the tables of this moment.

use std::sync::Arc;

use mesh_core::model::{
    BLACK_HOLE, DestinationRef, Key, MtlsMode, PASSTHROUGH, TcpRoute, UnknownDestination, WeightedDestination,
};
use mesh_core::snapshot::{CompiledInbound, CompiledOutbound, CompiledProtocol};

use crate::listen::ConnectionInfo;
use crate::live::{Live, LiveCluster};

/// A destination, or the name of what there is none for.
#[derive(Clone)]
pub struct Target {
    /// For logs, also of what does not exist.
    pub name: Key,
    /// None: the connection is closed.
    pub cluster: Option<Arc<LiveCluster>>,
    /// A rule says so, or whoever decides where there is none.
    pub is_routed: bool,
}

impl Target {
    fn nowhere(name: Key) -> Target {
        Target { name, cluster: None, is_routed: true }
    }
}

/// Whether more is demanded of the connection now than was when it was made: it is in clear, or the client was asked for another
/// certificate or none.
pub fn is_too_open(live: &Live, info: &ConnectionInfo) -> bool {
    let Some(listener) = live.snapshot.listeners.get(&info.listener) else { return false };
    match &listener.protocol {
        CompiledProtocol::Inbound(table) => {
            let port = &table.port(info.local.port()).port;
            let is_clear = info.tls.is_none() && port.mtls == MtlsMode::Strict;
            is_clear || port.tls.as_ref().is_some_and(|server| !info.is_as_demanded(server))
        }
        CompiledProtocol::Tls(table) => {
            let sni = info.tls.as_ref().map(|tls| tls.sni.as_deref());
            let server = sni.and_then(|sni| table.server(sni));
            server.is_some_and(|server| !info.is_as_demanded(&server.server))
        }
        CompiledProtocol::Http(_) | CompiledProtocol::Tcp(_) | CompiledProtocol::Outbound(_) => false,
    }
}

/// None: the listener is none for bytes (any more).
pub fn find(live: &Live, info: &ConnectionInfo) -> Option<Target> {
    let listener = live.snapshot.listeners.get(&info.listener)?;
    match &listener.protocol {
        CompiledProtocol::Outbound(table) => Some(outbound(live, table, info)),
        CompiledProtocol::Inbound(table) => Some(inbound(live, table, info)),
        CompiledProtocol::Tcp(table) => Some(edge(live, table.tcp(None))),
        CompiledProtocol::Tls(table) => Some(match &info.tls {
            None => {
                let name = info.server_name.as_deref();
                edge(live, table.server(name).and_then(|server| server.routes.tcp(name)))
            }
            Some(tls) => edge(live, table.server(tls.sni.as_deref()).and_then(|server| server.routes.tcp(None))),
        }),
        CompiledProtocol::Http(_) => None,
    }
}

/// At a gateway.
fn edge(live: &Live, route: Option<&TcpRoute>) -> Target {
    let Some(route) = route else { return Target { name: "".into(), cluster: None, is_routed: false } };
    chosen(live, route.choose(&mut |below| fastrand::u32(..below.max(1))))
}

fn chosen(live: &Live, chosen: Option<&WeightedDestination>) -> Target {
    match chosen.map(|chosen| &chosen.destination) {
        Some(DestinationRef::Known(key)) => named(live, key),
        Some(DestinationRef::Unknown(key)) => Target::nowhere(key.clone()),
        None => Target::nowhere(BLACK_HOLE.into()),
    }
}

fn outbound(live: &Live, table: &CompiledOutbound, info: &ConnectionInfo) -> Target {
    if table.lacks_address(info.local.ip()) {
        // It was asked for, and nobody answered. If it is a service's, its bytes must not go there past what is said about it.
        return Target::nowhere(BLACK_HOLE.into());
    }
    let found = table.find(info.local);
    if let Some(tcp) = found.tcp(info.server_name.as_deref()) {
        return chosen(live, tcp.choose(&mut |below| fastrand::u32(..below.max(1))));
    }
    match found.unknown() {
        UnknownDestination::Passthrough => named(live, &PASSTHROUGH.into()),
        UnknownDestination::Proxy(key) => named(live, key),
        UnknownDestination::Refuse => Target::nowhere(BLACK_HOLE.into()),
    }
}

fn inbound(live: &Live, table: &CompiledInbound, info: &ConnectionInfo) -> Target {
    named(live, &table.port(info.local.port()).port.destination)
}

fn named(live: &Live, key: &Key) -> Target {
    let cluster = live.snapshot.cluster_index(key).and_then(|index| live.cluster(index));
    Target { name: key.clone(), cluster: cluster.cloned(), is_routed: true }
}
