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
            Carrier::Poll(session) => {
                session.answer_waiting(turn.now_ms);
                turn.backlog.pool.account(Some(session.outbox()));
                self.feed_soon(turn);
            }
            #[cfg(feature = "testing")]
            Carrier::Frames(_) => self.feed_soon(turn),
            Carrier::Broadcasts(_) => {}
        }
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
