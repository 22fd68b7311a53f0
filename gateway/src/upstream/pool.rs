//! The pools of one worker: by cluster, endpoint and, in the mesh, by whom to expect there and the state of our own
//! certificate and roots; HTTP/1 connections last in first out, HTTP/2 connections shared.
//! Locks are never held over an await and only this worker's tasks take them (and admin, for a moment).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::RandomState;
use mesh_core::lb::{EndpointSet, EndpointState, Limit, Overflow, Permit};
use mesh_core::model::{Destination, EndpointAddress, OWN_V4, OWN_V6, Reach, UpstreamProtocol, UpstreamTls};
use tokio::time::timeout;

use super::Stream;
use super::dial::{self, ConnectError};
use super::h2;
use super::host::{Attempt, Counters, Host, HostKey, Idle, Lent, Life, Next, Says, SocketKind, Tls, TlsKey};
use super::proxy_header;
use crate::http::h1::{self, ClientCodec};
use crate::listen::ConnectionInfo;
use crate::listen::proxy_protocol::Ends;
use crate::live::LiveCluster;
use crate::peer_metadata::Said;
use crate::tls::client::{Inside, MeshClient, TlsError, sni};
use crate::tls::peer_verify::Identity;
use crate::tls::workload::WorkloadCell;

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
    /// Who we are in the mesh.
    pub(super) workload: Arc<WorkloadCell>,
    h1: h1::Limits,
    pub(super) idle_total: AtomicUsize,
    pub(super) start: Instant,
    /// Milliseconds from `start` to the last sweep: close enough for idle timeouts, and no clock is read per request.
    pub(super) clock: AtomicU64,
}

pub(super) type Clusters = HashMap<u64, ClusterPool, RandomState>;

#[derive(Default)]
pub(super) struct ClusterPool {
    pub hosts: HashMap<HostKey, Arc<Host>, RandomState>,
    pub compared: Option<Compared>,
    /// Where the cluster stood in the tables.
    pub position: usize,
}

/// What the hosts of a cluster were last compared with.
pub(super) struct Compared {
    pub endpoints: Arc<EndpointSet>,
    /// Of the workload.
    pub generation: u64,
    pub tls: UpstreamTls,
}

/// What decides, beside cluster and endpoint, which connections are the right ones.
#[derive(Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Whom the request is for, by which servers outside of the mesh are told apart; none of bytes.
    pub authority: Option<&'a str>,
    /// Whom upstreams are told of that want to know; none: the proxy itself asks.
    pub client: Option<&'a Arc<ConnectionInfo>>,
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
    life: Life,
    lent: Lent,
}

impl H1Lease {
    fn reused(idle: Idle, host: &Arc<Host>) -> H1Lease {
        let Idle { codec, local, mut life, .. } = idle;
        life.requests = life.requests.saturating_add(1);
        H1Lease { codec, reused: true, local, life, lent: Lent::new(host) }
    }

    /// Who is at the other end; none in clear.
    #[must_use]
    pub fn peer(&self) -> Option<&Arc<Identity>> {
        self.codec.io().peer()
    }

    /// Where the other end runs, as it says.
    #[must_use]
    pub fn said(&self) -> &Arc<Said> {
        &self.lent.host().said
    }

    /// For upgrades: the connection leaves the pool for good. Keep the second part while it is in use, it counts as active.
    #[must_use]
    pub fn into_codec(self) -> (ClientCodec<Stream>, impl Send + Sync + 'static) {
        (*self.codec, (self.lent, self.life.permit))
    }
}

/// A connection for bytes.
pub struct BytesLease {
    pub stream: Stream,
    pub local: Option<SocketAddr>,
    permit: Option<Permit>,
    lent: Lent,
}

impl BytesLease {
    /// Keep the second part while the first is in use, it counts as active.
    #[must_use]
    pub fn into_parts(self) -> (Stream, impl Send + Sync + 'static) {
        (self.stream, (self.lent, self.permit))
    }
}

/// A place for one stream on an HTTP/2 connection. Keep it until the stream is over: it counts as one until it is dropped.
pub struct H2Lease {
    /// Wait for `ready()` before `send_request`.
    pub send: ::h2::client::SendRequest<Bytes>,
    pub reused: bool,
    pub local: Option<SocketAddr>,
    /// Who is at the other end; none in clear.
    pub peer: Option<Arc<Identity>>,
    place: h2::Place,
}

impl H2Lease {
    /// Where the other end runs, as it says.
    #[must_use]
    pub fn said(&self) -> &Arc<Said> {
        self.place.said()
    }
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
        Self::in_mesh(Arc::default())
    }

    /// Of a process that may have a workload certificate.
    #[must_use]
    pub fn in_mesh(workload: Arc<WorkloadCell>) -> Arc<Self> {
        Self::with_limits(PoolLimits::default(), workload)
    }

    #[must_use]
    pub fn with_limits(limits: PoolLimits, workload: Arc<WorkloadCell>) -> Arc<Self> {
        Arc::new(Self {
            clusters: Mutex::default(),
            limits,
            workload,
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
        asked: Asked<'_>,
    ) -> Result<Upstream, ConnectError> {
        match cluster.destination.protocol {
            UpstreamProtocol::Http1 => self.acquire_h1(cluster, endpoint, asked).await.map(Upstream::H1),
            UpstreamProtocol::Http2 | UpstreamProtocol::Http2Upgraded | UpstreamProtocol::AsClient => {
                let host = self.host(cluster, endpoint, asked).await?;
                self.acquire_h2(cluster, host).await.map(Upstream::H2)
            }
        }
    }

    /// The same in HTTP/1.1, whatever the cluster prefers: for upgrades.
    pub async fn acquire_h1(
        &self,
        cluster: &Arc<LiveCluster>,
        endpoint: &Arc<EndpointState>,
        asked: Asked<'_>,
    ) -> Result<H1Lease, ConnectError> {
        let host = self.host(cluster, endpoint, asked).await?;
        if (cluster.breaker.is_none() || !host.freed.is_awaited())
            && let Some(idle) = host.take_idle(&self.idle_total)
        {
            return Ok(H1Lease::reused(idle, &host));
        }
        let _pending = cluster.enter(Limit::Pending)?;
        let permit = loop {
            match cluster.enter(Limit::Connections) {
                Ok(permit) => break permit,
                // Nobody would ever give one back: all are other workers', or of other endpoints.
                Err(Overflow) if host.has_no_connection() => break cluster.force(Limit::Connections),
                Err(Overflow) => host.freed.wait().await,
            }
            if let Some(idle) = host.take_idle(&self.idle_total) {
                return Ok(H1Lease::reused(idle, &host));
            }
        };
        let lent = Lent::new(&host);
        let stream = counted(&host, dial::connect(&host, Inside::Http1, cluster.destination.connect_timeout).await)?;
        let local = stream.tcp().local_addr().ok();
        let codec = Box::new(ClientCodec::new(stream, self.h1));
        Ok(H1Lease { codec, reused: false, local, life: Life { born: self.now(), requests: 1, permit }, lent })
    }

    /// A new connection for bytes, which is nobody else's afterwards.
    pub async fn open(
        &self,
        cluster: &Arc<LiveCluster>,
        endpoint: &Arc<EndpointState>,
        client: Option<&Arc<ConnectionInfo>>,
    ) -> Result<BytesLease, ConnectError> {
        let host = self.host(cluster, endpoint, Asked { authority: None, client }).await?;
        let permit = cluster.enter(Limit::Connections)?;
        let lent = Lent::new(&host);
        let limit = cluster.destination.connect_timeout;
        let stream = counted(&host, dial::connect_for_bytes(&host, limit).await)?;
        Ok(BytesLease { local: stream.tcp().local_addr().ok(), stream, permit, lent })
    }

    /// Gives a connection back whose exchange is over; one that cannot be used again is closed.
    pub fn release(&self, lease: H1Lease) {
        let H1Lease { mut codec, local, life, lent, .. } = lease;
        if codec.reusable() {
            codec.release_buffers();
            let idle = Idle { codec, local, since: self.now(), life };
            lent.host().put_idle(idle, self.limits.idle_per_endpoint, self.limits.idle_total, &self.idle_total);
        }
    }

    #[must_use]
    pub fn stats(&self) -> Vec<PoolStats> {
        let mut stats = Vec::new();
        for (cluster, pool) in self.clusters().iter() {
            // While a certificate changes there are several hosts for one endpoint, which count together.
            let mut places = HashMap::new();
            for host in pool.hosts.values() {
                let (busy, idle, streams) = host.usage();
                let at = *places.entry(host.key.address).or_insert_with(|| {
                    stats.push(PoolStats {
                        cluster: *cluster,
                        address: host.key.address,
                        connects: host.counters.connects.load(Ordering::Relaxed),
                        connect_failures: host.counters.failures.load(Ordering::Relaxed),
                        active: host.counters.lent.load(Ordering::Relaxed),
                        idle: 0,
                        streams: 0,
                    });
                    stats.len().saturating_sub(1)
                });
                if let Some(stats) = stats.get_mut(at) {
                    stats.active = stats.active.saturating_add(busy);
                    stats.idle = stats.idle.saturating_add(idle);
                    stats.streams = stats.streams.saturating_add(streams);
                }
            }
        }
        stats
    }

    async fn acquire_h2(&self, cluster: &LiveCluster, host: Arc<Host>) -> Result<H2Lease, ConnectError> {
        let limit = cluster.destination.connect_timeout;
        let mut pending = None;
        loop {
            let mut attempt = match host.next_stream(self.now()) {
                Next::Stream(handle) => {
                    let h2::Handle { send, place, local, peer, reused } = handle;
                    return Ok(H2Lease { send, reused, local, peer, place });
                }
                Next::Wait(attempt) => {
                    if pending.is_none() {
                        pending = Some(cluster.enter(Limit::Pending)?);
                    }
                    attempt
                }
                Next::Connect(outcome, attempt) => {
                    if pending.is_none() {
                        pending = Some(cluster.enter(Limit::Pending)?);
                    }
                    let permit = match cluster.enter(Limit::Connections) {
                        Ok(permit) => permit,
                        Err(Overflow) if host.has_no_connection() => cluster.force(Limit::Connections),
                        Err(Overflow) => {
                            drop((outcome, attempt));
                            host.freed.wait().await;
                            continue;
                        }
                    };
                    let (host, now) = (Arc::clone(&host), self.now());
                    // A task of its own: the others who wait must not lose it when this request is given up.
                    tokio::spawn(async move { outcome.send(connect_shared(&host, limit, now, permit).await) });
                    attempt
                }
            };
            finished(&mut attempt).await?;
        }
    }

    /// Where the connections to an endpoint are, or will be.
    async fn host(
        &self,
        cluster: &LiveCluster,
        endpoint: &EndpointState,
        asked: Asked<'_>,
    ) -> Result<Arc<Host>, ConnectError> {
        let (destination, address) = (&cluster.destination, endpoint.address);
        let told = asked.client.filter(|_| destination.connections.proxy_header.is_some());
        let client = told.map(|told| told.id);
        if let Some(origin) = &cluster.origination {
            let originator = origin.client().map_err(ConnectError::Tls)?;
            let name = origin.name(asked.authority, &destination.host);
            let tls = TlsKey::Origin { client: originator.id, name: Arc::clone(&name) };
            let key = HostKey { address, tls: Some(tls), client };
            return self.known_host(cluster, endpoint, key, told, || Ok(Some(Tls::Origin(originator, name))));
        }
        if !self.speaks_mesh(&destination.tls, endpoint) {
            let key = HostKey { address, tls: None, client };
            return self.known_host(cluster, endpoint, key, told, || Ok(None));
        }
        if self.workload.is_awaited() && self.workload.load().last_certificate().is_none() {
            // Rather late than not at all, and never in clear.
            let _ = timeout(destination.connect_timeout, self.workload.issued()).await;
        }
        let workload = self.workload.load();
        let key = HostKey { client, ..self.key_of(&destination.tls, endpoint, workload.generation) };
        let expected = expected(endpoint);
        self.known_host(cluster, endpoint, key, told, || {
            MeshClient::new(&workload, &expected, &server_name(destination)).map(|client| Some(Tls::Mesh(client)))
        })
    }

    fn known_host(
        &self,
        cluster: &LiveCluster,
        endpoint: &EndpointState,
        key: HostKey,
        client: Option<&Arc<ConnectionInfo>>,
        tls: impl FnOnce() -> Result<Option<Tls>, TlsError>,
    ) -> Result<Arc<Host>, ConnectError> {
        let mut clusters = self.clusters();
        let pool = clusters.entry(cluster.id).or_default();
        if let Some(host) = pool.hosts.get(&key) {
            return Ok(Arc::clone(host));
        }
        let before = pool.hosts.values().find(|host| host.key.address == key.address);
        let counters: Arc<Counters> = before.map(|host| Arc::clone(&host.counters)).unwrap_or_default();
        let socket = socket_kind(cluster.destination.reach, endpoint);
        let tls = tls().map_err(ConnectError::Tls)?;
        let rules = cluster.destination.connections.clone();
        let says = rules.proxy_header.map(|version| {
            let ends = client.map(|client| Ends { client: client.client, server: client.local });
            Says { header: proxy_header::bytes(version, ends).into(), client: client.map(Arc::downgrade) }
        });
        let host = Host::new(key.clone(), tls, socket, says, rules, counters);
        pool.hosts.insert(key, Arc::clone(&host));
        // The sweep must look at it.
        pool.compared = None;
        Ok(host)
    }

    /// Whether an endpoint is spoken to in the mesh's TLS. Who is no part of a mesh speaks in clear, unless it must not.
    fn speaks_mesh(&self, tls: &UpstreamTls, endpoint: &EndpointState) -> bool {
        match tls {
            UpstreamTls::Disable | UpstreamTls::Originate(_) => false,
            UpstreamTls::Auto => endpoint.endpoint.mtls && self.workload.is_awaited(),
            UpstreamTls::Mutual => true,
        }
    }

    /// Of what is no origination, and speaks for nobody.
    pub(super) fn key_of(&self, tls: &UpstreamTls, endpoint: &EndpointState, generation: u64) -> HostKey {
        let mesh = || TlsKey::Mesh { generation, expected: expected(endpoint) };
        HostKey { address: endpoint.address, tls: self.speaks_mesh(tls, endpoint).then(mesh), client: None }
    }

    pub(super) fn clusters(&self) -> MutexGuard<'_, Clusters> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.clock.load(Ordering::Relaxed))
    }
}

/// The principal that the certificate of an endpoint must have; empty where nobody knows.
fn expected(endpoint: &EndpointState) -> Arc<str> {
    endpoint.endpoint.workload.as_ref().map(|workload| Arc::clone(&workload.principal)).unwrap_or_default()
}

/// The workload is reached from where the rules that redirect leave it alone.
fn socket_kind(reach: Reach, to: &EndpointState) -> SocketKind {
    match (&to.endpoint.address, reach) {
        (EndpointAddress::Unix(path), _) => SocketKind::Unix(Arc::clone(path)),
        (_, Reach::OwnWorkload | Reach::OwnPort(_)) if to.address.is_ipv6() => SocketKind::TcpFrom(OWN_V6.into()),
        (_, Reach::OwnWorkload | Reach::OwnPort(_)) => SocketKind::TcpFrom(OWN_V4.into()),
        _ => SocketKind::Tcp,
    }
}

fn server_name(destination: &Destination) -> String {
    sni(destination.port, destination.subset.as_deref(), &destination.host)
}

/// Counts what came of a connection.
fn counted<T>(host: &Host, made: Result<T, ConnectError>) -> Result<T, ConnectError> {
    let counter = if made.is_ok() { &host.counters.connects } else { &host.counters.failures };
    counter.fetch_add(1, Ordering::Relaxed);
    made
}

async fn connect_shared(
    host: &Host,
    limit: Duration,
    now: Instant,
    permit: Option<Permit>,
) -> Option<Result<(), ConnectError>> {
    let (shared, outcome) = match h2::connect(host, limit, now, permit).await {
        Ok(shared) => (Some(shared), Ok(())),
        Err(error) => (None, Err(error)),
    };
    let outcome = counted(host, outcome);
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
