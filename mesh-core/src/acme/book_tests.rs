use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::super::Want;
use super::*;
use crate::object::ObjectRef;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn wants(names: &[&str], http: bool) -> Wants {
    let want = |name: &str| {
        let (origin, field) = (ObjectRef::new("Gateway", "default", "gw"), "spec.servers[0].tls".to_owned());
        (Arc::from(name), Want { host: name.into(), http, origin, field })
    };
    Wants { names: names.iter().map(|name| want(name)).collect() }
}

fn book(names: &[&str]) -> Book {
    let mut book = Book::default();
    book.want(&wants(names, true), false);
    book
}

fn names(due: &[Arc<str>]) -> Vec<&str> {
    due.iter().map(|name| &**name).collect()
}

fn lives(from: u64, to: u64) -> Lifetime {
    Lifetime { not_before: at(from), not_after: at(to) }
}

fn failure(trouble: Trouble) -> Failure {
    Failure::new(trouble, "it said no")
}

#[test]
fn what_is_new_is_ordered_at_once_and_renewed_after_two_thirds() {
    let mut book = book(&["a.example", "b.example"]);
    assert_eq!(names(&book.due(at(0))), ["a.example", "b.example"]);
    book.begin("a.example");
    assert_eq!(names(&book.due(at(0))), ["b.example"]);
    book.issued("a.example", lives(0, 90), 0.0);
    book.have("b.example", lives(0, 900), 0.0);
    assert_eq!(book.due(at(59)), Vec::<Arc<str>>::new());
    assert_eq!(book.wake(at(59)), Some(at(60)));
    assert_eq!(names(&book.due(at(60))), ["a.example"]);
}

#[test]
fn names_that_nobody_wants_any_more_are_forgotten_also_while_they_are_ordered() {
    let mut book = book(&["a.example"]);
    book.begin("a.example");
    assert_eq!(names(&book.want(&wants(&["b.example"], true), false)), ["b.example"]);
    book.issued("a.example", lives(0, 90), 0.0);
    assert_eq!(book.get("a.example"), None);
}

#[test]
fn one_that_fails_takes_no_other_down_and_tries_the_other_challenge() {
    let mut book = book(&["a.example", "b.example"]);
    book.begin("a.example");
    book.failed("a.example", failure(Trouble::Challenge), true, at(0), 0.0);
    assert_eq!(names(&book.due(at(0))), ["b.example"]);
    assert_eq!(book.next("a.example", at(0)), Some(at(120)));
    assert_eq!(book.get("a.example").map(|order| order.challenge), Some(Challenge::TlsAlpn));
    book.begin("a.example");
    book.failed("a.example", failure(Trouble::Challenge), true, at(120), 0.0);
    assert_eq!(book.next("a.example", at(120)), Some(at(360)));
    assert_eq!(book.get("a.example").map(|order| order.challenge), Some(Challenge::Http));
}

#[test]
fn without_a_listener_for_http_there_is_one_challenge() {
    let mut book = Book::default();
    book.want(&wants(&["a.example"], false), false);
    book.begin("a.example");
    book.failed("a.example", failure(Trouble::Challenge), false, at(0), 0.0);
    assert_eq!(book.get("a.example").map(|order| order.challenge), Some(Challenge::TlsAlpn));
}

#[test]
fn a_ca_that_is_away_is_asked_for_one_name_at_a_time() {
    let mut book = book(&["a.example", "b.example", "c.localhost"]);
    book.begin("a.example");
    book.begin("b.example");
    book.failed("a.example", failure(Trouble::Unreachable), true, at(0), 0.0);
    book.failed("b.example", failure(Trouble::Unreachable), true, at(1), 0.0);
    assert_eq!(names(&book.due(at(1))), ["c.localhost"], "which is none of its business");
    assert_eq!(book.next("b.example", at(1)), Some(at(2)), "the two say the same");
    assert_eq!(names(&book.due(at(2))), ["a.example", "b.example", "c.localhost"]);
    book.begin("a.example");
    book.failed("a.example", failure(Trouble::Unreachable), true, at(2), 0.0);
    assert_eq!(book.next("b.example", at(2)), Some(at(6)));
    book.begin("b.example");
    book.issued("b.example", lives(0, 90), 0.0);
    assert_eq!(names(&book.due(at(6))), ["a.example", "c.localhost"], "it is back");
}

#[test]
fn the_old_certificate_stays_while_its_renewal_fails() {
    let mut book = book(&["a.example"]);
    book.issued("a.example", lives(0, 90), 0.0);
    book.begin("a.example");
    book.failed("a.example", failure(Trouble::Refused), true, at(60), 0.0);
    let order = book.get("a.example").cloned().unwrap();
    assert!(order.serves(at(89)) && !order.serves(at(90)));
    assert_eq!(order.failure.map(|failure| failure.message), Some("it said no".to_owned()));
}

#[test]
fn who_is_begun_again_and_again_does_not_ask_again_and_again() {
    let mut book = book(&["a.example", "b.example"]);
    book.restore("a.example", failure(Trouble::Challenge), 1, at(120));
    book.restore("b.example", failure(Trouble::Challenge), 2, at(240));
    assert_eq!(names(&book.due(at(0))), ["a.example"], "what was wrong may be right now");
    assert_eq!(book.next("b.example", at(0)), Some(at(240)));
    book.begin("a.example");
    book.failed("a.example", failure(Trouble::Challenge), true, at(0), 0.0);
    assert_eq!(book.next("a.example", at(0)), Some(at(240)), "it was the second time");
}

#[test]
fn who_is_told_to_hurry_tries_what_failed_and_nothing_else() {
    let mut book = book(&["a.example", "b.example"]);
    book.issued("b.example", lives(0, 900), 0.0);
    book.begin("a.example");
    book.failed("a.example", failure(Trouble::Limited), true, at(0), 0.0);
    assert_eq!(book.due(at(0)), Vec::<Arc<str>>::new());
    book.hurry();
    assert_eq!(names(&book.due(at(0))), ["a.example"]);
}

#[test]
fn a_window_of_the_ca_brings_the_renewal_forward() {
    let mut book = book(&["a.example"]);
    book.issued("a.example", lives(0, 9000), 0.5);
    book.set_window("a.example", Some(Window { start: at(10), end: at(20) }));
    assert_eq!(book.wake(at(1)), Some(at(15)));
    book.have("a.example", lives(5, 9005), 0.0);
    assert_eq!(book.get("a.example").and_then(|order| order.window), None, "it was the other certificate's");
}

proptest! {
    /// Whatever fails, however often: nobody is asked twice at once, and the pause after each failure is kept.
    #[test]
    fn there_is_no_hot_loop(troubles in prop::collection::vec((0_usize..3, 0_usize..5, 0.0..1.0_f64), 1..200)) {
        let kinds = [Trouble::Unreachable, Trouble::Limited, Trouble::Challenge, Trouble::Refused, Trouble::Storage];
        let mut book = book(&["a.example", "b.example", "c.example"]);
        let mut now = at(1000);
        let mut last: HashMap<Arc<str>, SystemTime> = HashMap::new();
        for (which, kind, chance) in troubles {
            now = book.wake(now).unwrap().max(now);
            let due = book.due(now);
            prop_assert!(!due.is_empty());
            let name = due[which % due.len()].clone();
            if let Some(before) = last.insert(name.clone(), now) {
                prop_assert!(now.duration_since(before).unwrap() >= Duration::from_secs(2));
            }
            book.begin(&name);
            prop_assert!(!book.due(now).contains(&name));
            book.failed(&name, failure(kinds[kind]), true, now, chance);
            prop_assert!(!book.due(now).contains(&name));
        }
    }
}
