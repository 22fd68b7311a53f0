use std::hash::BuildHasher as _;

use proptest::prelude::*;

use super::*;
use crate::model::LimitKey;

fn amount(requests: u32, per: Duration, burst: u32) -> LimitAmount {
    LimitAmount { requests, per, burst, by: Vec::new(), max_buckets: LimitAmount::USUAL_BUCKETS, global: false }
}

/// A bucket as it is explained to people: tokens (in nanoseconds of filling) come with the time, up to the size.
struct Naive {
    size: u128,
    interval: u128,
    tokens: u128,
    last: u64,
}

impl Naive {
    fn new(rate: &LimitAmount) -> Naive {
        let interval = rate.per.as_nanos() / u128::from(rate.requests);
        let size = interval * u128::from(rate.burst);
        Naive { size, interval, tokens: size, last: 0 }
    }

    fn take(&mut self, now: u64) -> Result<u128, u128> {
        self.tokens = (self.tokens + u128::from(now - self.last)).min(self.size);
        self.last = now;
        if self.tokens < self.interval {
            return Err(self.interval - self.tokens);
        }
        self.tokens -= self.interval;
        Ok(self.tokens / self.interval)
    }

    fn give_back(&mut self) {
        self.tokens += self.interval;
    }
}

proptest! {
    #[test]
    fn it_lets_through_what_a_plain_bucket_lets_through(
        requests in 1_u32..50,
        per in prop_oneof![1_000_u64..2_000_000, 1_000_000_000_u64..100_000_000_000],
        burst in 1_u32..20,
        steps in proptest::collection::vec((0_u64..4, any::<u64>(), any::<bool>()), 1..200),
    ) {
        let amount = amount(requests, Duration::from_nanos(per), burst);
        let (rate, bucket, mut naive) = (Rate::new(&amount), AtomicU64::default(), Naive::new(&amount));
        let interval = per / u64::from(requests);
        let mut now = 0;
        for (kind, random, returns) in steps {
            now += match kind {
                0 => 0,
                1 => interval,
                2 => random % (interval + 2),
                _ => random % (per * 2),
            };
            match (rate.take(&bucket, &Moment::whole(now)), naive.take(now)) {
                (Ok(level), Ok(remaining)) => {
                    prop_assert_eq!(u128::from(level.remaining), remaining);
                    prop_assert_eq!(level.full_in.as_nanos(), naive.size - naive.tokens);
                    if returns {
                        rate.give_back(&bucket);
                        naive.give_back();
                    }
                }
                (Err(exhausted), Err(missing)) => {
                    prop_assert_eq!(exhausted.retry_in.as_nanos(), missing);
                    prop_assert_eq!(exhausted.full_in.as_nanos(), naive.size - naive.tokens);
                }
                (ours, plain) => prop_assert!(false, "{:?} {:?} at {}", ours, plain, now),
            }
        }
    }
}

#[test]
fn times_beyond_all_reason_do_not_overflow() {
    let rate = Rate::new(&amount(1, Duration::from_secs(31 * 24 * 3600), u32::MAX));
    let bucket = AtomicU64::default();
    for now in [0, u64::MAX / 2, u64::MAX] {
        let _ = rate.take(&bucket, &Moment::whole(now));
        rate.give_back(&bucket);
    }
}

#[test]
fn threads_share_a_bucket_exactly() {
    let rate = Rate::new(&amount(1, Duration::from_secs(3600), 1000));
    let bucket = AtomicU64::default();
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1000).filter(|_| rate.take(&bucket, &Moment::whole(7)).is_ok()).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1000);
}

fn keyed(most: u32) -> RateCount {
    let by = vec![LimitKey::Header("x-a".to_owned())];
    let amount = LimitAmount { by, max_buckets: most, ..amount(1, Duration::from_secs(1), 1) };
    RateCount::new("n/a/b".into(), &amount, RandomState::new(), None)
}

fn take(count: &RateCount, hash: u64, now: u64) -> Result<Level, Exhausted> {
    let moment = count.moment(now);
    count.rate.take(count.bucket(hash, &moment), &moment)
}

#[test]
fn each_hash_has_a_bucket_of_its_own() {
    let count = keyed(1 << 12);
    let hashes: Vec<u64> = (0..500).map(|number: u32| count.secret.hash_one(number)).collect();
    for hash in &hashes {
        assert!(take(&count, *hash, 0).is_ok());
    }
    for hash in &hashes {
        assert!(take(&count, *hash, 0).is_err());
    }
    let buckets = count.buckets().unwrap();
    assert_eq!((buckets.in_use(0), buckets.evicted()), (500, 0));
    // A second later all of them are full again, and their places are free.
    assert_eq!(buckets.in_use(1_000_000_000), 0);
}

#[test]
fn buckets_of_a_share_are_full_by_its_clock() {
    let by = vec![LimitKey::Header("x-a".to_owned())];
    let amount = LimitAmount { by, global: true, ..amount(1, Duration::from_secs(1), 1) };
    let count = RateCount::new("n/a/b".into(), &amount, RandomState::new(), Some(ShareCell::new(0)));
    let second = 1_000_000_000;
    let half = Part(Part::WHOLE.0 / 2);
    count.lend(Lease { share: half, until: u64::MAX, rest: half }, Part(0), 0);
    assert!(take(&count, 7, 10 * second).is_ok());
    assert_eq!(count.in_use(10 * second), 1);
    // A request takes two seconds to come at half the rate.
    assert_eq!((count.in_use(11 * second), count.in_use(12 * second)), (1, 0));
}

#[test]
fn full_buckets_go_first_and_the_number_stays_bounded() {
    let count = keyed(16);
    let now = |number: u64| number * 10_000_000;
    for number in 1..=16 {
        assert!(take(&count, number, now(number)).is_ok());
    }
    let buckets = count.buckets().unwrap();
    assert_eq!((buckets.in_use(now(16)), buckets.evicted()), (16, 0));
    // The first is the nearest to full.
    assert!(take(&count, 17, now(17)).is_ok());
    assert_eq!((buckets.in_use(now(17)), buckets.evicted()), (16, 1));
    assert!(take(&count, 2, now(17)).is_err());
    // Later all but the last are full.
    let later = now(117) - 1;
    assert!(take(&count, 17, later).is_err());
    for number in 100..115 {
        assert!(take(&count, number, later).is_ok());
    }
    assert_eq!((buckets.in_use(later), buckets.evicted()), (16, 1));
}
