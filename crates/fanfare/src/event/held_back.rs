//! A brake for lines of the log that somebody else can cause.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lets so many lines pass in each window of seconds of the wall clock, and counts the others.
#[derive(Debug)]
pub struct HeldBack {
    lines_max: u64,
    window_s: u64,
    window: AtomicU64,
    passed: AtomicU64,
    held_back: AtomicU64,
    /// In all.
    ever: AtomicU64,
}

impl HeldBack {
    /// So many lines in windows of so many seconds, at least one.
    pub const fn new(lines_max: u64, window_s: u64) -> Self {
        let zero = AtomicU64::new;
        let window_s = if window_s == 0 { 1 } else { window_s };
        HeldBack { lines_max, window_s, window: zero(0), passed: zero(0), held_back: zero(0), ever: zero(0) }
    }

    /// Whether a line may be written now; if so, how many were held back since the last one. Approximate under races, which is
    /// enough for a log.
    pub fn pass(&self) -> Option<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let window = now.map_or(0, |since| since.as_secs()) / self.window_s;
        if self.window.swap(window, Ordering::Relaxed) != window {
            self.passed.store(0, Ordering::Relaxed);
        }
        if self.passed.fetch_add(1, Ordering::Relaxed) < self.lines_max {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// How many were held back since the start.
    pub fn ever(&self) -> u64 {
        self.ever.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_back() {
        let lines = HeldBack::new(10, 1);
        let passed = (0..10_000).filter(|_| lines.pass().is_some()).count();
        // More than one second may begin while the loop runs.
        assert!((10..=40).contains(&passed), "{passed}");
        assert!(lines.held_back.load(Ordering::Relaxed) > 9_000);
        assert_eq!(lines.ever(), 10_000 - passed as u64);
    }
}
