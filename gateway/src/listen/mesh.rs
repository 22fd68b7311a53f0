//! What a connection to a workload is: the mesh's mutual TLS, which ends here, or something else, which is handed on as it
//! came if the port takes it. Nothing is ever let through that the port's mode forbids.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::model::MtlsMode;
use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::handshake::{HANDSHAKE, Refusal, canonical, close};
use super::{BufferedTcp, Connection, TlsInfo};
use crate::tls::workload::WorkloadCell;

/// Larger than any ClientHello that makes sense.
const LARGEST_HELLO: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub enum Accepted {
    /// Both ends know each other.
    Mesh(Connection, TlsInfo),
    /// Clear text, or TLS that is the workload's own affair. Nothing of it is lost: what was looked at will be read again.
    Other(Connection),
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// From the first byte to the end of the handshake.
    pub handshake: Duration,
    /// A client that is silent so long waits for its server to speak first, where clear text is allowed. None: for ever.
    pub silence: Option<Duration>,
}

/// Terminates the mesh's mutual TLS. On a permissive port that is TLS whose client offers a protocol of the mesh (`istio…`);
/// on a strict one all of it, and clear text is refused.
pub async fn accept_mesh(
    mut io: TcpStream,
    mode: MtlsMode,
    workload: &WorkloadCell,
    limits: AcceptLimits,
) -> Result<Accepted, Refusal> {
    if mode == MtlsMode::Disable {
        return Ok(Accepted::Other(Connection::accepted(io)));
    }
    let mut first = [0; 2048];
    let read = io.read(&mut first);
    let count = match limits.silence.filter(|_| mode == MtlsMode::Permissive) {
        None => read.await,
        Some(silence) => match tokio::time::timeout(silence, read).await {
            Ok(read) => read,
            Err(_) => return Ok(Accepted::Other(Connection::accepted(io))),
        },
    };
    let bytes = first.get(..count.map_err(|_| Refusal::Left)?).unwrap_or_default().to_vec();
    match (bytes.first(), mode) {
        (None, _) => Err(Refusal::Left),
        (Some(&HANDSHAKE), _) => {
            let begun = tls(io, bytes, mode, workload);
            tokio::time::timeout(limits.handshake, begun).await.unwrap_or(Err(Refusal::Timeout))
        }
        (Some(_), MtlsMode::Strict) => {
            // As with Istio the client sees a reset, not an end that might be an answer.
            let _ = SockRef::from(&io).set_linger(Some(Duration::ZERO));
            Err(Refusal::NotTls)
        }
        (Some(_), _) => Ok(untouched(io, &bytes)),
    }
}

fn untouched(io: TcpStream, bytes: &[u8]) -> Accepted {
    let mut connection = Connection::accepted(io);
    connection.unread(bytes);
    Accepted::Other(connection)
}

async fn tls(
    mut io: TcpStream,
    mut bytes: Vec<u8>,
    mode: MtlsMode,
    workload: &WorkloadCell,
) -> Result<Accepted, Refusal> {
    let hello = hello(&mut io, &mut bytes).await.map_err(|_| Refusal::Left)?;
    let sni = match hello {
        Some(Hello { mesh, sni }) if mesh || mode == MtlsMode::Strict => sni,
        // Who speaks no proper TLS does not get further than the handshake of whoever it is meant for.
        None if mode == MtlsMode::Strict => return Err(Refusal::Failed),
        _ => return Ok(untouched(io, &bytes)),
    };
    let config = workload.load().server_config().cloned().ok_or(Refusal::NoCertificate)?;
    let mut io = BufferedTcp::under_tls(io);
    io.unread(&bytes);
    let stream = match TlsAcceptor::from(config).accept(io).into_fallible().await {
        Ok(stream) => stream,
        Err((error, io)) => {
            tracing::debug!(%error, "a client of the mesh is refused");
            close(io).await;
            return Err(Refusal::Failed);
        }
    };
    let connection = Connection::tls_server(stream);
    let info = connection.tls_info(sni, None);
    // The verifier let it through, so it is there.
    if info.peer.is_none() { Err(Refusal::Failed) } else { Ok(Accepted::Mesh(connection, info)) }
}

/// What a ClientHello says.
pub(super) struct Hello {
    /// A protocol of the mesh is among those that are offered.
    pub mesh: bool,
    pub sni: Option<Arc<str>>,
}

/// Reads until the ClientHello is complete. None: it will not be one.
pub(super) async fn hello(io: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Option<Hello>> {
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        let mut new = bytes.get(fed..).unwrap_or_default();
        while !new.is_empty() {
            let taken = acceptor.read_tls(&mut new)?;
            if taken == 0 {
                return Ok(None);
            }
            fed += taken;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let mesh = hello.alpn().is_some_and(|mut names| names.any(|name| name.starts_with(b"istio")));
                    return Ok(Some(Hello { mesh, sni: hello.server_name().map(canonical) }));
                }
                Err(_) => return Ok(None),
            }
        }
        if bytes.len() > LARGEST_HELLO || io.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

#[cfg(test)]
#[path = "mesh_tests.rs"]
mod tests;
