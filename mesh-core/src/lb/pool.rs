//! Endpoints among which one is picked by weight, or by the table of keys.

use std::sync::Arc;

use super::EndpointState;
use super::hash::Table;
use crate::model::HashTable;

/// Weights that are not whole count in steps of this part.
const FINE: f64 = 1024.0;

/// See the module. Immutable.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub states: Box<[Arc<EndpointState>]>,
    /// Running sums of the weights, where they differ; else empty.
    pub sums: Box<[u32]>,
    pub total: u32,
    /// Where keys lead to endpoints; made for destinations that ask for it.
    pub table: Option<Table>,
}

impl Pool {
    pub fn new(states: Vec<Arc<EndpointState>>, table: Option<HashTable>) -> Pool {
        let weights = states.iter().map(|state| u64::from(state.endpoint.weight.max(1))).collect();
        Pool::weighed(states, weights, table)
    }

    /// `part`: of its weight, that an endpoint has now.
    pub fn scaled(states: Vec<Arc<EndpointState>>, part: impl Fn(&EndpointState) -> f64) -> Pool {
        let parts: Vec<f64> = states.iter().map(|state| part(state)).collect();
        if parts.iter().all(|part| *part >= 1.0) {
            return Pool::new(states, None);
        }
        let scale = |(state, part): (&Arc<EndpointState>, &f64)| {
            let whole = f64::from(state.endpoint.weight.max(1)) * FINE;
            // Saturates.
            ((whole * part) as u64).max(1)
        };
        let weights = states.iter().zip(&parts).map(scale).collect();
        Pool::weighed(states, weights, None)
    }

    /// By weights that have nothing to do with their own.
    pub fn by(states: Vec<Arc<EndpointState>>, weight: impl Fn(&EndpointState) -> u64) -> Pool {
        let weights = states.iter().map(|state| weight(state)).collect();
        Pool::weighed(states, weights, None)
    }

    fn weighed(states: Vec<Arc<EndpointState>>, weights: Vec<u64>, table: Option<HashTable>) -> Pool {
        let table = table.map(|kind| Table::build(kind, &states));
        let states: Box<[_]> = states.into();
        let equal = weights.windows(2).all(|pair| matches!(pair, [a, b] if a == b));
        if equal {
            let total = u32::try_from(states.len()).unwrap_or(u32::MAX);
            return Pool { states, sums: Box::default(), total, table };
        }
        let sum = weights.iter().fold(0_u64, |sum, weight| sum.saturating_add(*weight));
        // Beyond 32 bits the weights lose their lowest bits, but none becomes zero.
        let shift = (u64::BITS - sum.leading_zeros()).saturating_sub(u32::BITS - 1);
        let mut total = 0_u32;
        let running = weights.into_iter().map(|weight| {
            total = total.saturating_add(u32::try_from((weight >> shift).max(1)).unwrap_or(u32::MAX));
            total
        });
        let sums = running.collect();
        Pool { states, sums, total, table }
    }

    /// Each endpoint with its part of the weights.
    pub fn shares(&self) -> impl Iterator<Item = (&Arc<EndpointState>, f64)> {
        let weight = |place: usize| match self.sums.get(place) {
            Some(sum) => sum - place.checked_sub(1).and_then(|place| self.sums.get(place)).unwrap_or(&0),
            None => 1,
        };
        let part = move |place| f64::from(weight(place)) / f64::from(self.total.max(1));
        self.states.iter().enumerate().map(move |(place, state)| (state, part(place)))
    }

    /// The place of the endpoint that holds the ticket, which is below `total`.
    pub fn place(&self, ticket: u32) -> usize {
        if self.sums.is_empty() {
            return ticket as usize;
        }
        self.sums.partition_point(|sum| *sum <= ticket)
    }

    /// The endpoint that holds the ticket.
    pub fn at(&self, ticket: u32) -> Option<&Arc<EndpointState>> {
        self.states.get(self.place(ticket))
    }

    /// Requests in flight per unit of weight, scaled. Where weights are equal they do not count.
    pub fn load(&self, place: usize, state: &EndpointState) -> u64 {
        let active = u64::from(state.active());
        let Some(sum) = self.sums.get(place) else { return active };
        let before = place.checked_sub(1).and_then(|place| self.sums.get(place)).copied().unwrap_or(0);
        (active << u32::BITS) / u64::from(sum.saturating_sub(before).max(1))
    }
}
