//! The resolver of a workload whose queries are led here (`redirect --redirect-dns`): it answers for names that only the mesh
//! knows, and asks the pod's own resolvers for all others. It decides who answers; what the names are, the snapshot says.

pub mod message;
mod metrics;
mod server;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mesh_core::snapshot::DnsMatch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use metrics::DnsMetrics;
pub use server::Sockets;
use upstream::{TIMEOUT, Transport, Upstream};

use super::resolv_conf::ResolvConf;
use crate::live::Cells;
use message::{Query, Received};

/// Queries that wait for the pod's resolvers, at most.
const WAITING: usize = 1024;
/// Where resolvers listen.
const PORT: u16 = 53;

/// How names are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    pub listen: SocketAddr,
    /// Who is asked for other names; empty: the pod's resolvers.
    pub upstream: Vec<SocketAddr>,
}

/// See the module.
pub struct DnsProxy {
    cells: Arc<Cells>,
    upstream: Upstream,
    /// As Istio, the first one: clients put it behind the name before any other.
    search: Option<String>,
    waiting: Arc<Semaphore>,
    metrics: DnsMetrics,
}

/// What is done with a message.
#[derive(Debug)]
enum Verdict {
    Ignore,
    Answer(Vec<u8>),
    Forward(Forward),
}

/// A query on its way to the pod's resolvers.
#[derive(Debug)]
struct Forward {
    query: Arc<[u8]>,
    /// The name has addresses here, which the query is not about.
    is_known: bool,
    _permit: OwnedSemaphorePermit,
}

impl DnsProxy {
    pub fn new(options: &DnsOptions, pod: ResolvConf, cells: Arc<Cells>, metrics: DnsMetrics) -> Arc<DnsProxy> {
        let resolvers = match options.upstream.is_empty() {
            true => pod.servers.into_iter().map(|server| SocketAddr::new(server, PORT)).collect(),
            false => options.upstream.clone(),
        };
        Arc::new(DnsProxy {
            cells,
            upstream: Upstream { resolvers, timeout: TIMEOUT },
            search: pod.search.into_iter().next(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            metrics,
        })
    }

    /// Serves until the process ends.
    pub fn serve(self: Arc<Self>, sockets: Sockets) {
        sockets.serve(&self);
    }

    fn decide(&self, bytes: &[u8], transport: Transport) -> Verdict {
        let query = match message::read(bytes) {
            Received::Nothing => return Verdict::Ignore,
            Received::Refused(answer) => {
                self.metrics.requests.inc();
                return Verdict::Answer(answer);
            }
            Received::Query(query) => query,
        };
        self.metrics.requests.inc();
        let live = self.cells.live.load();
        if live.snapshot.generation == 0 {
            // A name may be ours: nobody else may say that there is none.
            tracing::debug!(name = query.name, "asked before there is a configuration");
            return Verdict::Answer(query.failure());
        }
        let name = query.name.as_deref();
        let found = name.and_then(|name| live.snapshot.dns.find(name, self.search.as_deref()));
        match found {
            Some(found) if query.asks_for_address => Verdict::Answer(answer(&query, &found, transport)),
            found => self.forward(bytes, &query, found.is_some()),
        }
    }

    fn forward(&self, bytes: &[u8], query: &Query<'_>, is_known: bool) -> Verdict {
        match Arc::clone(&self.waiting).try_acquire_owned() {
            Ok(permit) => Verdict::Forward(Forward { query: bytes.into(), is_known, _permit: permit }),
            Err(_) => {
                tracing::debug!(name = query.name, "more than {WAITING} queries wait for the resolvers");
                self.metrics.upstream_failures.inc();
                Verdict::Answer(query.failure())
            }
        }
    }

    /// What the pod's resolvers say, or that they say nothing.
    async fn ask(&self, forward: Forward, transport: Transport) -> Vec<u8> {
        self.metrics.upstream_requests.inc();
        let begun = Instant::now();
        let answer = self.upstream.ask(&forward.query, transport).await;
        self.metrics.upstream_seconds.observe(begun.elapsed().as_secs_f64());
        let failure = match answer {
            Ok(answer) if forward.is_known => return message::acknowledge_name(answer),
            Ok(answer) => return answer,
            Err(failure) => failure,
        };
        self.metrics.upstream_failures.inc();
        match message::read(&forward.query) {
            Received::Query(query) => {
                tracing::debug!(name = query.name, "{failure}");
                query.failure()
            }
            Received::Refused(answer) => answer,
            Received::Nothing => Vec::new(),
        }
    }

    /// The answer; none: there is none.
    async fn respond(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match self.decide(bytes, transport) {
            Verdict::Ignore => None,
            Verdict::Answer(answer) => Some(answer),
            Verdict::Forward(forward) => Some(self.ask(forward, transport).await),
        }
    }
}

fn answer(query: &Query<'_>, found: &DnsMatch<'_, '_>, transport: Transport) -> Vec<u8> {
    tracing::debug!(name = query.name, host = &*found.name.key, "answered");
    let limit = match transport {
        Transport::Udp => query.limit(),
        Transport::Tcp => usize::from(u16::MAX),
    };
    query.answer(found, fastrand::usize(..), limit)
}

/// Reads what the pod says of its resolvers, if nobody says who they are.
pub fn pod_resolvers(options: &DnsOptions) -> io::Result<ResolvConf> {
    let read = ResolvConf::read();
    if options.upstream.is_empty() { read } else { Ok(read.unwrap_or_default()) }
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
