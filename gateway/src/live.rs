//! The cells that readers use: the tables with the live state of their clusters, and the certificates. Readers load a
//! cell once per request; only `store` writes.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderName;
use mesh_core::lb::{Balancer, EndpointSet, EndpointState};
use mesh_core::model::{Destination, Endpoint, EndpointAddress, Reach, TokenRule, Topology};
use mesh_core::snapshot::Snapshot;

use crate::demand::Demand;
use crate::tls::certs::CertificateTable;
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
    /// For pools: the same as long as connections may be shared, that is for one key and protocol; never reused.
    pub id: u64,
}

impl LiveCluster {
    /// Where a connection or a request goes, if anywhere. `original`: where the client of a redirected connection was going;
    /// those in `avoid` are taken only if there is no other.
    #[must_use]
    pub fn pick(&self, original: Option<SocketAddr>, avoid: &[SocketAddr]) -> Option<Arc<EndpointState>> {
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
        self.balancer.pick(&set, avoid, &mut |below| fastrand::u32(..below.max(1)))
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
