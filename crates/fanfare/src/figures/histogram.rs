//! How long something took, in buckets: of one thread, or of many.

use crate::event::{Cell, Count};

/// From a millisecond to ten seconds.
const ORDINARY_US: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// From fifty microseconds to five seconds.
pub(super) const SHORT_US: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

/// From a second to a day.
pub(super) const LONG_US: &[u64] = &[
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
    43_200_000_000,
    86_400_000_000,
];

/// The buckets. Each bound belongs to the bucket below it; the last bucket has none.
#[derive(Debug)]
pub(crate) struct Histogram<C = Cell> {
    bounds_us: &'static [u64],
    counts: Box<[C]>,
    sum_us: C,
}

impl<C: Count> Default for Histogram<C> {
    fn default() -> Self {
        Histogram::new(ORDINARY_US)
    }
}

impl<C: Count> Histogram<C> {
    pub(super) fn new(bounds_us: &'static [u64]) -> Self {
        Histogram { bounds_us, counts: (0..=bounds_us.len()).map(|_| C::default()).collect(), sum_us: C::default() }
    }

    /// Something took so many microseconds.
    pub(crate) fn observe(&self, us: u64) {
        self.observe_times(us, 1);
    }

    /// The same of several things that took as long.
    pub(crate) fn observe_times(&self, us: u64, times: u64) {
        let bucket = self.bounds_us.iter().position(|&bound_us| us <= bound_us).unwrap_or(self.bounds_us.len());
        self.counts[bucket].grow(times);
        self.sum_us.grow(us.saturating_mul(times));
    }

    /// How many fell into each bucket, with its bound in microseconds.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let bounds = self.bounds_us.iter().copied().chain([u64::MAX]);
        bounds.zip(self.counts.iter().map(|count| count.now()))
    }
}

#[cfg(feature = "metrics")]
impl<C: Count> Histogram<C> {
    /// How many things took some time.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().map(C::now).sum()
    }
}

/// What histograms with the same bounds have counted together.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// The bound of each bucket in seconds, and how much fell into it.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) sum_s: f64,
}

#[cfg(feature = "metrics")]
impl Counted {
    /// Adds what one has counted.
    pub(crate) fn add<C: Count>(&mut self, histogram: &Histogram<C>) {
        if self.buckets.is_empty() {
            let bounds = histogram.bounds_us.iter().map(|&us| us as f64 / 1e6).chain([f64::INFINITY]);
            self.buckets.extend(bounds.map(|bound| (bound, 0)));
        }
        for ((_, count), more) in self.buckets.iter_mut().zip(&histogram.counts) {
            *count += more.now();
        }
        self.sum_s += histogram.sum_us.now() as f64 / 1e6;
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it_and_nothing_is_lost_above_the_last() {
        let (one, other) = (Histogram::<Cell>::default(), Histogram::<AtomicU64>::default());
        [0, 1_000, 1_001, 2_500].iter().for_each(|&us| one.observe(us));
        other.observe_times(10_000_000, 2);
        other.observe(u64::MAX / 2);
        let mut counted = Counted::default();
        counted.add(&one);
        counted.add(&other);
        let told: Vec<_> = counted.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(told, [(0.001, 2), (0.0025, 2), (10.0, 2), (f64::INFINITY, 1)]);
        assert_eq!(counted.count(), 7);
        assert!(counted.sum_s > 20.0);
    }
}
