use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Cause, Ejections, Streaks, TryResult};
use crate::lb::{Balancer, EndpointSet, Shape};
use crate::model::{Balancing, Endpoint, EndpointAddress, HashTable, Hashing, OutlierDetection};

const SECOND: Duration = Duration::from_secs(1);
const ANSWERED: fn(u16) -> TryResult = TryResult::Answered;

fn rule() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        consecutive_local: 5,
        split: false,
        errors: Vec::new(),
        interval: 10 * SECOND,
        base_ejection: 30 * SECOND,
        max_ejection_percent: 100,
        min_health_percent: 0,
    }
}

/// What is said after each of the results, the numbers of those that said something.
fn said(rule: &OutlierDetection, results: &[TryResult]) -> Vec<(usize, Cause)> {
    let streaks = Streaks::default();
    let noted = results.iter().enumerate().filter_map(|(at, result)| {
        let cause = streaks.note(rule, *result)?;
        streaks.restart();
        Some((at, cause))
    });
    noted.collect()
}

#[test]
fn failures_in_a_row_count() {
    let rule = rule();
    let bad = ANSWERED(500);
    assert_eq!(said(&rule, &[bad, bad, ANSWERED(200), bad, bad, bad]), [(5, Cause::Consecutive5xx)]);
    assert_eq!(said(&rule, &[bad, TryResult::Failed, ANSWERED(599)]), [(2, Cause::Consecutive5xx)]);
    assert_eq!(said(&rule, &[bad, bad, ANSWERED(404), bad, bad, TryResult::Connected, bad, bad]), []);
    assert_eq!(said(&OutlierDetection { consecutive_5xx: 0, ..rule }, &[bad; 100]), []);
}

#[test]
fn gateway_errors_are_502_to_504() {
    let rule = OutlierDetection { consecutive_gateway: 2, consecutive_5xx: 0, ..rule() };
    let gateway = [ANSWERED(502), ANSWERED(504), ANSWERED(503), TryResult::Failed];
    let cause = Cause::ConsecutiveGatewayErrors;
    assert_eq!(said(&rule, &gateway), [(1, cause), (3, cause)]);
    assert_eq!(said(&rule, &[ANSWERED(502), ANSWERED(500), ANSWERED(503), ANSWERED(501)]), []);
}

#[test]
fn with_the_split_the_own_failures_are_counted_apart() {
    let rule = OutlierDetection { split: true, consecutive_local: 2, consecutive_5xx: 2, ..rule() };
    let (failed, bad) = (TryResult::Failed, ANSWERED(503));
    assert_eq!(said(&rule, &[failed, bad, failed, bad]), [(3, Cause::Consecutive5xx)]);
    assert_eq!(said(&rule, &[bad, failed, failed]), [(2, Cause::ConsecutiveLocalOriginFailures)]);
    assert_eq!(said(&rule, &[failed, TryResult::Connected, failed]), []);
}

#[test]
fn other_statuses_can_be_the_errors() {
    let rule = OutlierDetection { errors: vec![429, 503], consecutive_5xx: 2, ..rule() };
    assert_eq!(said(&rule, &[ANSWERED(429), ANSWERED(503)]), [(1, Cause::Consecutive5xx)]);
    assert_eq!(said(&rule, &[ANSWERED(429), ANSWERED(500), ANSWERED(429)]), []);
    assert_eq!(said(&rule, &[TryResult::Failed, TryResult::Failed]), [(1, Cause::Consecutive5xx)]);
}

#[test]
fn nobody_is_told_twice_before_it_is_decided() {
    let (rule, streaks) = (OutlierDetection { consecutive_5xx: 1, ..rule() }, Streaks::default());
    assert!(streaks.note(&rule, ANSWERED(500)).is_some());
    assert!(streaks.note(&rule, ANSWERED(500)).is_none());
    streaks.restart();
    assert!(streaks.note(&rule, ANSWERED(500)).is_some());
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn endpoints(count: u8) -> Vec<(Endpoint, SocketAddr)> {
    let endpoint = |number| Endpoint {
        address: EndpointAddress::Socket(address(number)),
        weight: 1,
        locality: "".into(),
        workload: None,
        mtls: false,
        priority_labels: None,
    };
    (0..count).map(|number| (endpoint(number), address(number))).collect()
}

fn set(count: u8) -> EndpointSet {
    EndpointSet::build(&endpoints(count), None, &Shape::default(), Instant::now())
}

/// Ejects these, and says which of them are.
fn eject(ejections: &mut Ejections, rule: &OutlierDetection, set: &EndpointSet, now: Instant) -> Vec<bool> {
    set.iter().map(|state| ejections.eject(rule, state, set.len(), now).is_some()).collect()
}

#[test]
fn no_more_than_a_share_is_out() {
    let now = Instant::now();
    let out = |percent, count| {
        let rule = OutlierDetection { max_ejection_percent: percent, ..rule() };
        eject(&mut Ejections::default(), &rule, &set(count), now).iter().filter(|ejected| **ejected).count()
    };
    assert_eq!((out(10, 9), out(10, 10), out(34, 3), out(33, 3), out(99, 1), out(100, 1)), (0, 1, 1, 0, 0, 1));
    assert_eq!((out(50, 4), out(100, 4), out(0, 4)), (2, 4, 0));
}

#[test]
fn each_ejection_lasts_longer_and_good_conduct_is_remembered() {
    let (rule, set, mut ejections) = (rule(), set(1), Ejections::default());
    let state = set.iter().next().unwrap().clone();
    let start = Instant::now();
    let at = |seconds: u32| start + seconds * SECOND;
    assert_eq!(ejections.next_look(), None);
    assert_eq!(ejections.eject(&rule, &state, 1, at(0)), Some(30 * SECOND));
    assert_eq!(ejections.eject(&rule, &state, 1, at(1)), None, "it is out already");
    assert_eq!(ejections.next_look(), Some(at(10)));
    for (second, back) in [(5, false), (10, false), (20, false), (30, true)] {
        assert_eq!(!ejections.look(&rule, at(second)).is_empty(), back, "{second}");
    }
    assert_eq!(ejections.eject(&rule, &state, 1, at(35)), Some(60 * SECOND));
    assert!(ejections.look(&rule, at(90)).is_empty());
    assert_eq!(ejections.look(&rule, at(100)), [address(0)]);
    // Two looks without trouble, and all is forgotten.
    assert!(ejections.look(&rule, at(110)).is_empty());
    assert_eq!(ejections.next_look(), Some(at(120)));
    assert!(ejections.look(&rule, at(120)).is_empty());
    assert_eq!(ejections.next_look(), None);
    assert_eq!(ejections.eject(&rule, &state, 1, at(130)), Some(30 * SECOND));
}

#[test]
fn ejections_last_five_minutes_at_most() {
    let (rule, set, mut ejections) = (rule(), set(1), Ejections::default());
    let state = set.iter().next().unwrap().clone();
    let mut now = Instant::now();
    let mut lasted = Vec::new();
    for _ in 0..15 {
        lasted.push(ejections.eject(&rule, &state, 1, now).unwrap());
        now += 300 * SECOND;
        assert_eq!(ejections.look(&rule, now), [address(0)]);
    }
    assert_eq!(lasted[1], 60 * SECOND);
    assert!(lasted[9..].iter().all(|lasts| *lasts == 300 * SECOND));
}

fn policies() -> [Balancing; 5] {
    let hash = |table| Balancing::Hash(Box::new(Hashing { key: None, table }));
    [
        Balancing::LeastRequest,
        Balancing::RoundRobin,
        Balancing::Random,
        hash(HashTable::Ring { minimum: 64 }),
        hash(HashTable::Maglev { size: 251 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the policy, whatever is tried before: never one that is out, as long as enough are in.
    #[test]
    fn who_is_out_gets_nothing(
        count in 1_u8..12, out in proptest::collection::btree_set(0_u8..12, 0..12), key in any::<u64>(),
        avoid in 0_u8..12, panic in 0_u32..101,
    ) {
        let now = Instant::now();
        let rule = OutlierDetection { min_health_percent: panic, ..rule() };
        for policy in policies() {
            let shape = Shape { table: policy.table(), min_health_percent: panic, ..Shape::default() };
            let all = EndpointSet::build(&endpoints(count), None, &shape, Instant::now());
            let mut ejections = Ejections::default();
            for (number, state) in (0..).zip(all.iter()).filter(|(number, _)| out.contains(number)) {
                prop_assert_eq!(state.address, address(number));
                prop_assert!(ejections.eject(&rule, state, all.len(), now).is_some());
            }
            // Also after a change of the endpoints that leaves them as they are.
            let set = EndpointSet::build(&endpoints(count), Some(&all), &shape, Instant::now());
            let left = (0..count).filter(|number| !out.contains(number)).count();
            let panics = (left as u32) * 100 < panic * u32::from(count);
            prop_assert_eq!(set.len(), usize::from(count));
            let (balancer, mut random) = (Balancer::new(policy), fastrand::Rng::with_seed(key));
            for _ in 0..20 {
                let picked = balancer.pick(&set, Some(key), &[address(avoid)], &mut |below| random.u32(..below));
                prop_assert_eq!(picked.is_none(), left == 0 && !panics);
                prop_assert!(picked.is_none_or(|state| panics || !state.is_ejected()));
            }
        }
    }
}

#[test]
fn an_ejection_stays_with_the_address() {
    let (rule, now, shape) = (rule(), Instant::now(), Shape::default());
    let first = EndpointSet::build(&endpoints(3), None, &shape, Instant::now());
    let mut ejections = Ejections::default();
    ejections.eject(&rule, first.iter().next().unwrap(), 3, now);
    let mut heavier = endpoints(3);
    heavier[0].0.weight = 7;
    let second = EndpointSet::build(&heavier, Some(&first), &shape, Instant::now());
    assert!(second.iter().any(|state| state.address == address(0) && state.is_ejected() && state.endpoint.weight == 7));
    second.readmit(&ejections.look(&rule, now + 30 * SECOND));
    assert!(second.iter().all(|state| !state.is_ejected()));
    // Who is gone is forgotten.
    ejections.eject(&rule, second.iter().next().unwrap(), 3, now);
    ejections.retain(|_| false);
    assert_eq!(ejections.next_look(), None);
}
