use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const DAY: u64 = 24 * 60 * 60;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn lifetime(days: u64) -> Lifetime {
    Lifetime { not_before: at(1000 * DAY), not_after: at((1000 + days) * DAY) }
}

#[test]
fn two_thirds_of_the_life_or_a_little_less() {
    assert_eq!(renewal(lifetime(90), None, 0.0), at(1060 * DAY));
    assert_eq!(renewal(lifetime(90), None, 1.0), at(1056 * DAY + DAY / 4));
}

#[test]
fn the_window_of_the_ca_counts_within_reason() {
    let window = |start, end| Some(Window { start: at(start), end: at(end) });
    assert_eq!(renewal(lifetime(90), window(1010 * DAY, 1020 * DAY), 0.5), at(1015 * DAY));
    assert_eq!(renewal(lifetime(90), window(5, 10), 0.0), at(5), "it was revoked: at once");
    assert_eq!(renewal(lifetime(90), window(2000 * DAY, 2010 * DAY), 0.5), at(1081 * DAY), "before it ends");
    assert_eq!(renewal(lifetime(90), window(1020 * DAY, 1010 * DAY), 0.0), at(1060 * DAY), "no window");
    assert_eq!(renewal(lifetime(90), window(1020 * DAY, 1020 * DAY), 0.0), at(1060 * DAY), "no window");
}

#[test]
fn pauses_grow_up_to_a_limit() {
    let pauses = |trouble: Trouble| {
        [1, 2, 3, 4, 20, u32::MAX]
            .map(|failures| retry(at(0), trouble, failures, None, 0.0).duration_since(at(0)).unwrap().as_secs())
    };
    assert_eq!(pauses(Trouble::Challenge), [120, 240, 480, 960, 21_600, 21_600]);
    assert_eq!(pauses(Trouble::Unreachable), [2, 4, 8, 16, 600, 600]);
    assert_eq!(pauses(Trouble::Limited)[0], 3600);
}

#[test]
fn the_ca_may_ask_for_a_longer_pause_and_not_for_a_shorter_one() {
    let asked = |seconds| retry(at(0), Trouble::Limited, 1, Some(at(seconds)), 0.0);
    assert_eq!(asked(2 * DAY), at(2 * DAY));
    assert_eq!(asked(5), at(3600));
    assert_eq!(asked(365 * DAY), at(7 * DAY), "nobody waits for a year");
}

proptest! {
    #[test]
    fn a_certificate_is_renewed_before_it_ends(
        days in 1_u64..400, chance in 0.0..1.0_f64, start in 0_u64..3000, length in 0_u64..100, has in any::<bool>()
    ) {
        let lifetime = lifetime(days);
        let window = has.then(|| Window { start: at(start * DAY), end: at((start + length) * DAY) });
        let renewed = renewal(lifetime, window, chance);
        prop_assert!(renewed < lifetime.not_after);
        if window.is_none() || length == 0 {
            prop_assert!(renewed >= lifetime.not_before + lifetime.length() / 2);
        } else {
            prop_assert!(renewed <= at((start + length) * DAY));
        }
    }

    /// Let's Encrypt: five failed validations of a name and account in an hour.
    #[test]
    fn failures_stay_within_the_limit_of_an_hour(chances in prop::collection::vec(0.0..1.0_f64, 40)) {
        let mut now = at(0);
        let mut tries = vec![now];
        for (failures, chance) in (1..).zip(chances) {
            now = retry(now, Trouble::Challenge, failures, None, chance);
            tries.push(now);
        }
        for (index, first) in tries.iter().enumerate() {
            let hour = tries[index..].iter().filter(|time| time.duration_since(*first).unwrap() < Duration::from_secs(3600));
            prop_assert!(hour.count() <= 5);
        }
    }

    #[test]
    fn there_is_always_a_pause(failures in any::<u32>(), chance in any::<f64>(), asked in 0_u64..100) {
        for trouble in [Trouble::Unreachable, Trouble::Limited, Trouble::Challenge, Trouble::Refused, Trouble::Unproven, Trouble::Storage] {
            let chance = if chance.is_finite() { chance } else { 0.0 };
            prop_assert!(retry(at(50), trouble, failures, Some(at(asked)), chance) >= at(52));
        }
    }
}
