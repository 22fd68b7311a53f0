//! The endpoints of one destination: made when what is known of them changes, when outlier detection puts one of them in or
//! out, and now and then while one is warmed up. Readers look into the set; only `store` writes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mesh_core::lb::{Breaker, Ejections, EndpointSet, Shape};
use mesh_core::model::{Destination, Endpoint, Endpoints, OutlierDetection, Place};

use crate::live::OutlierReport;

/// See the module. There are thousands, and most of them need no more than the set.
#[derive(Default)]
pub struct Cell {
    /// What the set was made from.
    pub from: Option<Arc<Endpoints>>,
    pub set: Arc<ArcSwap<EndpointSet>>,
    /// None: the simplest one.
    shape: Option<Box<Shape>>,
    outlier: Option<Box<Outlier>>,
    breaker: Option<Arc<Breaker>>,
}

/// Of destinations with outlier detection.
#[derive(Default)]
struct Outlier {
    /// None any more.
    rule: Option<OutlierDetection>,
    ejections: Ejections,
    /// So often an endpoint was put out.
    ejected: Arc<AtomicU64>,
}

impl Cell {
    pub fn new(destination: &Destination, place: &Place) -> Cell {
        let mut cell = Cell::default();
        cell.set_shape(Shape::of(destination, place));
        cell.set_rule(destination.outlier.as_deref());
        cell
    }

    fn shape(&self) -> Cow<'_, Shape> {
        self.shape.as_deref().map_or_else(|| Cow::Owned(Shape::default()), Cow::Borrowed)
    }

    fn set_shape(&mut self, shape: Shape) {
        self.shape = (shape != Shape::default()).then(|| Box::new(shape));
    }

    fn rule(&self) -> Option<&OutlierDetection> {
        self.outlier.as_ref()?.rule.as_ref()
    }

    fn set_rule(&mut self, rule: Option<&OutlierDetection>) {
        match (&mut self.outlier, rule) {
            (Some(outlier), rule) => outlier.rule = rule.cloned(),
            (None, Some(rule)) => {
                self.outlier = Some(Box::new(Outlier { rule: Some(rule.clone()), ..Outlier::default() }));
            }
            (None, None) => {}
        }
    }

    /// How often an endpoint was put out; it goes on where the rule comes again.
    pub fn ejected(&mut self) -> Arc<AtomicU64> {
        Arc::clone(&self.outlier.get_or_insert_default().ejected)
    }

    /// What goes on, for those who count it; it goes on where the limits come again.
    pub fn breaker(&mut self) -> Arc<Breaker> {
        Arc::clone(self.breaker.get_or_insert_default())
    }

    /// Whether two versions of a destination make other sets of the same endpoints.
    pub fn is_shaped_alike(one: &Destination, other: &Destination) -> bool {
        let nowhere = Place::default();
        Shape::of(one, &nowhere) == Shape::of(other, &nowhere) && one.outlier == other.outlier
    }

    /// Takes over what the destination says now. True: as [`Self::put`].
    pub fn reshape(&mut self, destination: &Destination, place: &Place, apart: bool, now: Instant) -> bool {
        let shape = Shape::of(destination, place);
        if *self.shape() == shape && self.rule() == destination.outlier.as_deref() {
            return false;
        }
        self.set_shape(shape);
        self.set_rule(destination.outlier.as_deref());
        if let Some(outlier) = self.outlier.as_mut().filter(|outlier| outlier.rule.is_none()) {
            let all: Vec<SocketAddr> = self.set.load().iter().map(|state| state.address).collect();
            self.set.load().readmit(&all);
            outlier.ejections = Ejections::default();
        }
        let new = self.set.load().reshaped(&self.shape(), now);
        self.replace(new, apart)
    }

    /// The proxy is somewhere else than it was thought to be.
    pub fn move_to(&mut self, place: &Place, now: Instant) {
        if let Some(shape) = self.shape.as_mut().filter(|shape| shape.locality.is_some() && shape.place != *place) {
            shape.place = place.clone();
            let new = self.set.load().reshaped(shape, now);
            self.replace(new, false);
        }
    }

    /// When to [`Self::look`].
    pub fn due(&self) -> Option<Instant> {
        self.next_ejection().into_iter().chain(self.set.load().due()).min()
    }

    fn next_ejection(&self) -> Option<Instant> {
        self.outlier.as_ref()?.ejections.next_look()
    }

    /// `apart`: those who look into the set now do not see the change.
    /// True: it is in a set of its own, into which nobody looks yet.
    pub fn put(&mut self, addresses: &[(Endpoint, SocketAddr)], apart: bool, now: Instant) -> bool {
        let previous = self.set.load_full();
        let new = EndpointSet::build(addresses, Some(&previous), &self.shape(), now);
        if new.iter().map(Arc::as_ptr).eq(previous.iter().map(Arc::as_ptr)) {
            return false;
        }
        if let Some(outlier) = self.outlier.as_mut().filter(|outlier| outlier.ejections.next_look().is_some()) {
            let there: HashSet<SocketAddr> = new.iter().map(|state| state.address).collect();
            outlier.ejections.retain(|address| there.contains(address));
        }
        self.replace(new, apart)
    }

    /// The destination is served with this set again.
    pub fn take_back(&mut self, destination: &Destination, place: &Place, set: &Arc<ArcSwap<EndpointSet>>) {
        self.from = None;
        self.set = Arc::clone(set);
        self.set_shape(Shape::of(destination, place));
        self.set_rule(destination.outlier.as_deref());
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
        let outlier = self.outlier.as_mut()?;
        let rule = outlier.rule.as_ref()?;
        let set = self.set.load_full();
        // One that is not in any more, or another at its address, is nobody's concern.
        let endpoint = set.iter().find(|state| state.address == report.endpoint.address)?;
        let OutlierReport { key, cause, .. } = report;
        let Some(lasts) = outlier.ejections.eject(rule, endpoint, set.len(), now) else {
            tracing::debug!(%key, endpoint = %endpoint.address, cause = cause.as_str(), "an endpoint fails, and stays in: too many are out");
            return None;
        };
        outlier.ejected.fetch_add(1, Ordering::Relaxed);
        let seconds = Duration::as_secs(&lasts);
        tracing::warn!(%key, endpoint = %endpoint.address, cause = cause.as_str(), seconds, "an endpoint that fails is left out");
        let new = set.reshaped(&self.shape(), now);
        self.replace(new, false);
        self.next_ejection()
    }

    /// Lets those back in whose time has come, and gives those more that are warmed up. When to look again.
    pub fn look(&mut self, key: &str, now: Instant) -> Option<Instant> {
        let look = |outlier: &mut Box<Outlier>| Some(outlier.ejections.look(outlier.rule.as_ref()?, now));
        let back = self.outlier.as_mut().and_then(look).unwrap_or_default();
        let set = self.set.load_full();
        if !back.is_empty() {
            tracing::info!(%key, endpoints = ?back, "endpoints that were left out are tried again");
            set.readmit(&back);
        }
        if !back.is_empty() || set.due().is_some_and(|due| due <= now) {
            let new = set.reshaped(&self.shape(), now);
            self.replace(new, false);
        }
        self.due()
    }
}
