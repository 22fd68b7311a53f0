//! New endpoints get fewer requests at first, as with Envoy's slow start. The clock is passed in.

use std::time::{Duration, Instant};

use crate::model::Warmup;

/// Weights are made anew so often while something is new: a hundred times, but no oftener than this.
const SHORTEST: Duration = Duration::from_millis(100);

impl Warmup {
    /// Of its weight, that an endpoint of this age has.
    pub(super) fn part(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let age = age.max(Duration::from_millis(1));
        let time = age.as_secs_f64() / self.window.as_secs_f64();
        let part = if self.aggression == 1000 { time } else { time.powf(1000.0 / f64::from(self.aggression.max(1))) };
        part.max(f64::from(self.minimum) / 10_000.0).min(1.0)
    }

    /// When weights are to be made anew, if the youngest endpoint is of this age.
    pub(super) fn next(&self, youngest: Instant, now: Instant) -> Option<Instant> {
        let ends = youngest + self.window;
        (now < ends).then(|| (now + (self.window / 100).max(SHORTEST)).min(ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warmup(seconds: u64, minimum: u32, aggression: u32) -> Warmup {
        Warmup { window: Duration::from_secs(seconds), minimum, aggression }
    }

    /// Envoy: `max(min_weight_percent, time_factor ^ (1 / aggression))`.
    #[test]
    fn the_part_is_that_of_envoys_slow_start() {
        let part = |warmup: Warmup, seconds: u64| warmup.part(Duration::from_secs(seconds));
        for (warmup, seconds, wanted) in [
            (warmup(60, 1000, 1000), 0, 0.1),
            (warmup(60, 1000, 1000), 6, 0.1),
            (warmup(60, 1000, 1000), 30, 0.5),
            (warmup(60, 1000, 1000), 60, 1.0),
            (warmup(60, 0, 1000), 15, 0.25),
            (warmup(60, 0, 2000), 15, 0.5),
            (warmup(60, 0, 500), 30, 0.25),
            (warmup(60, 10_000, 1000), 1, 1.0),
        ] {
            assert!((part(warmup, seconds) - wanted).abs() < 1e-9, "{warmup:?} {seconds}: {}", part(warmup, seconds));
        }
        assert!(warmup(60, 0, 1000).part(Duration::ZERO) > 0.0);
    }

    #[test]
    fn weights_are_made_anew_until_it_is_over() {
        let (begin, warmup) = (Instant::now(), warmup(60, 0, 1000));
        let at = |millis| begin + Duration::from_millis(millis);
        assert_eq!(warmup.next(begin, at(0)), Some(at(600)));
        assert_eq!(warmup.next(begin, at(59_900)), Some(at(60_000)));
        assert_eq!(warmup.next(begin, at(60_000)), None);
    }
}
