use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Balancer, EndpointSet, Shape};
use crate::model::{Balancing, Endpoint, EndpointAddress, Warmup};

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn endpoint(number: u8, weight: u32) -> (Endpoint, SocketAddr) {
    let address = address(number);
    (
        Endpoint {
            address: EndpointAddress::Socket(address),
            weight,
            locality: "".into(),
            workload: None,
            mtls: false,
            priority_labels: None,
        },
        address,
    )
}

fn weighted(weights: &[u32]) -> EndpointSet {
    let endpoints: Vec<_> = weights.iter().zip(0..).map(|(weight, number)| endpoint(number, *weight)).collect();
    EndpointSet::build(&endpoints, None, &Shape::default(), Instant::now())
}

const POLICIES: [Balancing; 3] = [Balancing::LeastRequest, Balancing::RoundRobin, Balancing::Random];

fn counts(balancer: &Balancer, set: &EndpointSet, picks: u32, seed: u64) -> HashMap<SocketAddr, u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counts = HashMap::new();
    for _ in 0..picks {
        let state = balancer.pick(set, None, &[], &mut |below| random.u32(..below)).unwrap();
        *counts.entry(state.address).or_default() += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn weights_are_respected(weights in proptest::collection::vec(1_u32..20, 1..12), seed in any::<u64>()) {
        let set = weighted(&weights);
        let sum: u32 = weights.iter().sum();
        for policy in POLICIES {
            let counts = counts(&Balancer::new(policy.clone()), &set, 20_000, seed);
            for (number, weight) in weights.iter().enumerate() {
                let share = f64::from(counts.get(&address(number as u8)).copied().unwrap_or(0)) / 20_000.0;
                let wanted = f64::from(*weight) / f64::from(sum);
                prop_assert!((share - wanted).abs() < 0.02, "{policy:?} {weights:?}: {number} got {share}");
            }
        }
    }

    #[test]
    fn the_avoided_is_picked_only_alone(
        count in 1_u8..8, avoided in proptest::collection::btree_set(0_u8..8, 0..8), seed in any::<u64>(),
        heavy in any::<bool>(),
    ) {
        let set = weighted(&(0..count).map(|number| if heavy { 1 + u32::from(number == 0) * 1000 } else { 1 }).collect::<Vec<_>>());
        let avoid: Vec<SocketAddr> = avoided.iter().map(|number| address(*number)).collect();
        let other = (0..count).any(|number| !avoided.contains(&number));
        let mut random = fastrand::Rng::with_seed(seed);
        for policy in POLICIES {
            let balancer = Balancer::new(policy);
            for _ in 0..50 {
                let state = balancer.pick(&set, None, &avoid, &mut |below| random.u32(..below)).unwrap();
                prop_assert!(!other || !avoid.contains(&state.address));
            }
        }
    }
}

#[test]
fn round_robin_takes_turns() {
    let set = weighted(&[1, 1, 1]);
    let balancer = Balancer::new(Balancing::RoundRobin);
    let turns: Vec<_> = (0..6).map(|_| balancer.pick(&set, None, &[], &mut |_| 0).unwrap().address).collect();
    let wanted: Vec<_> = [0, 1, 2, 0, 1, 2].map(address).into();
    assert_eq!(turns, wanted);
}

#[test]
fn least_request_prefers_the_less_loaded() {
    let set = weighted(&[1; 10]);
    let balancer = Balancer::new(Balancing::LeastRequest);
    let loaded = set.iter().next().unwrap().clone();
    let guards: Vec<_> = (0..100).map(|_| loaded.enter()).collect();
    // It is taken only against itself, which cannot be.
    assert_eq!(counts(&balancer, &set, 10_000, 1).get(&loaded.address), None);
    drop(guards);
    assert_eq!(loaded.active(), 0);
    assert!(counts(&balancer, &set, 10_000, 1).contains_key(&loaded.address));
}

/// Held requests spread almost evenly, far better than at random.
#[test]
fn least_request_evens_out() {
    let set = weighted(&[1; 20]);
    let balancer = Balancer::new(Balancing::LeastRequest);
    let mut random = fastrand::Rng::with_seed(7);
    let guards: Vec<_> =
        (0..2000).map(|_| balancer.pick(&set, None, &[], &mut |below| random.u32(..below)).unwrap().enter()).collect();
    let active: Vec<u32> = set.iter().map(|state| state.active()).collect();
    assert!(active.iter().max().unwrap() - active.iter().min().unwrap() <= 6);
    assert_eq!(guards.len(), 2000);
}

#[test]
fn what_did_not_change_keeps_its_counts() {
    let first =
        EndpointSet::build(&[endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)], None, &Shape::default(), Instant::now());
    let state =
        |set: &EndpointSet, number: u8| set.iter().find(|state| state.address == address(number)).unwrap().clone();
    let guard = state(&first, 1).enter();
    let second = EndpointSet::build(
        &[endpoint(2, 5), endpoint(1, 1), endpoint(4, 1), endpoint(1, 9)],
        Some(&first),
        &Shape::default(),
        Instant::now(),
    );
    assert_eq!(second.len(), 3, "an address counts once");
    assert!(Arc::ptr_eq(&state(&first, 1), &state(&second, 1)));
    assert_eq!(state(&second, 1).active(), 1);
    assert!(!Arc::ptr_eq(&state(&first, 2), &state(&second, 2)), "another weight");
    drop(guard);
    assert_eq!(state(&second, 1).active(), 0);
}

#[test]
fn an_empty_set_has_nothing() {
    for policy in POLICIES {
        assert!(Balancer::new(policy).pick(&EndpointSet::default(), None, &[], &mut |_| 0).is_none());
    }
}

#[test]
fn huge_weights_do_not_overflow() {
    let set = weighted(&[u32::MAX, u32::MAX, u32::MAX, 1]);
    for policy in POLICIES {
        assert!(counts(&Balancer::new(policy), &set, 1000, 3).len() >= 3);
    }
}

/// Its age counts, whatever else changes; who was there before is not new.
#[test]
fn whoever_is_new_is_warmed_up() {
    let begin = Instant::now();
    let warmup = Warmup { window: Duration::from_secs(100), minimum: 1000, aggression: 1000 };
    let (cold, warm) = (Shape::default(), Shape { warmup: Some(warmup), ..Shape::default() });
    let first = EndpointSet::build(&[endpoint(1, 1)], None, &cold, begin);
    let second = EndpointSet::build(&[endpoint(1, 1), endpoint(2, 1)], Some(&first), &warm, begin);
    let share = |set: &EndpointSet, number: u8| {
        set.shares().find(|(state, _)| state.address == address(number)).map(|(_, share)| share).unwrap()
    };
    assert!((share(&second, 2) - 0.1 / 1.1).abs() < 0.001);
    for policy in [Balancing::LeastRequest, Balancing::RoundRobin] {
        let counts = counts(&Balancer::new(policy.clone()), &second, 20_000, 9);
        let part = f64::from(counts[&address(2)]) / 20_000.0;
        assert!((part - 0.1 / 1.1).abs() < 0.01, "{policy:?}: {part}");
    }
    let at = |seconds| begin + Duration::from_secs(seconds);
    assert_eq!(second.due(), Some(at(1)));
    // Another weight makes it no younger.
    let third = EndpointSet::build(&[endpoint(1, 1), endpoint(2, 3)], Some(&second), &warm, at(50));
    assert!((share(&third, 2) - 1.5 / 2.5).abs() < 0.001);
    let fourth = third.reshaped(&warm, at(100));
    assert!((share(&fourth, 2) - 0.75).abs() < 0.001);
    assert_eq!(fourth.due(), None);
    // All of them are new: nobody gets less than another.
    let new = EndpointSet::build(&[endpoint(1, 1), endpoint(2, 1)], None, &warm, begin);
    assert!((share(&new, 2) - 0.5).abs() < 0.001);
}

/// Where some get more requests, they may have more in flight.
#[test]
fn least_request_knows_what_an_endpoint_can_take() {
    let set = weighted(&[1, 9]);
    let balancer = Balancer::new(Balancing::LeastRequest);
    let mut random = fastrand::Rng::with_seed(3);
    let guards: Vec<_> =
        (0..1000).map(|_| balancer.pick(&set, None, &[], &mut |below| random.u32(..below)).unwrap().enter()).collect();
    let heavy = set.iter().find(|state| state.address == address(1)).unwrap();
    assert!((850..950).contains(&heavy.active()), "{}", heavy.active());
    assert_eq!(guards.len(), 1000);
}
