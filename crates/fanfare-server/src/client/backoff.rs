//! How long to wait before the next try: twice as long each time, and not all clients alike.

use std::time::Duration;

use crate::backoff::doubled;

const FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Counts tries.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next pause: half of it is certain, half is up to chance.
    pub(super) fn next(&mut self, random: u32) -> Duration {
        let pause = doubled(FIRST, self.tries, PAUSE_MAX);
        self.tries = self.tries.saturating_add(1);
        (pause / 2).saturating_add((pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX)))
    }

    /// All was well for a while: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut least = Backoff::default();
        let mut most = Backoff::default();
        let mut pauses = || (least.next(0).as_millis(), most.next(u32::MAX).as_millis());
        assert_eq!([pauses(), pauses(), pauses()], [(125, 250), (250, 500), (500, 1_000)]);
        for _ in 0..100 {
            pauses();
        }
        assert_eq!(pauses(), (5_000, 10_000));
        most.reset();
        assert_eq!(most.next(u32::MAX), FIRST);
    }
}
