//! The endpoints of one destination: made when what is known of them changes, or when outlier detection puts one of them in or
//! out. Readers look into the set; only `store` writes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mesh_core::lb::{Breaker, Ejections, EndpointSet, Shape};
use mesh_core::model::{Destination, Endpoint, Endpoints, OutlierDetection};

use crate::live::OutlierReport;

/// See the module.
#[derive(Default)]
pub struct Cell {
    /// What the set was made from.
    pub from: Option<Arc<Endpoints>>,
    pub set: Arc<ArcSwap<EndpointSet>>,
    shape: Shape,
    rule: Option<OutlierDetection>,
    ejections: Ejections,
    /// So often an endpoint was put out.
    pub ejected: Arc<AtomicU64>,
    pub breaker: Arc<Breaker>,
}

impl Cell {
    pub fn new(destination: &Destination) -> Cell {
        Cell { shape: Shape::of(destination), rule: destination.outlier.clone(), ..Cell::default() }
    }

    /// Whether two versions of a destination make other sets of the same endpoints.
    pub fn is_shaped_alike(one: &Destination, other: &Destination) -> bool {
        Shape::of(one) == Shape::of(other) && one.outlier == other.outlier
    }

    /// Takes over what the destination says now. True: as [`Self::put`].
    pub fn reshape(&mut self, destination: &Destination, apart: bool) -> bool {
        let shape = Shape::of(destination);
        if self.shape == shape && self.rule == destination.outlier {
            return false;
        }
        (self.shape, self.rule) = (shape, destination.outlier.clone());
        if self.rule.is_none() {
            let all: Vec<SocketAddr> = self.set.load().iter().map(|state| state.address).collect();
            self.set.load().readmit(&all);
            self.ejections = Ejections::default();
        }
        let new = self.set.load().reshaped(self.shape);
        self.replace(new, apart)
    }

    /// `apart`: those who look into the set now do not see the change.
    /// True: it is in a set of its own, into which nobody looks yet.
    pub fn put(&mut self, addresses: &[(Endpoint, SocketAddr)], apart: bool) -> bool {
        let previous = self.set.load_full();
        let new = EndpointSet::build(addresses, Some(&previous), self.shape);
        if new.iter().map(Arc::as_ptr).eq(previous.iter().map(Arc::as_ptr)) {
            return false;
        }
        if self.ejections.next_look().is_some() {
            let there: HashSet<SocketAddr> = new.iter().map(|state| state.address).collect();
            self.ejections.retain(|address| there.contains(address));
        }
        self.replace(new, apart)
    }

    /// The destination is served with this set again.
    pub fn take_back(&mut self, destination: &Destination, set: &Arc<ArcSwap<EndpointSet>>) {
        self.from = None;
        self.set = Arc::clone(set);
        (self.shape, self.rule) = (Shape::of(destination), destination.outlier.clone());
    }

    fn replace(&mut self, new: EndpointSet, apart: bool) -> bool {
        if apart {
            self.set = Arc::new(ArcSwap::from_pointee(new));
        } else {
            self.set.store(Arc::new(new));
        }
        apart
    }

    /// Decides about an endpoint that failed too often. When the ejections are to be looked at, if it is out.
    pub fn decide(&mut self, report: &OutlierReport, now: Instant) -> Option<Instant> {
        let rule = self.rule.as_ref()?;
        let set = self.set.load_full();
        // One that is not in any more, or another at its address, is nobody's concern.
        let endpoint = set.iter().find(|state| state.address == report.endpoint.address)?;
        let OutlierReport { key, cause, .. } = report;
        let Some(lasts) = self.ejections.eject(rule, endpoint, set.len(), now) else {
            tracing::debug!(%key, endpoint = %endpoint.address, cause = cause.as_str(), "an endpoint fails, and stays in: too many are out");
            return None;
        };
        self.ejected.fetch_add(1, Ordering::Relaxed);
        let seconds = Duration::as_secs(&lasts);
        tracing::warn!(%key, endpoint = %endpoint.address, cause = cause.as_str(), seconds, "an endpoint that fails is left out");
        self.replace(set.reshaped(self.shape), false);
        self.ejections.next_look()
    }

    /// Lets those back in whose time has come. When to look again.
    pub fn look(&mut self, key: &str, now: Instant) -> Option<Instant> {
        let rule = self.rule.as_ref()?;
        let back = self.ejections.look(rule, now);
        if !back.is_empty() {
            tracing::info!(%key, endpoints = ?back, "endpoints that were left out are tried again");
            let set = self.set.load_full();
            set.readmit(&back);
            self.replace(set.reshaped(self.shape), false);
        }
        self.ejections.next_look()
    }
}
