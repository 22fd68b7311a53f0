//! Connections that were redirected here: where each was going, and what is spoken on it. What is then done with it is the
//! handler's affair, which asks the tables of its moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::model::{InboundProtocol, MtlsMode};
use mesh_core::snapshot::{CompiledInbound, CompiledOutbound};
use pingora_core::protocols::Ssl as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::handshake::Refusal;
use super::inspect::{Look, Speech, inspect};
use super::{AcceptLimits, Accepted, Connection, Direction, ListenOptions, TlsInfo, accept_mesh, sniff};
use crate::peer_metadata::{OwnMetadata, preamble};
use crate::tls::workload::WorkloadCell;

/// A connection of which everything is known that the handler must know.
pub(super) struct Arrived {
    pub connection: Connection,
    pub tls: Option<TlsInfo>,
    /// See [`ConnectionInfo`](super::ConnectionInfo).
    pub bytes: bool,
    pub server_name: Option<Arc<str>>,
    /// None: the client came here, and wanted to.
    pub direction: Option<Direction>,
}

/// What is to be found out about a connection that leaves the workload.
pub(super) fn outbound_look(
    outbound: &CompiledOutbound,
    original: SocketAddr,
    options: &ListenOptions,
) -> Option<Look> {
    let found = outbound.find(original);
    let http = found.http.is_some();
    if !http && !found.named {
        return None;
    }
    // Where HTTP is promised, the client is the one who begins.
    let patience = if http && !found.detect { options.sniff_timeout } else { options.server_first };
    Some(Look { http, tls: found.named, patience })
}

/// None: the client left before it said anything.
pub(super) async fn outbound(io: TcpStream, look: Option<Look>) -> Option<Arrived> {
    let mut connection = Connection::accepted(io);
    let speech = match look {
        None => Speech::Other,
        Some(look) => inspect(&mut connection, look).await.ok()?,
    };
    let (bytes, server_name) = match speech {
        Speech::Nothing => return None,
        Speech::Http1 | Speech::Http2 => (false, None),
        Speech::Tls(name) => (true, name),
        Speech::Other => (true, None),
    };
    Some(Arrived { connection, tls: None, bytes, server_name, direction: Some(Direction::Outbound) })
}

/// What is promised of a port of the workload, and demanded of its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    protocol: InboundProtocol,
    mtls: MtlsMode,
}

impl Port {
    pub fn of(inbound: &CompiledInbound, original: SocketAddr) -> Port {
        let port = &inbound.port(original.port()).port;
        Port { protocol: port.protocol, mtls: port.mtls }
    }
}

pub(super) async fn inbound(
    io: TcpStream,
    port: Port,
    workload: &WorkloadCell,
    options: &ListenOptions,
    drain: &mut watch::Receiver<bool>,
) -> Result<Arrived, Refusal> {
    let begun = Instant::now();
    let silence = (port.protocol != InboundProtocol::Http).then_some(options.server_first);
    let limits = AcceptLimits { handshake: options.handshake_timeout, silence };
    let longest = options.sniff_timeout.saturating_add(options.handshake_timeout);
    let accepting = accept_mesh(io, port.mtls, workload, limits);
    let (connection, tls, patience) = match tokio::time::timeout(longest, accepting).await {
        Err(_) => return Err(Refusal::Timeout),
        Ok(Err(refusal)) => return Err(refusal),
        Ok(Ok(Accepted::Mesh(mut connection, mut tls))) => {
            if tls.alpn == Some(preamble::NAME) {
                let exchanging = hear_workload(&mut connection, &mut tls, options.metadata.as_ref());
                let heard = tokio::time::timeout(options.handshake_timeout, exchanging).await;
                heard.map_err(|_| Refusal::Timeout)?.map_err(|error| match error.kind() {
                    std::io::ErrorKind::InvalidData => Refusal::Failed,
                    _ => Refusal::Left,
                })?;
            }
            (connection, Some(tls), options.server_first)
        }
        // It was waited for already.
        Ok(Ok(Accepted::Other(connection))) => (connection, None, options.server_first.saturating_sub(begun.elapsed())),
    };
    arrive(connection, tls, port.protocol, patience, options, drain).await
}

/// A connection whose TLS ended here although it is not that of the mesh.
pub(super) async fn terminated(
    connection: Connection,
    tls: TlsInfo,
    port: Port,
    options: &ListenOptions,
    drain: &mut watch::Receiver<bool>,
) -> Result<Arrived, Refusal> {
    arrive(connection, Some(tls), port.protocol, options.server_first, options, drain).await
}

/// Both sides say where they run, before anything else.
async fn hear_workload(
    connection: &mut Connection,
    tls: &mut TlsInfo,
    own: Option<&OwnMetadata>,
) -> std::io::Result<()> {
    let heard = preamble::exchange(connection, own, tls.peer.as_deref()).await?;
    tls.workload = heard.workload;
    connection.unread(&heard.rest);
    Ok(())
}

/// Finds out what is spoken on it.
async fn arrive(
    mut connection: Connection,
    tls: Option<TlsInfo>,
    protocol: InboundProtocol,
    patience: Duration,
    options: &ListenOptions,
    drain: &mut watch::Receiver<bool>,
) -> Result<Arrived, Refusal> {
    let bytes = match protocol {
        InboundProtocol::Tcp => true,
        _ if connection.selected_alpn_proto().is_some() => false,
        InboundProtocol::Http => {
            let speaks = sniff::sniff(&mut connection, options.sniff_timeout, drain).await;
            if !speaks.map_err(|_| Refusal::Left)? {
                return Err(Refusal::Left);
            }
            false
        }
        InboundProtocol::Detect => is_bytes(&mut connection, patience).await?,
    };
    if bytes {
        connection.set_bytes();
    }
    Ok(Arrived { connection, tls, bytes, server_name: None, direction: Some(Direction::Inbound) })
}

async fn is_bytes(connection: &mut Connection, patience: Duration) -> Result<bool, Refusal> {
    let look = Look { http: true, tls: false, patience };
    match inspect(connection, look).await.map_err(|_| Refusal::Left)? {
        Speech::Nothing => Err(Refusal::Left),
        Speech::Http1 | Speech::Http2 => Ok(false),
        Speech::Tls(_) | Speech::Other => Ok(true),
    }
}

#[cfg(test)]
#[path = "captured_tests.rs"]
mod tests;
