//! Listeners: sockets that follow the snapshot, and what happens to a connection until it is known what is spoken on it:
//! accept, who it is from if a load balancer says so, where it was going if it was redirected, TLS handshake, HTTP/2, HTTP/1 or
//! bytes. What is done with it is the handler's business.

mod accept;
mod buffered;
mod captured;
mod clients;
mod connection;
mod counters;
mod handlers;
mod handshake;
mod inspect;
mod mesh;
mod original_dst;
pub mod proxy_protocol;
mod reconcile;
mod replay;
mod sniff;
mod socket;
#[cfg(test)]
pub(crate) mod testing;
mod unix;
mod workers;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use mesh_core::model::{ClientDemand, Key, TlsServer, Workload};
use pingora_core::protocols::Stream;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::live::Live;
use crate::peer_metadata::OwnMetadata;
use crate::tls::peer_verify::Identity;

pub use buffered::{BufferedTcp, put_off_flushes};
pub use connection::Connection;
pub use counters::ListenerCounts;
pub use handlers::Handlers;
pub use handshake::Refusal;
pub use mesh::{AcceptLimits, Accepted, accept_mesh};
pub use reconcile::{ListenError, ListenerManager, ListenerState, ListenerStatus};
pub(crate) use replay::Replay;
pub use socket::bind_one;
pub use workers::Workers;

/// Limits of what happens before a handler has the connection.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Of all listeners together; further ones are closed as soon as they are accepted.
    pub max_connections: usize,
    /// Of one address (with IPv6: of one network of 64 bits), to listeners that nobody is redirected to. None: no limit, for
    /// many may stand behind one address.
    pub max_connections_per_client: Option<usize>,
    /// From the connection to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client that did not negotiate what it speaks may be silent.
    pub sniff_timeout: Duration,
    /// Connections that wait to be accepted, per worker. The kernel has its own limit (`net.core.somaxconn`).
    pub backlog: u32,
    /// Where nobody says what is spoken: how long the client may be silent before it is taken to wait for its server.
    pub server_first: Duration,
    /// Connections to a gateway from these begin with a PROXY header, and no others do. None: all of them or none, as the settings
    /// of the mesh say.
    pub load_balancers: Option<Arc<[IpNet]>>,
    /// How to find out where a redirected connection was going.
    pub original: fn(&TcpStream) -> io::Result<SocketAddr>,
    /// What clients of the mesh are told of this proxy's workload.
    pub metadata: Option<OwnMetadata>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_connections_per_client: None,
            handshake_timeout: Duration::from_secs(15),
            sniff_timeout: Duration::from_secs(60),
            backlog: 4096,
            server_first: Duration::from_secs(1),
            load_balancers: None,
            original: original_dst::of,
            metadata: None,
        }
    }
}

/// What is known of a client's connection when it is handed to the handler.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Unique in this process.
    pub id: u64,
    /// The other end. IPv4 addresses are written as such also on dual-stack listeners.
    pub peer: SocketAddr,
    /// Who that speaks for: the peer itself, or who a PROXY header says.
    pub client: SocketAddr,
    /// This end; where the client was going, of a connection that was redirected or as a PROXY header says.
    pub local: SocketAddr,
    /// Key of the listener.
    pub listener: Key,
    /// Port that the user wrote for the listener; that of `local` may differ.
    pub listener_port: u16,
    pub tls: Option<TlsInfo>,
    /// It is not HTTP, or nobody looks.
    pub bytes: bool,
    /// What the client's own TLS asks for, where that has a say.
    pub server_name: Option<Arc<str>>,
    /// Of a connection that was redirected here.
    pub captured: Option<Captured>,
    pub retired: Retired,
}

impl ConnectionInfo {
    /// Where the client of a redirected connection was going; to the workload, also of one that came here by itself.
    #[must_use]
    pub fn original(&self) -> Option<SocketAddr> {
        let captured = self.captured.as_ref()?;
        (!captured.direct || captured.direction == Direction::Inbound).then_some(self.local)
    }

    /// Whether the client was asked for what the server asks now.
    #[must_use]
    pub fn is_as_demanded(&self, server: &TlsServer) -> bool {
        let asked = self.tls.as_ref().and_then(|tls| tls.clients.as_ref());
        if let Some(mesh) = &server.tls.mesh {
            let peer = self.tls.as_ref().and_then(|tls| tls.peer.as_ref());
            return asked.is_none() && mesh.admits(peer.and_then(|peer| peer.uri()));
        }
        match (&server.tls.clients, asked) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then) || now == then,
            (now, then) => now.is_none() && then.is_none(),
        }
    }

    /// None: the client came to this proxy, and wanted to.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        self.captured.as_ref().map(|captured| captured.direction)
    }
}

/// What is known of a redirected connection, or of one to a listener that does the same without that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    pub direction: Direction,
    /// It was not redirected: the client was going to this listener, and no further.
    pub direct: bool,
}

/// Of a redirected connection, as the workload sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Outbound,
    Inbound,
}

/// The last tables that knew a listener, once it is removed: its connections are served by them until they have ended.
#[derive(Clone, Default)]
pub struct Retired(Arc<ArcSwapOption<Live>>);

impl Retired {
    pub fn load(&self) -> Option<Arc<Live>> {
        self.0.load_full()
    }

    pub(crate) fn store(&self, last: Arc<Live>) {
        self.0.store(Some(last));
    }
}

impl fmt::Debug for Retired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retired").field(&self.0.load().is_some()).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// Lower case, without a trailing dot.
    pub sni: Option<Arc<str>>,
    /// `h2` or `http/1.1`, if negotiated, also under the names of the mesh; `istio`, and where both say who they
    /// are `istio-peer-exchange`: bytes between proxies.
    pub alpn: Option<&'static str>,
    /// `TLSv1.2`, `TLSv1.3`
    pub version: &'static str,
    pub cipher: &'static str,
    /// Of the client, which showed a certificate.
    pub peer: Option<Arc<Identity>>,
    /// Where the client runs, if it said so before anything else.
    pub workload: Option<Arc<Workload>>,
    /// What the server asked of its client, if it is not one of the mesh.
    pub clients: Option<Arc<ClientDemand>>,
}

pub type ConnectionFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the listeners call for an established, decrypted connection. Each worker has its own handler, made on its thread.
pub trait ConnectionHandler: Send + Sync + 'static {
    /// The connection is done when the future is. Of one that is HTTP `stream.selected_alpn_proto()` is `Some(ALPN::H2)` if the client
    /// speaks HTTP/2, whether negotiated or by its preface (whose bytes will be read again). `drain` turns true when the
    /// listener closes or the process ends: finish what runs, then close.
    fn handle(
        self: Arc<Self>,
        stream: Stream,
        info: Arc<ConnectionInfo>,
        drain: watch::Receiver<bool>,
    ) -> ConnectionFuture;
}
