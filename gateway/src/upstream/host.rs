//! The connections of one worker to one endpoint of one cluster; in the mesh, those that were agreed under one state of the
//! workload: when the certificate or the roots change, there is a new host beside the old one, which ends with the last
//! request on it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use mesh_core::lb::Permit;
use mesh_core::model::ConnectionRules;
use tokio::sync::{Notify, watch};

use super::Stream;
use super::dial::ConnectError;
use super::h2::{Handle, Shared};
use crate::http::h1::ClientCodec;
use crate::listen::ConnectionInfo;
use crate::peer_metadata::Said;
use crate::tls::client::MeshClient;
use crate::tls::origination::OriginationClient;

/// The outcome of a shared connection attempt, once there is one.
pub(super) type Attempt = watch::Receiver<Option<Result<(), ConnectError>>>;

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub connects: AtomicU64,
    pub failures: AtomicU64,
    /// HTTP/1 connections that are lent, of all hosts of the endpoint.
    pub lent: AtomicUsize,
}

/// An HTTP/1 connection in use, for the counters.
pub(super) struct Lent(Arc<Host>);

impl Lent {
    pub(super) fn new(host: &Arc<Host>) -> Self {
        host.counters.lent.fetch_add(1, Ordering::Relaxed);
        host.lent.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(host))
    }

    pub(super) fn host(&self) -> &Arc<Host> {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.counters.lent.fetch_sub(1, Ordering::Relaxed);
        self.0.lent.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.wake();
    }
}

/// Those who wait because the destination may have no more connections: until one of this host is given back or closed, or a
/// stream of one is over.
#[derive(Debug, Default)]
pub(super) struct Freed {
    waiting: AtomicUsize,
    wake: Notify,
}

impl Freed {
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// First come, first served.
    pub(super) fn wake(&self) {
        if self.is_awaited() {
            self.wake.notify_one();
        }
    }

    pub(super) async fn wait(&self) {
        struct Waiting<'f>(&'f Freed);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self);
        self.wake.notified().await;
    }
}

/// What counts in the life of an HTTP/1 connection.
pub(super) struct Life {
    pub born: Instant,
    /// It got so many.
    pub requests: u32,
    /// Its place among those that the destination may have.
    pub permit: Option<Permit>,
}

impl Life {
    /// Whether another request may begin on it.
    fn goes_on(&self, rules: &ConnectionRules, now: Instant) -> bool {
        rules.requests.is_none_or(|most| self.requests < most)
            && rules.lifetime.is_none_or(|lifetime| now.saturating_duration_since(self.born) < lifetime)
    }
}

/// An unused HTTP/1 connection.
pub(super) struct Idle {
    pub codec: Box<ClientCodec<Stream>>,
    pub local: Option<SocketAddr>,
    pub since: Instant,
    pub life: Life,
}

impl Idle {
    /// The peer closed it, or sent something nobody asked for. Costs a system call only if the runtime has seen an event.
    fn is_dead(&mut self) -> bool {
        self.codec.poll_idle_closed(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

/// What connections may be shared by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HostKey {
    pub address: SocketAddr,
    /// None: in clear.
    pub tls: Option<TlsKey>,
    /// [`ConnectionInfo::id`] of whom they speak for. None: they do not say.
    pub client: Option<u64>,
}

/// What connections say before everything else, TLS too.
pub(super) struct Says {
    /// A PROXY header.
    pub header: Box<[u8]>,
    /// Whom it names. When that one has left, nobody can use them any more. None: nobody.
    pub client: Option<Weak<ConnectionInfo>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TlsKey {
    Mesh {
        /// Of the workload.
        generation: u64,
        /// Who must be there; empty: anybody of the mesh.
        expected: Arc<str>,
    },
    Origin {
        /// [`OriginationClient::id`]
        client: u64,
        /// The name that is asked for.
        name: Arc<str>,
    },
}

/// How the socket is made.
pub(super) enum SocketKind {
    /// From an address of the kernel's choice.
    Tcp,
    /// From this one.
    TcpFrom(IpAddr),
    /// A Unix socket, with its path.
    Unix(Arc<str>),
}

/// How TLS is spoken.
pub(super) enum Tls {
    Mesh(MeshClient),
    /// With a server outside of the mesh, of this name.
    Origin(Arc<OriginationClient>, Arc<str>),
}

pub(super) struct Host {
    pub key: HostKey,
    /// None: in clear.
    pub tls: Option<Tls>,
    pub socket: SocketKind,
    pub says: Option<Says>,
    /// Of the destination.
    pub rules: ConnectionRules,
    pub freed: Arc<Freed>,
    /// HTTP/1 connections of this host that are lent.
    lent: AtomicUsize,
    /// Where it runs, as it says.
    pub said: Arc<Said>,
    /// Of the endpoint: those before and after a change of the certificate count together.
    pub counters: Arc<Counters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The endpoint is gone: nothing is kept any more.
    closed: bool,
    /// Youngest at the back.
    idle: VecDeque<Idle>,
    shared: Vec<Shared>,
    attempt: Option<Attempt>,
}

/// Where a request for an HTTP/2 stream stands.
pub(super) enum Next {
    Stream(Handle),
    /// Somebody connects already.
    Wait(Attempt),
    /// The caller must connect and tell the others.
    Connect(watch::Sender<Option<Result<(), ConnectError>>>, Attempt),
}

impl Host {
    pub(super) fn new(
        key: HostKey,
        tls: Option<Tls>,
        socket: SocketKind,
        says: Option<Says>,
        rules: ConnectionRules,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        Arc::new(Self {
            key,
            tls,
            socket,
            says,
            rules,
            freed: Arc::default(),
            lent: AtomicUsize::new(0),
            said: Arc::default(),
            counters,
            state: Mutex::default(),
        })
    }

    /// Nobody would wake who waits for one: there is none, and none is being made.
    pub(super) fn has_no_connection(&self) -> bool {
        let state = self.state();
        self.lent.load(Ordering::Relaxed) == 0 && state.idle.is_empty() && state.shared.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing can fail half-way while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The youngest idle connection that still lives; dead ones are closed on the way. `idle_total` counts down.
    pub(super) fn take_idle(&self, idle_total: &AtomicUsize) -> Option<Idle> {
        loop {
            let mut idle = self.state().idle.pop_back()?;
            idle_total.fetch_sub(1, Ordering::Relaxed);
            if !idle.is_dead() {
                return Some(idle);
            }
        }
    }

    /// Keeps a connection. What is too much for the endpoint is closed, the oldest first.
    pub(super) fn put_idle(&self, idle: Idle, per_endpoint: usize, total: usize, idle_total: &AtomicUsize) {
        if !idle.life.goes_on(&self.rules, idle.since) {
            return;
        }
        let mut state = self.state();
        if state.closed {
            return;
        }
        let full = state.idle.len() >= per_endpoint || idle_total.load(Ordering::Relaxed) >= total;
        let evicted = if full { state.idle.pop_front() } else { None };
        // With nothing of its own to give up for it, an endpoint gets no place in a full pool.
        if !full || evicted.is_some() {
            state.idle.push_back(idle);
        }
        if !full {
            idle_total.fetch_add(1, Ordering::Relaxed);
        }
        drop(state);
        drop(evicted);
    }

    pub(super) fn next_stream(&self, now: Instant) -> Next {
        let mut state = self.state();
        state.shared.retain_mut(|shared| shared.is_open() && shared.goes_on(&self.rules, now));
        if let Some(handle) = state.shared.iter_mut().find_map(|shared| shared.handle(&self.rules, now)) {
            return Next::Stream(handle);
        }
        match &state.attempt {
            // A sender that is gone without a word died with its runtime.
            Some(attempt) if attempt.has_changed().is_ok() => Next::Wait(attempt.clone()),
            _ => {
                let (sender, receiver) = watch::channel(None);
                state.attempt = Some(receiver.clone());
                Next::Connect(sender, receiver)
            }
        }
    }

    /// The attempt is over. The caller's stream comes first, the others find the rest.
    pub(super) fn connected(&self, shared: Option<Shared>) {
        let mut state = self.state();
        state.attempt = None;
        if let Some(shared) = shared {
            state.shared.push(shared);
        }
    }

    /// Closes what is dead or unused for too long.
    pub(super) fn sweep(&self, now: Instant, idle_timeout: Duration, idle_total: &AtomicUsize) {
        let mut state = self.state();
        let before = state.idle.len();
        state.idle.retain_mut(|idle| {
            now.saturating_duration_since(idle.since) < idle_timeout
                && idle.life.goes_on(&self.rules, now)
                && !idle.is_dead()
        });
        idle_total.fetch_sub(before.saturating_sub(state.idle.len()), Ordering::Relaxed);
        state.shared.retain_mut(|shared| {
            shared.is_open() && shared.goes_on(&self.rules, now) && !shared.is_idle(now, idle_timeout)
        });
    }

    /// The endpoint is gone: unused connections close now, the others when they are given back.
    pub(super) fn close(&self, idle_total: &AtomicUsize) {
        let mut state = self.state();
        state.closed = true;
        idle_total.fetch_sub(state.idle.len(), Ordering::Relaxed);
        state.idle.clear();
        state.shared.clear();
    }

    /// Whom its connections speak for has left.
    pub(super) fn speaks_for_nobody(&self) -> bool {
        let client = self.says.as_ref().and_then(|says| says.client.as_ref());
        client.is_some_and(|client| client.strong_count() == 0)
    }

    /// There is no connection, and nobody who makes one.
    pub(super) fn is_unused(self: &Arc<Self>) -> bool {
        // The table has one of them.
        Arc::strong_count(self) == 1 && self.usage() == (0, 0, 0)
    }

    /// Shared connections in use, idle ones of both kinds, and HTTP/2 streams.
    pub(super) fn usage(&self) -> (usize, usize, usize) {
        let state = self.state();
        let busy = state.shared.iter().filter(|shared| shared.streams() > 0).count();
        let streams = state.shared.iter().map(Shared::streams).sum();
        (busy, state.idle.len() + state.shared.len() - busy, streams)
    }
}
