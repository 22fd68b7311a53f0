use std::net::SocketAddr;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::lb::{Balancer, EndpointSet};
use crate::model::{Balancing, Endpoint, EndpointAddress, HashTable, Hashing, LocalityPattern, ZoneAware};

/// `locality`, endpoints that are in and that are out, weight of each.
type Part<'a> = (&'a str, u16, u16, u32);

fn endpoint(number: u16, locality: &str, weight: u32) -> (Endpoint, SocketAddr) {
    let address = SocketAddr::from(([10, 0, 0, 1], 1000 + number));
    let endpoint = Endpoint {
        address: EndpointAddress::Socket(address),
        weight,
        locality: locality.into(),
        workload: None,
        mtls: false,
        priority_labels: None,
    };
    (endpoint, address)
}

fn shape(rule: LocalityRule, place: &str) -> Shape {
    let place = Place { locality: place.into(), node: "".into() };
    Shape { locality: Some(Arc::new(rule)), place, ..Shape::default() }
}

fn set(parts: &[Part<'_>], shape: &Shape) -> EndpointSet {
    let (mut endpoints, mut out, mut number) = (Vec::new(), Vec::new(), 0);
    for (locality, healthy, failing, weight) in parts {
        for index in 0..healthy + failing {
            let (endpoint, address) = endpoint(number, locality, *weight);
            number += 1;
            out.extend((index >= *healthy).then_some(address));
            endpoints.push((endpoint, address));
        }
    }
    let now = Instant::now();
    let set = EndpointSet::build(&endpoints, None, shape, now);
    for state in set.iter().filter(|state| out.contains(&state.address)) {
        state.ejected.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    set.reshaped(shape, now)
}

/// Percent of picks by locality.
fn percents(set: &EndpointSet, policy: &Balancing, seed: u64) -> BTreeMap<String, f64> {
    let (balancer, mut random) = (Balancer::new(policy.clone()), fastrand::Rng::with_seed(seed));
    let mut percents: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..20_000 {
        if let Some(state) = balancer.pick(set, None, &[], &mut |below| random.u32(..below)) {
            *percents.entry(state.endpoint.locality.to_string()).or_default() += 1.0 / 200.0;
        }
    }
    percents
}

fn near() -> LocalityRule {
    LocalityRule::Failover(Failover { by_locality: true, ..Failover::default() })
}

/// The tables of Envoy's documentation ("Priority levels").
#[test]
fn priorities_share_as_envoy_documents() {
    for (healthy, wanted) in [
        (&[100, 100][..], &[100, 0][..]),
        (&[72, 72], &[100, 0]),
        (&[71, 71], &[99, 1]),
        (&[50, 50], &[70, 30]),
        (&[25, 100], &[35, 65]),
        (&[0, 100], &[0, 100]),
        (&[25, 25], &[50, 50]),
        (&[100, 100, 100], &[100, 0, 0]),
        (&[71, 71, 100], &[99, 1, 0]),
        (&[50, 50, 100], &[70, 30, 0]),
        (&[25, 100, 100], &[35, 65, 0]),
        (&[25, 25, 100], &[35, 35, 30]),
        // Documented as 36, 36, 28; what is lost by rounding goes to the first.
        (&[25, 25, 20], &[37, 35, 28]),
        (&[0, 0], &[0, 0]),
    ] {
        let counts: Vec<Count> = healthy.iter().map(|healthy| Count { healthy: *healthy, all: 100 }).collect();
        assert_eq!(loads(&counts, 0).0, wanted, "{healthy:?}");
    }
}

#[test]
fn who_panics_gives_requests_to_all() {
    let count = |healthy, all| Count { healthy, all };
    assert_eq!(loads(&[count(1, 4), count(1, 4)], 50), (vec![50, 50], vec![true, true]));
    assert_eq!(loads(&[count(0, 3), count(0, 1)], 50), (vec![75, 25], vec![true, true]));
    // As long as the other one can take all of it, nobody does.
    assert_eq!(loads(&[count(1, 4), count(4, 4)], 50), (vec![35, 65], vec![false, false]));
    let rule = shape(near(), "us/a");
    let set = set(&[("us/a", 0, 2, 1), ("us/b", 0, 2, 1)], &Shape { min_health_percent: 50, ..rule });
    let percents = percents(&set, &Balancing::Random, 1);
    assert!((percents["us/a"] - 50.0).abs() < 2.0 && (percents["us/b"] - 50.0).abs() < 2.0, "{percents:?}");
}

/// The table of Envoy's documentation ("Locality weighted load balancing"): X has weight 1, Y has weight 2.
#[test]
fn localities_share_as_envoy_documents() {
    let from_everywhere = |to: &[(&str, u32)]| {
        let to = to.iter().map(|(to, percent)| (LocalityPattern((*to).into()), *percent)).collect();
        LocalityRule::Distribute(vec![Distribution { from: LocalityPattern("*".into()), to }])
    };
    for (healthy, x, y) in [(100, 33.3, 66.7), (70, 33.8, 66.2), (50, 41.7, 58.3), (25, 58.8, 41.2), (0, 100.0, 0.0)] {
        let shape = shape(from_everywhere(&[("x", 10), ("y", 20), ("z", 70)]), "");
        let set = set(&[("x", 100, 0, 1), ("y", healthy, 100 - healthy, 1)], &shape);
        let percents = percents(&set, &Balancing::Random, 5);
        let of = |name: &str| percents.get(name).copied().unwrap_or(0.0);
        assert!((of("x") - x).abs() < 1.5 && (of("y") - y).abs() < 1.5, "{healthy}: {percents:?}");
    }
}

#[test]
fn the_nearest_come_first() {
    let parts: Vec<Part<'_>> =
        [("us/a/1", 1, 0, 1), ("us/a/2", 1, 0, 1), ("us/b/1", 1, 0, 1), ("eu/a/1", 1, 0, 1), ("as/a/1", 1, 0, 1)]
            .into();
    let regions = vec![("us".into(), "as".into())];
    let rule = LocalityRule::Failover(Failover { by_locality: true, regions, weighted: true, ..Failover::default() });
    let who = |place: &str, gone: usize, rule: &LocalityRule| {
        let set = set(parts.get(gone..).unwrap(), &shape(rule.clone(), place));
        percents(&set, &Balancing::LeastRequest, 3).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(who("us/a/1", 0, &rule), ["us/a/1"]);
    assert_eq!(who("us/a/1", 1, &rule), ["us/a/2"]);
    assert_eq!(who("us/a/1", 2, &rule), ["us/b/1"]);
    assert_eq!(who("us/a/1", 3, &rule), ["as/a/1"]);
    assert_eq!(who("us/a/1", 3, &near()), ["as/a/1", "eu/a/1"]);
    assert_eq!(who("eu/x", 0, &rule), ["eu/a/1"]);
    assert_eq!(who("", 0, &near()).len(), 5, "all are equally far from nowhere");
}

#[test]
fn criteria_count_up_to_the_first_that_does_not_hold() {
    let label = |name: &str| Criterion::Label { name: name.into(), value: "x".into() };
    let criteria = vec![label("topology.istio.io/network"), Criterion::Zone, label("app"), Criterion::Node];
    let place = Place { locality: "us/a".into(), node: "n1".into() };
    let distance = |locality: &str, agreeing: u64, node: &str| {
        let (mut endpoint, address) = endpoint(1, locality, 1);
        endpoint.priority_labels = Some(Box::new(PriorityLabels { agreeing, node: node.into() }));
        by_criteria(&EndpointState::new(endpoint, address), &criteria, &place)
    };
    assert_eq!(distance("us/a", 0b101, "n1"), 0);
    assert_eq!(distance("us/a", 0b101, "n2"), 1);
    assert_eq!(distance("us/a", 0b001, "n1"), 2);
    assert_eq!(distance("us/b", 0b101, "n1"), 3);
    assert_eq!(distance("us/a", 0b100, "n1"), 4, "another network");
    assert_eq!(distance("us/b", 0b100, "n1"), 7);
}

#[test]
fn what_has_no_share_gets_nothing_and_is_none_of_the_destination() {
    let to = |name: &str, percent| (LocalityPattern(name.into()), percent);
    let rule = LocalityRule::Distribute(vec![
        Distribution { from: LocalityPattern("eu/*".into()), to: vec![to("eu", 100)] },
        Distribution { from: LocalityPattern("us/a".into()), to: vec![to("us/a/*", 80), to("us/b/*", 20)] },
    ]);
    let parts = [("us/a/1", 1, 0, 1), ("us/a/2", 3, 0, 1), ("us/b/1", 2, 0, 1), ("eu/a/1", 1, 0, 1)];
    let from = |place: &str| set(&parts, &shape(rule.clone(), place));
    let here = from("us/a/9");
    assert_eq!((here.len(), here.iter().count()), (6, 7));
    let percents = |set: &EndpointSet| percents(set, &Balancing::RoundRobin, 11);
    let found = percents(&here);
    for (locality, wanted) in [("us/a/1", 20.0), ("us/a/2", 60.0), ("us/b/1", 20.0)] {
        assert!((found[locality] - wanted).abs() < 1.5, "{found:?}");
    }
    assert_eq!(found.len(), 3);
    assert_eq!(percents(&from("eu/z")).into_keys().collect::<Vec<_>>(), ["eu/a/1"]);
    assert_eq!(percents(&from("as/z")).len(), 4, "no share is about them");
    // Whoever goes elsewhere takes all along.
    let moved = here.reshaped(&shape(rule.clone(), "eu/z"), Instant::now());
    assert_eq!(moved.len(), 1);
}

#[test]
fn a_key_stays_where_it_is_among_groups() {
    let table = HashTable::Ring { minimum: 64 };
    let shape = Shape { table: Some(table), ..shape(near(), "us/a") };
    let set = set(&[("us/a", 2, 2, 1), ("us/b", 4, 0, 1)], &shape);
    let balancer = Balancer::new(Balancing::Hash(Box::new(Hashing { key: None, table })));
    let mut near = 0;
    for key in 0..2000_u64 {
        let key = hash::hash_key(&key.to_be_bytes());
        let pick = || balancer.pick(&set, Some(key), &[], &mut |_| panic!("nothing is left to chance")).unwrap();
        let first = pick();
        assert!(Arc::ptr_eq(&first, &pick()));
        near += u32::from(&*first.endpoint.locality == "us/a");
    }
    assert!((1300..1500).contains(&near), "{near}: 70 % is wanted");
}

#[test]
fn whoever_was_tried_is_avoided_over_all_groups() {
    let set = set(&[("us/a", 1, 1, 1), ("us/b", 1, 0, 1)], &shape(near(), "us/a"));
    let first = set.iter().find(|state| !state.is_ejected() && &*state.endpoint.locality == "us/a").unwrap().clone();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..100 {
        let state = Balancer::new(Balancing::LeastRequest)
            .pick(&set, None, &[first.address], &mut |below| random.u32(..below))
            .unwrap();
        assert_eq!(&*state.endpoint.locality, "us/b");
    }
}

#[test]
fn what_is_tried_again_is_spread_over_the_other_group() {
    let set = set(&[("us/a", 1, 1, 1), ("us/b", 10, 0, 1)], &shape(near(), "us/a"));
    let first = set.iter().find(|state| !state.is_ejected() && &*state.endpoint.locality == "us/a").unwrap().clone();
    let mut random = fastrand::Rng::with_seed(1);
    let balancer = Balancer::new(Balancing::Random);
    let mut got = std::collections::BTreeMap::new();
    for _ in 0..2000 {
        let state = balancer.pick(&set, None, &[first.address], &mut |below| random.u32(..below)).unwrap();
        *got.entry(state.address).or_insert(0) += 1;
    }
    assert_eq!(got.len(), 10);
    assert!(got.values().all(|count| (120..=280).contains(count)), "{got:?}: 200 each are wanted");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a plain reading of the documentation, with fractions.
    #[test]
    fn picks_follow_the_health_of_priorities(
        counts in proptest::collection::vec((0_u16..6, 0_u16..6), 3), seed in any::<u64>(), weighted in any::<bool>(),
    ) {
        let names = ["us/a/1", "us/a/2", "us/b"];
        let parts: Vec<Part<'_>> =
            names.iter().zip(&counts).map(|(name, (healthy, out))| (*name, *healthy, *out, 2)).collect();
        let rule = LocalityRule::Failover(Failover { by_locality: true, weighted, ..Failover::default() });
        let set = set(&parts, &shape(rule, "us/a/1"));
        let all: u16 = counts.iter().map(|(healthy, out)| healthy + out).sum();
        prop_assert_eq!(set.len(), usize::from(all));
        let health: Vec<f64> = counts
            .iter()
            .map(|(healthy, out)| (1.4 * f64::from(*healthy) / f64::from((healthy + out).max(1))).min(1.0))
            .collect();
        let total = health.iter().sum::<f64>().min(1.0);
        let mut left = 1.0_f64;
        for policy in [Balancing::LeastRequest, Balancing::RoundRobin, Balancing::Random] {
            let found = percents(&set, &policy, seed);
            left = 1.0;
            for (name, health) in names.iter().zip(&health) {
                let wanted = if total > 0.0 { (health / total).min(left) } else { 0.0 };
                left -= wanted;
                let share = found.get(*name).copied().unwrap_or(0.0) / 100.0;
                prop_assert!((share - wanted).abs() < 0.04, "{counts:?} {policy:?}: {name} got {share}, not {wanted}");
            }
        }
        prop_assert!(total == 0.0 || left < 1e-9);
    }
}

#[test]
fn turns_go_on_when_a_set_is_made_anew() {
    let shape = shape(near(), "r/z/s");
    let mut set = set(&[("r/z/s", 1, 1, 1), ("other/z/s", 2, 0, 1)], &shape);
    let balancer = Balancer::new(Balancing::RoundRobin);
    let mut random = fastrand::Rng::with_seed(1);
    let mut far: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for _ in 0..400 {
        let picked = balancer.pick(&set, None, &[], &mut |below| random.u32(..below)).unwrap();
        if &*picked.endpoint.locality == "other/z/s" {
            *far.entry(picked.address).or_default() += 1;
        }
        set = set.reshaped(&shape, Instant::now());
    }
    assert!(far.len() == 2 && far.values().all(|count| *count > 30), "{far:?}");
}

/// Localities of tries that go elsewhere than these, over many throws.
fn elsewhere(set: &EndpointSet, past: &[SocketAddr]) -> BTreeMap<String, u32> {
    let (balancer, mut random) = (Balancer::new(Balancing::Random), fastrand::Rng::with_seed(7));
    let mut counts = BTreeMap::new();
    for _ in 0..1000 {
        if let Some(state) = balancer.pick_elsewhere(set, past, past, &mut |below| random.u32(..below)) {
            assert!(!state.is_ejected());
            *counts.entry(state.endpoint.locality.to_string()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn tries_that_go_elsewhere_find_the_next_priority_that_had_none() {
    let rule = LocalityRule::Failover(Failover { by_locality: true, ..Failover::default() });
    let shape = shape(rule, "us/a/1");
    let parts = [("us/a/1", 2, 0, 1), ("us/b/1", 1, 1, 1), ("eu/c/1", 2, 0, 1), ("eu/d/1", 0, 1, 1)];
    let set = set(&parts, &shape);
    let address = |number: u16| SocketAddr::from(([10, 0, 0, 1], 1000 + number));
    let only = |counts: BTreeMap<String, u32>, wanted: &[&str]| {
        assert_eq!(counts.keys().collect::<Vec<_>>(), wanted, "{counts:?}");
    };
    // `us/b` is half well, so that it can take 70 %; the rest is for those beyond.
    let counts = elsewhere(&set, &[address(0), address(1)]);
    assert!((600..800).contains(&counts["us/b/1"]), "{counts:?}");
    only(counts, &["eu/c/1", "us/b/1"]);
    // The one that was tried may be out by now.
    only(elsewhere(&set, &[address(0), address(3)]), &["eu/c/1"]);
    only(elsewhere(&set, &[address(4)]), &["us/a/1"]);
    only(elsewhere(&set, &[address(0), address(2), address(4)]), &[]);
    // Equally near, or by shares: there is no elsewhere.
    only(elsewhere(&self::set(&parts[..1], &shape), &[address(0)]), &[]);
}

/// Three proxies in one zone, one in another.
fn zone_aware(minimum: u32) -> LocalityRule {
    let proxies = vec![("us/a".into(), 3), ("us/b".into(), 1)];
    LocalityRule::ZoneAware(ZoneAware { failover: Failover::default(), proxies, minimum })
}

#[test]
fn zones_of_the_own_region_share_by_what_they_can_take() {
    let parts = [("us/a", 2, 0, 1), ("us/b", 2, 0, 1), ("eu/c", 4, 0, 1)];
    let found = |parts: &[Part<'_>], rule: LocalityRule, place: &str| {
        let percents = percents(&set(parts, &shape(rule, place)), &Balancing::RoundRobin, 5);
        percents.into_iter().map(|(locality, percent)| (locality, percent.round() as u32)).collect::<Vec<_>>()
    };
    let close = |found: Vec<(String, u32)>, wanted: &[(&str, u32)]| {
        let names = found.iter().map(|(name, _)| name.as_str()).eq(wanted.iter().map(|(name, _)| *name));
        let near = found.iter().zip(wanted).all(|((_, found), (_, wanted))| found.abs_diff(*wanted) <= 2);
        assert!(names && near, "{found:?} instead of {wanted:?}");
    };
    // Three quarters of the proxies, half of the endpoints.
    close(found(&parts, zone_aware(4), "us/a"), &[("us/a", 67), ("us/b", 33)]);
    close(found(&parts, zone_aware(4), "us/b"), &[("us/b", 100)]);
    // Too few, or in a zone without endpoints.
    close(found(&parts, zone_aware(5), "us/a"), &[("us/a", 50), ("us/b", 50)]);
    close(found(&parts, zone_aware(1), "us/c"), &[("us/a", 50), ("us/b", 50)]);
    close(found(&parts, zone_aware(1), "eu/c"), &[("eu/c", 100)]);
    // One of the own two fails: a third of those that are well is here.
    let failing = [("us/a", 1, 1, 1), ("us/b", 2, 0, 1), ("eu/c", 4, 0, 1)];
    close(found(&failing, zone_aware(4), "us/a"), &[("us/a", 44), ("us/b", 56)]);
    // All of the region fail.
    let gone = [("us/a", 0, 2, 1), ("us/b", 0, 2, 1), ("eu/c", 4, 0, 1)];
    close(found(&gone, zone_aware(4), "us/a"), &[("eu/c", 100)]);
}
