use std::collections::HashMap;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::super::{Balancer, EndpointSet, Shape};
use super::*;
use crate::model::{Balancing, Endpoint, EndpointAddress};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn rule() -> Utilization {
    Utilization {
        error_penalty_percent: 0,
        metrics: Vec::new(),
        stabilization: seconds(10),
        expiration: seconds(180),
        update: seconds(1),
    }
}

fn shape(rule: &Utilization) -> Shape {
    Shape { utilization: Some(Box::new(rule.clone())), ..Shape::default() }
}

fn endpoints(count: u8) -> Vec<(Endpoint, SocketAddr)> {
    let one = |number| {
        let address = SocketAddr::from(([10, 0, 0, number], 80));
        let endpoint = Endpoint {
            address: EndpointAddress::Socket(address),
            // Does not count.
            weight: u32::from(number) + 1,
            locality: "".into(),
            workload: None,
            mtls: false,
            priority_labels: None,
        };
        (endpoint, address)
    };
    (0..count).map(one).collect()
}

/// The shares of the endpoints, in order.
fn shares(set: &EndpointSet) -> Vec<f64> {
    let mut shares: Vec<_> = set.shares().map(|(state, share)| (state.address, share)).collect();
    shares.sort_by_key(|(address, _)| *address);
    shares.into_iter().map(|(_, share)| share).collect()
}

fn report(rps: f64, cpu: f64) -> LoadReport {
    LoadReport { rps_fractional: rps, cpu_utilization: cpu, ..LoadReport::default() }
}

fn state(set: &EndpointSet, number: usize) -> &Arc<EndpointState> {
    let mut states: Vec<_> = set.iter().collect();
    states.sort_by_key(|state| state.address);
    states[number]
}

fn assert_shares(set: &EndpointSet, wanted: &[f64]) {
    let shares = shares(set);
    let close = shares.len() == wanted.len() && shares.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-3);
    assert!(close, "{shares:?} instead of {wanted:?}");
}

#[test]
fn a_weight_counts_when_it_has_settled_and_until_it_expires() {
    let (begin, rule) = (Instant::now(), rule());
    let shape = shape(&rule);
    let set = EndpointSet::build(&endpoints(3), None, &shape, begin);
    assert_eq!(set.due(), Some(begin + seconds(1)));
    assert_shares(&set, &[1.0 / 3.0; 3]);
    assert!(state(&set, 0).note_load(&rule, &report(10.0, 0.5), begin));
    assert!(!state(&set, 1).note_load(&rule, &report(0.0, 0.5), begin));
    assert_shares(&set.reshaped(&shape, begin + seconds(9)), &[1.0 / 3.0; 3]);
    assert_eq!(state(&set, 0).load_weight(), None);

    // The others have the median, which is its own.
    let after = begin + seconds(10);
    assert_shares(&set.reshaped(&shape, after), &[1.0 / 3.0; 3]);
    assert_eq!(state(&set, 0).load_weight(), Some(20.0));

    state(&set, 1).note_load(&rule, &report(10.0, 0.25), after);
    state(&set, 2).note_load(&rule, &report(10.0, 1.0), after);
    assert_shares(&set.reshaped(&shape, after + seconds(10)), &[20.0 / 70.0, 40.0 / 70.0, 10.0 / 70.0]);

    // 180 seconds after its last report, a second before those of the others.
    assert_shares(&set.reshaped(&shape, begin + seconds(180)), &[20.0 / 70.0, 40.0 / 70.0, 10.0 / 70.0]);
    assert_shares(&set.reshaped(&shape, begin + seconds(181)), &[40.0 / 90.0, 40.0 / 90.0, 10.0 / 90.0]);

    // One that comes again must settle again.
    let again = begin + seconds(182);
    state(&set, 0).note_load(&rule, &report(10.0, 0.5), again);
    assert_shares(&set.reshaped(&shape, again + seconds(1)), &[40.0 / 90.0, 40.0 / 90.0, 10.0 / 90.0]);
    state(&set, 1).note_load(&rule, &report(10.0, 0.25), again);
    state(&set, 2).note_load(&rule, &report(10.0, 1.0), again);
    assert_shares(&set.reshaped(&shape, again + seconds(10)), &[20.0 / 70.0, 40.0 / 70.0, 10.0 / 70.0]);
}

#[test]
fn what_is_known_stays_with_the_address() {
    let (begin, rule) = (Instant::now(), Utilization { stabilization: seconds(0), ..rule() });
    let shape = shape(&rule);
    let mut endpoints = endpoints(3);
    let set = EndpointSet::build(&endpoints, None, &shape, begin);
    for (number, cpu) in [(0, 0.5), (1, 0.25), (2, 0.25)] {
        state(&set, number).note_load(&rule, &report(10.0, cpu), begin);
    }
    endpoints[0].0.locality = "a/b".into();
    endpoints.pop();
    let later = EndpointSet::build(&endpoints, Some(&set), &shape, begin + seconds(1));
    assert_shares(&later, &[1.0 / 3.0, 2.0 / 3.0]);
    // A request of the set before still counts.
    state(&set, 0).note_load(&rule, &report(10.0, 0.125), begin + seconds(1));
    assert_shares(&later.reshaped(&shape, begin + seconds(2)), &[2.0 / 3.0, 1.0 / 3.0]);
}

#[test]
fn without_the_rule_nothing_is_heard() {
    let mut headers = HeaderMap::new();
    headers.insert("endpoint-load-metrics", HeaderValue::from_static("cpu_utilization=0.5,rps_fractional=1"));
    let set = EndpointSet::build(&endpoints(2), None, &Shape::default(), Instant::now());
    let deaf = Balancer::new(Balancing::RoundRobin);
    deaf.hear_load(state(&set, 0), &headers, Instant::now());
    assert_eq!((deaf.load_reports(), state(&set, 0).load.get().is_none()), (None, true));

    let hears = Balancer::new(Balancing::BackendUtilization(Box::new(rule())));
    hears.hear_load(state(&set, 0), &headers, Instant::now());
    headers.insert("endpoint-load-metrics", HeaderValue::from_static("disk=full"));
    hears.hear_load(state(&set, 0), &headers, Instant::now());
    hears.hear_load(state(&set, 0), &HeaderMap::new(), Instant::now());
    assert_eq!((hears.load_reports(), state(&set, 0).load.get().is_some()), (Some([1, 1]), true));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Requests are divided by the weights, those without one have the median, and turns are spread.
    #[test]
    fn requests_are_divided_by_what_is_reported(
        cpus in proptest::collection::vec(proptest::option::of(1_u32..20), 2..10),
    ) {
        let (begin, rule) = (Instant::now(), Utilization { stabilization: seconds(0), ..rule() });
        let set = EndpointSet::build(&endpoints(cpus.len() as u8), None, &shape(&rule), begin);
        let mut weights: Vec<f64> = Vec::new();
        for (number, cpu) in cpus.iter().enumerate() {
            if let Some(cpu) = cpu {
                state(&set, number).note_load(&rule, &report(100.0, f64::from(*cpu) / 20.0), begin);
                weights.push(2000.0 / f64::from(*cpu));
            }
        }
        weights.sort_by(f64::total_cmp);
        let median = weights.get(weights.len() / 2).copied().unwrap_or(1.0);
        let wanted: Vec<f64> = cpus.iter().map(|cpu| cpu.map_or(median, |cpu| 2000.0 / f64::from(cpu))).collect();
        let sum: f64 = wanted.iter().sum();
        let set = set.reshaped(&shape(&rule), begin + seconds(1));
        let balancer = Balancer::new(Balancing::BackendUtilization(Box::new(rule)));
        let mut counts: HashMap<SocketAddr, u32> = HashMap::new();
        for _ in 0..10_000 {
            let state = balancer.pick(&set, None, &[], &mut |_| 0).unwrap();
            *counts.entry(state.address).or_default() += 1;
        }
        for (number, wanted) in wanted.iter().enumerate() {
            let got = f64::from(counts.get(&state(&set, number).address).copied().unwrap_or(0)) / 10_000.0;
            prop_assert!((got - wanted / sum).abs() < 0.01, "{cpus:?}: {number} got {got} instead of {}", wanted / sum);
        }
    }
}
