//! Endpoints and what is counted for each of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::hash::Table;
use super::outlier::{Cause, Streaks, TryResult, readmit};
use crate::model::{Destination, Endpoint, HashTable, OutlierDetection};

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

    /// Requests in flight per unit of weight, scaled.
    pub(super) fn load(&self) -> u64 {
        (u64::from(self.active()) << u32::BITS) / u64::from(self.endpoint.weight.max(1))
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

/// What of a destination its set of endpoints is made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub table: Option<HashTable>,
    /// Outlier detection's: below that share even those that are out get requests.
    pub min_health_percent: u32,
}

impl Shape {
    #[must_use]
    pub fn of(destination: &Destination) -> Shape {
        let outlier = destination.outlier.as_ref();
        Shape {
            table: destination.balancing.table(),
            min_health_percent: outlier.map_or(0, |outlier| outlier.min_health_percent),
        }
    }
}

/// The endpoints of one destination. Immutable; replaced as a whole.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// Those that may get requests.
    pub(super) states: Box<[Arc<EndpointState>]>,
    /// The others.
    out: Box<[Arc<EndpointState>]>,
    /// Running sums of the weights, where they differ; else empty.
    pub(super) sums: Box<[u32]>,
    pub(super) total: u32,
    /// Where keys lead to endpoints; made for destinations that ask for it.
    pub(super) table: Option<Table>,
}

impl EndpointSet {
    /// An endpoint whose address and description are those of `previous` keeps its state; one whose address is known is in or
    /// out as before. An address that is given twice counts once, with its first description.
    pub fn build(endpoints: &[(Endpoint, SocketAddr)], previous: Option<&EndpointSet>, shape: Shape) -> EndpointSet {
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
                    Arc::new(state)
                }
            })
            .collect();
        EndpointSet::shaped(states, shape)
    }

    /// The same endpoints, after some of them were put in or out, or in another shape.
    #[must_use]
    pub fn reshaped(&self, shape: Shape) -> EndpointSet {
        EndpointSet::shaped(self.iter().cloned().collect(), shape)
    }

    fn shaped(states: Vec<Arc<EndpointState>>, shape: Shape) -> EndpointSet {
        let all = states.len();
        let (states, out): (Vec<_>, Vec<_>) = match states.iter().any(|state| state.is_ejected()) {
            true => states.into_iter().partition(|state| !state.is_ejected()),
            false => (states, Vec::new()),
        };
        let panics = (states.len() as u64) * 100 < u64::from(shape.min_health_percent) * all as u64;
        let (states, out) = if panics { (states.into_iter().chain(out).collect(), Vec::new()) } else { (states, out) };
        let set = EndpointSet { out: out.into(), ..EndpointSet::weigh(states.into()) };
        let table = shape.table.map(|kind| Table::build(kind, &set.states));
        EndpointSet { table, ..set }
    }

    /// Puts these back in, for the set that is made next.
    pub fn readmit(&self, addresses: &[SocketAddr]) {
        self.iter().filter(|state| addresses.contains(&state.address)).for_each(|state| readmit(state));
    }

    fn weigh(states: Box<[Arc<EndpointState>]>) -> EndpointSet {
        let weight = |state: &Arc<EndpointState>| u64::from(state.endpoint.weight.max(1));
        let equal = states.windows(2).all(|pair| match pair {
            [a, b] => weight(a) == weight(b),
            _ => true,
        });
        if equal {
            let total = u32::try_from(states.len()).unwrap_or(u32::MAX);
            return EndpointSet { states, total, ..EndpointSet::default() };
        }
        let sum: u64 = states.iter().map(weight).sum();
        // Beyond 32 bits the weights lose their lowest bits, but none becomes zero.
        let shift = (u64::BITS - sum.leading_zeros()).saturating_sub(u32::BITS - 1);
        let mut total = 0_u32;
        let sums = states
            .iter()
            .map(|state| {
                let weight = u32::try_from((weight(state) >> shift).max(1)).unwrap_or(u32::MAX);
                total = total.saturating_add(weight);
                total
            })
            .collect();
        EndpointSet { states, sums, total, ..EndpointSet::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In and out.
    pub fn len(&self) -> usize {
        self.states.len() + self.out.len()
    }

    /// In and out.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<EndpointState>> {
        self.states.iter().chain(&self.out)
    }

    /// The endpoint that holds the ticket, which is below `total`.
    pub(super) fn at(&self, ticket: u32) -> Option<&Arc<EndpointState>> {
        if self.sums.is_empty() {
            return self.states.get(ticket as usize);
        }
        self.states.get(self.sums.partition_point(|sum| *sum <= ticket))
    }
}
