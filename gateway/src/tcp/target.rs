//! Where the bytes of a redirected connection go, by the tables of this moment.

use std::sync::Arc;

use mesh_core::model::{BLACK_HOLE, DestinationRef, Key, MtlsMode, PASSTHROUGH, UnknownDestination};
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
}

/// Whether mutual TLS is demanded of the connection, which is in clear.
pub fn is_too_open(live: &Live, info: &ConnectionInfo) -> bool {
    let Some(listener) = live.snapshot.listeners.get(&info.listener) else { return false };
    let CompiledProtocol::Inbound(table) = &listener.protocol else { return false };
    info.tls.is_none() && table.port(info.local.port()).port.mtls == MtlsMode::Strict
}

/// None: the listener is none for redirected connections (any more).
pub fn find(live: &Live, info: &ConnectionInfo) -> Option<Target> {
    let listener = live.snapshot.listeners.get(&info.listener)?;
    match &listener.protocol {
        CompiledProtocol::Outbound(table) => Some(outbound(live, table, info)),
        CompiledProtocol::Inbound(table) => Some(inbound(live, table, info)),
        CompiledProtocol::Http(_) | CompiledProtocol::Tls(_) => None,
    }
}

fn outbound(live: &Live, table: &CompiledOutbound, info: &ConnectionInfo) -> Target {
    if table.lacks_address(info.local.ip()) {
        // It was asked for, and nobody answered. If it is a service's, its bytes must not go there past what is said about it.
        return Target { name: BLACK_HOLE.into(), cluster: None };
    }
    let found = table.find(info.local);
    let server_name = info.captured.as_ref().and_then(|captured| captured.server_name.as_deref());
    if let Some(tcp) = found.tcp(server_name) {
        let chosen = tcp.choose(&mut |below| fastrand::u32(..below.max(1)));
        return match chosen.map(|chosen| &chosen.destination) {
            Some(DestinationRef::Known(key)) => named(live, key),
            Some(DestinationRef::Unknown(key)) => Target { name: key.clone(), cluster: None },
            None => Target { name: BLACK_HOLE.into(), cluster: None },
        };
    }
    match found.unknown() {
        UnknownDestination::Passthrough => named(live, &PASSTHROUGH.into()),
        UnknownDestination::Proxy(key) => named(live, key),
        UnknownDestination::Refuse => Target { name: BLACK_HOLE.into(), cluster: None },
    }
}

fn inbound(live: &Live, table: &CompiledInbound, info: &ConnectionInfo) -> Target {
    named(live, &table.port(info.local.port()).port.destination)
}

fn named(live: &Live, key: &Key) -> Target {
    let cluster = live.snapshot.cluster_index(key).and_then(|index| live.cluster(index));
    Target { name: key.clone(), cluster: cluster.cloned() }
}
