//! Whether a back end is asked at all: after failures in a row it is left alone for a while, then one request tries it.

use std::time::{Duration, Instant};

/// A circuit breaker. Time is an argument.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    pause: Duration,
    /// In a row.
    failures: u32,
    /// Open: nobody asks before this.
    open_until: Option<Instant>,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Opened,
    Closed,
}

impl Breaker {
    pub(super) fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max, pause, failures: 0, open_until: None }
    }

    /// Whether nobody may ask now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    /// Whether the back end may be asked now. After a pause that is one request; the next is let through if this one brings
    /// good news, or no news at all within another pause, because whoever asked has gone.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        if self.is_open(now) {
            return false;
        }
        if self.open_until.is_some() {
            self.open_until = Some(now + self.pause);
        }
        true
    }

    /// The back end has answered.
    pub(super) fn succeeded(&mut self) -> Change {
        self.failures = 0;
        if self.open_until.take().is_some() { Change::Closed } else { Change::None }
    }

    /// It has not.
    pub(super) fn failed(&mut self, now: Instant) -> Change {
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.failures_max {
            return Change::None;
        }
        let was_open = self.open_until.replace(now + self.pause).is_some();
        if was_open { Change::None } else { Change::Opened }
    }

    /// How many requests in a row have failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it was opened, and nothing has been heard since.
    pub(super) fn is_tripped(&self) -> bool {
        self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_tries_and_closes() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(3, Duration::from_secs(5));
        // A success in between begins the count anew.
        assert_eq!([breaker.failed(at(0)), breaker.failed(at(0)), breaker.succeeded()], [Change::None; 3]);
        assert_eq!([breaker.failed(at(0)), breaker.failed(at(0)), breaker.failed(at(1))][2], Change::Opened);
        assert!(!breaker.admit(at(1)) && !breaker.admit(at(5)) && breaker.is_open(at(5)));
        // One tries; until it is back, or for another pause, nobody else does.
        assert!(breaker.admit(at(6)));
        assert!(!breaker.admit(at(6)) && !breaker.admit(at(10)));
        assert!(breaker.admit(at(11)));
        assert_eq!(breaker.failed(at(12)), Change::None);
        assert!(!breaker.admit(at(16)) && breaker.admit(at(17)));
        assert_eq!(breaker.succeeded(), Change::Closed);
        assert!(breaker.admit(at(17)) && breaker.admit(at(17)) && breaker.failures() == 0);
    }
}
