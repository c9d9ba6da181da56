//! What a socket waits for in time: a client that says nothing or takes nothing, credentials that expire or do not come,
//! polls whose windows end.
//!
//! One alarm serves all of these. It goes off at the earliest, or before that if what it was set for was put off.

use super::{Reading, Socket, Stage, Turn};
use crate::transport::Carrier;

impl Socket {
    /// Sets the alarm to what is due next.
    pub(super) fn watch(&mut self, turn: &mut Turn) {
        if let Some(due_ms) = self.next_due_ms(turn.now_ms) {
            turn.timers.wake(self.key, &mut self.alarm, due_ms);
        }
    }

    fn next_due_ms(&self, now_ms: u64) -> Option<u64> {
        let paced_ms = match self.reading {
            Reading::Paced { until_ms } => Some(until_ms),
            _ => None,
        };
        let own_ms = self.pending_until_ms().into_iter().chain(self.info.expires_ms).chain(paced_ms).min();
        match (self.stage, &self.carrier) {
            (Stage::Gone, _) => None,
            (Stage::Closing, Carrier::Wire(wire)) => Some(wire.due_ms),
            (Stage::Open, Carrier::Wire(wire)) => {
                let stalled = wire.stalled_since_ms.map(|since_ms| since_ms.saturating_add(self.stall_max_ms()));
                own_ms.into_iter().chain(stalled).chain([wire.due_ms]).min()
            }
            (_, Carrier::Poll(session)) => {
                let unpolled_ms = session.last_polled_ms(now_ms).saturating_add(self.unpolled_max_ms());
                own_ms.into_iter().chain(session.window_ends_ms()).chain([unpolled_ms]).min()
            }
            _ => own_ms,
        }
    }

    /// The kernel takes no more: wait for it, but not for ever.
    pub(super) fn stalled(&mut self, turn: &mut Turn) {
        if let Carrier::Wire(wire) = &mut self.carrier
            && wire.stalled_since_ms.is_none()
        {
            wire.stalled_since_ms = Some(turn.now_ms);
            self.watch(turn);
        }
    }

    /// Until when a client that has sent no credential has to send one.
    pub(super) fn pending_until_ms(&self) -> Option<u64> {
        let credentials = self.credentials.as_ref().filter(|_| self.info.is_pending)?;
        Some(credentials.due_ms)
    }

    pub(super) fn stall_max_ms(&self) -> u64 {
        self.info.mount.write_timeout.as_millis() as u64
    }

    /// A session that nobody polls for so long ends.
    pub(super) fn unpolled_max_ms(&self) -> u64 {
        self.info.mount.unpolled_timeout.as_millis() as u64
    }

    /// A poll waits for messages for so long.
    pub(super) fn poll_window_ms(&self) -> u64 {
        self.info.mount.longpoll_window.as_millis() as u64
    }
}
