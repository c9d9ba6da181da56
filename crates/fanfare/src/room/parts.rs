//! A bound that the shards of a node have together, an equal part of it each.

/// How much they may hold. A shard may have more than its part while others have less.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parted {
    max: u64,
    part: u64,
}

impl Parted {
    #[inline]
    pub(crate) fn new(max: u64, shards: usize) -> Self {
        Parted { max, part: max / shards as u64 }
    }

    /// Whether a shard that holds so much holds more than its part.
    #[inline]
    pub(crate) fn is_exceeded_by(self, own: u64) -> bool {
        own > self.part
    }

    /// What a shard has to give up of what it holds so that all hold seven eighths of the bound, once they hold more than that: 0 if it holds
    /// no more than its part.
    #[inline]
    pub(crate) fn excess(self, own: u64, all: impl FnOnce() -> u64) -> u64 {
        if self.is_exceeded_by(own) { self.excess_of_all(own, all) } else { 0 }
    }

    #[cold]
    fn excess_of_all(self, own: u64, all: impl FnOnce() -> u64) -> u64 {
        let (Parted { max, part }, held) = (self, all());
        if held <= max { 0 } else { (held - (max - max / 8)).min(own - (part - part / 8)) }
    }
}
