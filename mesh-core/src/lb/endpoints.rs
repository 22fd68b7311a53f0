//! Endpoints and what is counted for each of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::groups::{Division, Groups, divide};
use super::load::{self, Load};
use super::outlier::{Cause, Streaks, TryResult, readmit};
use super::pool::Pool;
use super::tiers::Tiers;
use crate::model::{
    Balancing, Destination, Endpoint, HashTable, LocalityRule, OutlierDetection, Place, Utilization, Warmup,
};

/// One endpoint at one address. It survives swaps as long as nothing about it changes, so its counts stay true.
#[derive(Debug)]
pub struct EndpointState {
    pub endpoint: Endpoint,
    /// Resolved.
    pub address: SocketAddr,
    /// Requests in flight.
    pub active: AtomicU32,
    /// Requests that it ever got.
    pub total: AtomicU64,
    pub(super) streaks: Streaks,
    /// Outlier detection has it left out.
    pub(super) ejected: AtomicBool,
    /// What it says of its load, where that counts.
    pub(super) load: OnceLock<Arc<Load>>,
    /// Since when it is there, where new ones are warmed up.
    since: Option<Instant>,
}

impl EndpointState {
    pub fn new(endpoint: Endpoint, address: SocketAddr) -> EndpointState {
        EndpointState {
            endpoint,
            address,
            active: AtomicU32::new(0),
            total: AtomicU64::new(0),
            streaks: Streaks::default(),
            ejected: AtomicBool::new(false),
            load: OnceLock::new(),
            since: None,
        }
    }

    /// Counts what came of a try. Some: it should be decided whether the endpoint stays in.
    pub fn note(&self, rule: &OutlierDetection, result: TryResult) -> Option<Cause> {
        self.streaks.note(rule, result)
    }

    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Counts a request as in flight until the guard is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> ActiveGuard {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
        ActiveGuard { state: self.clone() }
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct ActiveGuard {
    state: Arc<EndpointState>,
}

impl ActiveGuard {
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.state
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.state.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What its set of endpoints is made by, of a destination and of where the proxy is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub table: Option<HashTable>,
    /// Outlier detection's: below that share even those that are out get requests.
    pub min_health_percent: u32,
    pub locality: Option<Arc<LocalityRule>>,
    /// Nowhere, if that does not count.
    pub place: Place,
    pub warmup: Option<Warmup>,
    /// Weights are those that endpoints report.
    pub utilization: Option<Box<Utilization>>,
}

impl Shape {
    #[must_use]
    pub fn of(destination: &Destination, place: &Place) -> Shape {
        let outlier = destination.outlier.as_ref();
        Shape {
            table: destination.balancing.table(),
            min_health_percent: outlier.map_or(0, |outlier| outlier.min_health_percent),
            locality: destination.locality.clone(),
            place: destination.locality.as_ref().map_or_else(Place::default, |_| place.clone()),
            warmup: destination.warmup,
            utilization: match &destination.balancing {
                Balancing::BackendUtilization(rule) => Some(rule.clone()),
                _ => None,
            },
        }
    }
}

/// The endpoints of one destination. Immutable; replaced as a whole.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// Those that get requests, unless there are groups of them.
    pub(super) pool: Pool,
    pub(super) groups: Option<Box<Groups>>,
    /// Those that get none now.
    rest: Box<[Arc<EndpointState>]>,
    /// Those that are none of the destination's for this proxy.
    aside: Box<[Arc<EndpointState>]>,
    /// All of the destination's, for tries that go elsewhere.
    pub(super) tiers: Option<Box<Tiers>>,
    /// When the set is to be made anew, for some of it is new, or weights change by themselves.
    due: Option<Instant>,
}

impl EndpointSet {
    /// An endpoint whose address and description are those of `previous` keeps its state; one whose address is known is in or
    /// out as before. An address that is given twice counts once, with its first description.
    pub fn build(
        endpoints: &[(Endpoint, SocketAddr)],
        previous: Option<&EndpointSet>,
        shape: &Shape,
        now: Instant,
    ) -> EndpointSet {
        let old: HashMap<SocketAddr, &Arc<EndpointState>> =
            previous.iter().flat_map(|set| set.iter()).map(|state| (state.address, state)).collect();
        let mut seen = std::collections::HashSet::with_capacity(endpoints.len());
        let states = endpoints
            .iter()
            .filter(|(_, address)| seen.insert(*address))
            .map(|(endpoint, address)| match old.get(address) {
                Some(state) if state.endpoint == *endpoint => (*state).clone(),
                known => {
                    let state = EndpointState::new(endpoint.clone(), *address);
                    state.ejected.store(known.is_some_and(|known| known.is_ejected()), Ordering::Relaxed);
                    let since = known.map_or(shape.warmup.map(|_| now), |known| known.since);
                    let load = known.map(|known| known.load.clone()).unwrap_or_default();
                    Arc::new(EndpointState { since, load, ..state })
                }
            })
            .collect();
        EndpointSet::shaped(states, shape, now)
    }

    /// The same endpoints, after some of them were put in or out, or in another shape, or at another time.
    #[must_use]
    pub fn reshaped(&self, shape: &Shape, now: Instant) -> EndpointSet {
        EndpointSet::shaped(self.iter().cloned().collect(), shape, now)
    }

    fn shaped(states: Vec<Arc<EndpointState>>, shape: &Shape, now: Instant) -> EndpointSet {
        let youngest = states.iter().filter_map(|state| state.since).max();
        let warmup =
            shape.warmup.zip(youngest).and_then(|(warmup, youngest)| Some((warmup, warmup.next(youngest, now)?)));
        let utilization = shape.utilization.as_deref().filter(|_| states.len() > 1);
        let usual = utilization.map(|rule| load::settle(&states, rule, now));
        let pool = |states| match (usual, warmup) {
            (Some(usual), _) => Pool::by(states, |state| load::whole(state.load_weight().unwrap_or(usual))),
            (None, None) => Pool::new(states, shape.table),
            (None, Some((warmup, _))) => Pool::scaled(states, |state| {
                state.since.map_or(1.0, |since| warmup.part(now.saturating_duration_since(since)))
            }),
        };
        let due = utilization.map(|rule| rule.next(now)).or(warmup.map(|(_, next)| next));
        if let Some(rule) = &shape.locality {
            let Division { pool, groups, rest, aside, tiers } = divide(states, rule, shape, pool);
            let (groups, tiers) = (groups.map(Box::new), tiers.map(Box::new));
            return EndpointSet { pool, groups, rest: rest.into(), aside: aside.into(), tiers, due };
        }
        let all = states.len();
        let (states, out): (Vec<_>, Vec<_>) = match states.iter().any(|state| state.is_ejected()) {
            true => states.into_iter().partition(|state| !state.is_ejected()),
            false => (states, Vec::new()),
        };
        let panics = (states.len() as u64) * 100 < u64::from(shape.min_health_percent) * all as u64;
        let (states, out) = if panics { (states.into_iter().chain(out).collect(), Vec::new()) } else { (states, out) };
        EndpointSet { pool: pool(states), rest: out.into(), due, ..EndpointSet::default() }
    }

    /// Puts these back in, for the set that is made next.
    pub fn readmit(&self, addresses: &[SocketAddr]) {
        self.iter().filter(|state| addresses.contains(&state.address)).for_each(|state| readmit(state));
    }

    /// When it is to be made anew without any other reason.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Of the destination for this proxy, whether they get requests or not.
    pub fn len(&self) -> usize {
        self.iter().count() - self.aside.len()
    }

    /// All that is known, each with the part of the requests that it gets by weight and locality.
    pub fn shares(&self) -> impl Iterator<Item = (&Arc<EndpointState>, f64)> {
        let grouped = self.groups.iter().flat_map(|groups| groups.shares());
        let pools = std::iter::once((&self.pool, 1.0)).chain(grouped);
        let none = self.rest.iter().chain(&self.aside).map(|state| (state, 0.0));
        pools.flat_map(|(pool, part)| pool.shares().map(move |(state, own)| (state, part * own))).chain(none)
    }

    /// All that is known.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<EndpointState>> {
        let grouped = self.groups.iter().flat_map(|groups| groups.pools.iter()).flat_map(|pool| pool.states.iter());
        self.pool.states.iter().chain(grouped).chain(&self.rest).chain(&self.aside)
    }
}
