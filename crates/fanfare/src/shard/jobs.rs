//! What a live join does: its channel's code is run for one message at a time, and what comes meanwhile waits.

use std::sync::Arc;

use fanfare_proto::frame::Outgoing;
use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;

use super::Shard;
use super::replies::reason_payload;
use crate::channel::{Ended, Reply, Status};
use crate::command::{JoinKey, SocketKey};
use crate::context::Context;
use crate::event::{self, Event};
use crate::hub::{MemberId, Place, Reach};
use crate::interest::Tick;
use crate::join::Job;

impl Shard {
    pub(super) fn ran(&mut self, join: JoinKey, slot: usize, msg_ref: &Ref, reply: Reply) {
        let Reply { answer, stop } = reply;
        if let Some((status, response)) = answer {
            self.answer_from(join.socket, slot, msg_ref, status, response);
        }
        match stop {
            None => self.next_job(join),
            Some(stop) => self.end_with_frames(join.socket, slot, Ended::Stopped(stop)),
        }
    }

    pub(super) fn crash(&mut self, key: SocketKey, slot: usize, reason: String) {
        let topic = self.entry(key, slot).topic().clone();
        event::channel_crashed(self.handle.counters(), &topic, &reason);
        self.end_with_frames(key, slot, Ended::Crashed(reason));
    }

    /// Something for a join to do: at once, or behind what waits already.
    pub(crate) fn give(&mut self, join: JoinKey, job: Job) {
        let Some(slot) = self.slot(join) else { return };
        let socket = &mut self.sockets[join.socket.index as usize];
        let limits = socket.info.mount.limits;
        let size = if let Job::Frame { payload, .. } = &job { payload.size() } else { 0 };
        let entry = socket.session.entry_mut(slot);
        let seat = &mut entry.data;
        if seat.live.is_some() && seat.jobs.is_empty() {
            seat.jobs.push_back(job);
            socket.waiting_bytes += size;
            return self.next_job(join);
        }
        let has_room = seat.jobs.len() < limits.waiting_frames_max
            && (socket.waiting_bytes == 0 || socket.waiting_bytes + size <= limits.waiting_bytes_max);
        if has_room || matches!(job, Job::Leave { .. }) {
            seat.jobs.push_back(job);
            socket.waiting_bytes += size;
            return;
        }
        self.handle.counters().count(Event::WaitingFull);
        match job {
            Job::Frame { join_ref, msg_ref, .. } => {
                let topic = entry.topic().clone();
                let reason = format!(
                    "too many messages wait for this channel: at most {} and {} bytes, push again later",
                    limits.waiting_frames_max, limits.waiting_bytes_max
                );
                self.answer(join.socket, &join_ref, &msg_ref, &topic, Status::Error, reason_payload(&reason));
            }
            // Nobody can be told to come again, so the client is told that there is a gap: it joins anew.
            _ => {
                let reason = format!("more than {} messages waited for the channel", limits.waiting_frames_max);
                self.crash(join.socket, slot, reason);
            }
        }
    }

    /// Does what waits until the channel's code has to run, and starts that.
    pub(super) fn next_job(&mut self, join: JoinKey) {
        while let Some(slot) = self.slot(join) {
            let socket = &mut self.sockets[join.socket.index as usize];
            let entry = socket.session.entry_mut(slot);
            if entry.data.live.is_none() {
                return;
            }
            let Some(job) = entry.data.jobs.pop_front() else {
                // An idle join keeps no queue.
                entry.data.jobs = Default::default();
                return self.feed_soon(join.socket.index as usize);
            };
            match job {
                Job::Push { event, payload } => self.push(join, event, payload),
                Job::Leave { msg_ref } => {
                    self.answer_from(join.socket, slot, &msg_ref, Status::Ok, Payload::default());
                    return self.end_with_frames(join.socket, slot, Ended::Left);
                }
                mut job => {
                    let channel = socket.info.mount.routes[entry.data.route as usize].channel.clone();
                    let mut live = entry.data.live.take().expect("checked above");
                    if let Job::Out(message) = &job
                        && entry.data.resumes
                    {
                        entry.data.handled = message.position.map(Box::new);
                    }
                    let mut msg_ref = Ref::NULL;
                    if let Job::Frame { msg_ref: of_frame, payload, .. } = &mut job {
                        msg_ref = of_frame.clone();
                        socket.waiting_bytes -= payload.size();
                    }
                    live.cx.msg_ref = msg_ref.clone();
                    let run = channel.clone().run(live, job);
                    return self.start_run(join, channel, msg_ref, run);
                }
            }
        }
    }

    /// A push of a join's own; before the join is answered it waits.
    pub(super) fn push(&mut self, join: JoinKey, event: Box<str>, payload: Payload) {
        let Some(slot) = self.slot(join) else { return };
        let entry = self.entry(join.socket, slot);
        if !entry.is_live() {
            entry.data.jobs.push_back(Job::Push { event, payload });
            return;
        }
        let position = entry.data.handled.as_deref().copied();
        let (topic, push_ref) = (entry.topic().clone(), entry.push_ref().clone());
        self.settle_batches(join.socket, slot);
        let frame = Outgoing::Push { join_ref: &push_ref, topic: &topic, event: &event, payload: &payload, position };
        let sent = self.send(join.socket.index as usize, frame);
        sent.expect("field lengths were checked when the push was made");
    }

    /// A reply that a channel gives outside of the callback that it belongs to.
    pub(super) fn reply_from(&mut self, join: JoinKey, msg_ref: &Ref, reply: Reply) {
        let Some(slot) = self.slot(join) else { return };
        if let Some((status, response)) = reply.answer {
            self.answer_from(join.socket, slot, msg_ref, status, response);
        }
        // A stop is an outcome of a callback; here it would race with the next one.
    }

    pub(super) fn listen(&mut self, join: JoinKey, topic: &Arc<str>, since: Tick) {
        if let Some(slot) = self.slot(join)
            && self.listening(join, slot, topic).is_none()
        {
            let id = MemberId { socket: join.socket.index, serial: join.serial };
            let place = self.enter(topic, id, Reach::Each, Some(since));
            self.entry(join.socket, slot).data.listens.push(place);
        }
        self.surroundings.interest.arrived(self.number, topic, self.hub.has_members(topic));
    }

    pub(super) fn stop_listening(&mut self, join: JoinKey, topic: &Arc<str>) {
        let Some(slot) = self.slot(join) else { return };
        if let Some(index) = self.listening(join, slot, topic) {
            let place = self.entry(join.socket, slot).data.listens.swap_remove(index);
            self.leave_place(place, None);
        }
    }

    /// Which of a join's subscriptions is that of a topic.
    fn listening(&self, join: JoinKey, slot: usize, topic: &str) -> Option<usize> {
        let listens = &self.sockets[join.socket.index as usize].session.entry(slot).data.listens;
        listens.iter().position(|&place| self.hub.is_at(place, topic))
    }

    pub(super) fn untrack(&mut self, cx: &Context, ended: &Ended) {
        if cx.tracks {
            let lost = matches!(ended, Ended::Closed | Ended::Draining | Ended::Crashed(_));
            cx.presence.end(cx.endpoint(), &cx.topic, cx.tracker(), lost);
        }
    }

    /// Where a join stands in a topic: its own, or one that it subscribed to.
    pub(super) fn place_of(&mut self, join: JoinKey, topic: &str) -> Option<Place> {
        let slot = self.slot(join)?;
        let seat = &self.sockets[join.socket.index as usize].session.entry(slot).data;
        seat.place.into_iter().chain(seat.listens.iter().copied()).find(|&place| self.hub.is_at(place, topic))
    }
}
