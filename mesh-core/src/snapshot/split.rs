//! Sharing out requests by weight.

use super::{CompiledForward, CompiledSplit};
use crate::model::{OutboundTcp, TcpRoute, WeightedDestination};

impl CompiledForward {
    /// One of the splits, in proportion to the weights. `random` is asked only where there is a choice. None only if
    /// there is no split at all, which translation never yields.
    pub(crate) fn choose(&self, random: &mut dyn FnMut(u32) -> u32) -> Option<&CompiledSplit> {
        if let [only] = self.splits.as_slice() {
            return Some(only);
        }
        let mut ticket = if self.total_weight == 0 { 0 } else { random(self.total_weight) };
        for split in &self.splits {
            match ticket.checked_sub(split.weight) {
                Some(rest) => ticket = rest,
                None => return Some(split),
            }
        }
        self.splits.last()
    }
}

impl OutboundTcp {
    /// See [`TcpRoute::choose`].
    pub fn choose(&self, random: &mut dyn FnMut(u32) -> u32) -> Option<&WeightedDestination> {
        weighted(&self.destinations, random)
    }
}

impl TcpRoute {
    /// One of the destinations, in proportion to the weights; `random` yields a number below its argument. None only if there
    /// is none at all, which translation never yields.
    pub fn choose(&self, random: &mut dyn FnMut(u32) -> u32) -> Option<&WeightedDestination> {
        weighted(&self.destinations, random)
    }
}

fn weighted<'d>(all: &'d [WeightedDestination], random: &mut dyn FnMut(u32) -> u32) -> Option<&'d WeightedDestination> {
    if let [only] = all {
        return Some(only);
    }
    let total = all.iter().fold(0_u32, |sum, one| sum.saturating_add(one.weight));
    let mut ticket = if total == 0 { 0 } else { random(total) };
    for destination in all {
        match ticket.checked_sub(destination.weight) {
            Some(rest) => ticket = rest,
            None => return Some(destination),
        }
    }
    all.last()
}
