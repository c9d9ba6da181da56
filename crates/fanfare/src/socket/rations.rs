//! What joins have missed is sent in portions, to one socket after the other, in the order in which they wait.
//!
//! While there is room for it, each socket that waits gets a portion in every turn. Where there is none, since those hold it that take
//! nothing, one socket at a time gets a portion, and of that what it takes at once; the rest is not kept but read again. So nobody is kept
//! from what was missed by those that do not read.

use std::collections::VecDeque;

use fanfare_proto::session::Entry;
use hashbrown::HashSet;

use super::seat::{CatchingUp, Seat};
use super::{Socket, Turn};
use crate::key::SocketKey;
use crate::outbox::Bounds;
use crate::transport::Carrier;
use crate::transport::wire::{Pool, Written};

/// What a socket is sent at a time, at most, and what a page has.
const PORTION: Bounds = Bounds { frames_max: 1_024, bytes_max: 256 * 1024 };

/// Less than this is no room: pages have as much even then.
const ROOM_MIN: usize = 64 * 1024;

/// So much is handed to a socket before it is looked whether it takes it, while there is no room.
const AT_ONCE: Bounds = Bounds { frames_max: 32, bytes_max: 4 * 1024 };

/// While a history takes longer to be read, the next socket's turn comes.
const GRANT_MS: u64 = 100;

/// Who waits for a portion, on one shard.
#[derive(Debug, Default)]
pub(crate) struct Rations {
    waiting: VecDeque<SocketKey>,
    /// Whose turn it is while there is no room.
    grant: Option<Grant>,
    /// Sockets for which pages are kept while they take nothing.
    keep: HashSet<SocketKey, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Grant {
    socket: SocketKey,
    until_ms: u64,
    /// So much of the portion is left.
    bytes: usize,
}

/// How much a socket may be sent now.
#[derive(Debug)]
pub(super) struct Ration {
    pub(super) bytes: usize,
    /// Only what the socket takes at once.
    pub(super) at_once: bool,
}

/// Whether a socket waits to be sent more of what its joins have missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hunger {
    /// It does not.
    Nothing,
    /// Until it has taken what it was sent.
    Full,
    /// For its portion.
    Waits,
}

/// A portion, which leaves room for what else comes to the socket.
pub(super) fn portion(outbox: Bounds) -> Bounds {
    Bounds {
        frames_max: PORTION.frames_max.min(outbox.frames_max / 2).max(1),
        bytes_max: PORTION.bytes_max.min(outbox.bytes_max / 2).max(1),
    }
}

impl Turn {
    /// How many sockets wait for a portion.
    pub(crate) fn hungry(&self) -> usize {
        self.rations.waiting.len()
    }

    /// Whether one of them can have its portion now.
    pub(crate) fn can_feed(&self) -> bool {
        !self.rations.waiting.is_empty() && (!self.is_granted() || self.room_for_missed() > 0)
    }

    /// Whose turn it is to have a portion.
    pub(crate) fn next_to_feed(&mut self) -> Option<SocketKey> {
        if !self.can_feed() {
            return None;
        }
        let socket = self.rations.waiting.pop_front()?;
        if self.room_for_missed() == 0 {
            let until_ms = self.now_ms.saturating_add(GRANT_MS);
            self.rations.grant = Some(Grant { socket, until_ms, bytes: PORTION.bytes_max });
        }
        Some(socket)
    }

    /// The sockets for which pages are kept, if there is no room for those any more.
    pub(crate) fn kept_for_nothing(&mut self) -> Vec<SocketKey> {
        if self.rations.keep.is_empty() || self.room_for_missed() > 0 {
            return Vec::new();
        }
        self.rations.keep.drain().collect()
    }

    /// A socket has ended.
    pub(crate) fn needs_no_ration(&mut self, socket: SocketKey) {
        self.rations.keep.remove(&socket);
        self.rations.grant.take_if(|grant| grant.socket == socket);
    }

    /// Whether it is a socket's turn, while there is no room.
    pub(super) fn has_grant(&self, socket: SocketKey) -> bool {
        self.grant_of(socket).is_some()
    }

    /// What a page may have, by what an outbox may have.
    pub(super) fn page(&self, outbox: Bounds) -> Bounds {
        let Bounds { frames_max, bytes_max } = portion(outbox);
        let bytes_max = bytes_max.min((self.room_for_missed() as usize).max(ROOM_MIN));
        Bounds { frames_max, bytes_max }
    }

    /// How much a socket may be sent now.
    pub(super) fn ration(&self, socket: SocketKey) -> Option<Ration> {
        if let Some(grant) = self.grant_of(socket) {
            return Some(Ration { bytes: grant.bytes, at_once: true });
        }
        let bytes = self.room_for_missed().min(PORTION.bytes_max as u64) as usize;
        (bytes > 0).then_some(Ration { bytes, at_once: false })
    }

    /// The same for what was just read: what a socket takes of it at once it may have in any case.
    pub(super) fn ration_of_read(&self, socket: SocketKey) -> Ration {
        self.ration(socket).unwrap_or(Ration { bytes: PORTION.bytes_max, at_once: true })
    }

    fn is_granted(&self) -> bool {
        self.rations.grant.as_ref().is_some_and(|grant| grant.until_ms > self.now_ms)
    }

    fn grant_of(&self, socket: SocketKey) -> Option<&Grant> {
        self.rations.grant.as_ref().filter(|grant| grant.socket == socket)
    }

    fn room_for_missed(&self) -> u64 {
        let room = self.surroundings.outboxes.room_for_missed(self.number, self.figures().outflow.held());
        if room < ROOM_MIN as u64 { 0 } else { room }
    }
}

impl Socket {
    /// The client has taken what its joins were sent: they get more when it is the socket's turn.
    #[inline]
    pub(super) fn feed_soon(&mut self, turn: &mut Turn) {
        if self.hunger == Hunger::Full {
            self.await_ration(turn);
        }
    }

    /// It has had its portion, or there is none for it yet.
    pub(super) fn await_ration(&mut self, turn: &mut Turn) {
        if turn.room_for_missed() == 0 {
            self.put_off_missed();
        }
        if self.hunger != Hunger::Waits {
            self.hunger = Hunger::Waits;
            turn.rations.waiting.push_back(self.key);
        }
    }

    /// It takes no more at present.
    pub(super) fn is_full(&mut self, turn: &mut Turn, ration: Option<&Ration>) {
        match ration {
            Some(Ration { at_once: true, .. }) => self.put_off_missed(),
            _ => drop(turn.rations.keep.insert(self.key)),
        }
        if self.hunger == Hunger::Nothing {
            self.hunger = Hunger::Full;
        }
    }

    /// It has been sent a part of its portion. The next one's turn comes, unless it waits for a page.
    pub(super) fn has_been_fed(&self, turn: &mut Turn, ration: Option<Ration>) {
        let Some(grant) = turn.rations.grant.as_mut().filter(|grant| grant.socket == self.key) else { return };
        if let Some(Ration { bytes, at_once: true }) = ration {
            grant.bytes = bytes;
        }
        let is_reading = |entry: &Entry<Seat>| matches!(entry.data.phase.catching_up(), Some(CatchingUp::Reading(_)));
        if grant.bytes == 0 || !self.session.entries().iter().any(is_reading) {
            turn.rations.grant = None;
        }
    }
}

/// Whether a client has taken what it was handed. What a poll does not ask for waits.
pub(super) fn takes_at_once(carrier: &mut Carrier, pool: &mut Pool) -> bool {
    match carrier {
        Carrier::Wire(wire) if wire.is_held_up() => false,
        Carrier::Wire(wire) => {
            let (bytes, frames) = wire.waiting();
            let is_little = bytes < AT_ONCE.bytes_max && frames < AT_ONCE.frames_max;
            is_little || wire.flush(pool) == Written::All
        }
        Carrier::Poll(session) => !session.is_held_up(),
        _ => true,
    }
}
