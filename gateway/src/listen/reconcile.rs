//! Sockets follow the snapshot. A change has two halves: new sockets are opened before the snapshot that needs them is
//! published, so that a rule never points to a closed door; after it they begin to accept, and those that it no longer
//! has close. A listener that stays keeps its sockets whatever is served on it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use mesh_core::diag::{self, Diagnostic};
use mesh_core::model::{Key, ListenAddress, Listener};
use mesh_core::object::ObjectRef;
use mesh_core::snapshot::{CompiledListener, CompiledProtocol};
use serde::Serialize;
use tokio::sync::{Notify, watch};

use super::accept::{Acceptor, Listening, Shared};
use super::clients::Clients;
use super::counters::{Counters, ListenerCounts};
use super::socket::{Bound, Waiting};
use super::unix::SocketFile;
use super::{ListenOptions, Retired, Workers};
use crate::live::{Cells, Live};
use crate::tls::server::ServerConfigs;

/// A listener whose address cannot be opened. The next [`ListenerManager::open`] tries again.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    pub key: Key,
    pub address: ListenAddress,
    /// The Gateway that asked for it.
    pub origin: ObjectRef,
    /// Which of its servers did first.
    pub server: Option<u32>,
    #[source]
    pub error: io::Error,
}

impl ListenError {
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let help = match self.error.kind() {
            _ if self.address.socket().is_none() => {
                "the folder must be there, and the proxy's user may make files in it (a volume that both containers mount); only \
                 a socket on which nobody listens is replaced"
            }
            io::ErrorKind::AddrInUse => {
                "another process listens there; end it, or give the server another port: it is tried again until it works"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need the capability NET_BIND_SERVICE or the sysctl net.ipv4.ip_unprivileged_port_start"
            }
            io::ErrorKind::AddrNotAvailable => "no interface of this machine has the address",
            _ => "it is tried again until it works",
        };
        let found = Diagnostic::new(diag::LISTENER_NOT_OPEN, self.to_string()).object(&self.origin).help(help);
        match self.server {
            Some(index) => found.field(format!("spec.servers[{index}].port")),
            None => found,
        }
    }
}

/// A listener as admin shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerStatus {
    pub key: Key,
    /// As bound.
    pub address: ListenAddress,
    pub state: ListenerState,
    pub counts: ListenerCounts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerState {
    /// Bound; its snapshot is not published yet.
    Opened,
    Accepting,
    /// Removed, or the process ends: it takes no more connections, those that it has finish.
    Draining,
}

/// The listeners of the process.
pub struct ListenerManager {
    shared: Arc<Shared>,
    workers: Workers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: BTreeMap<Key, Entry>,
    /// Closed, or about to be, until their last connection has ended.
    leaving: Vec<Entry>,
    /// What was served before the change that is under way.
    previous: Option<Arc<Live>>,
    draining: bool,
}

struct Entry {
    listening: Arc<Listening>,
    /// One per worker, as long as they do not accept.
    sockets: Vec<Waiting>,
    /// Of a Unix socket, until it closes.
    file: Option<SocketFile>,
    closed: bool,
}

impl ListenerManager {
    /// The workers serve what is opened here.
    pub fn new(cells: Arc<Cells>, workers: Workers, options: ListenOptions) -> Result<Self, rustls::Error> {
        let shared = Shared {
            cells,
            configs: ServerConfigs::new()?,
            clients: options.max_connections_per_client.map(Clients::new),
            options,
            open: AtomicUsize::new(0),
            idle: Notify::new(),
            next_id: AtomicU64::new(1),
        };
        Ok(Self { shared: Arc::new(shared), workers, state: Mutex::default() })
    }

    /// First half of a change, before `live` is published: binds the sockets of listeners that are new in it. Clients may
    /// connect from now on, and wait. A listener that fails is left out, the others are not touched by it.
    pub fn open(&self, live: &Live) -> Vec<ListenError> {
        let mut state = self.state();
        state.previous = Some(self.shared.cells.live.load_full());
        let mut errors = Vec::new();
        for (key, compiled) in &live.snapshot.listeners {
            if let Some(entry) = state.open.get(key)
                && entry.listening.wanted == compiled.listener.address
            {
                entry.listening.last.store(Arc::clone(compiled));
                continue;
            }
            match self.bind(compiled) {
                Ok(entry) => {
                    if state.draining && !entry.is_outbound() {
                        entry.listening.drain();
                    }
                    let replaced = state.open.insert(Arc::clone(key), entry);
                    state.leaving.extend(replaced);
                }
                Err(error) => errors.push(failed(&compiled.listener, error)),
            }
        }
        errors
    }

    /// Second half, after `live` is published: what was opened begins to accept, and listeners that are not in `live`
    /// stop. Their connections finish what they do and close.
    pub fn close_removed(&self, live: &Live) {
        let mut state = self.state();
        let listeners = &live.snapshot.listeners;
        let removed: Vec<_> = state.open.extract_if(.., |key, _| !listeners.contains_key(key)).collect();
        if let Some(previous) = state.previous.take() {
            for (_, entry) in &removed {
                entry.listening.retired.store(previous.clone());
            }
        }
        state.leaving.extend(removed.into_iter().map(|(_, entry)| entry));
        for entry in state.open.values_mut() {
            self.start(entry);
        }
        for entry in &mut state.leaving {
            self.end(entry);
        }
        state.leaving.retain(|entry| !entry.listening.is_over());
    }

    /// The process will end: connections finish what they do and close; new ones are still taken, and told the same. For
    /// as long as others may still send clients here. What leaves the workload goes on: it may need that to come to an end.
    pub fn drain(&self) {
        let mut state = self.state();
        state.draining = true;
        for entry in state.open.values().filter(|entry| !entry.is_outbound()) {
            entry.listening.drain();
        }
    }

    /// Every listener stops accepting, and drains.
    pub fn close(&self) {
        let mut state = self.state();
        state.draining = true;
        let open = std::mem::take(&mut state.open);
        for mut entry in open.into_values() {
            self.end(&mut entry);
            state.leaving.push(entry);
        }
    }

    /// Whether listeners are wanted, and none of them could be opened: nobody can come here.
    pub fn is_deaf(&self, live: &Live) -> bool {
        let wanted = &live.snapshot.listeners;
        let state = self.state();
        !wanted.is_empty() && !wanted.keys().any(|key| state.open.contains_key(key))
    }

    /// Returns when no connection is open and none waits in the queue of a listener that closes.
    pub async fn idle(&self) {
        loop {
            let idle = self.shared.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.is_idle() {
                return;
            }
            idle.await;
        }
    }

    fn is_idle(&self) -> bool {
        self.state().leaving.iter().all(|entry| entry.listening.is_over()) && self.connections() == 0
    }

    /// Connections that are open now, those in a handshake included.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Where a listener is bound: its real port if port 0 was asked for. None: nowhere, or at a Unix socket.
    pub fn address(&self, key: &str) -> Option<SocketAddr> {
        self.state().open.get(key).and_then(|entry| entry.listening.local.socket())
    }

    /// For dumps.
    pub fn status(&self) -> Vec<ListenerStatus> {
        let mut state = self.state();
        state.leaving.retain(|entry| !entry.listening.is_over());
        state.open.values().chain(&state.leaving).map(Entry::status).collect()
    }

    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Ends the workers and with them every connection. Blocks until their threads are done.
    pub fn stop(&self) {
        self.workers.stop();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(&self, compiled: &Arc<CompiledListener>) -> io::Result<Entry> {
        let wanted = compiled.listener.address.clone();
        let Bound { local, sockets, file } = Bound::new(&wanted, self.workers.count(), self.shared.options.backlog)?;
        let listening = Listening {
            key: Arc::clone(&compiled.listener.key),
            wanted,
            local,
            last: ArcSwap::new(Arc::clone(compiled)),
            retired: Retired::default(),
            counters: Counters::default(),
            acceptors: AtomicUsize::new(0),
            close: watch::Sender::new(false),
            drains: sockets.iter().map(|_| watch::Sender::new(false)).collect(),
        };
        Ok(Entry { listening: Arc::new(listening), sockets, file, closed: false })
    }

    /// Each worker gets one of the sockets. Does nothing the second time.
    fn start(&self, entry: &mut Entry) {
        let parts = self.workers.iter().zip(&entry.listening.drains).zip(entry.sockets.drain(..));
        for ((worker, drain), socket) in parts {
            let acceptor = Acceptor::new(&self.shared, &entry.listening, &worker.handler, drain.subscribe());
            worker.runtime.spawn(acceptor.run(socket));
        }
    }

    /// Also one that never accepted: clients may wait in its queues already.
    fn end(&self, entry: &mut Entry) {
        if entry.closed {
            return;
        }
        entry.closed = true;
        // First: who comes later shall not find it.
        entry.file = None;
        self.start(entry);
        entry.listening.close();
        entry.listening.drain();
    }
}

impl Entry {
    fn is_outbound(&self) -> bool {
        matches!(self.listening.last.load().protocol, CompiledProtocol::Outbound(_))
    }

    fn status(&self) -> ListenerStatus {
        let state = match (self.closed, self.sockets.is_empty()) {
            (true, _) => ListenerState::Draining,
            (false, true) => ListenerState::Accepting,
            (false, false) => ListenerState::Opened,
        };
        ListenerStatus {
            key: Arc::clone(&self.listening.key),
            address: self.listening.local.clone(),
            state,
            counts: self.listening.counters.read(),
        }
    }
}

fn failed(listener: &Listener, error: io::Error) -> ListenError {
    ListenError {
        key: Arc::clone(&listener.key),
        address: listener.address.clone(),
        origin: listener.origin.clone(),
        server: listener.server,
        error,
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
