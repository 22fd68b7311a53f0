//! The cells that readers use: the tables with the live state of their clusters, and the certificates. Readers load a
//! cell once per request; only `store` writes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use http::HeaderName;
use mesh_core::lb::{
    Balancer, Breaker, Cause, EndpointSet, EndpointState, Limit, Overflow, Permit, TryResult, hash_address,
};
use mesh_core::model::{
    Balancing, Destination, Endpoint, EndpointAddress, HashKey, Hashing, Key, Reach, TokenRule, Topology,
};
use mesh_core::snapshot::Snapshot;
use tokio::sync::mpsc::UnboundedSender;

use crate::demand::Demand;
use crate::tls::certs::CertificateTable;
use crate::tls::origination::OriginationCell;
use crate::tls::workload::WorkloadCell;
use crate::upstream::KeyCell;

/// One generation of the tables and the clusters that its indices mean. A request keeps one through its retries.
#[derive(Default)]
pub struct Live {
    pub snapshot: Arc<Snapshot>,
    /// Same order as `snapshot.clusters`.
    pub clusters: Vec<Arc<LiveCluster>>,
    pub tokens: TokenRules,
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

impl LiveCluster {
    /// Room for one more, where it is limited; kept until the permit is dropped.
    pub fn enter(&self, what: Limit) -> Result<Option<Permit>, Overflow> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        breaker.enter(what, &self.destination.limits).map(Some)
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
        match &self.destination.balancing {
            Balancing::Hash(Hashing { key: Some(HashKey::SourceIp), .. }) => Some(hash_address(client)),
            _ => None,
        }
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
            Reach::Original | Reach::OwnWorkload => return original.map(unknown_endpoint),
            Reach::OwnPort(port) => {
                return original.map(|original| unknown_endpoint(SocketAddr::new(original.ip(), port)));
            }
            Reach::Addressed => {
                let addressed = |state: &&Arc<EndpointState>| Some(state.address) == original;
                if let Some(found) = set.iter().find(addressed).filter(|state| !avoid.contains(&state.address)) {
                    return Some(Arc::clone(found));
                }
            }
            Reach::Discovered => {}
        }
        self.balancer.pick(&set, key, avoid, &mut |below| fastrand::u32(..below.max(1)))
    }
}

/// Nothing is known of it but its address.
pub(crate) fn unknown_endpoint(address: SocketAddr) -> Arc<EndpointState> {
    let endpoint = Endpoint {
        address: EndpointAddress::Socket(address),
        weight: 1,
        locality: Arc::default(),
        workload: None,
        mtls: false,
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
}
