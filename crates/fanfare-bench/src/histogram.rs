//! Times, counted in buckets that are at most 1.6 % wide: cheap enough for every delivery, exact enough for a percentile.

/// Each power of two is divided into this many buckets.
const PARTS: u64 = 64;
const PART_BITS: u32 = PARTS.trailing_zeros();

/// Counts of times in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    #[inline]
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.sum += nanoseconds;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// In nanoseconds; 0 without any.
    pub(crate) fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }

    /// In nanoseconds; 0 without any.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The time that this share of all does not exceed, in nanoseconds; 0 without any.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut sum = 0;
        let reached = |count: &u64| {
            sum += count;
            sum >= rank
        };
        self.counts.iter().position(reached).map_or(0, |index| upper(index).min(self.max))
    }

    /// The buckets that are not empty: the highest time of each in nanoseconds, and its count.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(index, count)| (upper(index), *count))
    }
}

#[inline]
fn bucket(value: u64) -> usize {
    let shift = value.max(1).ilog2().saturating_sub(PART_BITS);
    (u64::from(shift) * PARTS + (value >> shift)) as usize
}

/// The highest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / PARTS).saturating_sub(1);
    let part = u128::from(index - shift * PARTS);
    (((part + 1) << shift) - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        let mut last = None;
        for power in 0..64 {
            for value in [1_u64 << power, (1 << power) + (1 << power) / 3, ((1_u128 << (power + 1)) - 1) as u64] {
                let index = bucket(value);
                assert!(last <= Some(index), "{value}");
                last = Some(index);
                assert!(upper(index) >= value && upper(index) - value <= value / PARTS, "{value} in {}", upper(index));
                assert!(index == 0 || upper(index - 1) < value, "{value}");
            }
        }
        assert_eq!(upper(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn figures() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.max(), histogram.mean()), (0, 0, 0.0));
        let mut other = Histogram::default();
        (1..=60).for_each(|value| histogram.record(value));
        (61..=100).for_each(|value| other.record(value));
        histogram.add(&other);
        assert_eq!((histogram.count(), histogram.max(), histogram.mean()), (100, 100, 50.5));
        for (share, expected) in [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.0, 1)] {
            assert_eq!(histogram.quantile(share), expected, "{share}");
        }
        assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), 100);
    }
}
