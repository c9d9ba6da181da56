//! What a socket holds of what its client has sent: messages that wait, and one of which a part has come. All sockets of a node have room
//! for it together (`room/inboxes.rs`).

use super::{Socket, Turn};
use crate::transport::Carrier;

/// What a message takes that waits, beside its payload.
const WAITING_SIZE: usize = 128;

/// So much each socket may hold, however much others do: heartbeats and small messages come through.
const HELD_ALWAYS: usize = 4 * 1024;

impl Socket {
    /// A message waits from now on, with so many bytes: those of its payload, of a job what [`Job::size`](crate::channel::Job::size) says.
    pub(super) fn waits(&mut self, turn: &mut Turn, size: usize) {
        self.waiting_bytes += size;
        turn.reading.waiting_size += size + WAITING_SIZE;
    }

    /// It waits no longer.
    pub(super) fn waits_no_longer(&mut self, turn: &mut Turn, size: usize) {
        self.waiting_bytes -= size;
        turn.reading.waiting_size -= size + WAITING_SIZE;
    }

    /// What its messages take that wait.
    pub(super) fn waiting_size(&self) -> usize {
        let jobs: usize = self.session.entries().iter().map(|entry| entry.data.jobs.len()).sum();
        let held = self.credentials.as_ref().map_or(0, |credentials| credentials.held.len());
        self.waiting_bytes + WAITING_SIZE * (jobs + held)
    }

    /// What the message takes of which a part has come.
    pub(crate) fn begun_size(&self) -> usize {
        match &self.carrier {
            Carrier::Wire(wire) => wire.decoder.held(),
            _ => 0,
        }
    }

    /// Whether it holds more than each socket may, however much others do.
    pub(super) fn holds_much(&self) -> bool {
        self.begun_size() + self.waiting_size() > HELD_ALWAYS
    }
}
