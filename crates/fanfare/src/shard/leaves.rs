//! The end of a join: it leaves its topics, its channel is told, and what waited behind it is answered.

use std::sync::Arc;

use fanfare_proto::frame::Outgoing;
use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::payload::Payload;
use fanfare_proto::session::Entry;

use super::Shard;
use crate::channel::{Ended, Status, Stop};
use crate::command::{JoinKey, SocketKey};
use crate::event::Event;
use crate::hub::{MemberId, Place, Reach};
use crate::interest::Tick;
use crate::join::{Job, Seat};
use crate::socket::CloseReason;

impl Shard {
    /// Ends a join, tells the client, and handles what waited behind it.
    pub(super) fn end_with_frames(&mut self, key: SocketKey, slot: usize, ended: Ended) {
        let is_error = matches!(ended, Ended::Crashed(_) | Ended::Stopped(Stop::Error(_)));
        self.end_saying(key, slot, ended, is_error);
    }

    /// The same where the client is to come back, whatever the channel is told.
    pub(super) fn end_with_error(&mut self, key: SocketKey, slot: usize, ended: Ended) {
        self.end_saying(key, slot, ended, true);
    }

    fn end_saying(&mut self, key: SocketKey, slot: usize, ended: Ended, is_error: bool) {
        let left = ended == Ended::Left;
        let entry = self.end(key, slot, ended);
        let (join_ref, topic) = (entry.join_ref(), &**entry.topic());
        let frame = if is_error { Outgoing::Error { join_ref, topic } } else { Outgoing::Close { join_ref, topic } };
        self.send(key.index as usize, frame).expect("it is text");
        if self.sockets[key.index as usize].protocol.is_stream() {
            return self.close(key, CloseReason::TopicEnded);
        }
        if left {
            // What the client sent to the join after it had left means nothing, and is not answered.
            self.forget_waiting(key, entry);
        } else {
            self.receive_waiting(key, entry);
        }
    }

    /// Ends a join without a frame. What waited behind it is answered "unmatched topic".
    pub(super) fn end_join(&mut self, key: SocketKey, slot: usize, ended: Ended) {
        let mut entry = self.end(key, slot, ended);
        for job in std::mem::take(&mut entry.data.jobs) {
            match job {
                Job::Frame { msg_ref, payload, .. } => {
                    self.waited(key, &payload);
                    self.unmatched(key, &msg_ref, entry.topic());
                }
                Job::Leave { msg_ref } => {
                    self.answer(key, entry.push_ref(), &msg_ref, entry.topic(), Status::Ok, Payload::default());
                }
                _ => {}
            }
        }
    }

    /// Takes a join off its socket and out of its topics, and tells its channel. Without state the channel's code is
    /// running: the join is an orphan, and its channel is told when it comes back.
    fn end(&mut self, key: SocketKey, slot: usize, ended: Ended) -> Entry<Seat> {
        self.settle_batches(key, slot);
        let mut entry = self.take_entry(key, slot);
        match entry.data.live.take() {
            Some(live) => self.terminate(self.channel_of(key, &entry), live, ended),
            None => drop(self.orphans.insert(JoinKey { socket: key, serial: entry.serial() }, ended)),
        }
        entry
    }

    pub(super) fn take_entry(&mut self, key: SocketKey, slot: usize) -> Entry<Seat> {
        let mut entry = self.sockets[key.index as usize].session.end(slot);
        if let Some(place) = entry.data.place.take() {
            self.leave_place(place, Some((key, &mut entry)));
        }
        // A channel may have subscribed to its own topic: then one of its places can move as the other is left.
        while let Some(place) = entry.data.listens.pop() {
            self.leave_place(place, Some((key, &mut entry)));
        }
        entry
    }

    /// Adds a member to the hub.
    pub(super) fn enter(&mut self, topic: &Arc<str>, id: MemberId, reach: Reach, since: Option<Tick>) -> Place {
        let place = self.hub.join(topic, id, reach, since);
        let observers = &self.surroundings.observers;
        if !observers.is_empty() && self.hub.is_alone(place) {
            observers.entered(topic);
        }
        place
    }

    /// Removes a member from the hub, and tells the one that took its place where it stands now.
    /// `ended` is an entry that its socket has no more.
    pub(super) fn leave_place(&mut self, place: Place, ended: Option<(SocketKey, &mut Entry<Seat>)>) {
        let observers = &self.surroundings.observers;
        let vacated = (!observers.is_empty() && self.hub.is_alone(place)).then(|| self.hub.name(place).clone());
        let moved = self.hub.leave(place);
        if let Some(topic) = vacated {
            observers.left(&topic);
        }
        let Some((moved, from)) = moved else { return };
        let old = Place { position: from, ..place };
        if let Some((key, entry)) = ended
            && moved.socket == key.index
            && moved.serial == entry.serial()
        {
            return moved_place(&mut entry.data, old, place);
        }
        let session = &mut self.sockets[moved.socket as usize].session;
        if let Some(slot) = session.position(moved.serial) {
            moved_place(&mut session.entry_mut(slot).data, old, place);
        }
    }

    /// Messages that waited behind a join that is over mean what they would mean if they came now.
    pub(super) fn receive_waiting(&mut self, key: SocketKey, mut entry: Entry<Seat>) {
        for job in std::mem::take(&mut entry.data.jobs) {
            match job {
                Job::Frame { join_ref, msg_ref, event, payload } => {
                    self.waited(key, &payload);
                    self.receive_again(key, entry.topic(), join_ref, msg_ref, &event, payload);
                }
                Job::Leave { msg_ref } => {
                    let join_ref = entry.join_ref().clone();
                    self.receive_again(key, entry.topic(), join_ref, msg_ref, "phx_leave", Payload::default());
                }
                _ => {}
            }
        }
    }

    pub(super) fn forget_waiting(&mut self, key: SocketKey, entry: Entry<Seat>) {
        for job in entry.data.jobs {
            if let Job::Frame { payload, .. } = job {
                self.waited(key, &payload);
                self.handle.counters().count(Event::Stale);
            }
        }
    }

    pub(super) fn receive_again(
        &mut self,
        key: SocketKey,
        topic: &Arc<str>,
        join_ref: Ref,
        msg_ref: Ref,
        event: &str,
        payload: Payload,
    ) {
        self.receive(key, Incoming { join_ref, msg_ref, topic: (&**topic).into(), event: event.into(), payload });
    }

    pub(super) fn waited(&mut self, key: SocketKey, payload: &Payload) {
        if let Some(socket) = self.socket(key) {
            socket.waiting_bytes -= payload.size();
        }
    }

    /// Lets what was published so far leave ahead of a frame of the join's own.
    pub(super) fn settle_batches(&mut self, key: SocketKey, slot: usize) {
        let Some(place) = self.entry(key, slot).data.place else { return };
        let mut settled = Vec::new();
        self.hub.settle(place, |member, frames| frames.keep_for(member, &mut settled));
        settled.into_iter().for_each(|settled| self.queue_settled(settled));
    }
}

fn moved_place(seat: &mut Seat, old: Place, new: Place) {
    if let Some(place) = seat.place.iter_mut().chain(&mut seat.listens).find(|place| **place == old) {
        *place = new;
    }
}
