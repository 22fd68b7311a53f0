use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use proptest::prelude::*;

use super::{hash_address, hash_key};
use crate::lb::{Balancer, EndpointSet, Shape};
use crate::model::{Balancing, Endpoint, EndpointAddress, HashTable, Hashing};

const KEYS: u32 = 10_000;
const RING: HashTable = HashTable::Ring { minimum: 1024 };
const MAGLEV: HashTable = HashTable::Maglev { size: 65_537 };

fn address(number: u32) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 8080))
}

fn endpoint(number: u32, weight: u32) -> (Endpoint, SocketAddr) {
    let address = address(number);
    let endpoint = Endpoint {
        address: EndpointAddress::Socket(address),
        weight,
        locality: "".into(),
        workload: None,
        mtls: false,
        priority_labels: None,
    };
    (endpoint, address)
}

fn set(endpoints: &[(Endpoint, SocketAddr)], table: HashTable) -> EndpointSet {
    EndpointSet::build(endpoints, None, &Shape { table: Some(table), ..Shape::default() }, Instant::now())
}

fn key(number: u32) -> u64 {
    hash_key(format!("user-{number}").as_bytes())
}

fn pick(set: &EndpointSet, key: u64, avoid: &[SocketAddr]) -> SocketAddr {
    let balancer = Balancer::new(Balancing::Hash(Box::new(Hashing { key: None, table: RING })));
    balancer.pick(set, Some(key), avoid, &mut |_| 0).unwrap().address
}

fn picks(set: &EndpointSet) -> Vec<SocketAddr> {
    (0..KEYS).map(|number| pick(set, key(number), &[])).collect()
}

fn moved(before: &EndpointSet, after: &EndpointSet) -> f64 {
    let moved = picks(before).iter().zip(picks(after)).filter(|(before, after)| *before != after).count();
    moved as f64 / f64::from(KEYS)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of n endpoints one goes: the keys of the others stay on a ring; in a Maglev table almost all do.
    #[test]
    fn few_keys_move(
        numbers in proptest::collection::btree_set(0_u32..60_000, 2..40), gone in any::<prop::sample::Index>(),
    ) {
        let all: Vec<_> = numbers.iter().map(|number| endpoint(*number, 1)).collect();
        let gone = gone.index(all.len());
        let without: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, one)| one.clone()).collect();
        let share = 1.0 / all.len() as f64;
        for (table, more) in [(RING, 0.0), (MAGLEV, 0.03)] {
            let (all_set, rest) = (set(&all, table), set(&without, table));
            let moved = moved(&all_set, &rest);
            prop_assert!(moved > share * 0.6 && moved < share * 1.4 + more, "{table:?}: {moved} of {share}");
            if table == RING {
                for (before, after) in picks(&all_set).iter().zip(picks(&rest)) {
                    prop_assert!(*before == after || *before == all[gone].1);
                }
            }
        }
    }

    #[test]
    fn weights_are_respected(weights in proptest::collection::vec(1_u32..10, 2..10)) {
        let endpoints: Vec<_> = weights.iter().zip(0..).map(|(weight, number)| endpoint(number, *weight)).collect();
        let sum: u32 = weights.iter().sum();
        for (table, tolerance) in [(RING, 0.06), (MAGLEV, 0.015)] {
            let mut counts: HashMap<SocketAddr, u32> = HashMap::new();
            picks(&set(&endpoints, table)).into_iter().for_each(|address| *counts.entry(address).or_default() += 1);
            for (number, weight) in (0..).zip(&weights) {
                let share = f64::from(counts.get(&address(number)).copied().unwrap_or(0)) / f64::from(KEYS);
                let wanted = f64::from(*weight) / f64::from(sum);
                prop_assert!((share - wanted).abs() < tolerance, "{table:?} {weights:?}: {number} got {share}");
            }
        }
    }

    /// In which order the endpoints came does not count: other proxies were told in another one.
    #[test]
    fn all_proxies_agree(count in 1_u32..20, shift in 0_usize..20) {
        let mut endpoints: Vec<_> = (0..count).map(|number| endpoint(number, 1 + number % 3)).collect();
        for table in [RING, MAGLEV] {
            let before = picks(&set(&endpoints, table));
            let middle = shift % endpoints.len();
            endpoints.rotate_left(middle);
            prop_assert_eq!(&before, &picks(&set(&endpoints, table)));
        }
    }

    #[test]
    fn who_is_avoided_is_passed_over(count in 2_u32..12, avoided in 1_usize..12, number in any::<u32>()) {
        let endpoints: Vec<_> = (0..count).map(|number| endpoint(number, 1)).collect();
        for table in [RING, MAGLEV] {
            let set = set(&endpoints, table);
            let mut avoid = Vec::new();
            for _ in 0..avoided {
                let picked = pick(&set, key(number), &avoid);
                prop_assert!(avoid.len() >= count as usize || !avoid.contains(&picked));
                prop_assert_eq!(picked, pick(&set, key(number), &avoid), "the same again");
                avoid.push(picked);
            }
        }
    }
}

/// What keys and clients are hashed to must stay as it is over versions.
#[test]
fn hashes_are_for_ever() {
    assert_eq!(hash_key(b"jason"), 0xA9D5_4CBB_286B_EA06);
    assert_eq!(hash_address([10, 0, 0, 1].into()), hash_key(&[10, 0, 0, 1]));
    assert_eq!(hash_address("::ffff:10.0.0.1".parse().unwrap()), hash_address([10, 0, 0, 1].into()));
}

#[test]
fn without_a_key_it_is_chance() {
    let set = set(&[endpoint(0, 1), endpoint(1, 1)], RING);
    let balancer = Balancer::new(Balancing::Hash(Box::new(Hashing { key: None, table: RING })));
    let mut turn = 0;
    let mut random = |below: u32| {
        turn += 1;
        turn % below
    };
    let picked: std::collections::HashSet<_> =
        (0..4).map(|_| balancer.pick(&set, None, &[], &mut random).unwrap().address).collect();
    assert_eq!(picked.len(), 2);
}

#[test]
fn tables_are_bounded() {
    let heavy = [endpoint(0, u32::MAX), endpoint(1, 1), endpoint(2, 7)];
    for table in [HashTable::Ring { minimum: u32::MAX }, HashTable::Maglev { size: 2 }, HashTable::Maglev { size: 3 }] {
        let set = set(&heavy, table);
        assert!(heavy.iter().any(|(_, address)| *address == pick(&set, 7, &[])), "{table:?}");
        assert!(set.pool.table.as_ref().unwrap().len() <= super::MOST + heavy.len(), "{table:?}");
    }
    let many: Vec<_> = (0..5000).map(|number| endpoint(number, 1)).collect();
    assert!(set(&many, RING).pool.table.unwrap().len() <= super::MOST);
    let none = set(&[], MAGLEV);
    let balancer = Balancer::new(Balancing::Hash(Box::new(Hashing { key: None, table: MAGLEV })));
    assert!(balancer.pick(&none, Some(1), &[], &mut |_| 0).is_none());
}
