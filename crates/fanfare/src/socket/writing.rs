//! What is queued leaves, as far as the client takes it.

use super::{Socket, Turn};
use crate::transport::Carrier;
use crate::transport::wire::Written;

impl Socket {
    /// Writes what is queued.
    pub(crate) fn write_out(&mut self, turn: &mut Turn) {
        self.is_dirty = false;
        if self.overflowed && self.is_open() {
            return;
        }
        match &mut self.carrier {
            Carrier::Wire(wire) => match wire.flush(&mut turn.backlog.pool) {
                Written::All if self.is_open() => self.feed_soon(turn),
                Written::All => self.end_of_writing(turn),
                trouble => self.trouble(turn, trouble),
            },
            Carrier::Poll(_) => {
                self.answer_polls(turn);
                self.feed_soon(turn);
            }
            #[cfg(feature = "testing")]
            Carrier::Frames(_) => self.feed_soon(turn),
            Carrier::Broadcasts(_) => {}
        }
    }

    /// Gives what waits to those who poll, unless too much that others were given is not read.
    pub(super) fn answer_polls(&mut self, turn: &mut Turn) {
        let Carrier::Poll(session) = &mut self.carrier else { return };
        let outboxes = &turn.surroundings.outboxes;
        if outboxes.has_room_for_answers() {
            session.answer_waiting(turn.now_ms, outboxes);
        } else if session.can_answer() {
            turn.unanswered.insert(self.key);
        }
        turn.backlog.pool.account(Some(session.outbox()));
    }

    /// Something other than "all has left" came of a write.
    pub(crate) fn trouble(&mut self, turn: &mut Turn, trouble: Written) {
        match trouble {
            // Only what is offered at once is not taken, and then whole messages are.
            Written::All | Written::NotAtOnce => {}
            Written::Waiting => self.stalled(turn),
            Written::Full => self.too_slow(turn),
            Written::Lost => self.lost(turn),
        }
    }
}
