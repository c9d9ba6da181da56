//! What waits for the client takes memory, which all sockets have together: how much that is, and how it is given up.

use super::seat::CatchingUp;
use super::waiting::note_losses;
use super::{Socket, Turn};
use crate::close_reason::CloseReason;
use crate::event::Event;
use crate::outbox::Seen;
use crate::transport::Carrier;

/// So much of a frame that was begun may be left to a client that is closed, so that it hears why; it has `write_timeout` to take it.
const LEFT_MAX: usize = 32 * 1024;

impl Socket {
    /// What waits for it takes so much, if it shares none of that with others.
    pub(crate) fn memory(&mut self) -> usize {
        let outbox = self.carrier.outbox_if_any().map_or(0, |outbox| outbox.load().memory);
        outbox + self.missed().map(|missed| missed.memory()).sum::<usize>()
    }

    /// What it takes beside what was seen already.
    pub(crate) fn measure(&mut self, seen: &mut Seen) -> usize {
        let outbox = self.carrier.outbox_if_any().map_or(0, |outbox| outbox.measure(seen));
        outbox + self.missed().map(|missed| missed.measure(seen)).sum::<usize>()
    }

    /// Since when its client has taken nothing, if something waits for it.
    pub(crate) fn takes_nothing_since_ms(&self, now_ms: u64) -> u64 {
        match &self.carrier {
            Carrier::Wire(wire) => wire.stalled_since_ms.unwrap_or(now_ms),
            Carrier::Poll(session) => session.last_polled_ms(now_ms),
            _ => now_ms,
        }
    }

    /// Others need the memory. What can be read again is; messages that may give way do so. If that is not half of it, the socket is closed
    /// like one that reads too slowly. If it was already, or much is left of a frame of which the client takes no more, its connection goes.
    pub(crate) fn relieve(&mut self, turn: &mut Turn) {
        if !self.is_open() {
            return self.go(turn);
        }
        let before = self.memory();
        self.put_off_missed();
        let Socket { carrier, session, info, .. } = self;
        if let Some(outbox) = carrier.outbox_if_any() {
            outbox.give_way();
            note_losses(outbox, session, info, turn.counters());
        }
        if self.memory() > before / 2 {
            turn.count(Event::OutboxesMaxClosed);
            self.give_up(turn, &CloseReason::Crowded);
            if !self.is_open() && self.memory() > LEFT_MAX {
                return self.go(turn);
            }
        }
        match &mut self.carrier {
            // What an answer holds has left the outbox.
            Carrier::Poll(session) => turn.backlog.pool.account(Some(session.outbox())),
            carrier => turn.backlog.pool.account(carrier.outbox_if_any()),
        }
    }

    /// What was read for its joins and is not sent.
    fn missed(&self) -> impl Iterator<Item = &super::missed::Missed> {
        self.session.entries().iter().filter_map(|entry| match entry.data.phase.catching_up() {
            Some(CatchingUp::Feeding(feed)) => Some(&feed.page),
            _ => None,
        })
    }
}
