//! Endpoints by how near they are, for tries that are to go elsewhere than those before. What a pick without that needs is in `groups`.

use std::net::SocketAddr;
use std::sync::Arc;

use super::EndpointState;
use super::groups::{Count, loads};
use super::pool::Pool;

/// Endpoints of one priority.
#[derive(Debug)]
struct Tier {
    count: Count,
    /// Those that are in.
    pool: Pool,
    out: Box<[Arc<EndpointState>]>,
}

/// The nearest first; two or more.
#[derive(Debug)]
pub(super) struct Tiers {
    tiers: Box<[Tier]>,
    min_health_percent: u32,
}

impl Tiers {
    /// None: all are equally near.
    pub fn new(levels: Vec<Vec<Arc<EndpointState>>>, min_health_percent: u32) -> Option<Tiers> {
        if levels.len() < 2 {
            return None;
        }
        let tiers = levels.into_iter().map(|states| {
            let count = Count::of(&states);
            let (healthy, out): (Vec<_>, Vec<_>) = states.into_iter().partition(|state| !state.is_ejected());
            Tier { count, pool: Pool::new(healthy, None), out: out.into() }
        });
        Some(Tiers { tiers: tiers.collect(), min_health_percent })
    }

    /// Those of one priority that had none of these tries; of several what they can take counts, as ever. None: there is no such
    /// priority, or nobody in it is well.
    pub fn beyond(&self, tried: &[SocketAddr], random: &mut dyn FnMut(u32) -> u32) -> Option<&Pool> {
        let was_tried = |tier: &Tier| tier.pool.states.iter().chain(&tier.out).any(|one| tried.contains(&one.address));
        let open: Vec<&Tier> = self.tiers.iter().filter(|tier| !was_tried(tier)).collect();
        let counts: Vec<Count> = open.iter().map(|tier| tier.count).collect();
        let (loads, _) = loads(&counts, self.min_health_percent);
        let mut ticket = random(loads.iter().sum::<u32>().max(1));
        let chosen = open.iter().zip(loads).find(|(_, load)| match ticket.checked_sub(*load) {
            Some(left) => {
                ticket = left;
                false
            }
            None => true,
        });
        chosen.map(|(tier, _)| &tier.pool).filter(|pool| !pool.states.is_empty())
    }
}
