//! The end of a join: it leaves its topics, its channel is told, and what waited behind it is answered.

use std::borrow::Cow;

use fanfare_proto::frame::{CHANNEL_CRASH, Outgoing};
use fanfare_proto::message::Incoming;
use fanfare_proto::payload::Payload;
use fanfare_proto::session::Entry;

use super::seat::{Code, Seat};
use super::turn::{Errand, Moved};
use super::{Socket, Turn};
use crate::channel::{Ended, Job, Status, Stop};
use crate::close_reason::CloseReason;
use crate::hub::Place;
use crate::key::JoinKey;

impl Socket {
    /// Ends a join, tells the client, and handles what waited behind it.
    pub(super) fn end_with_frames(&mut self, turn: &mut Turn, slot: usize, ended: Ended) {
        let is_error = matches!(ended, Ended::Crashed(_) | Ended::Stopped(Stop::Error(_)));
        self.end_saying(turn, slot, ended, is_error);
    }

    /// The same where the client is to come back, whatever the channel is told.
    pub(super) fn end_with_error(&mut self, turn: &mut Turn, slot: usize, ended: Ended) {
        self.end_saying(turn, slot, ended, true);
    }

    /// Ends a join for another of the same client's that takes its place, in a topic that clients call by the same name.
    pub(crate) fn make_way(&mut self, turn: &mut Turn, slot: usize) {
        let entry = self.entry(slot);
        let (join_ref, topic) = (entry.join_ref().clone(), entry.topic().clone());
        self.end_join(turn, slot, Ended::DuplicateJoin);
        self.close_replaced(turn, &topic, Some(&join_ref));
    }

    fn end_saying(&mut self, turn: &mut Turn, slot: usize, ended: Ended, is_error: bool) {
        let left = ended == Ended::Left;
        let reason = match &ended {
            Ended::Stopped(Stop::Error(reason)) if self.dialect.says_why_it_stops() => Cow::from(reason.clone()),
            _ => CHANNEL_CRASH.into(),
        };
        let entry = self.end(turn, slot, ended);
        let (join_ref, topic) = (entry.join_ref(), &**entry.topic());
        let frame = match is_error {
            true => Outgoing::Error { join_ref, topic, reason: &reason },
            false => Outgoing::Close { join_ref, topic },
        };
        if !left || self.dialect.tells_replaced(&self.info) {
            self.send(turn, frame);
        }
        if self.dialect.is_stream() {
            return self.close_later(turn, CloseReason::TopicEnded);
        }
        if left {
            // What the client sent to the join after it had left means nothing, and is not answered.
            self.forget_waiting(turn, entry);
        } else {
            self.receive_waiting(turn, entry);
        }
    }

    /// Ends a join without a frame. What waited behind it is answered "unmatched topic".
    pub(super) fn end_join(&mut self, turn: &mut Turn, slot: usize, ended: Ended) {
        let mut entry = self.end(turn, slot, ended);
        for job in std::mem::take(&mut entry.data.jobs) {
            self.waits_no_longer(turn, job.size());
            match job {
                Job::Frame { msg_ref, .. } => self.unmatched(turn, &msg_ref, entry.topic()),
                Job::Leave { msg_ref } => {
                    self.answer(turn, entry.push_ref(), &msg_ref, entry.topic(), Status::Ok, Payload::default());
                }
                _ => {}
            }
        }
    }

    /// Takes a join off its socket and out of its topics, and tells its channel: if its code runs, when it comes back.
    fn end(&mut self, turn: &mut Turn, slot: usize, ended: Ended) -> Entry<Seat> {
        self.settle_batches(turn, slot);
        let mut entry = self.take_entry(turn, slot);
        match entry.data.phase.take_code() {
            Code::None => {}
            Code::Idle(instance) => {
                if let Some(channel) = self.channel_of(&entry) {
                    turn.terminate(channel.clone(), instance, ended);
                }
            }
            Code::Runs { .. } => turn.orphan(JoinKey { socket: self.key, serial: entry.serial() }, ended),
        }
        entry
    }

    /// Takes a join off its socket and out of its topics.
    pub(super) fn take_entry(&mut self, turn: &mut Turn, slot: usize) -> Entry<Seat> {
        let mut entry = self.session.end(slot);
        self.let_go(turn);
        if entry.data.sends_later {
            turn.timers.forget(JoinKey { socket: self.key, serial: entry.serial() });
        }
        if let Some(place) = entry.data.phase.place() {
            self.leave_place(turn, place, Some(&mut entry));
        }
        // A channel may have subscribed to its own topic: then one of its places can move as the other is left.
        while let Some(place) = entry.data.listens.pop() {
            self.leave_place(turn, place, Some(&mut entry));
        }
        entry
    }

    /// Leaves a place, and tells the member that took it where it stands now. `ended` is an entry that the session has no more.
    pub(super) fn leave_place(&mut self, turn: &mut Turn, place: Place, ended: Option<&mut Entry<Seat>>) {
        let Some(moved) = turn.leave(place) else { return };
        if moved.member.socket != self.key.index {
            return turn.errands.push_back(Errand::Moved(moved));
        }
        match ended {
            Some(entry) if entry.serial() == moved.member.serial => entry.data.moved(moved),
            _ => self.moved(moved),
        }
    }

    /// One of the joins stands elsewhere in a topic.
    pub(crate) fn moved(&mut self, moved: Moved) {
        if let Some(slot) = self.slot(moved.member.serial) {
            self.seat(slot).moved(moved);
        }
    }

    /// Messages that waited behind a join that is over mean what they would mean if they came now: they are received again.
    pub(super) fn receive_waiting(&mut self, turn: &mut Turn, mut entry: Entry<Seat>) {
        for job in std::mem::take(&mut entry.data.jobs) {
            self.waits_no_longer(turn, job.size());
            let (join_ref, msg_ref, event, payload) = match job {
                Job::Frame { join_ref, msg_ref, event, payload } => (join_ref, msg_ref, event, payload),
                Job::Leave { msg_ref } => (entry.join_ref().clone(), msg_ref, "phx_leave".into(), Payload::default()),
                _ => continue,
            };
            let (topic, event) = (entry.topic().to_string().into(), event.into_string().into());
            let message = Incoming { join_ref, msg_ref, topic, event, payload };
            turn.errands.push_back(Errand::Receive(self.key, Box::new(message)));
        }
    }

    fn forget_waiting(&mut self, turn: &mut Turn, entry: Entry<Seat>) {
        let topic = entry.topic().clone();
        for job in entry.data.jobs {
            self.waits_no_longer(turn, job.size());
            if let Job::Frame { .. } = job {
                self.tell_stale(turn, &topic);
            }
        }
    }
}

impl Seat {
    fn moved(&mut self, moved: Moved) {
        let places = self.phase.place_mut().into_iter().chain(&mut self.listens);
        if let Some(place) = places.into_iter().find(|place| **place == moved.from) {
            *place = moved.to;
        }
    }
}
