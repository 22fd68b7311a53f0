//! Parts of limits that several proxies count together, and how they are lent.

/// A part of a limit, in parts of [`Part::WHOLE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part(pub u32);

impl Part {
    pub const WHOLE: Part = Part(1 << 30);
    /// Of who was never lent anything. So much for each of a few is never lent to anybody.
    pub const START: Part = Part(Part::WHOLE.0 >> 9);

    /// So much of it; rounded down.
    pub(crate) fn of(self, amount: u64) -> u64 {
        let part = u128::from(amount) * u128::from(self.0.min(Part::WHOLE.0)) / u128::from(Part::WHOLE.0);
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// How long something takes at this speed.
    pub(crate) fn stretched(self, amount: u64) -> u64 {
        let long = u128::from(amount) * u128::from(Part::WHOLE.0) / u128::from(self.0.max(1));
        u64::try_from(long).unwrap_or(u64::MAX)
    }

    /// How much of the whole that is; rounded down.
    pub(crate) fn from(amount: u64, whole: u64) -> Part {
        let part = u128::from(amount) * u128::from(Part::WHOLE.0) / u128::from(whole.max(1));
        Part(u32::try_from(part).unwrap_or(u32::MAX)).min(Part::WHOLE)
    }

    /// For people and metrics.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(Part::WHOLE.0)
    }
}

/// What is lent, by the clock of who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub share: Part,
    /// Nanoseconds. From then on there is `rest`.
    pub until: u64,
    /// At most `share`.
    pub rest: Part,
}

impl Lease {
    pub fn now(&self, now: u64) -> Part {
        if now < self.until { self.share } else { self.rest }
    }
}
