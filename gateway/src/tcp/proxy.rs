//! The life of a connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mesh_core::lb::{EndpointState, TryResult};
use mesh_core::model::Destination;
use mesh_core::snapshot::{Authorizer, Facts, Ruling};
use pingora_core::protocols::Stream;
use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::copy::{Broken, Copy};
use super::passage::Passage;
use super::target;
use crate::listen::{ConnectionFuture, ConnectionHandler, ConnectionInfo, Direction};
use crate::live::{Cells, Live, LiveCluster, Unfound};
use crate::observe::{Observer, ResponseFlags};
use crate::peer_metadata::{OwnMetadata, preamble};
use crate::tls::peer_verify::Identity;
use crate::upstream::{BytesLease, ConnectError, Pools, Stream as Upstream};

/// Endpoints that are tried for one connection.
const TRIES: usize = 3;
/// How often the bytes of a connection are told to the metrics.
const REPORT: Duration = Duration::from_secs(5);

/// One per worker.
pub struct TcpProxy {
    cells: Arc<Cells>,
    pools: Arc<Pools>,
    observer: Arc<Observer>,
    /// What other proxies of the mesh are told of this one's workload.
    metadata: Option<OwnMetadata>,
}

impl ConnectionHandler for TcpProxy {
    /// `drain` is not asked: nobody can tell a client of bytes to go elsewhere, and a change of the configuration is no reason
    /// to cut it.
    fn handle(
        self: Arc<Self>,
        stream: Stream,
        info: Arc<ConnectionInfo>,
        _drain: watch::Receiver<bool>,
    ) -> ConnectionFuture {
        Box::pin(async move { self.serve(stream, info).await })
    }
}

impl TcpProxy {
    pub fn new(cells: Arc<Cells>, pools: Arc<Pools>, observer: Arc<Observer>, metadata: Option<OwnMetadata>) -> Self {
        Self { cells, pools, observer, metadata }
    }

    async fn serve(&self, client: Stream, info: Arc<ConnectionInfo>) {
        let (mut passage, connected) = {
            let Some((live, target)) = self.target(&info) else { return };
            let mut passage = Passage::new(&self.observer, info, target, live.snapshot.generation);
            if let Err(details) = permit(&live, &passage.info) {
                passage.details = details.into();
                return;
            }
            let Some(cluster) = passage.target.cluster.clone() else {
                // As Envoy has it: a cluster without hosts, or none; or nobody said what is to become of it.
                if passage.target.is_routed {
                    passage.flags |= ResponseFlags::UH;
                } else {
                    passage.flags |= ResponseFlags::NR;
                    passage.details = "filter_chain_not_found".into();
                }
                return;
            };
            drop(live);
            let connected = self.connect(&cluster, &mut passage).await;
            (passage, connected.map(|lease| (cluster, lease)))
        };
        let Some((cluster, lease)) = connected else { return };
        if !lease.stream.awaits_metadata() || passage.knows_endpoint() {
            passage.open();
        }
        let _active = passage.endpoint.as_ref().map(EndpointState::enter);
        let (upstream, _lent) = lease.into_parts();
        self.copy(Copy::new(client, upstream), &cluster.destination, &mut passage).await;
    }

    /// By the newest tables that know the listener.
    fn target(&self, info: &ConnectionInfo) -> Option<(Arc<Live>, target::Target)> {
        let live = self.cells.live.load_full();
        if let Some(target) = target::find(&live, info) {
            return Some((live, target));
        }
        let last = info.retired.load()?;
        let target = target::find(&last, info)?;
        Some((last, target))
    }

    /// Tries one endpoint after the other.
    async fn connect(&self, cluster: &Arc<LiveCluster>, passage: &mut Passage<'_>) -> Option<BytesLease> {
        let mut tried: SmallVec<[_; TRIES]> = SmallVec::new();
        let key = cluster.key_of_client(passage.info.client.ip());
        while tried.len() < TRIES {
            let info = Arc::clone(&passage.info);
            let endpoint = match cluster.find(asked_for(&info), info.original(), key, &tried).await {
                Ok(endpoint) => endpoint,
                Err(unfound) => {
                    passage.flags |= match unfound {
                        Unfound::NoEndpoint | Unfound::OtherName | Unfound::AddressRefused => ResponseFlags::UH,
                        Unfound::NotResolved => ResponseFlags::DF,
                        Unfound::TooManyNames => ResponseFlags::UO,
                    };
                    return None;
                }
            };
            if tried.contains(&endpoint.address) {
                break;
            }
            passage.endpoint = Some(Arc::clone(&endpoint));
            match self.open(cluster, &endpoint, &passage.info).await {
                Ok(lease) => {
                    cluster.note(&endpoint, TryResult::Connected);
                    passage.upstream_local = lease.local;
                    passage.upstream_peer = lease.stream.peer().cloned();
                    passage.transport_failure = "-".into();
                    return Some(lease);
                }
                Err(ConnectError::Overflow) => {
                    passage.flags |= ResponseFlags::UO;
                    passage.transport_failure = "-".into();
                    return None;
                }
                Err(error) => {
                    cluster.note(&endpoint, TryResult::Failed);
                    passage.transport_failure = transport_failure(&error);
                }
            }
            tried.push(endpoint.address);
        }
        passage.flags |= ResponseFlags::UF | ResponseFlags::URX;
        None
    }

    /// A connection on which both sides said who they are, or we did.
    async fn open(
        &self,
        cluster: &Arc<LiveCluster>,
        endpoint: &Arc<EndpointState>,
        client: &Arc<ConnectionInfo>,
    ) -> Result<BytesLease, ConnectError> {
        let mut lease = self.pools.open(cluster, endpoint, Some(client)).await?;
        if lease.stream.exchanges_metadata() {
            let telling = lease.stream.tell(preamble::bytes(self.metadata.as_ref()));
            timeout(cluster.destination.connect_timeout, telling).await.map_err(|_| ConnectError::Timeout)??;
        }
        Ok(lease)
    }

    /// Until both sides are done, one breaks, both are silent for too long (zero: they may), or its time is over.
    async fn copy(&self, mut copy: Copy<Stream, Upstream>, destination: &Destination, passage: &mut Passage<'_>) {
        let mut last_bytes = Instant::now();
        let far = Duration::from_secs(365 * 86_400);
        let idle_timeout = if destination.idle_timeout.is_zero() { far } else { destination.idle_timeout.min(far) };
        let ends = last_bytes + destination.connections.lifetime.unwrap_or(far).min(far);
        let timer = sleep_until(ends.min(last_bytes + idle_timeout));
        tokio::pin!(timer);
        let (mut seen, mut reported) = (0, 0);
        let mut permitted_by = passage.generation();
        let mut forbidden = None;
        let end = poll_fn(|cx| {
            // Who was let in may have to go: before the next byte, whatever else happens.
            let generation = self.cells.live.load().snapshot.generation;
            if generation != permitted_by {
                permitted_by = generation;
                forbidden = self.forbidden(&passage.info);
                if forbidden.is_some() {
                    return Poll::Ready(None);
                }
            }
            loop {
                let polled = copy.poll(cx);
                if !passage.is_open() && !copy.upstream().awaits_metadata() {
                    passage.upstream_workload = copy.upstream().workload().cloned();
                    passage.open();
                }
                if let Poll::Ready(end) = polled {
                    return Poll::Ready(Some(end));
                }
                let total = copy.received.bytes.saturating_add(copy.sent.bytes);
                if total != seen {
                    (seen, last_bytes) = (total, Instant::now());
                }
                let due = last_bytes + if total == reported { idle_timeout } else { REPORT.min(idle_timeout) };
                let due = due.min(ends);
                // A busy connection does not touch its timer more often than that.
                if timer.deadline() > due {
                    timer.as_mut().reset(due);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if last_bytes.elapsed() >= idle_timeout || Instant::now() >= ends {
                    return Poll::Ready(None);
                }
                passage.report(copy.received.bytes, copy.sent.bytes);
                reported = total;
                timer.as_mut().reset(ends.min(last_bytes + idle_timeout));
            }
        })
        .await;
        passage.report(copy.received.bytes, copy.sent.bytes);
        match end {
            Some(Ok(())) => {}
            Some(Err(Broken::Client(error))) => {
                tracing::debug!(%error, "a client broke its connection");
                passage.flags |= ResponseFlags::DC;
            }
            Some(Err(Broken::Upstream(error))) => {
                tracing::debug!(%error, "an upstream broke its connection");
                passage.flags |= ResponseFlags::UC;
            }
            None if forbidden.is_none() && Instant::now() >= ends => {
                passage.flags |= ResponseFlags::DT;
                passage.details = "max_connection_duration_reached".into();
            }
            None => passage.details = forbidden.map_or("tcp_idle_timeout".into(), Into::into),
        }
    }

    /// Why the connection may not go on, by the newest tables that know its listener.
    fn forbidden(&self, info: &ConnectionInfo) -> Option<String> {
        let (live, _) = self.target(info)?;
        permit(&live, info).err()
    }
}

/// The server name that its client asked for, whoever ends TLS.
fn asked_for(info: &ConnectionInfo) -> Option<&str> {
    info.server_name.as_deref().or_else(|| info.tls.as_ref()?.sni.as_deref())
}

fn transport_failure(error: &ConnectError) -> std::borrow::Cow<'static, str> {
    error.transport_failure().unwrap_or("connection_timeout".into())
}

/// An error: why it may not be.
fn permit(live: &Live, info: &ConnectionInfo) -> Result<(), String> {
    if target::is_too_open(live, info) {
        return Err("mutual_tls_demanded".to_owned());
    }
    authorize(&live.snapshot.authorizer, info)
}

/// An error: it is denied, in Envoy's words. Policies are about what arrives at the workload.
fn authorize(authorizer: &Authorizer, info: &ConnectionInfo) -> Result<(), String> {
    if authorizer.is_empty() || info.direction() == Some(Direction::Outbound) {
        return Ok(());
    }
    let peer = info.tls.as_ref().and_then(|tls| tls.peer.as_deref());
    let ruling = authorizer.decide(&Facts {
        request: None,
        peer: peer.and_then(Identity::facts),
        source: Some(info.peer.ip()),
        remote: Some(info.client.ip()),
        local: Some(info.local),
        sni: info.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
    });
    match ruling {
        Ruling::Allowed => Ok(()),
        Ruling::Denied(_) | Ruling::Ask(..) => Err(ruling.details()),
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
