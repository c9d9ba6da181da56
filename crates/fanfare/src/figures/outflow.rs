//! What has left the sockets of a shard, and what waits for those that take no more.

use super::Flushed;
use crate::event::Cell;

/// What has left the sockets of a shard, and what waits for those that take no more.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    /// System calls that wrote a batch at once.
    pub(crate) sends_direct: Cell,
    /// Those that wrote what was queued.
    pub(crate) sends_queued: Cell,
    pub(crate) bytes_websocket: Cell,
    pub(crate) bytes_stream: Cell,
    pub(crate) waiting_sockets: Cell,
    pub(crate) waiting_bytes: Cell,
    pub(crate) waiting_frames: Cell,
    /// Sockets that wait to be sent more of what they have missed.
    pub(crate) hungry_sockets: Cell,
    /// What that takes in memory, and what was read of histories for those that take it bit by bit, if none of them shared any of it.
    memory: Cell,
    /// What it took when that was measured.
    measured: Cell,
    /// What has come since, whatever has left.
    given: Cell,
}

/// What an outbox has, for the sums of its shard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
    /// What it takes in memory, at most.
    pub(crate) memory: usize,
}

/// What has become of an outbox since the sums of its shard were told.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) before: Load,
    pub(crate) now: Load,
    /// What it has been given in between, in memory, whatever has left.
    pub(crate) given: usize,
}

impl Outflow {
    /// A system call has written so much of what was queued.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize, is_stream: bool) {
        self.sends_queued.add(1);
        self.bytes_of(is_stream).add(bytes as u64);
    }

    /// Batches were handed out, each share of them as if it had left in one send.
    pub(crate) fn flushed(&self, flushed: &Flushed) {
        self.sends_direct.add(flushed.shares);
        self.bytes_websocket.add(flushed.bytes_websocket);
        self.bytes_stream.add(flushed.bytes_stream);
    }

    /// Of a share that was counted as sent at once, so much was not.
    pub(crate) fn not_sent(&self, sends: u64, bytes: usize, is_stream: bool) {
        self.sends_direct.subtract(sends);
        self.bytes_of(is_stream).subtract(bytes as u64);
    }

    /// What waits for one socket has changed.
    pub(crate) fn waits(&self, change: &Change) {
        let Change { before, now, given } = change;
        let count = |sum: &Cell, before: usize, now: usize| {
            sum.set(sum.get().wrapping_add(now as u64).wrapping_sub(before as u64));
        };
        count(&self.waiting_bytes, before.bytes, now.bytes);
        count(&self.waiting_frames, before.frames, now.frames);
        count(&self.waiting_sockets, usize::from(before.frames > 0), usize::from(now.frames > 0));
        count(&self.memory, before.memory, now.memory);
        self.given.add(*given as u64);
    }

    /// So much was read for a reader who takes it bit by bit.
    pub(crate) fn read(&self, memory: usize) {
        self.memory.add(memory as u64);
        self.given.add(memory as u64);
    }

    /// So much of it is gone.
    pub(crate) fn unread(&self, memory: usize) {
        self.memory.subtract(memory as u64);
    }

    /// What all that waits takes in memory, at most: what it did when it was measured, and what has come since.
    pub(crate) fn held(&self) -> u64 {
        self.memory.get().min(self.measured.get().saturating_add(self.given.get()))
    }

    /// It takes so much now.
    pub(crate) fn is_measured(&self, memory: u64) {
        self.measured.set(memory);
        self.given.set(0);
    }

    fn bytes_of(&self, is_stream: bool) -> &Cell {
        if is_stream { &self.bytes_stream } else { &self.bytes_websocket }
    }
}
