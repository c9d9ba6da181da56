//! How many handshakes a second are let in: a bucket that keeps a share for clients that resume.
//!
//! After a restart everybody comes at once. Who was there before is served first: it has a place in a topic's history that
//! grows old, and asks no more of us than what it has missed.

use fanfare_proto::rate::{Bucket, Rate};
use parking_lot::Mutex;

/// The last quarter of a full bucket is for clients that resume.
const RESUMING_SHARE: u32 = 4;

/// Refused clients are told to wait for 1 s to so many, one after the other a second longer: any that came together
/// come back apart.
const RETRY_AFTER_S_MAX: u32 = 5;

/// The bucket that all transports of an endpoint share.
#[derive(Debug)]
pub(crate) struct AcceptRate {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bucket: Bucket,
    refused: u32,
}

impl AcceptRate {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Self {
        AcceptRate { rate, state: Mutex::default() }
    }

    /// Lets one handshake in.
    ///
    /// # Errors
    /// After how many seconds the client should try again.
    pub(crate) fn admit(&self, now_ms: u64, is_resuming: bool) -> Result<(), u32> {
        let mut state = self.state.lock();
        let now_ns = now_ms.saturating_mul(1_000_000);
        // In whole ones: a bucket of few has none to keep.
        let kept = if is_resuming { 0 } else { self.rate.at_once() / RESUMING_SHARE };
        if state.bucket.wait(self.rate, now_ns, 1 + u64::from(kept)) == 0 {
            state.bucket.charge(self.rate, now_ns, 1);
            return Ok(());
        }
        state.refused = state.refused.wrapping_add(1);
        Err(1 + state.refused % RETRY_AFTER_S_MAX)
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
            let rate = AcceptRate::new(Rate::per_second(per_second).burst(burst));
            for &(at, is_resuming, tries, expected) in steps {
                let admitted = (0..tries).filter(|_| rate.admit(at, is_resuming).is_ok()).count();
                assert_eq!(admitted, expected, "{what}, at {at} ms");
            }
        }
    }

    #[test]
    fn who_is_refused_together_comes_back_apart() {
        let rate = AcceptRate::new(Rate::per_second(1).burst(1));
        assert_eq!(rate.admit(0, false), Ok(()));
        let mut waits = [0; 6];
        (0..100).for_each(|_| waits[rate.admit(0, false).unwrap_err() as usize] += 1);
        assert_eq!(waits, [0, 20, 20, 20, 20, 20]);
    }
}
