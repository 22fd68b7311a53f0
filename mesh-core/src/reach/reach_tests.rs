//! Examples are replayed through the tables; that there is none is held against a pool of requests.

use proptest::prelude::*;

use super::{Conjunction, Example, Outcome, Place, Space};
use crate::compile::compile;
use crate::compile::oracle_tests::{Sample, crowded_predicate, numbered, predicate, rule_holds, sample};
use crate::compile::sample_tests::*;
use crate::model::*;

fn space() -> Space {
    Space::new(
        Place {
            hosts: vec![HostPattern::Any],
            others: Vec::new(),
            scheme: "http",
            normalization: PathNormalization::None,
        },
        u64::MAX,
    )
}

/// For each rule in turn, whether a request is left to it.
fn outcomes(space: &mut Space, predicates: &[Predicate]) -> Vec<Outcome> {
    let all: Vec<Conjunction> = predicates.iter().map(|predicate| space.conjunction(predicate)).collect();
    let before = |at: usize| all[..at].iter().collect::<Vec<_>>();
    (0..all.len()).map(|at| space.find(&[&all[at]], &before(at))).collect()
}

/// Examples must reach their rules, and no request of the pool reaches a rule that is said to be dead.
fn agree(predicates: Vec<Predicate>, pool: &[Sample]) -> Result<(), TestCaseError> {
    let rules = numbered(predicates.clone());
    let compiled = compile(&set(vec![virtual_host("*", rules.clone())], &["d"]), None, 1);
    let table = http_table(&compiled.snapshot);
    // Path and query as one text are searched for in parts.
    let in_parts = |predicate: &Predicate| predicate.headers.iter().any(|header| header.name == ":path");
    let may_be_unknown = predicates.iter().any(in_parts);
    for (at, outcome) in outcomes(&mut space(), &predicates).into_iter().enumerate() {
        match outcome {
            Outcome::Example(example) => {
                let won = example.ask(|request| winner(table, request));
                prop_assert_eq!(won, Some(u32::try_from(at).ok()), "{} for {:?}", example, predicates[at]);
            }
            Outcome::Nothing(covering) => {
                prop_assert!(covering.iter().all(|other| *other < at));
                for sample in pool {
                    let headers = sample.headers();
                    let request = sample.request(&headers);
                    let covered = covering.iter().any(|other| rule_holds(&predicates[*other], &request));
                    prop_assert!(!rule_holds(&predicates[at], &request) || covered, "{at} is not dead: {sample:?}");
                    prop_assert_ne!(winner(table, &request), u32::try_from(at).ok(), "{:?}", sample);
                }
            }
            Outcome::Unknown => prop_assert!(may_be_unknown, "{at} is unknown"),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_are_those_of_a_pool_of_requests(
        predicates in proptest::collection::vec(predicate(), 0..16),
        pool in proptest::collection::vec(sample(), 150),
    ) {
        agree(predicates, &pool)?;
    }

    /// Few paths, many headers: most rules are dead, and several cover them together.
    #[test]
    fn verdicts_of_crowded_tables_are_those_of_a_pool_of_requests(
        predicates in proptest::collection::vec(crowded_predicate(), 0..16),
        pool in proptest::collection::vec(sample(), 300),
    ) {
        agree(predicates, &pool)?;
    }
}

fn header(name: &str, value: StringMatch, invert: bool) -> HeaderMatch {
    HeaderMatch { name: name.to_owned(), value, invert }
}

fn text(value: &str) -> StringMatch {
    StringMatch::Exact(value.to_owned())
}

fn with(path: PathMatch, headers: Vec<HeaderMatch>) -> Predicate {
    Predicate { path, headers, ..Predicate::default() }
}

fn example(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Example(example) => example.to_string(),
        other => format!("{other:?}"),
    }
}

fn verdicts(predicates: &[Predicate]) -> Vec<String> {
    outcomes(&mut space(), predicates).iter().map(example).collect()
}

#[test]
fn several_rules_cover_one_together() {
    let present = || header("x", StringMatch::Present, false);
    let absent = || header("x", StringMatch::Present, true);
    let rules = [
        with(prefix("/a"), vec![present()]),
        with(prefix("/z"), vec![]),
        with(prefix("/"), vec![absent()]),
        with(prefix("/a/b"), vec![]),
        with(prefix("/c"), vec![]),
    ];
    let said = verdicts(&rules);
    assert_eq!(said[3], "Nothing([0, 2])");
    assert_eq!(said[4], "GET http://any.example/c with x: 1");
}

#[test]
fn regular_expressions_are_compared_as_languages() {
    let regex = |text: &str| with(PathMatch::Regex(text.to_owned()), vec![]);
    let rules = [
        regex("/[a-z]+"),
        regex("/(ab|cd)*x"),
        with(exact("/abcdx"), vec![]),
        regex("/[a-z]*[0-9]"),
        with(prefix("/q"), vec![]),
        regex("/q.+"),
    ];
    let said = verdicts(&rules);
    assert_eq!(said[1], "Nothing([0])");
    assert_eq!(said[2], "Nothing([0])");
    assert_eq!(said[3], "GET http://any.example/0");
    assert_eq!(said[4], "GET http://any.example/q/");
    assert_eq!(said[5], "Nothing([4])");
}

#[test]
fn two_lines_of_a_header_reach_what_one_cannot() {
    let rules = [with(prefix("/"), vec![header("x", text("1"), false), header("x", text("2"), false)])];
    assert_eq!(verdicts(&rules), ["GET http://any.example/ with x: 1, x: 2"]);
}

#[test]
fn conditions_that_exclude_each_other_need_no_other_rule() {
    let both = vec![header("x", text("1"), false), header("x", StringMatch::Present, true)];
    let method = Predicate { method: Some(text("CONNECT")), ..on_path(prefix("/")) };
    assert_eq!(verdicts(&[with(prefix("/"), both), method]), ["Nothing([])", "Nothing([])"]);
}

#[test]
fn paths_that_are_never_canonical_are_not_there() {
    let modes = [PathNormalization::Base, PathNormalization::MergeSlashes, PathNormalization::DecodeAndMergeSlashes];
    let dead = |path: &str, modes: &[PathNormalization]| {
        modes.iter().all(|mode| {
            let mut space = Space::new(Place { normalization: *mode, ..space().place }, u64::MAX);
            let rule = space.conjunction(&on_path(exact(path)));
            space.find(&[&rule], &[]) == Outcome::Nothing(Vec::new())
        })
    };
    for path in ["/a/../b", "/a b", "/%41", "/a\\b", "a", "/x?y", "/..;v=1", "/."] {
        assert!(dead(path, &modes), "{path}");
    }
    for path in ["/", "/a/", "/a%20b", "/...", "/.a;b", "/%E4"] {
        assert!(modes.iter().all(|mode| !dead(path, &[*mode])), "{path}");
    }
    assert!(dead("//a", &modes[1..]) && !dead("//a", &modes[..1]));
    assert!(dead("/%2F", &modes[2..]) && !dead("/%2F", &modes[..2]));
}

/// What normal forms are is decided by `snapshot::path`.
#[test]
fn canonical_paths_are_what_paths_become() {
    use crate::snapshot::path::normalize;
    let pieces = ["/", ".", "..", ";", "a", "%2e", "%2F", "%5c", "%41", "%20", " ", "\\", "//", "%7e", "{"];
    for mode in [PathNormalization::Base, PathNormalization::MergeSlashes, PathNormalization::DecodeAndMergeSlashes] {
        let machine = super::universe::machine(&super::universe::paths(mode)).unwrap();
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let path = format!("/{a}{b}{c}");
                    let canonical = normalize(&path, mode).unwrap();
                    assert!(machine.contains(canonical.as_bytes()), "{path} -> {canonical}");
                    let stays = *canonical == *path;
                    assert_eq!(machine.contains(path.as_bytes()), stays, "{path} -> {canonical}");
                }
            }
        }
    }
}

#[test]
fn what_is_too_large_is_unknown() {
    let large = |text: &str| with(PathMatch::Regex(format!("/.*{text}.{{18}}")), vec![]);
    let said = verdicts(&[large("a"), large("b"), with(prefix("/"), vec![])]);
    assert!(said.contains(&"Unknown".to_owned()), "{said:?}");
}

#[test]
fn authorities_are_those_of_the_host() {
    let mut space = Space::new(
        Place {
            hosts: vec![HostPattern::Suffix(".example".into())],
            others: vec![HostPattern::Exact("www.example".into())],
            ..space().place
        },
        u64::MAX,
    );
    let on = |authority: &str| Predicate { authority: Some(text(authority)), ..Predicate::default() };
    let rules = [Predicate::default(), on("www.example"), on("b.example:80"), on("c.invalid")];
    let all: Vec<Conjunction> = rules.iter().map(|rule| space.conjunction(rule)).collect();
    let said: Vec<String> = all.iter().map(|rule| example(&space.find(&[rule], &[]))).collect();
    assert_eq!(said, ["GET http://a.example/", "Nothing([])", "GET http://b.example:80/", "Nothing([])"]);
    let mut space = Space::new(Place { hosts: vec![HostPattern::Any], ..space.place }, u64::MAX);
    for authority in ["[::1]:80", "[2001:db8::1]", "192.0.2.1", "a~b.example"] {
        let rule = space.conjunction(&on(authority));
        assert_eq!(example(&space.find(&[&rule], &[])), format!("GET http://{authority}/"));
    }
}

#[test]
fn a_name_that_no_other_has_is_found_among_many() {
    let others = ["www", "a", "any-name", "x0", "x1"].map(|name| HostPattern::Exact(format!("{name}.example").into()));
    let place = Place { hosts: vec![HostPattern::Suffix(".example".into())], others: others.into(), ..space().place };
    assert_eq!(place.authority().as_deref(), Some("x2.example"));
}

#[test]
fn without_fuel_nothing_is_known() {
    let mut space = Space::new(space().place, 1);
    let rule = space.conjunction(&on_path(PathMatch::Regex("/a+b".into())));
    assert_eq!(space.find(&[&rule], &[]), Outcome::Unknown);
    assert_eq!((space.left(), space.find(&[&rule], &[])), (0, Outcome::Unknown));
}

#[test]
fn expressions_share_a_memory() {
    let mut space = space();
    let large = |number: u32| on_path(PathMatch::Regex(format!("/{number}.*a.{{18}}")));
    (0..32).for_each(|number| drop(space.conjunction(&large(number))));
    let rule = space.conjunction(&on_path(PathMatch::Regex("/a+b".into())));
    assert_eq!(space.find(&[&rule], &[]), Outcome::Unknown);
}

#[test]
fn tokens_and_queries_are_part_of_examples() {
    let claims = vec![ClaimMatch { claim: vec!["a".into(), "b".into()], value: text("c"), invert: false }];
    let query = vec![QueryMatch { name: "k".into(), value: StringMatch::Prefix("v".into()) }];
    let mut space = space();
    let rule = space.conjunction(&Predicate { claims, query, ..Predicate::default() });
    let Outcome::Example(example) = space.find(&[&rule], &[]) else { panic!() };
    assert_eq!(example.to_string(), "GET http://any.example/?k=v with claim a.b = c");
    assert_eq!(example.ask(|request| request.token.is_some()), Some(true));
    let _: &Example = &example;
}
