//! How long to wait before the next attempt.

use std::time::Duration;

use crate::backoff::doubled;

const FIRST: Duration = Duration::from_millis(100);

/// Who waits for messages waits no longer than this for a server that is back.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits that double up to a second, each with up to a half more by chance, so that many servers do not come back at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How many waits there were.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = doubled(FIRST, self.failures, LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Without random bytes there is no jitter, which is no reason to stop.
        let chance = getrandom::u32().unwrap_or_default();
        wait + wait.mul_f64(f64::from(chance) / f64::from(u32::MAX) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound() {
        let mut backoff = Backoff::default();
        for least_ms in [100, 200, 400, 800, 1000, 1000, 1000] {
            let ms = backoff.next().as_millis();
            assert!((least_ms..=least_ms + least_ms / 2).contains(&ms), "{ms} for {least_ms}");
        }
        let mut backoff = Backoff { failures: u32::MAX };
        assert!(backoff.next() <= LONGEST * 3 / 2);
    }
}
