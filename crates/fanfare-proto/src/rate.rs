//! How often something may happen: a rate, and the bucket that keeps to it.
//!
//! The generic cell rate algorithm. All that a bucket remembers is when it will be full again, so that it takes eight bytes, needs
//! no timer, and is forgotten without loss once that time has come.

mod keyed;

pub use keyed::Keyed;

/// So much a second, and so much at once when it was quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

/// What is left of a burst, as the moment at which nothing is missing any more, in nanoseconds of whatever clock its callers have.
/// A new bucket is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket(u64);

const SECOND_NS: u64 = 1_000_000_000;

impl Rate {
    /// So much a second, at least 1, and twice as much at once.
    pub const fn per_second(per_second: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        Rate { per_second, burst: per_second.saturating_mul(2) }
    }

    /// So much at once when it was quiet, at least 1.
    pub const fn burst(self, burst: u32) -> Self {
        Rate { burst: if burst == 0 { 1 } else { burst }, ..self }
    }

    /// How much a second.
    pub const fn each_second(self) -> u32 {
        self.per_second
    }

    /// How much at once.
    pub const fn at_once(self) -> u32 {
        self.burst
    }

    /// How long it takes until so much may happen again. Rounded down, or a whole burst of single ones would not fit into its time.
    const fn time_of(self, cost: u64) -> u64 {
        cost.saturating_mul(SECOND_NS) / self.per_second as u64
    }
}

impl Bucket {
    /// How many nanoseconds are to pass before something of this cost may happen; 0 if it may now. What costs more than a burst may
    /// happen once the bucket is full.
    pub fn wait(self, rate: Rate, now_ns: u64, cost: u64) -> u64 {
        let burst = u64::from(rate.burst);
        let full_after = self.0.saturating_sub(now_ns).saturating_add(rate.time_of(cost.min(burst)));
        full_after.saturating_sub(rate.time_of(burst))
    }

    /// How much of a burst may happen now.
    pub fn left(self, rate: Rate, now_ns: u64) -> u32 {
        let used = u128::from(self.0.saturating_sub(now_ns)) * u128::from(rate.per_second);
        rate.burst.saturating_sub(u32::try_from(used.div_ceil(u128::from(SECOND_NS))).unwrap_or(u32::MAX))
    }

    /// It happens, whether there is room for it or not: what is too much has to be waited for by the next.
    pub fn charge(&mut self, rate: Rate, now_ns: u64, cost: u64) {
        self.0 = self.0.max(now_ns).saturating_add(rate.time_of(cost));
    }

    /// Lets something happen, if it may now.
    ///
    /// # Errors
    /// How many nanoseconds are to pass before it may.
    pub fn take(&mut self, rate: Rate, now_ns: u64, cost: u64) -> Result<(), u64> {
        match self.wait(rate, now_ns, cost) {
            0 => {
                self.charge(rate, now_ns, cost);
                Ok(())
            }
            wait_ns => Err(wait_ns),
        }
    }

    /// Whether it is full, so that a new one is as good.
    pub fn is_full(self, now_ns: u64) -> bool {
        self.0 <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_bucket_lets_pass() {
        /// At so many milliseconds, something of this cost: how many milliseconds it has to wait.
        type Step = (u64, u64, u64);
        let cases: [(&str, Rate, &[Step]); 9] = [
            ("the whole burst at once", Rate::per_second(10).burst(3), &[(0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 1, 100)]),
            (
                "one for each part of a second, whoever is refused takes nothing",
                Rate::per_second(10).burst(1),
                &[(0, 1, 0), (50, 1, 50), (99, 1, 1), (100, 1, 0), (199, 1, 1), (200, 1, 0)],
            ),
            (
                "no more than the burst after an hour",
                Rate::per_second(10).burst(2),
                &[(3_600_000, 1, 0), (3_600_000, 1, 0), (3_600_000, 1, 100)],
            ),
            (
                "costs add up",
                Rate::per_second(1_000).burst(1_000),
                &[(0, 600, 0), (0, 600, 200), (0, 400, 0), (0, 1, 1)],
            ),
            (
                "more than a burst passes when the bucket is full, and is paid for whole",
                Rate::per_second(100).burst(100),
                &[(0, 300, 0), (0, 1, 2_010), (1_999, 1, 11), (2_010, 1, 0), (2_010, 300, 1_000), (3_010, 300, 0)],
            ),
            ("nothing costs nothing", Rate::per_second(1).burst(1), &[(0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 1_000)]),
            ("a rate of none is one of one", Rate::per_second(0).burst(0), &[(0, 1, 0), (0, 1, 1_000)]),
            (
                "a clock that has gone back gives none",
                Rate::per_second(1).burst(1),
                &[(5_000, 1, 0), (0, 1, 6_000), (6_000, 1, 0)],
            ),
            ("a third has no end", Rate::per_second(3).burst(3), &[(0, 1, 0), (0, 1, 0), (0, 1, 0), (1_000, 3, 0)]),
        ];
        for (what, rate, steps) in cases {
            let mut bucket = Bucket::default();
            for (step, &(at_ms, cost, wait_ms)) in steps.iter().enumerate() {
                let waited = bucket.take(rate, at_ms * MS, cost).map_or_else(|wait_ns| wait_ns, |()| 0);
                assert_eq!(waited.div_ceil(MS), wait_ms, "{what}: step {step}");
            }
        }
        let mut bucket = Bucket::default();
        let ten = Rate::per_second(10).burst(4);
        let left = [0, 50, 100, 350, 400].map(|at_ms| Bucket(400 * MS).left(ten, at_ms * MS));
        assert_eq!((left, Bucket(u64::MAX).left(ten, 0)), ([0, 0, 1, 3, 4], 0));
        let most = Rate::per_second(u32::MAX).burst(u32::MAX);
        assert_eq!((bucket.take(most, u64::MAX, u64::MAX), bucket.is_full(u64::MAX)), (Ok(()), true), "no overflow");
    }

    proptest! {
        /// Whatever comes when, no more passes in any span than the burst and what the rate gives in that time; and who waits as long as
        /// was said is let through.
        #[test]
        fn no_more_passes_than_the_rate_allows(
            per_second in 1..100_000_u32,
            burst in 1..1_000_u32,
            steps in prop::collection::vec((0..50_000_000_u64, 1..100_u64), 1..200),
        ) {
            let rate = Rate::per_second(per_second).burst(burst);
            let (mut bucket, mut now, mut passed) = (Bucket::default(), 0, Vec::new());
            for (pause, cost) in steps {
                now += pause;
                let cost = cost.min(burst.into());
                match bucket.take(rate, now, cost) {
                    Ok(()) => passed.push((now, cost)),
                    Err(wait) => prop_assert_eq!(bucket.wait(rate, now + wait, cost), 0),
                }
            }
            for (first, &(begin, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for &(end, cost) in &passed[first..] {
                    sum += cost;
                    // Each step is rounded down by less than a nanosecond.
                    let given = u128::from(end - begin) * u128::from(per_second) / 1_000_000_000;
                    prop_assert!(u128::from(sum) <= u128::from(burst) + given + 1, "{} in {}", sum, end - begin);
                }
            }
        }
    }
}
