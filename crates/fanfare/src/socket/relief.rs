//! What waits for the client takes memory, which all sockets have together: how much that is, and how it is given up. So does what the client
//! has sent and is not handled. While there is no room for that, a socket that holds some of it is not read; what waits is handled without
//! that, so that room comes back.

use fanfare_proto::websocket::decoder::{Decoder, Role};

use super::seat::CatchingUp;
use super::waiting::note_losses;
use super::{Reading, Socket, Turn};
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

    /// Whether it is not read until others need less: it is looked at again then.
    pub(crate) fn wait_for_others(&mut self, turn: &mut Turn) -> bool {
        let waits = self.holds_much();
        if waits {
            self.reading = Reading::WaitsForOthers;
            turn.count(Event::InboxesMaxPaced);
            turn.reading.crowded.push(self.key);
        }
        waits
    }

    /// Others may need less now, or it does.
    pub(crate) fn look_for_room(&mut self, turn: &mut Turn) {
        if self.reading != Reading::WaitsForOthers {
            return;
        }
        if self.is_open() && self.holds_much() && !turn.reading.has_room_again() {
            turn.reading.crowded.push(self.key);
        } else {
            self.read_on(turn);
        }
    }

    /// Gives up the message of which a part has come: others need the room, and it has most of it.
    pub(crate) fn give_up_begun(&mut self, turn: &mut Turn) {
        let size = self.begun_size();
        let inboxes = turn.surroundings.inboxes.clone();
        let detail = format_args!(
            "{size} bytes of a message had come from the client, most of all, while what clients have sent and is not handled takes {} bytes \
             and {} are allowed, half of it for such messages: raise inboxes_bytes_max, or lower message_size_max",
            inboxes.held(),
            inboxes.bytes_max()
        );
        if self.is_open() {
            turn.count(Event::InboxesMaxClosed);
        }
        self.close_because(turn, &CloseReason::Overfull, detail);
        self.forget_begun(turn);
    }

    fn forget_begun(&mut self, turn: &mut Turn) {
        turn.reading.begun_size -= self.begun_size();
        if let Carrier::Wire(wire) = &mut self.carrier {
            wire.decoder = Decoder::new(Role::Server);
        }
    }

    /// It is gone, with all that it holds.
    pub(crate) fn forget_inbox(&mut self, turn: &mut Turn) {
        drop(self.take_unread(turn));
        self.forget_begun(turn);
        turn.reading.waiting_size -= self.waiting_size();
    }

    /// What was read for its joins and is not sent.
    fn missed(&self) -> impl Iterator<Item = &super::missed::Missed> {
        self.session.entries().iter().filter_map(|entry| match entry.data.phase.catching_up() {
            Some(CatchingUp::Feeding(feed)) => Some(&feed.page),
            _ => None,
        })
    }
}
