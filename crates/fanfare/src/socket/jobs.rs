//! What a live join does: its channel's code is run for one message at a time, and what comes meanwhile waits.

use std::any::Any;
use std::sync::Arc;

use fanfare_proto::frame::Outgoing;
use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;

use super::replies::reason_payload;
use super::seat::{Code, Membership, Phase};
use super::{Socket, Turn};
use crate::channel::{Ended, Job, Reply, Status};
use crate::event::Event;
use crate::fact::{Fact, Kind};
use crate::hub::{MemberId, Place, Reach};
use crate::interest::Tick;
use crate::mailbox;

/// While a crowd of messages waits to be handed out, a socket is read no further once so many wait for one of its joins.
const CROWDED_JOBS_MAX: usize = 16;

impl Socket {
    pub(super) fn ran(&mut self, turn: &mut Turn, slot: usize, msg_ref: &Ref, reply: Reply) {
        let serial = self.entry(slot).serial();
        let stop = reply.stop.clone();
        self.answer_with(turn, slot, msg_ref, reply);
        match stop {
            None => self.next_job(turn, serial),
            Some(stop) => self.end_with_frames(turn, slot, Ended::Stopped(stop)),
        }
    }

    pub(super) fn crash(&mut self, turn: &mut Turn, slot: usize, reason: String) {
        let fact = Fact {
            kind: Kind::Crashed,
            event: Event::ChannelCrashed,
            who: self.info.who(),
            topic: Some(self.session.entry(slot).topic()),
            code: None,
            detail: format_args!("its join ended with phx_error: {reason}"),
        };
        fact.tell(turn.counters());
        turn.figures().count_crash(self.session.entry(slot).topic());
        self.end_with_frames(turn, slot, Ended::Crashed(reason));
    }

    /// What a channel replies, if it does. A push that it refuses is told.
    fn answer_with(&mut self, turn: &mut Turn, slot: usize, msg_ref: &Ref, reply: Reply) {
        let Some((status, response)) = reply.answer else { return };
        if matches!(status, Status::Error) && reply.is_told {
            turn.count(Event::PushRefused);
        } else if matches!(status, Status::Error) {
            let fact = Fact {
                kind: Kind::PushRefused,
                event: Event::PushRefused,
                who: self.info.who(),
                topic: Some(self.session.entry(slot).topic()),
                code: None,
                detail: format_args!("{}", reply.because.as_deref().unwrap_or("the channel answered with an error")),
            };
            fact.tell(turn.counters());
        }
        self.answer_from(turn, slot, msg_ref, status, response);
    }

    /// Something for the join of a topic to do.
    #[cfg(feature = "testing")]
    pub(crate) fn give_in(&mut self, turn: &mut Turn, topic: &str, job: Job) {
        if let Some(slot) = self.session.find(topic) {
            self.give(turn, self.session.entry(slot).serial(), job);
        }
    }

    /// Something for a join to do: at once, or behind what waits already.
    pub(crate) fn give(&mut self, turn: &mut Turn, serial: u32, job: Job) {
        let Some(slot) = self.slot(serial) else { return };
        let limits = self.info.mount.limits;
        let size = job.size();
        let entry = self.session.entry_mut(slot);
        let seat = &mut entry.data;
        let outs = u32::from(matches!(job, Job::Out(_) | Job::Lost(_)));
        if seat.phase.is_idle() && seat.jobs.is_empty() {
            if !self.do_job(turn, slot, job) {
                self.next_job(turn, serial);
            }
            return;
        }
        let is_many =
            matches!(job, Job::Frame { .. }) && seat.jobs.len() >= CROWDED_JOBS_MAX.min(limits.waiting_frames_max / 2);
        let has_room = seat.jobs.len() < limits.waiting_frames_max
            && (self.waiting_bytes == 0 || self.waiting_bytes + size <= limits.waiting_bytes_max);
        if has_room || matches!(job, Job::Leave { .. }) {
            seat.jobs.push_back(job);
            seat.outs += outs;
            let share = is_many.then(|| self.info.endpoint.share_of(entry.topic()));
            self.waits(turn, size);
            if let Some(share) = share
                && (mailbox::has_line() || self.info.endpoint.is_crowded(share))
            {
                self.hold_up(turn, share);
            }
            return;
        }
        let detail = format_args!(
            "{} messages with {} bytes wait for the channel: at most {} and {} may (waiting_frames_max, waiting_bytes_max)",
            seat.jobs.len(),
            self.waiting_bytes,
            limits.waiting_frames_max,
            limits.waiting_bytes_max
        );
        let kind = if matches!(job, Job::Frame { .. }) { Kind::PushRefused } else { Kind::Dropped };
        self.info.tell(turn.counters(), (kind, Event::WaitingFull), Some(entry.topic()), detail);
        match job {
            Job::Frame { join_ref, msg_ref, .. } => {
                let topic = entry.topic().clone();
                let reason = format!(
                    "too many messages wait for this channel: at most {} and {} bytes, push again later",
                    limits.waiting_frames_max, limits.waiting_bytes_max
                );
                self.answer(turn, &join_ref, &msg_ref, &topic, Status::Error, reason_payload(&reason));
            }
            // Nobody can be told to come again, so the client is told that there is a gap: it joins anew.
            _ => {
                let reason = format!("more than {} messages waited for the channel", limits.waiting_frames_max);
                self.crash(turn, slot, reason);
            }
        }
    }

    /// The same after a while.
    pub(crate) fn give_later(&mut self, turn: &mut Turn, serial: u32, due_ms: u64, info: Box<dyn Any + Send>) {
        let Some(slot) = self.slot(serial) else { return };
        self.seat(slot).sends_later = true;
        turn.timers.send_later(self.join(slot), due_ms, info);
    }

    /// Does what waits until the channel's code has to run, and starts that.
    pub(super) fn next_job(&mut self, turn: &mut Turn, serial: u32) {
        while let Some(slot) = self.slot(serial) {
            let seat = &mut self.session.entry_mut(slot).data;
            if !seat.phase.is_idle() {
                return;
            }
            let Some(job) = seat.jobs.pop_front() else {
                // An idle join keeps no queue.
                seat.jobs = Default::default();
                self.let_go(turn);
                return self.feed_soon(turn);
            };
            seat.outs -= u32::from(matches!(job, Job::Out(_) | Job::Lost(_)));
            self.waits_no_longer(turn, job.size());
            if self.do_job(turn, slot, job) {
                return;
            }
        }
    }

    /// Does a job. Whether the next one has to wait: the channel's code was started for this one, or the join has ended.
    fn do_job(&mut self, turn: &mut Turn, slot: usize, job: Job) -> bool {
        match job {
            Job::Push { event, payload } => {
                let serial = self.entry(slot).serial();
                self.push(turn, serial, event, payload);
                return false;
            }
            Job::Leave { msg_ref } => {
                self.answer_from(turn, slot, &msg_ref, Status::Ok, Payload::default());
                self.end_with_frames(turn, slot, Ended::Left);
            }
            Job::Lost(gap) => {
                self.tell_gap(turn, slot, &gap);
                return false;
            }
            Job::Out(message) if !self.intercepts(slot, &message.event) => {
                self.send_message(turn, slot, &message);
                return false;
            }
            job => self.run_job(turn, slot, job),
        }
        true
    }

    fn run_job(&mut self, turn: &mut Turn, slot: usize, job: Job) {
        let (mut msg_ref, mut span) = (Ref::NULL, None);
        if let Job::Frame { msg_ref: of_frame, event, .. } = &job {
            msg_ref = of_frame.clone();
            span = self.trace_handling(self.session.entry(slot).topic(), event);
        }
        let entry = self.session.entry_mut(slot);
        let is_out = matches!(job, Job::Out(_));
        let handled = match &job {
            Job::Out(message) if entry.data.resumes => message.position(),
            _ => None,
        };
        let Some(mut instance) = entry.data.phase.start(is_out, handled) else { return };
        let Some(channel) = self.channel_of(self.session.entry(slot)).cloned() else { return };
        instance.cx.msg_ref = msg_ref.clone();
        let run = channel.clone().run(instance, job);
        turn.run_channel(self.join(slot), channel, msg_ref, run, span);
    }

    /// A push of a join's own; before the join is answered it waits.
    pub(crate) fn push(&mut self, turn: &mut Turn, serial: u32, event: Box<str>, payload: Payload) {
        let Some(slot) = self.slot(serial) else { return };
        let entry = self.entry(slot);
        let Phase::Live(Membership { code, .. }) = &entry.data.phase else {
            return self.push_later(turn, slot, event, payload);
        };
        let position = match code {
            Code::Runs { handled, .. } => handled.as_deref().copied(),
            Code::None | Code::Idle(_) => None,
        };
        let (topic, push_ref) = (entry.topic().clone(), entry.push_ref().clone());
        self.settle_batches(turn, slot);
        let frame = Outgoing::Push { join_ref: &push_ref, topic: &topic, event: &event, payload: &payload, position };
        self.send(turn, frame);
    }

    /// A push waits for the answer to its join, within the bounds of what its client sends meanwhile. Nobody reads it before that,
    /// so that a join with more is over: its client joins again.
    fn push_later(&mut self, turn: &mut Turn, slot: usize, event: Box<str>, payload: Payload) {
        let limits = self.info.mount.limits;
        let size = payload.size();
        let waiting = self.waiting_bytes + size;
        let jobs = &mut self.seat(slot).jobs;
        if jobs.len() < limits.waiting_frames_max && waiting <= limits.waiting_bytes_max {
            jobs.push_back(Job::Push { event, payload });
            self.waits(turn, size);
            return;
        }
        let reason = format!(
            "more than {} messages or {} bytes were pushed before its join was answered: push less, or after `join`",
            limits.waiting_frames_max, limits.waiting_bytes_max
        );
        let topic = Some(&**self.session.entry(slot).topic());
        self.info.tell(turn.counters(), (Kind::Dropped, Event::WaitingFull), topic, format_args!("{reason}"));
        self.crash(turn, slot, reason);
    }

    /// A reply that a channel gives outside of the callback that it belongs to.
    pub(crate) fn reply_from(&mut self, turn: &mut Turn, serial: u32, msg_ref: &Ref, reply: Reply) {
        let Some(slot) = self.slot(serial) else { return };
        self.answer_with(turn, slot, msg_ref, reply);
        // A stop is an outcome of a callback; here it would race with the next one.
    }

    /// Lets a join's channel see what is broadcast on another topic.
    pub(crate) fn listen(&mut self, turn: &mut Turn, serial: u32, topic: &Arc<str>, since: Tick) {
        if let Some(slot) = self.slot(serial)
            && self.listening(turn, slot, topic).is_none()
        {
            let id = MemberId { socket: self.key.index, serial };
            let place = turn.enter(topic, id, Reach::Each, Some(since));
            self.seat(slot).listens.push(place);
        }
    }

    pub(crate) fn stop_listening(&mut self, turn: &mut Turn, serial: u32, topic: &Arc<str>) {
        let Some(slot) = self.slot(serial) else { return };
        if let Some(index) = self.listening(turn, slot, topic) {
            let place = self.seat(slot).listens.swap_remove(index);
            self.leave_place(turn, place, None);
        }
    }

    /// Which of a join's subscriptions is that of a topic.
    fn listening(&self, turn: &Turn, slot: usize, topic: &str) -> Option<usize> {
        let listens = &self.session.entry(slot).data.listens;
        listens.iter().position(|&place| turn.hub.is_at(place, topic))
    }

    /// Where a join stands in a topic: its own, or one that it subscribed to.
    pub(crate) fn place_of(&self, turn: &Turn, serial: u32, topic: &str) -> Option<Place> {
        let seat = &self.session.entry(self.slot(serial)?).data;
        let places = seat.phase.place().into_iter().chain(seat.listens.iter().copied());
        places.into_iter().find(|&place| turn.hub.is_at(place, topic))
    }
}
