//! The end of a socket: its channels are told, then the client, then the connection goes.

use std::fmt;

use bytes::Bytes;
use fanfare_proto::chunked;
use fanfare_proto::websocket::frame;

use super::turn::Errand;
use super::{Socket, Stage, Turn};
use crate::channel::Ended;
use crate::close_reason::CloseReason;
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::transport::Carrier;
use crate::transport::wire::Wire;

/// After our close frame has left, the client has so long to close its side.
const LINGER_MS: u64 = 2_000;

impl Socket {
    /// Closes the socket: ends its joins, says why, and lets the connection go once that was written.
    pub(crate) fn close(&mut self, turn: &mut Turn, reason: &CloseReason) {
        let mount = self.info.mount.clone();
        let (limits, idle, unsaid) = (&mount.limits, mount.idle_timeout, mount.credential_timeout);
        match reason {
            CloseReason::Idle => {
                let detail = format_args!(
                    "nothing was heard from the client for {idle:?}, its idle_timeout: clients send heartbeats more often"
                );
                self.close_because(turn, reason, detail);
            }
            CloseReason::Unauthorized => {
                let detail = format_args!("the client sent no credential within {unsaid:?}, as it has to here");
                self.close_because(turn, reason, detail);
            }
            CloseReason::OverRate(limit, rate) => {
                let detail = format_args!(
                    "the client sent more {} than {} allows, which is {} a second and {} at once: let it send less, or raise the rate or its burst",
                    limit.unit(),
                    limit.name(),
                    rate.each_second(),
                    rate.at_once()
                );
                self.close_because(turn, reason, detail);
                self.penalize(turn);
            }
            CloseReason::OverQuota(detail) => {
                self.close_because(turn, reason, format_args!("{detail}"));
                self.penalize(turn);
            }
            CloseReason::Slow => {
                let (bytes, frames) = self.carrier.waiting();
                let detail = format_args!(
                    "{bytes} bytes in {frames} frames waited for the client: at most {} and {} may, and no longer than {:?} \
                     without it taking any; give the topic a policy for slow readers, or raise outbox_bytes_max or outbox_frames_max",
                    limits.outbox.bytes_max, limits.outbox.frames_max, mount.write_timeout
                );
                self.close_because(turn, reason, detail);
            }
            CloseReason::Crowded => {
                let (bytes, frames) = self.carrier.waiting();
                let (held, max) = (turn.surroundings.outboxes.held(), turn.surroundings.outboxes.bytes_max());
                let detail = format_args!(
                    "{bytes} bytes in {frames} frames waited for the client, most of all, while what waits for all takes {held} bytes of \
                     memory and {max} are allowed: raise outboxes_bytes_max, lower outbox_bytes_max, or give the topic a policy for slow readers"
                );
                self.close_because(turn, reason, detail);
            }
            _ => self.close_because(turn, reason, format_args!("{}", reason.text())),
        }
    }

    /// The same with what the log says of it.
    pub(super) fn close_because(&mut self, turn: &mut Turn, reason: &CloseReason, detail: fmt::Arguments<'_>) {
        if self.is_open() && reason.is_told() && self.dialect.has_client() {
            let (who, code) = (self.info.who(), Some(reason.code()));
            Fact { kind: Kind::Closed, event: reason.event(), who, topic: None, code, detail }.tell(turn.counters());
        } else if self.is_open() {
            turn.count(reason.event());
            if matches!(reason, CloseReason::Drain) {
                // One for all sockets of the shard.
                let (kind, event, code) = (Kind::Closed, reason.event(), Some(reason.code()));
                Fact { kind, event, who: Who::default(), topic: None, code, detail }.keep(turn.counters(), 1);
            }
        }
        self.close_with(turn, reason, reason.code(), reason.text());
    }

    pub(super) fn client_closed(&mut self, turn: &mut Turn, code: Option<u16>) {
        if self.is_open() {
            turn.count(CloseReason::Client.event());
        }
        self.close_with(turn, &CloseReason::Client, code.unwrap_or(1000), "");
    }

    fn close_with(&mut self, turn: &mut Turn, reason: &CloseReason, code: u16, text: &str) {
        if !self.is_open() {
            return;
        }
        if !matches!(reason, CloseReason::Slow | CloseReason::Crowded | CloseReason::Lost) {
            // What was published before, in the same turn perhaps, leaves before the end.
            (0..self.session.entries().len()).for_each(|slot| self.settle_batches(turn, slot));
        }
        if matches!(reason, CloseReason::Slow | CloseReason::Crowded) {
            let (_, frames) = self.carrier.waiting();
            turn.counters().add(Event::SlowLost, frames as u64);
            self.carrier.cut();
        }
        self.end_all_joins(turn, reason);
        match &mut self.carrier {
            // Its client has gone before it was there.
            Carrier::Wire(Wire { streaming: Some(_), .. }) if matches!(reason, CloseReason::Lost) => {}
            Carrier::Wire(_) => return self.queue_close(turn, code, text),
            Carrier::Poll(session) => session.close(turn.now_ms, &turn.surroundings.outboxes),
            #[cfg(feature = "testing")]
            Carrier::Frames(frames) => {
                // Its other end may be what closed it.
                let _ = frames.send(crate::transport::LocalFrame::Closed(code));
            }
            Carrier::Broadcasts(_) => {}
        }
        self.go(turn);
    }

    /// The connection is gone: nobody can be told.
    pub(crate) fn lost(&mut self, turn: &mut Turn) {
        if self.is_open() {
            self.end_all_joins(turn, &CloseReason::Lost);
            turn.count(Event::ClosedByClient);
        }
        self.go(turn);
    }

    /// The client does not take what it is sent: it loses what waits, and is told so by its end or, if it has none, by the
    /// answer to its next poll.
    pub(crate) fn too_slow(&mut self, turn: &mut Turn) {
        self.give_up(turn, &CloseReason::Slow);
    }

    /// The same for either reason.
    pub(super) fn give_up(&mut self, turn: &mut Turn, reason: &CloseReason) {
        let (bytes, frames) = self.carrier.waiting();
        // What had no room is one more.
        if let Carrier::Poll(session) = &mut self.carrier
            && session.lose(frames + 1)
        {
            self.overflowed = false;
            turn.counters().add(Event::SlowLost, frames as u64);
            let fact = Fact {
                kind: Kind::Dropped,
                event: Event::SlowLost,
                who: self.info.who(),
                topic: None,
                code: Some(410),
                detail: format_args!(
                    "{bytes} bytes in {} frames waited for a client that polls too slowly",
                    frames + 1
                ),
            };
            fact.tell(turn.counters());
            return;
        }
        self.close(turn, reason);
    }

    /// The credential has expired: every join is told that something is wrong with it, and the socket is closed.
    pub(super) fn expired(&mut self, turn: &mut Turn) {
        if self.dialect.has_channels() {
            while let Some(slot) = self.session.entries().len().checked_sub(1) {
                self.end_with_error(turn, slot, Ended::Disconnected);
            }
        }
        self.close(turn, &CloseReason::Expired);
    }

    fn queue_close(&mut self, turn: &mut Turn, code: u16, text: &str) {
        let Carrier::Wire(wire) = &mut self.carrier else { return };
        let close = match wire.streaming {
            Some(_) => Bytes::from_static(chunked::END),
            None => {
                let mut close = Vec::with_capacity(4);
                frame::encode_close(code, text, &mut close);
                close.into()
            }
        };
        // A reader that takes nothing has the write timeout in all, before and after it was given up.
        let timeout_ms = self.info.mount.write_timeout.as_millis() as u64;
        let stalled_ms = wire.stalled_since_ms.map_or(0, |since_ms| turn.now_ms - since_ms);
        let left_ms = timeout_ms.saturating_sub(stalled_ms).max(LINGER_MS);
        wire.due_ms = turn.now_ms.saturating_add(left_ms);
        wire.outbox(&mut turn.backlog.pool).push(close, 1);
        self.mark_dirty(&mut turn.backlog);
        self.watch(turn);
    }

    /// The close frame has left. Closing at once would reset the connection if the client has sent something that we have
    /// not read, and the reset could overtake the close frame; so only our direction ends now.
    pub(super) fn end_of_writing(&mut self, turn: &mut Turn) {
        let Carrier::Wire(wire) = &mut self.carrier else { return };
        if wire.stream.shutdown_write().is_err() {
            return self.go(turn);
        }
        wire.due_ms = wire.due_ms.min(turn.now_ms + LINGER_MS);
        self.watch(turn);
    }

    fn end_all_joins(&mut self, turn: &mut Turn, reason: &CloseReason) {
        // Frames that its channels send from now on have nobody to go to.
        self.stage = Stage::Closing;
        while let Some(slot) = self.session.entries().len().checked_sub(1) {
            if self.dialect.has_channels() {
                self.end_join(turn, slot, ended(reason));
            } else {
                let entry = self.take_entry(turn, slot);
                entry.data.jobs.iter().for_each(|job| self.waits_no_longer(turn, job.size()));
            }
        }
        if let Some(ownership) = &self.ownership {
            ownership.give_up();
        }
        if !self.info.is_pending {
            self.tell(turn, |observer, socket| observer.closed(socket));
        }
    }

    /// The joins have ended: the shard forgets the socket.
    pub(super) fn go(&mut self, turn: &mut Turn) {
        if self.stage != Stage::Gone {
            self.stage = Stage::Gone;
            turn.timers.cancel(self.key, &mut self.alarm);
            turn.errands.push_back(Errand::Gone(self.key));
        }
    }
}

/// What the channels of a socket are told.
fn ended(reason: &CloseReason) -> Ended {
    match reason {
        CloseReason::Disconnect | CloseReason::Expired => Ended::Disconnected,
        CloseReason::Drain => Ended::Draining,
        _ => Ended::Closed,
    }
}
