//! What all that waits for the sockets of a node takes in memory together, and how much that may be.
//!
//! A shard tells once a turn what its own takes, in a cell that only it writes. Beyond the bound, those shards that hold more than an equal
//! part of it give something up (`shard/relieve.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;
use crate::event::Cell;
use crate::room::Parted;

/// The outboxes of a node, and what was read of histories for those that take it bit by bit.
#[derive(Debug)]
pub(crate) struct Outboxes {
    bytes_max: AtomicU64,
    /// By shard.
    held: Box<[Cell]>,
    /// Of answers that were given and are not written.
    answers: Arc<AtomicU64>,
}

/// What an answer holds until it is written.
#[derive(Debug)]
pub(crate) struct Share {
    answers: Arc<AtomicU64>,
    bytes: usize,
}

impl Share {
    /// It is so much now.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.answers.fetch_add(bytes as u64, Ordering::Relaxed);
        self.answers.fetch_sub(std::mem::replace(&mut self.bytes, bytes) as u64, Ordering::Relaxed);
    }

    /// Makes so much of it another's.
    pub(crate) fn split(&mut self, bytes: usize) -> Share {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Share { answers: self.answers.clone(), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Outboxes {
    /// As much as a hundred sockets may have waiting.
    pub(crate) const BYTES_MAX: usize = 1_000_000_000;

    /// # Errors
    /// The bound is 0.
    pub(crate) fn new(shards: usize, bytes_max: usize) -> Result<Self, Error> {
        if bytes_max == 0 {
            return Err(Error::invalid("outboxes_bytes_max is 0: use 1 or more"));
        }
        let held = (0..shards).map(|_| Cell::default()).collect();
        Ok(Outboxes { bytes_max: AtomicU64::new(bytes_max as u64), held, answers: Arc::default() })
    }

    /// How much may be held.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// How much is.
    pub(crate) fn held(&self) -> u64 {
        self.held.iter().map(Cell::get).sum::<u64>() + self.answers.load(Ordering::Relaxed)
    }

    /// Whether more polls are answered: not while answers that nobody reads hold a quarter of the bound.
    pub(crate) fn has_room_for_answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed) < self.bytes_max() / 4
    }

    /// An answer of so many bytes is given.
    pub(crate) fn answer(&self, bytes: usize) -> Share {
        let mut share = Share { answers: self.answers.clone(), bytes: 0 };
        share.set(bytes);
        share
    }

    /// A shard holds so much.
    #[inline]
    pub(crate) fn tell(&self, shard: usize, held: u64) {
        let cell = &self.held[shard];
        if cell.get() != held {
            cell.set(held);
        }
    }

    /// What a shard has to give up so that all hold seven eighths of the bound, once they hold more than that: 0 if it holds no more than an
    /// equal part of it.
    #[inline]
    pub(crate) fn excess(&self, shard: usize) -> u64 {
        self.parted().excess(self.held[shard].get(), || self.held())
    }

    /// Whether a shard holds more than an equal part.
    pub(crate) fn is_above_part(&self, shard: usize) -> bool {
        self.parted().is_exceeded_by(self.held[shard].get())
    }

    #[inline]
    fn parted(&self) -> Parted {
        Parted::new(self.bytes_max(), self.held.len())
    }

    /// How much a shard that holds so much now may read and keep for those that have missed something, until three quarters of the bound
    /// are held.
    pub(crate) fn room_for_missed(&self, shard: usize, held: u64) -> u64 {
        let all = self.held() - self.held[shard].get() + held;
        (self.bytes_max() / 4 * 3).saturating_sub(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_gives_up_what_is_too_much_but_never_below_its_part() {
        for (held, excess) in [
            ([500, 500], [0, 0]),
            // No more than all may have together.
            ([1_000, 0], [0, 0]),
            ([1_001, 0], [126, 0]),
            // Who has less than its part gives up nothing.
            ([1_000, 400], [525, 0]),
            ([600, 500], [162, 0]),
            ([2_000, 2_000], [1_562, 1_562]),
        ] {
            let outboxes = Outboxes::new(2, 1_000).unwrap();
            held.into_iter().enumerate().for_each(|(shard, held)| outboxes.tell(shard, held));
            assert_eq!([outboxes.excess(0), outboxes.excess(1)], excess, "{held:?}");
        }
    }
}
