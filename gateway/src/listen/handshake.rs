//! A client's TLS handshake: which server it asks for, whether that one answers or somebody behind, with which certificate, and how
//! those are turned away that cannot be served. Every failure concerns one connection and is counted at its listener.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::model::{HostPattern, Serves};
use mesh_core::snapshot::TlsTable;
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use super::accept::Shared;
use super::mesh::{Hello, hello};
use super::{BufferedTcp, Connection, TlsInfo};
use crate::tls::challenges;

/// Record type of a handshake, the first byte of every TLS connection.
pub(super) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const TLS12: (u8, u8) = (3, 3);
/// Alert descriptions, RFC 8446 section 6.
const PROTOCOL_VERSION: u8 = 70;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;
/// How long the client may take to read an alert.
const LINGER: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The client left before it said anything.
    Left,
    Timeout,
    /// Clear text on a TLS port.
    NotTls,
    /// No server of the listener has this name.
    UnknownName,
    /// The server has no usable certificate, or no CA to verify its clients with.
    NoCertificate,
    /// Whatever else TLS found wrong.
    Failed,
}

/// What has begun.
pub(super) enum Begun {
    /// TLS ends here. `bytes`: nobody looks at what is inside.
    Terminated { connection: Connection, tls: TlsInfo, bytes: bool },
    /// It goes on as it came; not a byte of it was answered.
    Passed { connection: Connection, server_name: Option<Arc<str>> },
}

/// A connection to a listener for TLS.
pub(super) async fn serve(mut io: TcpStream, table: &TlsTable, shared: &Shared) -> Result<Begun, Refusal> {
    let begun = Instant::now();
    let mut seen = Vec::new();
    if table.passes() {
        let look = hello(&mut io, &mut seen);
        let found = tokio::time::timeout(shared.options.handshake_timeout, look).await;
        let found = found.map_err(|_| Refusal::Timeout)?.map_err(|_| Refusal::Left)?;
        if let Some(Hello { sni, mesh }) = found
            && table.server(sni.as_deref()).is_some_and(|server| goes_on(server.server.serves, mesh))
        {
            let mut connection = Connection::accepted(io);
            connection.unread(&seen);
            return Ok(Begun::Passed { connection, server_name: sni });
        }
    }
    let mut io = BufferedTcp::under_tls(io);
    io.unread(&seen);
    let left = shared.options.handshake_timeout.saturating_sub(begun.elapsed());
    let terminated = tokio::time::timeout(left, handshake(io, table, shared)).await;
    let (connection, tls, bytes) = terminated.unwrap_or(Err(Refusal::Timeout))?;
    Ok(Begun::Terminated { connection, tls, bytes })
}

/// Whether TLS of this client goes on as it came. `mesh`: it offers a protocol of the mesh.
fn goes_on(serves: Serves, mesh: bool) -> bool {
    match serves {
        Serves::Http | Serves::Bytes => false,
        Serves::Passthrough => true,
        Serves::MeshPassthrough => mesh,
    }
}

type Terminated = (Connection, TlsInfo, bool);

pub(super) async fn terminate(io: BufferedTcp, table: &TlsTable, shared: &Shared) -> Result<Terminated, Refusal> {
    let handshake = handshake(io, table, shared);
    tokio::time::timeout(shared.options.handshake_timeout, handshake).await.unwrap_or(Err(Refusal::Timeout))
}

async fn handshake(mut io: BufferedTcp, table: &TlsTable, shared: &Shared) -> Result<Terminated, Refusal> {
    if let Err((refusal, alert)) = peek(&mut io).await {
        if let Some(alert) = alert {
            send_alert(io, alert).await;
        }
        return Err(refusal);
    }
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), io);
    let start = match (&mut acceptor).await {
        Ok(start) => start,
        Err(_) => {
            if let Some(io) = acceptor.take_io() {
                close(io).await;
            }
            return Err(Refusal::Failed);
        }
    };
    if let Some(config) = challenge(&start.client_hello(), shared) {
        // It says all there is to say in the handshake.
        if let Ok(stream) = start.into_stream(config).await {
            close(stream.into_inner().0).await;
        }
        return Err(Refusal::Left);
    }
    let (sni, server, config) = {
        let hello = start.client_hello();
        let sni: Option<Arc<str>> = hello.server_name().map(canonical).or_else(|| address(&start.io, table));
        // TLS that might only have gone on as it came cannot end here, either.
        match table.server(sni.as_deref()).filter(|server| !server.server.serves.passes()) {
            None => (sni, None, Err((Refusal::UnknownName, UNRECOGNIZED_NAME))),
            Some(server) => {
                let tls = &server.server.tls;
                let (certificates, workload) = (shared.cells.certificates.load(), shared.cells.workload.load());
                let mut config = shared.configs.for_handshake(tls, &certificates, &workload, &hello, sni.as_deref());
                // Whoever is behind speaks for itself.
                let bytes = server.server.serves == Serves::Bytes;
                config.iter_mut().filter(|_| bytes).for_each(|config| config.alpn_protocols.clear());
                (sni, Some(server), config.ok_or((Refusal::NoCertificate, INTERNAL_ERROR)))
            }
        }
    };
    let config = match config {
        Ok(config) => config,
        Err((refusal, alert)) => {
            send_alert(start.io, alert).await;
            return Err(refusal);
        }
    };
    match start.into_stream(Arc::new(config)).into_fallible().await {
        Ok(stream) => {
            let connection = Connection::tls_server(stream);
            let server = server.map(|server| &server.server);
            let info = connection.tls_info(sni, server.and_then(|server| server.tls.clients.as_ref()));
            if let Some(mesh) = server.and_then(|server| server.tls.mesh.as_ref())
                && !mesh.admits(info.peer.as_ref().and_then(|peer| peer.uri()))
            {
                return Err(Refusal::Failed);
            }
            Ok((connection, info, server.is_some_and(|server| server.serves == Serves::Bytes)))
        }
        Err((error, io)) => {
            tracing::debug!(%error, "a handshake failed");
            close(io).await;
            Err(Refusal::Failed)
        }
    }
}

/// Clients ask for names, not for addresses (RFC 6066 section 3): who asks for nothing where an address is served asks for what it
/// has connected to.
fn address(io: &BufferedTcp, table: &TlsTable) -> Option<Arc<str>> {
    let own: Arc<str> = io.get_ref().local_addr().ok()?.ip().to_canonical().to_string().into();
    let server = table.server(Some(&own))?;
    server.server.hosts.contains(&HostPattern::Exact(Arc::clone(&own))).then_some(own)
}

/// How to answer a CA that looks whether a name is served here (RFC 8737). None: it is no CA, or nobody asked it to.
fn challenge(hello: &ClientHello<'_>, shared: &Shared) -> Option<Arc<ServerConfig>> {
    let mut offered = hello.alpn()?;
    let is_ca = offered.next() == Some(challenges::ALPN) && offered.next().is_none();
    let name = hello.server_name().filter(|_| is_ca)?;
    shared.cells.challenges.handshake(&canonical(name))
}

/// Looks at the first bytes without consuming them: clear text gets no alert, which it could not read; and of clients
/// whose newest version is too old rustls would say something else than that.
async fn peek(io: &mut BufferedTcp) -> Result<(), (Refusal, Option<u8>)> {
    // A ClientHello with a post-quantum share is larger than an Ethernet frame; mostly all of it is here at once.
    let mut buffer = [0; 2048];
    let count = io.read(&mut buffer).await.map_err(|_| (Refusal::Left, None))?;
    let bytes = buffer.get(..count).unwrap_or_default();
    match bytes {
        [] => Err((Refusal::Left, None)),
        // Record header, type and length of the ClientHello, its version.
        [HANDSHAKE, _, _, _, _, CLIENT_HELLO, _, _, _, major, minor, ..] if (*major, *minor) < TLS12 => {
            Err((Refusal::Failed, Some(PROTOCOL_VERSION)))
        }
        [HANDSHAKE, ..] => {
            io.unread(bytes);
            Ok(())
        }
        _ => Err((Refusal::NotTls, None)),
    }
}

/// Lower case and without the dot that some clients put at the end of a name.
pub(super) fn canonical(name: &str) -> Arc<str> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()
}

/// A fatal alert in clear, which is right as long as no key was agreed.
async fn send_alert(mut io: BufferedTcp, description: u8) {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    if io.write_all(&[ALERT, 3, 3, 0, 2, FATAL, description]).await.is_ok() {
        close(io).await;
    }
}

/// Sends what waits, then FIN, and reads until the client has closed: closing with unread bytes would reset the
/// connection and could take the alert with it.
pub(super) async fn close(mut io: BufferedTcp) {
    let drained = async {
        io.shutdown().await?;
        let mut buffer = [0; 512];
        while io.read(&mut buffer).await? != 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod clients_tests;
#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
