//! The cells that readers use: the tables with the live state of their clusters, and the certificates. Readers load a
//! cell once per request; only `store` writes, but for the challenges.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderName;
use mesh_core::lb::{
    Balancer, Breaker, Cause, EndpointSet, EndpointState, Limit, Overflow, Permit, RateCount, TryResult, hash_address,
};
use mesh_core::model::{Destination, Endpoint, EndpointAddress, HashKey, Key, Reach, TokenRule, Topology};
use mesh_core::snapshot::Snapshot;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::demand::Demand;
use crate::tls::certs::CertificateTable;
use crate::tls::challenges::Challenges;
use crate::tls::origination::OriginationCell;
use crate::tls::workload::WorkloadCell;
use crate::upstream::{KeyCell, NamedHosts};

/// One generation of the tables and the clusters that its indices mean. A request keeps one through its retries.
#[derive(Default)]
pub struct Live {
    pub snapshot: Arc<Snapshot>,
    /// Same order as `snapshot.clusters`.
    pub clusters: Vec<Arc<LiveCluster>>,
    pub tokens: TokenRules,
    /// Same order as `snapshot.rate_limiter.limits`. What is of a limit that stays the same goes on in the next generation.
    pub limits: Vec<Arc<RateCount>>,
}

impl Live {
    /// The cluster of a split; none if the index is not of this generation.
    #[must_use]
    pub fn cluster(&self, index: u32) -> Option<&Arc<LiveCluster>> {
        self.clusters.get(usize::try_from(index).ok()?)
    }
}

/// Which tokens (JWT) are believed.
#[derive(Debug, Default)]
pub struct TokenRules {
    pub rules: Vec<LiveTokenRule>,
    /// Where tokens may be, each with the rules that look there.
    pub places: Vec<(TokenPlace, Vec<usize>)>,
}

/// The rule for tokens of one issuer.
#[derive(Debug)]
pub struct LiveTokenRule {
    pub model: Arc<TokenRule>,
    pub keys: Arc<KeyCell>,
    pub payload_header: Option<HeaderName>,
    /// Headers, and the claims that they are to have.
    pub claim_headers: Vec<(HeaderName, Vec<String>)>,
}

/// Where in a request a token may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// With what stands before the token.
    Header(HeaderName, String),
    Parameter(String),
    Cookie(String),
}

/// A cluster's state that survives swaps.
pub struct LiveCluster {
    pub destination: Arc<Destination>,
    /// Changes without a new generation; what changes together with the tables belongs to the new generation only.
    pub endpoints: Arc<ArcSwap<EndpointSet>>,
    pub balancer: Arc<Balancer>,
    /// What goes on, where something is limited.
    pub breaker: Option<Arc<Breaker>>,
    /// Where outlier detection is asked for.
    pub outliers: Option<OutlierWatch>,
    /// How TLS is spoken with it, if it is outside of the mesh. Changes without a new generation.
    pub origination: Option<Arc<OriginationCell>>,
    /// Where requests find it by their host ([`Reach::Named`]).
    pub names: Option<Arc<NamedHosts>>,
    /// For pools: the same as long as connections may be shared, that is for one key, protocol and rules of connections; never
    /// reused.
    pub id: u64,
}

/// An endpoint that failed too often.
pub struct OutlierReport {
    /// Of the destination.
    pub key: Key,
    pub endpoint: Arc<EndpointState>,
    pub cause: Cause,
}

/// The way of such a report to who keeps the endpoints.
pub struct OutlierWatch {
    reports: UnboundedSender<OutlierReport>,
    /// How often an endpoint was left out.
    pub ejected: Arc<AtomicU64>,
}

impl OutlierWatch {
    #[must_use]
    pub fn new(reports: UnboundedSender<OutlierReport>, ejected: Arc<AtomicU64>) -> OutlierWatch {
        OutlierWatch { reports, ejected }
    }
}

/// Why nothing is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfound {
    /// The destination has no endpoint.
    NoEndpoint,
    /// The host of the request has no address.
    NotResolved,
    /// It is none of the destination's: a rule for other hosts leads here.
    OtherName,
    /// It has addresses, and none of them may be called: they are this machine's, its link's or a cloud's own.
    AddressRefused,
    /// There is no room for another name.
    TooManyNames,
}

impl LiveCluster {
    /// As [`Self::pick`]; `name`: whom a request is for, or a connection by its server name.
    pub async fn find(
        &self,
        name: Option<&str>,
        original: Option<SocketAddr>,
        key: Option<u64>,
        avoid: &[SocketAddr],
    ) -> Result<Arc<EndpointState>, Unfound> {
        match (&self.names, name) {
            (Some(names), Some(name)) => names.pick(name, avoid).await,
            (Some(_), None) => Err(Unfound::OtherName),
            (None, _) => self.pick(original, key, avoid).ok_or(Unfound::NoEndpoint),
        }
    }

    /// Room for one more, where it is limited; kept until the permit is dropped.
    pub fn enter(&self, what: Limit) -> Result<Option<Permit>, Overflow> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        breaker.enter(what, &self.destination.limits).map(Some)
    }

    /// Room for another try of a request.
    pub fn enter_retry(&self) -> Result<Option<Permit>, Overflow> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        breaker.enter_retry(&self.destination.limits, Instant::now()).map(Some)
    }

    /// A request for it began.
    pub fn began(&self, at: Instant) {
        if let Some(breaker) = &self.breaker {
            breaker.began(&self.destination.limits, at);
        }
    }

    /// One more, whatever the limit.
    #[must_use]
    pub fn force(&self, what: Limit) -> Option<Permit> {
        self.breaker.as_ref().map(|breaker| breaker.force(what))
    }

    /// What came of a try at an endpoint.
    pub fn note(&self, endpoint: &Arc<EndpointState>, result: TryResult) {
        let (Some(rule), Some(watch)) = (&self.destination.outlier, &self.outliers) else { return };
        if let Some(cause) = endpoint.note(rule, result) {
            let report =
                OutlierReport { key: Arc::clone(&self.destination.key), endpoint: Arc::clone(endpoint), cause };
            // Nobody keeps them any more: the process ends.
            let _ = watch.reports.send(report);
        }
    }

    /// The key of a connection of bytes: it has nothing else to be known by.
    #[must_use]
    pub fn key_of_client(&self, client: IpAddr) -> Option<u64> {
        (self.destination.balancing.key() == Some(&HashKey::SourceIp)).then(|| hash_address(client))
    }

    /// Where another try goes that need not stay near (`retryRemoteLocalities`): after each two tries to where none was before.
    /// `tried`: the endpoints so far; those in `avoid` are taken only if there is no other. None: as ever.
    #[must_use]
    pub fn pick_elsewhere(&self, tried: &[SocketAddr], avoid: &[SocketAddr]) -> Option<Arc<EndpointState>> {
        let past =
            tried.get(..tried.len() / TRIES_IN_ONE_PLACE * TRIES_IN_ONE_PLACE).filter(|past| !past.is_empty())?;
        if !self.destination.reach.needs_endpoints() {
            return None;
        }
        let set = self.endpoints.load();
        self.balancer.pick_elsewhere(&set, past, avoid, &mut |below| fastrand::u32(..below.max(1)))
    }

    /// Where a connection or a request goes, if anywhere. `original`: where the client of a redirected connection was going;
    /// `key`: hash of what a destination that hashes looks at; those in `avoid` are taken only if there is no other.
    #[must_use]
    pub fn pick(
        &self,
        original: Option<SocketAddr>,
        key: Option<u64>,
        avoid: &[SocketAddr],
    ) -> Option<Arc<EndpointState>> {
        let set = self.endpoints.load();
        match self.destination.reach {
            Reach::Original => return original.map(|original| known_or_not(&set, original)),
            Reach::OwnWorkload => return original.map(unknown_endpoint),
            Reach::OwnPort(port) => {
                return original.map(|original| unknown_endpoint(SocketAddr::new(original.ip(), port)));
            }
            Reach::Addressed => {
                let addressed = |state: &&Arc<EndpointState>| Some(state.address) == original;
                if let Some(found) = set.iter().find(addressed).filter(|state| !avoid.contains(&state.address)) {
                    return Some(Arc::clone(found));
                }
            }
            // See `find`.
            Reach::Named(_) => return None,
            Reach::Discovered => {}
        }
        self.balancer.pick(&set, key, avoid, &mut |below| fastrand::u32(..below.max(1)))
    }
}

/// How often an endpoint is asked in one place before another place is looked for (Envoy's `update_frequency`, as Istio has it).
const TRIES_IN_ONE_PLACE: usize = 2;

fn known_or_not(set: &EndpointSet, address: SocketAddr) -> Arc<EndpointState> {
    let known = set.iter().find(|state| state.address == address);
    known.map_or_else(|| unknown_endpoint(address), Arc::clone)
}

/// The address of an endpoint, which a Unix socket has none of.
pub(crate) fn ip_address(endpoint: &EndpointState) -> Option<SocketAddr> {
    (!matches!(endpoint.endpoint.address, EndpointAddress::Unix(_))).then_some(endpoint.address)
}

/// Nothing is known of it but its address.
pub(crate) fn unknown_endpoint(address: SocketAddr) -> Arc<EndpointState> {
    let endpoint = Endpoint {
        address: EndpointAddress::Socket(address),
        weight: 1,
        locality: Arc::default(),
        workload: None,
        mtls: false,
        priority_labels: None,
    };
    Arc::new(EndpointState::new(endpoint, address))
}

/// Everything that changes while the gateway runs.
#[derive(Default)]
pub struct Cells {
    pub live: ArcSwap<Live>,
    pub certificates: ArcSwap<CertificateTable>,
    /// Who this proxy is in the mesh.
    pub workload: Arc<WorkloadCell>,
    /// For connections that come from now on.
    pub topology: ArcSwap<Topology>,
    /// What the tables lack.
    pub demand: Arc<Demand>,
    /// What a CA is shown that looks whether a name is served here. Who orders writes it.
    pub challenges: Arc<Challenges>,
    /// Whether there is a limit of which shares are lent. The store says so.
    pub shares_wanted: watch::Sender<bool>,
}
