//! Every change is asked of both tables, and no request of a pool changes unless it is told.

use proptest::prelude::*;

use super::{Asked, Change, Differences, Side, differences};
use crate::compile::compile;
use crate::compile::oracle_tests::{Sample, crowded_predicate, predicate, sample};
use crate::compile::sample_tests::*;
use crate::model::*;
use crate::snapshot::Snapshot;
use crate::world::World;

/// Rules with a destination each, of which there are few.
fn tables(rules: Vec<(Predicate, u32)>) -> (ResourceSet, Snapshot) {
    let rule = |(number, (predicate, to)): (u32, (Predicate, u32))| {
        rule(number, predicate, forward(vec![split(&format!("d{to}"), 1)]))
    };
    let rules = (0..).zip(rules).map(rule).collect();
    // All paths may be asked for, as they are.
    let mut set = set(vec![virtual_host("*", rules)], &["d0", "d1", "d2"]);
    let listener = set.listeners.get("0.0.0.0:80").unwrap();
    let listener = Listener { path_normalization: PathNormalization::None, ..(**listener).clone() };
    set.listeners.insert(listener.key.clone(), listener.into());
    let snapshot = compile(&set, None, 1).snapshot;
    (set, snapshot)
}

fn compared(old: &(ResourceSet, Snapshot), new: &(ResourceSet, Snapshot)) -> Differences {
    let world = World::default();
    let side = |(set, snapshot)| Side { world: &world, set, snapshot };
    differences(&side((&old.0, &old.1)), &side((&new.0, &new.1)))
}

/// Number of the rule that wins, and where it sends the request.
fn won(tables: &(ResourceSet, Snapshot), request: &crate::snapshot::Request<'_>) -> (Option<u32>, Option<Key>) {
    let number = winner(http_table(&tables.1), request);
    let host = tables.0.routes.values().next().unwrap().virtual_hosts[0].clone();
    let rule = number.map(|number| host.rules[number as usize].clone());
    let to = rule.and_then(|rule| match &*rule.action {
        Action::Forward(forward) => forward.splits.first().map(|split| match &split.destination {
            DestinationRef::Known(key) | DestinationRef::Unknown(key) => key.clone(),
        }),
        _ => None,
    });
    (number, to)
}

fn number(rule: &Option<String>) -> Option<u32> {
    rule.as_ref().map(|rule| rule.trim_end_matches(']').rsplit('[').next().unwrap().parse().unwrap())
}

fn agree(old: Vec<(Predicate, u32)>, new: Vec<(Predicate, u32)>, pool: &[Sample]) -> Result<(), TestCaseError> {
    let (old, new) = (tables(old), tables(new));
    let found = compared(&old, &new);
    // Path and query together are too much, sometimes.
    let hosts = [&old, &new].into_iter().flat_map(|(set, _)| set.routes.values()).flat_map(|all| &all.virtual_hosts);
    let mut headers = hosts.flat_map(|host| &host.rules).flat_map(|rule| &rule.predicate.headers);
    prop_assert!(found.unknown.is_empty() || headers.any(|header| header.name == ":path"), "{:?}", found.unknown);
    let pair = |change: &Change| (number(&change.old.rule), number(&change.new.rule));
    for change in &found.changes {
        let Asked::Request(example) = &change.request else { panic!("{change:?}") };
        let asked = example.ask(|request| (won(&old, request), won(&new, request)));
        let ((before, from), (after, to)) = asked.unwrap();
        prop_assert_eq!((before, after), pair(change), "{}", example);
        prop_assert_ne!(from, to, "{}", example);
    }
    for sample in pool {
        let headers = sample.headers();
        let request = sample.request(&headers);
        let ((before, from), (after, to)) = (won(&old, &request), won(&new, &request));
        let told = found.changes.iter().any(|change| pair(change) == (before, after));
        prop_assert!(from == to || told || !found.unknown.is_empty(), "{sample:?}: {before:?} {after:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_are_those_of_a_pool_of_requests(
        rules in proptest::collection::vec((prop_oneof![predicate(), crowded_predicate()], 0_u32..3), 1..8),
        edit in (any::<prop::sample::Index>(), prop_oneof![predicate(), crowded_predicate()], 0_u32..3, 0..3),
        pool in proptest::collection::vec(sample(), 150),
    ) {
        let mut new = rules.clone();
        let (at, predicate, to, kind) = edit;
        let at = at.index(new.len());
        match kind {
            0 => new.insert(at, (predicate, to)),
            1 => { new.remove(at); }
            _ => new[at] = (predicate, to),
        }
        agree(rules, new, &pool)?;
    }
}

#[test]
fn equal_configurations_have_no_differences() {
    let rules = vec![(on_path(prefix("/a")), 0), (on_path(PathMatch::Regex("/b.*".into())), 1)];
    assert_eq!(compared(&tables(rules.clone()), &tables(rules)), Differences::default());
}

#[test]
fn what_is_equal_needs_no_search() {
    let mut rules: Vec<_> = (0..2500).map(|at| (on_path(prefix(&format!("/{at}"))), at % 3)).collect();
    rules.extend((0..3).map(|at| (on_path(PathMatch::Regex(format!("/.*{at}a.{{18}}"))), at)));
    assert_eq!(compared(&tables(rules.clone()), &tables(rules)), Differences::default());
}

#[test]
fn a_rule_that_moves_takes_what_is_in_both() {
    let (a, b) = ((on_path(prefix("/a")), 0), (on_path(PathMatch::Regex("/[ab]/x".into())), 1));
    let found = compared(&tables(vec![a.clone(), b.clone()]), &tables(vec![b, a]));
    assert_eq!(found.changes.len(), 1, "{found:?}");
    let Asked::Request(example) = &found.changes[0].request else { panic!() };
    assert_eq!(example.to_string(), "GET http://any.example/a/x");
    assert_eq!(found.changes[0].differs_in, ["destinations"]);
}

#[test]
fn settings_of_a_destination_count() {
    let (old, mut new) = (tables(vec![(on_path(prefix("/a")), 0)]), tables(vec![(on_path(prefix("/a")), 0)]));
    let key = key_of("d0");
    let changed = Destination { balancing: Balancing::Random, ..(**new.0.destinations.get(&key).unwrap()).clone() };
    new.0.destinations.insert(key, changed.into());
    new.1 = compile(&new.0, None, 1).snapshot;
    let found = compared(&old, &new);
    assert_eq!(
        found.changes.iter().map(|change| change.differs_in.clone()).collect::<Vec<_>>(),
        [["destination settings"]]
    );
}

#[test]
fn a_listener_that_is_gone_answers_nobody() {
    let old = tables(vec![(on_path(prefix("/a")), 0)]);
    let found = compared(&old, &(ResourceSet::default(), Snapshot::default()));
    // The rule, and what none matched.
    let decisions: Vec<&str> = found.changes.iter().map(|change| change.new.decision.as_str()).collect();
    assert_eq!(decisions, ["nobody listens", "nobody listens"]);
}
