//! Endpoints and what is counted for each of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::model::Endpoint;

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
}

impl EndpointState {
    pub fn new(endpoint: Endpoint, address: SocketAddr) -> EndpointState {
        EndpointState { endpoint, address, active: AtomicU32::new(0), total: AtomicU64::new(0) }
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

/// The endpoints of one destination that may get requests. Immutable; replaced as a whole.
#[derive(Debug, Default)]
pub struct EndpointSet {
    pub(super) states: Box<[Arc<EndpointState>]>,
    /// Running sums of the weights, where they differ; else empty.
    pub(super) sums: Box<[u32]>,
    pub(super) total: u32,
}

impl EndpointSet {
    /// An endpoint whose address and description are those of `previous` keeps its state. An address that is given
    /// twice counts once, with its first description.
    pub fn build(endpoints: &[(Endpoint, SocketAddr)], previous: Option<&EndpointSet>) -> EndpointSet {
        let old: HashMap<SocketAddr, &Arc<EndpointState>> =
            previous.iter().flat_map(|set| set.states.iter()).map(|state| (state.address, state)).collect();
        let mut seen = std::collections::HashSet::with_capacity(endpoints.len());
        let states: Box<[Arc<EndpointState>]> = endpoints
            .iter()
            .filter(|(_, address)| seen.insert(*address))
            .map(|(endpoint, address)| match old.get(address) {
                Some(state) if state.endpoint == *endpoint => (*state).clone(),
                _ => Arc::new(EndpointState::new(endpoint.clone(), *address)),
            })
            .collect();
        EndpointSet::weigh(states)
    }

    fn weigh(states: Box<[Arc<EndpointState>]>) -> EndpointSet {
        let weight = |state: &Arc<EndpointState>| u64::from(state.endpoint.weight.max(1));
        let equal = states.windows(2).all(|pair| match pair {
            [a, b] => weight(a) == weight(b),
            _ => true,
        });
        if equal {
            let total = u32::try_from(states.len()).unwrap_or(u32::MAX);
            return EndpointSet { states, sums: Box::default(), total };
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
        EndpointSet { states, sums, total }
    }

    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    pub fn len(&self) -> usize {
        self.states.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<EndpointState>> {
        self.states.iter()
    }

    /// The endpoint that holds the ticket, which is below `total`.
    pub(super) fn at(&self, ticket: u32) -> Option<&Arc<EndpointState>> {
        if self.sums.is_empty() {
            return self.states.get(ticket as usize);
        }
        self.states.get(self.sums.partition_point(|sum| *sum <= ticket))
    }
}
