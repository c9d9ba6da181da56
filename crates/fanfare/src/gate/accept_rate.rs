//! How many handshakes a second are let in: a token bucket that keeps a share for clients that resume.
//!
//! After a restart everybody comes at once. Who was there before is served first: it has a place in a topic's history that
//! grows old, and asks no more of us than what it has missed.

use parking_lot::Mutex;

/// The last quarter of a full bucket is for clients that resume.
const RESUMING_SHARE: u64 = 4;

/// Refused clients are told to wait for 1 s to so many, one after the other a second longer: any that came together
/// come back apart.
const RETRY_AFTER_S_MAX: u32 = 5;

/// Tokens are counted in thousandths: a rate by the second, times milliseconds, has no fractions.
const TOKEN: u64 = 1_000;

/// The bucket that all transports of an endpoint share.
#[derive(Debug)]
pub(crate) struct AcceptRate(Mutex<State>);

#[derive(Debug)]
struct State {
    bucket: Bucket,
    refused: u32,
}

impl AcceptRate {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, burst: u32, now_ms: u64) -> Self {
        AcceptRate(Mutex::new(State { bucket: Bucket::new(per_second, burst, now_ms), refused: 0 }))
    }

    /// Lets one handshake in.
    ///
    /// # Errors
    /// After how many seconds the client should try again.
    pub(crate) fn admit(&self, now_ms: u64, is_resuming: bool) -> Result<(), u32> {
        let mut state = self.0.lock();
        if state.bucket.take(now_ms, is_resuming) {
            return Ok(());
        }
        state.refused = state.refused.wrapping_add(1);
        Err(1 + state.refused % RETRY_AFTER_S_MAX)
    }
}

/// Fills at a rate up to its size, and starts full.
#[derive(Debug)]
struct Bucket {
    per_second: u64,
    size: u64,
    /// What clients that do not resume leave in it.
    kept: u64,
    level: u64,
    filled_ms: u64,
}

impl Bucket {
    fn new(per_second: u32, burst: u32, now_ms: u64) -> Self {
        let burst = u64::from(burst);
        let size = burst * TOKEN;
        // In whole tokens: a bucket of few has none to keep.
        let kept = burst / RESUMING_SHARE * TOKEN;
        Bucket { per_second: per_second.into(), size, kept, level: size, filled_ms: now_ms }
    }

    fn take(&mut self, now_ms: u64, is_resuming: bool) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms += elapsed_ms;
        self.level = self.size.min(self.level.saturating_add(elapsed_ms.saturating_mul(self.per_second)));
        let kept = if is_resuming { 0 } else { self.kept };
        let is_enough = self.level >= kept + TOKEN;
        if is_enough {
            self.level -= TOKEN;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At so many milliseconds, whether they resume, how many try, how many are let in.
    type Step = (u64, bool, u32, usize);

    #[test]
    fn the_bucket() {
        let cases: [(&str, u32, u32, &[Step]); 6] = [
            ("new ones leave a quarter, resuming ones take it", 10, 8, &[(0, false, 9, 6), (0, true, 9, 2)]),
            (
                "resuming ones take all, and new ones wait longer",
                10,
                8,
                &[(0, true, 9, 8), (100, false, 1, 0), (200, false, 1, 0), (300, false, 2, 1), (300, true, 9, 2)],
            ),
            (
                "a rate, not one burst a second",
                10,
                8,
                &[(0, true, 8, 8), (99, true, 1, 0), (100, true, 2, 1), (350, true, 9, 2), (400, true, 9, 1)],
            ),
            ("no more than the burst", 1_000, 4, &[(0, true, 4, 4), (3_600_000, true, 9, 4)]),
            ("a bucket of few keeps none", 1, 3, &[(0, false, 4, 3), (999, false, 1, 0), (1_000, false, 2, 1)]),
            (
                "a clock that has gone back gives none",
                1,
                1,
                &[(5_000, false, 1, 1), (0, true, 1, 0), (6_000, true, 2, 1)],
            ),
        ];
        for (what, per_second, burst, steps) in cases {
            let mut bucket = Bucket::new(per_second, burst, steps[0].0);
            for &(at, is_resuming, tries, expected) in steps {
                let admitted = (0..tries).filter(|_| bucket.take(at, is_resuming)).count();
                assert_eq!(admitted, expected, "{what}, at {at} ms");
            }
        }
        let mut bucket = Bucket::new(u32::MAX, u32::MAX, 0);
        assert!(bucket.take(u64::MAX, false), "no overflow");
    }

    #[test]
    fn who_is_refused_together_comes_back_apart() {
        let rate = AcceptRate::new(1, 1, 0);
        assert_eq!(rate.admit(0, false), Ok(()));
        let mut waits = [0; 6];
        (0..100).for_each(|_| waits[rate.admit(0, false).unwrap_err() as usize] += 1);
        assert_eq!(waits, [0, 20, 20, 20, 20, 20]);
    }
}
