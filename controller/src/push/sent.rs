//! How much proxies were sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh_core::wire::Kind;
use mesh_core::wire::proto::DeltaDiscoveryResponse;

/// Responses (one in parts is one) and the resources in them, by kind. A proxy that comes back with what it has costs few.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<[(AtomicU64, AtomicU64); Kind::ALL.len()]>);

impl Sent {
    pub(super) fn count(&self, response: &DeltaDiscoveryResponse) {
        let kind = Kind::from_type_url(&response.type_url);
        if let Some((responses, resources)) = kind.and_then(|kind| self.0.get(kind as usize)) {
            responses.fetch_add(u64::from(!response.continues), Ordering::Relaxed);
            resources.fetch_add(response.resources.len() as u64, Ordering::Relaxed);
        }
    }

    /// Kind, responses, resources.
    pub fn all(&self) -> impl Iterator<Item = (Kind, u64, u64)> + '_ {
        Kind::ALL.into_iter().zip(self.0.iter()).map(|(kind, (responses, resources))| {
            (kind, responses.load(Ordering::Relaxed), resources.load(Ordering::Relaxed))
        })
    }
}
