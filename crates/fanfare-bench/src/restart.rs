//! How clients fare while their server restarts, as their workers see it. Times are nanoseconds since the run began.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts and times that all workers add to.
#[derive(Debug, Default)]
pub(crate) struct Restarted {
    /// Connections that were closed with 1012, as a server does that restarts.
    pub(crate) closed: AtomicU64,
    /// Those that ended otherwise.
    pub(crate) cut: AtomicU64,
    /// Attempts that were answered that the server has enough to do. While the old one closes it says so too.
    pub(crate) refused: AtomicU64,
    /// Attempts that came to nothing otherwise, once the new server had let the first one in.
    pub(crate) failed: AtomicU64,
    /// When the first and the last connection ended; 0 before.
    first_end: AtomicU64,
    last_end: AtomicU64,
    /// When the new server let the first one in; 0 before.
    first_in: AtomicU64,
    /// When each client was in its room again.
    back: Mutex<Vec<u64>>,
}

impl Restarted {
    /// A connection of a client that was in its room ended.
    pub(crate) fn connection_ended(&self, now: u64, is_1012: bool) {
        let _ = self.first_end.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.last_end.fetch_max(now, Ordering::Relaxed);
        if is_1012 { &self.closed } else { &self.cut }.fetch_add(1, Ordering::Release);
    }

    /// An attempt to connect failed.
    pub(crate) fn attempt_failed(&self, is_refused: bool) {
        if is_refused {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else if self.first_in.load(Ordering::Relaxed) > 0 {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A WebSocket was opened. The old server opens none any more once it has begun to close.
    pub(crate) fn opened(&self, now: u64) {
        if self.ended() > 0 {
            let _ = self.first_in.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// A client is in its room.
    pub(crate) fn entered(&self, now: u64) {
        if self.ended() > 0 {
            self.back.lock().expect("nothing panics with the lock held").push(now);
        }
    }

    /// How many connections have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.closed.load(Ordering::Acquire) + self.cut.load(Ordering::Acquire)
    }

    /// From the first connection that ended to the last.
    pub(crate) fn closing(&self) -> u64 {
        self.last_end.load(Ordering::Relaxed) - self.first_end.load(Ordering::Relaxed)
    }

    /// From the first connection that ended to the first one that the new server let in.
    pub(crate) fn down(&self) -> u64 {
        self.first_in.load(Ordering::Relaxed).saturating_sub(self.first_end.load(Ordering::Relaxed))
    }

    /// How long after that one each client was back, in order.
    pub(crate) fn back(&self) -> Vec<u64> {
        let first_in = self.first_in.load(Ordering::Relaxed);
        let back = self.back.lock().expect("nothing panics with the lock held");
        let mut back: Vec<u64> = back.iter().map(|at| at.saturating_sub(first_in)).collect();
        back.sort_unstable();
        back
    }
}
