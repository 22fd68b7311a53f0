//! The pools of one worker: by cluster and endpoint, HTTP/1 connections last in first out, HTTP/2 connections shared.
//! Locks are never held over an await and only this worker's tasks take them (and admin, for a moment).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::RandomState;
use mesh_core::lb::{EndpointSet, EndpointState};
use mesh_core::model::UpstreamProtocol;

use super::dial::{self, ConnectError, Stream};
use super::h2;
use super::host::{Attempt, Host, Idle, Lent, Next};
use crate::http::h1::{self, ClientCodec};
use crate::live::LiveCluster;

/// Bounds on unused HTTP/1 connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    pub idle_per_endpoint: usize,
    pub idle_total: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle_per_endpoint: 512, idle_total: 4096 }
    }
}

/// All connections to upstreams of one worker.
pub struct Pools {
    clusters: Mutex<Clusters>,
    pub(super) limits: PoolLimits,
    h1: h1::Limits,
    pub(super) idle_total: AtomicUsize,
    pub(super) start: Instant,
    /// Milliseconds from `start` to the last sweep: close enough for idle timeouts, and no clock is read per request.
    pub(super) clock: AtomicU64,
}

pub(super) type Clusters = HashMap<u64, ClusterPool, RandomState>;

#[derive(Default)]
pub(super) struct ClusterPool {
    pub hosts: HashMap<SocketAddr, Arc<Host>, RandomState>,
    /// The endpoints that `hosts` were last compared with.
    pub compared: Option<Arc<EndpointSet>>,
    /// Where the cluster stood in the tables.
    pub position: usize,
}

/// A connection for one request.
pub enum Upstream {
    H1(H1Lease),
    H2(H2Lease),
}

/// An HTTP/1 connection, for one request. Dropped without [`Pools::release`], it is closed.
pub struct H1Lease {
    pub codec: Box<ClientCodec<Stream>>,
    /// It served a request before: it may turn out to be dead although the endpoint is well.
    pub reused: bool,
    pub local: Option<SocketAddr>,
    lent: Lent,
}

impl H1Lease {
    /// For upgrades: the connection leaves the pool for good. Keep the second part while it is in use, it counts as active.
    #[must_use]
    pub fn into_codec(self) -> (ClientCodec<Stream>, impl Send + Sync + 'static) {
        (*self.codec, self.lent)
    }
}

/// A place for one stream on an HTTP/2 connection. Keep it until the stream is over: it counts as one until it is dropped.
pub struct H2Lease {
    /// Wait for `ready()` before `send_request`.
    pub send: ::h2::client::SendRequest<Bytes>,
    pub reused: bool,
    pub local: Option<SocketAddr>,
    _place: h2::Place,
}

/// For admin: one endpoint's part of one worker's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// [`LiveCluster::id`]
    pub cluster: u64,
    pub address: SocketAddr,
    /// Since the endpoint was first used.
    pub connects: u64,
    pub connect_failures: u64,
    /// Connections in use now.
    pub active: usize,
    pub idle: usize,
    /// HTTP/2 streams now.
    pub streams: usize,
}

impl Pools {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_limits(PoolLimits::default())
    }

    #[must_use]
    pub fn with_limits(limits: PoolLimits) -> Arc<Self> {
        Arc::new(Self {
            clusters: Mutex::default(),
            limits,
            h1: h1::Limits::default(),
            idle_total: AtomicUsize::new(0),
            start: Instant::now(),
            clock: AtomicU64::new(0),
        })
    }

    /// An idle connection, else a new one. Must run on the worker's runtime.
    pub async fn acquire(
        &self,
        cluster: &Arc<LiveCluster>,
        endpoint: &Arc<EndpointState>,
    ) -> Result<Upstream, ConnectError> {
        match cluster.destination.protocol {
            UpstreamProtocol::Http1 => self.acquire_h1(cluster, endpoint).await.map(Upstream::H1),
            UpstreamProtocol::Http2 | UpstreamProtocol::Http2Upgraded | UpstreamProtocol::AsClient => {
                let host = self.host(cluster.id, endpoint.address);
                self.acquire_h2(host, cluster.destination.connect_timeout).await.map(Upstream::H2)
            }
        }
    }

    /// The same in HTTP/1.1, whatever the cluster prefers: for upgrades.
    pub async fn acquire_h1(
        &self,
        cluster: &Arc<LiveCluster>,
        endpoint: &Arc<EndpointState>,
    ) -> Result<H1Lease, ConnectError> {
        let host = self.host(cluster.id, endpoint.address);
        if let Some(idle) = host.take_idle(&self.idle_total) {
            return Ok(H1Lease { codec: idle.codec, reused: true, local: idle.local, lent: Lent::new(&host) });
        }
        match dial::connect(host.address, cluster.destination.connect_timeout).await {
            Ok(stream) => {
                host.counters.connects.fetch_add(1, Ordering::Relaxed);
                let local = stream.local_addr().ok();
                let codec = Box::new(ClientCodec::new(stream, self.h1));
                Ok(H1Lease { codec, reused: false, local, lent: Lent::new(&host) })
            }
            Err(error) => {
                host.counters.failures.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Gives a connection back whose exchange is over; one that cannot be used again is closed.
    pub fn release(&self, lease: H1Lease) {
        let H1Lease { mut codec, local, lent, .. } = lease;
        if codec.reusable() {
            codec.release_buffers();
            let idle = Idle { codec, local, since: self.now() };
            lent.host().put_idle(idle, self.limits.idle_per_endpoint, self.limits.idle_total, &self.idle_total);
        }
    }

    #[must_use]
    pub fn stats(&self) -> Vec<PoolStats> {
        let clusters = self.clusters();
        let hosts = clusters.iter().flat_map(|(id, cluster)| cluster.hosts.values().map(|host| (*id, host)));
        hosts
            .map(|(cluster, host)| {
                let (active, idle, streams) = host.usage();
                PoolStats {
                    cluster,
                    address: host.address,
                    connects: host.counters.connects.load(Ordering::Relaxed),
                    connect_failures: host.counters.failures.load(Ordering::Relaxed),
                    active,
                    idle,
                    streams,
                }
            })
            .collect()
    }

    async fn acquire_h2(&self, host: Arc<Host>, limit: Duration) -> Result<H2Lease, ConnectError> {
        loop {
            let mut attempt = match host.next_stream(self.now()) {
                Next::Stream(handle) => {
                    let h2::Handle { send, place, local, reused } = handle;
                    return Ok(H2Lease { send, reused, local, _place: place });
                }
                Next::Wait(attempt) => attempt,
                Next::Connect(outcome, attempt) => {
                    let (host, now) = (Arc::clone(&host), self.now());
                    // A task of its own: the others who wait must not lose it when this request is given up.
                    tokio::spawn(async move { outcome.send(connect_shared(&host, limit, now).await) });
                    attempt
                }
            };
            finished(&mut attempt).await?;
        }
    }

    fn host(&self, cluster: u64, address: SocketAddr) -> Arc<Host> {
        let mut clusters = self.clusters();
        let pool = clusters.entry(cluster).or_default();
        let compared = &mut pool.compared;
        let host = pool.hosts.entry(address).or_insert_with(|| {
            // The sweep must look at it.
            *compared = None;
            Host::new(address)
        });
        Arc::clone(host)
    }

    pub(super) fn clusters(&self) -> MutexGuard<'_, Clusters> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.clock.load(Ordering::Relaxed))
    }
}

async fn connect_shared(host: &Host, limit: Duration, now: Instant) -> Option<Result<(), ConnectError>> {
    let (shared, outcome) = match h2::connect(host.address, limit, now).await {
        Ok(shared) => (Some(shared), Ok(())),
        Err(error) => (None, Err(error)),
    };
    let counter = if outcome.is_ok() { &host.counters.connects } else { &host.counters.failures };
    counter.fetch_add(1, Ordering::Relaxed);
    host.connected(shared);
    Some(outcome)
}

async fn finished(attempt: &mut Attempt) -> Result<(), ConnectError> {
    match attempt.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
        Err(_) => Err(ConnectError::Other("Connection attempt was given up".into())),
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
