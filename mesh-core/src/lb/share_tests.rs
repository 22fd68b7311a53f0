use std::hash::RandomState;
use std::time::Duration;

use super::*;
use crate::lb::RateCount;
use crate::model::LimitAmount;

const SECOND: u64 = 1_000_000_000;

/// Ten in a second, at most twenty at once.
fn count() -> RateCount {
    let amount = LimitAmount {
        requests: 10,
        per: Duration::from_secs(1),
        burst: 20,
        by: Vec::new(),
        max_buckets: LimitAmount::USUAL_BUCKETS,
        global: true,
    };
    RateCount::new("n/a/b".into(), &amount, RandomState::new(), Some(ShareCell::new(0)))
}

fn let_through(count: &RateCount, now: u64) -> usize {
    let take = || {
        let moment = count.moment(now);
        count.rate.take(count.bucket(0, &moment), &moment).is_ok()
    };
    (0..1000).take_while(|_| take()).count()
}

fn half() -> Part {
    Part(Part::WHOLE.0 / 2)
}

#[test]
fn who_was_never_lent_anything_lets_one_through_and_then_few() {
    let count = count();
    assert!(count.share().unwrap().is_alone(0));
    assert_eq!(let_through(&count, 0), 1);
    // One in 51.2 s.
    assert_eq!(let_through(&count, 51 * SECOND), 0);
    assert_eq!(let_through(&count, 52 * SECOND), 1);
    assert_eq!(let_through(&count, 1000 * SECOND), 1, "not more at once than one");
}

#[test]
fn a_share_has_its_part_of_rate_and_burst_and_what_is_left_when_it_ran_out() {
    let count = count();
    let lease = Lease { share: half(), until: 10 * SECOND, rest: Part(Part::WHOLE.0 / 8) };
    count.lend(lease, Part(0), 0);
    assert!(!count.share().unwrap().is_alone(0));
    assert_eq!(let_through(&count, 0), 1, "room comes no faster than tokens");
    assert_eq!(let_through(&count, SECOND), 5);
    assert_eq!(let_through(&count, 10 * SECOND - 1), 10, "half of the burst");
    // From now on 1.25 a second, and 2.5 at once.
    assert_eq!(let_through(&count, 11 * SECOND), 1);
    assert_eq!(let_through(&count, 60 * SECOND), 2);
    assert!(count.share().unwrap().is_alone(60 * SECOND));
}

#[test]
fn what_was_idle_for_long_has_no_more_when_its_share_grows() {
    let count = count();
    let eighth = Part(Part::WHOLE.0 / 8);
    count.lend(Lease { share: eighth, until: 100 * SECOND, rest: eighth }, Part(0), 0);
    count.lend(Lease { share: Part::WHOLE, until: 200 * SECOND, rest: eighth }, Part(0), 100 * SECOND);
    assert_eq!(let_through(&count, 100 * SECOND + SECOND / 10), 3);
    assert_eq!(let_through(&count, 101 * SECOND), 9);
    // And what shrinks has less at once.
    count.lend(Lease { share: eighth, until: 300 * SECOND, rest: eighth }, Part(0), 110 * SECOND);
    assert_eq!(let_through(&count, 110 * SECOND), 2);
}

#[test]
fn what_is_told_of_time_is_real() {
    let count = count();
    count.lend(Lease { share: half(), until: 100 * SECOND, rest: half() }, Part(0), 0);
    assert_eq!(let_through(&count, 90 * SECOND), 10);
    let moment = count.moment(90 * SECOND);
    let exhausted = count.rate.take(count.bucket(0, &moment), &moment).unwrap_err();
    assert_eq!(exhausted.retry_in, Duration::from_millis(200));
    assert_eq!(exhausted.full_in, Duration::from_secs(2));
}

#[test]
fn what_is_given_back_in_one_place_is_there_in_another() {
    let (one, other) = (count(), count());
    let lease = |share: Part| Lease { share, until: 1000 * SECOND, rest: share };
    let eighth = Part(Part::WHOLE.0 / 8);
    assert_eq!(one.lend(lease(Part::WHOLE), Part::WHOLE, 0), Part(0));
    assert_eq!(let_through(&one, 0), 20);
    // It was spent; five come in half a second, of which half stay.
    let returned = one.lend(lease(eighth), Part(0), SECOND / 2);
    assert!((returned.ratio() - 0.125).abs() < 0.001, "{returned:?}");
    assert_eq!(let_through(&one, SECOND / 2), 2);
    assert_eq!(let_through(&other, SECOND / 2), 1);
    assert_eq!(other.lend(lease(Part::WHOLE), returned, SECOND / 2), Part(0));
    assert_eq!(let_through(&other, SECOND / 2 + SECOND / 1000), 2);
}
