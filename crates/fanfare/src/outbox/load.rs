//! What an outbox takes in memory.
//!
//! As if it shared nothing with others, that is known at any time. What it really is, where ten thousand readers wait for the same
//! bytes, is known once all have been looked at.

use bytes::Bytes;
use hashbrown::HashSet;

use super::Outbox;
use super::queue::{Amount, Entry, IN_LANE_SIZE};
use crate::figures::{Change, Load};

/// The bytes that were counted already.
#[derive(Debug, Default)]
pub(crate) struct Seen(HashSet<usize, foldhash::fast::RandomState>);

impl Seen {
    /// What these bytes take, of whose buffer so many have left before; nothing if others have them that were counted. Whatever has left
    /// of a buffer, what is left ends where it ends.
    pub(crate) fn count(&mut self, bytes: &Bytes, spent: usize) -> usize {
        let is_first = bytes.is_unique() || self.is_new(bytes);
        if is_first { bytes.len() + spent } else { 0 }
    }

    /// Whether bytes are met for the first time.
    pub(crate) fn is_new(&mut self, bytes: &[u8]) -> bool {
        self.0.insert(bytes.as_ptr_range().end.addr())
    }
}

impl Outbox {
    /// What it has.
    pub(crate) fn load(&self) -> Load {
        let Amount { bytes, frames } = self.waiting;
        let entries = self.queue.capacity() * size_of::<Entry>();
        // Beside each message there may be a gap.
        Load { bytes, frames, memory: bytes + self.spent + entries + frames * 2 * IN_LANE_SIZE }
    }

    /// The shard's sums have what it has from now on.
    pub(crate) fn account(&mut self) -> Change {
        let now = self.load();
        let Amount { bytes, frames } = std::mem::take(&mut self.given);
        let given = bytes + frames * (size_of::<Entry>() + 2 * IN_LANE_SIZE);
        Change { before: std::mem::replace(&mut self.accounted, now), now, given }
    }

    /// The shard's sums have nothing of it any more.
    pub(crate) fn unaccount(&mut self) -> Change {
        Change { before: std::mem::take(&mut self.accounted), now: Load::default(), given: 0 }
    }

    /// It is empty, and will be another socket's.
    #[inline]
    pub(crate) fn begin_again(&mut self) {
        self.given = Amount::default();
    }

    /// Whether the shard's sums have any of it.
    #[inline]
    pub(crate) fn is_accounted(&self) -> bool {
        self.accounted.memory != 0
    }

    /// What it takes in memory beside what was seen already.
    pub(crate) fn measure(&self, seen: &mut Seen) -> usize {
        let mut sum = self.queue.capacity() * size_of::<Entry>();
        // Only of the first some have left.
        let mut spent = self.spent;
        let mut next = self.queue.first();
        while let Some(index) = next {
            let entry = self.queue.get(index);
            sum += entry.size_beside() + seen.count(&entry.rest, std::mem::take(&mut spent));
            sum += entry.more().map(|part| seen.count(part, 0)).sum::<usize>();
            next = self.queue.after(index);
        }
        sum
    }
}
