//! A socket's alarm has gone off: it looks whether what is due has come about, or was put off.

use fanfare_proto::websocket::frame::{self, Opcode};
use tokio::sync::oneshot;

use super::{Reading, Socket, Stage, Turn};
use crate::close_reason::CloseReason;
use crate::timers::Alarm;
use crate::transport::Carrier;
use crate::transport::longpoll::Polled;
use crate::transport::streaming::HEARTBEAT;
use crate::transport::wire::Wire;

impl Socket {
    /// Begins to wait for the client.
    pub(crate) fn begin_to_watch(&mut self, turn: &mut Turn) {
        if self.is_open()
            && let Carrier::Wire(wire) = &mut self.carrier
        {
            match wire.streaming {
                // Its answer begins with a sign of life.
                Some(_) => wire.due_ms = turn.now_ms.saturating_add(HEARTBEAT.as_millis() as u64),
                None => self.look_whether_silent(turn),
            }
        }
        self.watch(turn);
    }

    /// The alarm has gone off.
    pub(crate) fn look(&mut self, turn: &mut Turn) {
        self.alarm = Alarm::OFF;
        let now_ms = turn.now_ms;
        if self.is_open() && self.pending_until_ms().is_some_and(|until_ms| until_ms <= now_ms) {
            self.close(turn, &CloseReason::Unauthorized);
        }
        if self.is_open() && self.info.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
            self.expired(turn);
        }
        if self.is_open() {
            self.end_pause(turn);
        }
        match &mut self.carrier {
            Carrier::Wire(_) => self.look_at_connection(turn),
            Carrier::Poll(session) => {
                session.end_windows(now_ms);
                let unpolled_ms = session.last_polled_ms(now_ms).saturating_add(self.unpolled_max_ms());
                if unpolled_ms <= now_ms {
                    self.close(turn, &CloseReason::Unpolled);
                }
            }
            #[cfg(feature = "testing")]
            Carrier::Frames(_) => {}
            Carrier::Broadcasts(_) => {}
        }
        self.watch(turn);
    }

    /// Whether the client takes what it is sent, and is there at all.
    fn look_at_connection(&mut self, turn: &mut Turn) {
        let (now_ms, stall_max_ms) = (turn.now_ms, self.stall_max_ms());
        let Carrier::Wire(wire) = &mut self.carrier else { return };
        let is_due = wire.due_ms <= now_ms;
        match self.stage {
            Stage::Gone => {}
            Stage::Closing if is_due => self.go(turn),
            Stage::Closing => {}
            Stage::Open => {
                let stalled_since_ms = wire.stalled_since_ms;
                if stalled_since_ms.is_some_and(|since_ms| since_ms.saturating_add(stall_max_ms) <= now_ms) {
                    self.too_slow(turn);
                } else if is_due {
                    self.look_after_client(turn);
                }
            }
        }
    }

    /// Whether a client seems to have said nothing for so long that it is closed. What it has sent may be unread.
    pub(crate) fn seems_silent(&self, now_ms: u64) -> bool {
        let timeout_ms = self.info.mount.idle_timeout.as_millis() as u64;
        let is_pending = self.pending_until_ms().is_some_and(|until_ms| until_ms <= now_ms);
        self.is_open() && (is_pending || self.heard_ms.saturating_add(timeout_ms) <= now_ms)
    }

    /// Looks whether the client is there: one of a stream says nothing, and is told something.
    fn look_after_client(&mut self, turn: &mut Turn) {
        let Carrier::Wire(Wire { streaming: Some(streaming), due_ms, .. }) = &mut self.carrier else {
            return self.look_whether_silent(turn);
        };
        *due_ms = turn.now_ms.saturating_add(HEARTBEAT.as_millis() as u64);
        let heartbeat = streaming.heartbeat();
        // Whoever takes nothing is looked after by the write deadline.
        if self.carrier.waiting() == (0, 0) {
            self.queue(&mut turn.backlog, heartbeat, 1);
        }
    }

    /// Looks after a client that says nothing.
    fn look_whether_silent(&mut self, turn: &mut Turn) {
        let now_ms = turn.now_ms;
        let timeout_ms = self.info.mount.idle_timeout.as_millis() as u64;
        if self.is_unread || self.reading != Reading::Goes {
            // It need not be silent: it is not listened to.
            self.heard_ms = now_ms;
        }
        let silent_ms = now_ms - self.heard_ms.min(now_ms);
        let ping_ms = if self.dialect.has_heartbeats() { timeout_ms } else { timeout_ms / 2 };
        if silent_ms >= timeout_ms {
            return self.close(turn, &CloseReason::Idle);
        }
        let next_ms = if silent_ms >= ping_ms { timeout_ms } else { ping_ms };
        if silent_ms >= ping_ms {
            let mut ping = Vec::with_capacity(2);
            frame::encode(Opcode::Ping, &[], false, &mut ping);
            self.queue(&mut turn.backlog, ping.into(), 1);
        }
        if let Carrier::Wire(wire) = &mut self.carrier {
            wire.due_ms = self.heard_ms.saturating_add(next_ms);
        }
    }

    /// The client asks for messages: it gets what waits, or waits for one until the window ends.
    pub(crate) fn poll(&mut self, turn: &mut Turn, position: Option<u64>, answer: oneshot::Sender<Polled>) {
        let window_ms = self.poll_window_ms();
        if let Carrier::Poll(session) = &mut self.carrier {
            session.wait(answer, position, window_ms, turn.now_ms);
            self.answer_polls(turn);
            self.watch(turn);
            // Before anything else is published, or what the client has missed would be read again for its next poll.
            self.feed_at_once(turn);
        }
    }
}
