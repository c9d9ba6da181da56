//! What clients have sent and is not handled yet: how much of it a node holds, and how much that may be.
//!
//! A shard tells once a turn what its own sockets hold, in cells that only it writes, and then knows how much more it may take. While there
//! is no room, a socket that holds something is not read (`socket/relief.rs`), so that its client's system keeps the rest. Messages of which
//! a part has come go on only if they are read: they may take half of the bound, and beyond that the largest are given up
//! (`shard/relieve.rs`).

use super::Parted;
use crate::error::Error;
use crate::event::Cell;

/// What the sockets of a node hold of what was sent to them.
#[derive(Debug)]
pub(crate) struct Inboxes {
    bytes_max: u64,
    /// By shard.
    shards: Box<[OfShard]>,
}

#[derive(Debug, Default)]
struct OfShard {
    /// All that its sockets hold.
    held: Cell,
    /// Of that, messages of which only a part has come.
    begun: Cell,
}

/// What a shard may take in a turn.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Allowance {
    /// What it may hold.
    pub(crate) most: u64,
    /// Whether enough has been handled to read on what was not read.
    pub(crate) is_wide: bool,
}

impl Inboxes {
    pub(crate) const BYTES_MAX: usize = 500_000_000;

    /// # Errors
    /// The bound is 0.
    pub(crate) fn new(shards: usize, bytes_max: usize) -> Result<Self, Error> {
        if bytes_max == 0 {
            return Err(Error::invalid("inboxes_bytes_max is 0: use 1 or more"));
        }
        let shards = (0..shards).map(|_| OfShard::default()).collect();
        Ok(Inboxes { bytes_max: bytes_max as u64, shards })
    }

    /// How much may be held.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// How much is.
    pub(crate) fn held(&self) -> u64 {
        self.shards.iter().map(|shard| shard.held.get()).sum()
    }

    /// A shard holds so much, and so much of that are messages of which only a part has come.
    pub(crate) fn tell(&self, shard: usize, held: u64, begun: u64) {
        let cells = &self.shards[shard];
        for (cell, now) in [(&cells.held, held), (&cells.begun, begun)] {
            if cell.get() != now {
                cell.set(now);
            }
        }
    }

    /// What a shard may hold until it asks again: an equal share of what is left, since the others read as well.
    pub(crate) fn allowance(&self, shard: usize) -> Allowance {
        let held = self.held();
        let left = self.bytes_max.saturating_sub(held) / self.shards.len() as u64;
        Allowance { most: self.shards[shard].held.get() + left, is_wide: held <= self.bytes_max - self.bytes_max / 8 }
    }

    /// What a shard has to give up of messages of which only a part has come, so that they take seven sixteenths of the bound, once they
    /// take more than half: 0 if it has no more than an equal part of that.
    pub(crate) fn excess(&self, shard: usize) -> u64 {
        let all = || self.shards.iter().map(|shard| shard.begun.get()).sum();
        self.of_begun().excess(self.shards[shard].begun.get(), all)
    }

    /// Whether a shard has more than an equal part of what may be held of such messages.
    pub(crate) fn is_above_part(&self, shard: usize) -> bool {
        self.of_begun().is_exceeded_by(self.shards[shard].begun.get())
    }

    fn of_begun(&self) -> Parted {
        Parted::new(self.bytes_max / 2, self.shards.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_what_is_left_and_give_up_what_is_too_much_but_never_below_their_part() {
        for (begun, excess, most) in [
            ([0, 0], [0, 0], [500, 500]),
            ([500, 0], [0, 0], [750, 250]),
            ([501, 0], [63, 0], [750, 249]),
            ([400, 200], [162, 0], [600, 400]),
            ([800, 800], [581, 581], [800, 800]),
        ] {
            let inboxes = Inboxes::new(2, 1_000).unwrap();
            begun.into_iter().enumerate().for_each(|(shard, begun)| inboxes.tell(shard, begun, begun));
            assert_eq!([inboxes.excess(0), inboxes.excess(1)], excess, "{begun:?}");
            assert_eq!([0, 1].map(|shard| inboxes.allowance(shard).most), most, "{begun:?}");
        }
    }
}
