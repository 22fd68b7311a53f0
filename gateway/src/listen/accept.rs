//! Accepting: one task per listener and worker takes connections from its own socket and sees each through until the
//! handler has it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_core::model::{Key, ListenAddress, asked_address};
use mesh_core::snapshot::{CompiledListener, CompiledProtocol};
use pingora_core::protocols::Ssl;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::captured::{self, Arrived, Port};
use super::clients::{Clients, Seat};
use super::counters::Counters;
use super::handshake::{self, Begun, Refusal};
use super::inspect::Look;
use super::original_dst::canonical;
use super::proxy_protocol::{self, Ends, ReadError};
use super::socket::{NOWHERE, Waiting, Watched};
use super::{BufferedTcp, Captured, Connection, ConnectionHandler, ConnectionInfo, ListenOptions, Retired, sniff};
use crate::live::Cells;
use crate::tls::server::ServerConfigs;

/// Longest pause after an error that is not the connection's own.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// What all listeners of the process share.
pub(super) struct Shared {
    pub cells: Arc<Cells>,
    pub configs: ServerConfigs,
    pub options: ListenOptions,
    /// Connections of all listeners.
    pub open: AtomicUsize,
    /// Of each client, where they are limited.
    pub clients: Option<Arc<Clients>>,
    /// Told when `open` falls to zero and when an acceptor ends.
    pub idle: Notify,
    pub next_id: AtomicU64,
}

/// One listener, from its opening until its last connection has ended.
pub(super) struct Listening {
    pub key: Key,
    /// As configured; its port may be 0.
    pub wanted: ListenAddress,
    /// As bound.
    pub local: ListenAddress,
    /// As of the newest snapshot that has this listener: for connections that waited while it was removed.
    pub last: ArcSwap<CompiledListener>,
    /// Set when the listener is removed.
    pub retired: Retired,
    pub counters: Counters,
    /// Tasks that still accept, or take what waits in a closing socket's queue.
    pub acceptors: AtomicUsize,
    /// Ends the accepting.
    pub close: watch::Sender<bool>,
    /// One per worker, so that looking at it does not touch memory of another core.
    pub drains: Vec<watch::Sender<bool>>,
}

impl Listening {
    pub fn drain(&self) {
        for drain in &self.drains {
            drain.send_replace(true);
        }
    }

    pub fn close(&self) {
        self.close.send_replace(true);
    }

    /// Nothing more will come of it.
    pub fn is_over(&self) -> bool {
        // In this order: an acceptor counts its last connection before it ends.
        self.acceptors.load(Ordering::Acquire) == 0 && self.counters.open.load(Ordering::Acquire) == 0
    }
}

/// Counts one connection for as long as it lives.
struct Counted {
    shared: Arc<Shared>,
    listening: Arc<Listening>,
}

impl Counted {
    /// None if there are too many.
    fn new(shared: &Arc<Shared>, listening: &Arc<Listening>) -> Option<Self> {
        if shared.open.fetch_add(1, Ordering::AcqRel) >= shared.options.max_connections {
            shared.leave();
            return None;
        }
        listening.counters.open.fetch_add(1, Ordering::AcqRel);
        Some(Self { shared: Arc::clone(shared), listening: Arc::clone(listening) })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.listening.counters.open.fetch_sub(1, Ordering::AcqRel);
        self.shared.leave();
    }
}

impl Shared {
    fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }
}

/// One worker's share of a listener.
pub(super) struct Acceptor {
    shared: Arc<Shared>,
    listening: Arc<Listening>,
    handler: Arc<dyn ConnectionHandler>,
    drain: watch::Receiver<bool>,
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.listening.acceptors.fetch_sub(1, Ordering::AcqRel);
        self.shared.idle.notify_waiters();
    }
}

impl Acceptor {
    pub fn new(
        shared: &Arc<Shared>,
        listening: &Arc<Listening>,
        handler: &Arc<dyn ConnectionHandler>,
        drain: watch::Receiver<bool>,
    ) -> Self {
        listening.acceptors.fetch_add(1, Ordering::AcqRel);
        Self { shared: Arc::clone(shared), listening: Arc::clone(listening), handler: Arc::clone(handler), drain }
    }

    /// Accepts until the listener closes, then what still waits in the socket's queue, then closes the socket.
    pub async fn run(self, socket: Waiting) {
        let socket = match Watched::new(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(listener = %self.listening.key, %error, "a socket cannot be watched");
                return;
            }
        };
        let mut close = self.listening.close.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = close.wait_for(|close| *close) => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((io, peer)) => {
                    pause = FIRST_PAUSE;
                    self.start(io, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.pause(&error, &mut pause, &mut close).await;
                }
            }
        }
        // Clients whose connection the kernel has made already shall not see a reset.
        for (io, peer) in socket.take_waiting() {
            self.start(io, peer);
        }
    }

    /// Out of descriptors or memory: accepting at once again would only burn time that open connections need.
    async fn pause(&self, error: &io::Error, pause: &mut Duration, close: &mut watch::Receiver<bool>) {
        self.listening.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(listener = %self.listening.key, %error, ?pause, "accept failed; pausing");
        let _ = tokio::time::timeout(*pause, close.wait_for(|close| *close)).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    fn start(&self, io: TcpStream, peer: SocketAddr) {
        self.listening.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let Some(counted) = Counted::new(&self.shared, &self.listening) else {
            self.listening.counters.over_limit.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let handler = Arc::clone(&self.handler);
        let mut drain = self.drain.clone();
        tokio::spawn(async move {
            let Counted { shared, listening } = &counted;
            // Boxed, as it is larger than what follows and over soon.
            let established = Box::pin(establish(io, peer, shared, listening, &mut drain)).await;
            if let Some((connection, info, _seat)) = established {
                handler.handle(connection.into_stream(), Arc::new(info), drain).await;
            }
        });
    }
}

/// Errors that say that a connection was gone before it was accepted, accept(2).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

async fn establish(
    mut io: TcpStream,
    peer: SocketAddr,
    shared: &Shared,
    listening: &Listening,
    drain: &mut watch::Receiver<bool>,
) -> Option<(Connection, ConnectionInfo, Option<Seat>)> {
    let compiled = current(shared, listening);
    let original = match &compiled.protocol {
        CompiledProtocol::Http(_) | CompiledProtocol::Tls(_) | CompiledProtocol::Tcp(_) => None,
        CompiledProtocol::Outbound(_) | CompiledProtocol::Inbound(_) if !compiled.listener.is_redirected() => {
            Some(local_address(&io, listening))
        }
        CompiledProtocol::Outbound(_) | CompiledProtocol::Inbound(_) => Some(original(&io, shared, listening)?),
    };
    let local = original.unwrap_or_else(|| local_address(&io, listening));
    let listener_port = original.map_or(compiled.listener.port, |original| original.port());
    let is_redirected = compiled.listener.is_redirected();
    let peer = canonical(peer);
    let told = match original {
        None if is_behind_load_balancer(peer.ip(), shared) => {
            told_by_load_balancer(&mut io, peer, shared, listening).await?
        }
        _ => None,
    };
    let client = told.map_or(peer, |told| told.client);
    // Who is redirected here is this pod's own workload, or who is let in by its policies.
    let seat = match (&shared.clients, original) {
        // Nor is anybody told apart who comes by a Unix socket.
        (Some(clients), None) if !client.ip().is_unspecified() => Some(seat(clients, client, listening)?),
        _ => None,
    };
    let arrived = match original {
        None => direct(io, peer, compiled, shared, listening, drain).await?,
        Some(original) => redirected(io, peer, original, compiled, shared, listening, drain).await?,
    };
    let Arrived { connection, tls, bytes, server_name, direction } = arrived;
    let info = ConnectionInfo {
        id: shared.next_id.fetch_add(1, Ordering::Relaxed),
        peer,
        client,
        local: told.map_or(local, |told| told.server),
        listener: Arc::clone(&listening.key),
        listener_port,
        tls,
        bytes,
        server_name,
        captured: direction.map(|direction| Captured { direction, direct: !is_redirected }),
        retired: listening.retired.clone(),
    };
    Some((connection, info, seat))
}

/// None: the client has as many connections as it may have.
fn seat(clients: &Arc<Clients>, client: SocketAddr, listening: &Listening) -> Option<Seat> {
    let seat = clients.enter(client.ip());
    if seat.is_none() {
        listening.counters.over_client_limit.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(listener = %listening.key, %client, "a client has too many connections; this one is closed");
    }
    seat
}

/// Whether a connection from there has to begin with a PROXY header.
fn is_behind_load_balancer(peer: IpAddr, shared: &Shared) -> bool {
    match &shared.options.load_balancers {
        Some(sources) => sources.iter().any(|source| source.contains(&peer)),
        None => shared.cells.topology.load().proxy_protocol,
    }
}

/// None: there is no connection. Some(None): it is the load balancer's own.
async fn told_by_load_balancer(
    io: &mut TcpStream,
    peer: SocketAddr,
    shared: &Shared,
    listening: &Listening,
) -> Option<Option<Ends>> {
    let told = tokio::time::timeout(shared.options.handshake_timeout, proxy_protocol::read(io)).await;
    let reason = match told {
        Ok(Ok(told)) => return Some(told),
        // A health check by the connection alone.
        Ok(Err(ReadError::Left)) => return None,
        Ok(Err(ReadError::Io(error))) => error.to_string(),
        Ok(Err(ReadError::Malformed(malformed))) => malformed.to_string(),
        Err(_) => "it does not come".to_owned(),
    };
    listening.counters.no_proxy_header.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(listener = %listening.key, %peer, reason, "a connection without a PROXY header that can be read is closed");
    None
}

/// From a client that came to this address.
async fn direct(
    io: TcpStream,
    peer: SocketAddr,
    compiled: Arc<CompiledListener>,
    shared: &Shared,
    listening: &Listening,
    drain: &mut watch::Receiver<bool>,
) -> Option<Arrived> {
    let (mut connection, tls, server_name, bytes) = match &compiled.protocol {
        CompiledProtocol::Tls(table) => match handshake::serve(io, table, shared).await {
            Ok(Begun::Terminated { connection, tls, bytes }) => (connection, Some(tls), None, bytes),
            Ok(Begun::Passed { connection, server_name }) => (connection, None, server_name, true),
            Err(refusal) => {
                refused(listening, peer, refusal);
                return None;
            }
        },
        protocol => (Connection::accepted(io), None, None, matches!(protocol, CompiledProtocol::Tcp(_))),
    };
    drop(compiled);
    if bytes {
        connection.set_bytes();
    } else if connection.selected_alpn_proto().is_none()
        && !sniff::sniff(&mut connection, shared.options.sniff_timeout, drain).await.ok()?
    {
        return None;
    }
    Some(Arrived { connection, tls, bytes, server_name, direction: None })
}

/// From a client that was going elsewhere. The tables are not kept while it is waited for what it says.
async fn redirected(
    io: TcpStream,
    peer: SocketAddr,
    original: SocketAddr,
    compiled: Arc<CompiledListener>,
    shared: &Shared,
    listening: &Listening,
    drain: &mut watch::Receiver<bool>,
) -> Option<Arrived> {
    let options = &shared.options;
    let (port, tls) = match &compiled.protocol {
        CompiledProtocol::Inbound(inbound) => (Port::of(inbound, original), inbound.port(original.port()).tls.clone()),
        CompiledProtocol::Outbound(outbound) => {
            let lacks = outbound.lacks_address(original.ip());
            let mut look = captured::outbound_look(outbound, original, options);
            drop(compiled);
            if lacks {
                look = look_when_answered(original, shared, listening).await;
            }
            return captured::outbound(io, look).await;
        }
        CompiledProtocol::Http(_) | CompiledProtocol::Tls(_) | CompiledProtocol::Tcp(_) => return None,
    };
    drop(compiled);
    let arrived = match tls {
        None => captured::inbound(io, port, &shared.cells.workload, options, drain).await,
        Some(server) => match handshake::terminate(BufferedTcp::under_tls(io), &server, shared).await {
            Ok((connection, tls, _)) => captured::terminated(connection, tls, port, options, drain).await,
            Err(refusal) => Err(refusal),
        },
    };
    arrived.map_err(|refusal| refused(listening, peer, refusal)).ok()
}

/// Asks whose address it is. If nobody says, it is found out what the client speaks: requests can be told so.
async fn look_when_answered(original: SocketAddr, shared: &Shared, listening: &Listening) -> Option<Look> {
    let is_answered = || match &current(shared, listening).protocol {
        CompiledProtocol::Outbound(outbound) => !outbound.lacks_address(original.ip()),
        _ => true,
    };
    shared.cells.demand.ask(&asked_address(original.ip()), is_answered).await;
    match &current(shared, listening).protocol {
        CompiledProtocol::Outbound(outbound) => captured::outbound_look(outbound, original, &shared.options),
        _ => None,
    }
}

/// Where the client was going. Who came to this address by himself would be sent here again and again.
fn original(io: &TcpStream, shared: &Shared, listening: &Listening) -> Option<SocketAddr> {
    let own = io.local_addr().map(canonical);
    match (shared.options.original)(io) {
        Ok(original) if own.as_ref().is_ok_and(|own| *own != original) => Some(original),
        other => {
            listening.counters.not_redirected.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(listener = %listening.key, found = ?other, "a connection that was not redirected is closed");
            None
        }
    }
}

/// From the snapshot of this moment; a listener that is no longer in it serves its last clients as it was.
fn current(shared: &Shared, listening: &Listening) -> Arc<CompiledListener> {
    let live = shared.cells.live.load();
    match live.snapshot.listeners.get(&listening.key) {
        Some(compiled) => Arc::clone(compiled),
        None => listening.last.load_full(),
    }
}

fn refused(listening: &Listening, peer: SocketAddr, refusal: Refusal) {
    listening.counters.refused(refusal);
    tracing::debug!(listener = %listening.key, %peer, ?refusal, "no TLS connection");
}

/// A socket that is bound to one address has it on all its connections; asking the kernel is for the others.
fn local_address(io: &TcpStream, listening: &Listening) -> SocketAddr {
    match &listening.local {
        ListenAddress::Socket(local) if local.ip().is_unspecified() => io.local_addr().map_or(*local, canonical),
        ListenAddress::Socket(local) => *local,
        ListenAddress::Unix(_) => NOWHERE,
    }
}
