//! Whether what a client sends is handled as it comes, or has to wait: then nothing more is read of it, so that the kernel's
//! buffers fill and the client waits as well. Nothing is lost.

use super::{Socket, Turn};
use crate::key::SocketKey;
use crate::room::{Allowance, Share};
use crate::transport::Carrier;
use crate::transport::wire::Unread;

/// When so many bytes have been read and not handled, since what they bring has to wait, sockets are read in smaller pieces.
const UNREAD_SIZE_MAX: usize = 8 * 1024 * 1024;

/// The largest piece then: most of what clients send stays in the kernel.
const CROWDED_READ_SIZE: usize = 2 * 1024;

/// Whether what a client sends is handled as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Goes,
    /// Its last message has found no room yet.
    WaitsForRoom,
    /// It has sent more than its rate allows, and is read again at this time.
    Paced {
        until_ms: u64,
    },
    /// It holds something, and what all sockets hold takes all the room for it.
    WaitsForOthers,
    /// One of its joins waits in a crowd of messages, for room in that share.
    WaitsInCrowd(Share),
}

/// The sockets of a shard of which there is more to read.
#[derive(Debug, Default)]
pub(crate) struct ReadingList {
    /// Those that had more than a turn takes, in line.
    line: std::collections::VecDeque<SocketKey>,
    /// Those that are not read while a crowd of messages waits to be handed out.
    pub(crate) held_up: Vec<SocketKey>,
    /// The bytes that were read and not handled.
    unread_size: usize,
    /// What messages take that wait behind joins and credentials.
    pub(super) waiting_size: usize,
    /// What messages take of which a part has come.
    pub(crate) begun_size: usize,
    /// Those that are not read since all sockets hold too much.
    pub(crate) crowded: Vec<SocketKey>,
    /// What the shard may hold in this turn.
    allowance: Allowance,
}

impl ReadingList {
    /// How many are in line.
    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// The first in line.
    pub(crate) fn pop(&mut self) -> Option<SocketKey> {
        self.line.pop_front()
    }

    /// What the shard's sockets hold of what was sent to them.
    pub(crate) fn held(&self) -> usize {
        self.unread_size + self.waiting_size + self.begun_size
    }

    /// A turn begins: so much may be held until it ends.
    pub(crate) fn begin(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Whether those are not read that hold something.
    pub(crate) fn is_full(&self) -> bool {
        self.held() as u64 >= self.allowance.most
    }

    /// Whether those may be read on that were not.
    pub(crate) fn has_room_again(&self) -> bool {
        self.allowance.is_wide && !self.is_full()
    }

    /// The most that is read at a time, of this much that could be.
    pub(crate) fn read_size_max(&self, size: usize) -> usize {
        if self.unread_size > UNREAD_SIZE_MAX || self.is_full() { CROWDED_READ_SIZE.min(size) } else { size }
    }
}

impl Socket {
    /// Whether more of what the client sends may be handled.
    pub(crate) fn may_send(&self) -> bool {
        self.is_open() && self.reading == Reading::Goes
    }

    /// The socket is read in the next turn, behind the others that are.
    pub(crate) fn read_later(&mut self, turn: &mut Turn) {
        if !std::mem::replace(&mut self.is_unread, true) {
            turn.reading.line.push_back(self.key);
        }
    }

    /// What the client sends has room again.
    pub(crate) fn read_on(&mut self, turn: &mut Turn) {
        if self.reading != Reading::Goes {
            self.reading = Reading::Goes;
            self.read_later(turn);
        }
    }

    /// A client that was paced may send again, if it is time.
    pub(super) fn end_pause(&mut self, turn: &mut Turn) {
        if let Reading::Paced { until_ms } = self.reading
            && until_ms <= turn.now_ms
        {
            self.read_on(turn);
        }
    }

    /// A join waits in a crowd, so that its client has to wait as well.
    pub(super) fn hold_up(&mut self, turn: &mut Turn, share: Share) {
        self.reading = Reading::WaitsInCrowd(share);
        turn.reading.held_up.push(self.key);
    }

    /// The crowd is gone, or the join has done what it was given, or is no more.
    pub(crate) fn let_go(&mut self, turn: &mut Turn) {
        if let Reading::WaitsInCrowd(_) = self.reading {
            self.read_on(turn);
        }
    }

    /// Keeps bytes that were read until they may be handled.
    pub(crate) fn keep_unread(&mut self, turn: &mut Turn, unread: Box<Unread>) {
        if let Carrier::Wire(wire) = &mut self.carrier {
            turn.reading.unread_size += unread.bytes.len();
            wire.unread = Some(unread);
        }
    }

    /// Puts bytes behind those that are kept, if there are some.
    pub(crate) fn add_unread(&mut self, turn: &mut Turn, bytes: &[u8]) -> bool {
        let Carrier::Wire(wire) = &mut self.carrier else { return false };
        let Some(unread) = &mut wire.unread else { return false };
        unread.bytes.extend_from_slice(bytes);
        turn.reading.unread_size += bytes.len();
        true
    }

    /// Takes the bytes that are kept.
    pub(crate) fn take_unread(&mut self, turn: &mut Turn) -> Option<Box<Unread>> {
        let Carrier::Wire(wire) = &mut self.carrier else { return None };
        let unread = wire.unread.take()?;
        turn.reading.unread_size -= unread.bytes.len();
        Some(unread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_much_waits_to_be_handled_little_is_read_at_a_time() {
        let allowance = Allowance { most: u64::MAX, is_wide: true };
        let read =
            |unread_size| ReadingList { unread_size, allowance, ..ReadingList::default() }.read_size_max(64 * 1024);
        assert_eq!(
            [read(0), read(UNREAD_SIZE_MAX), read(UNREAD_SIZE_MAX + 1)],
            [64 * 1024, 64 * 1024, CROWDED_READ_SIZE]
        );
    }
}
