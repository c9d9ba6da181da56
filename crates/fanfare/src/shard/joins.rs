//! The life of a join: asked for, answered, spoken to, ended.

use std::sync::Arc;

use fanfare_proto::payload::{Json, Payload};
use fanfare_proto::phoenix::codec::{self, Kind};
use fanfare_proto::phoenix::message::{Incoming, Ref};
use fanfare_proto::phoenix::session::{Entry, Verdict};
use fanfare_proto::topic::check_topic;

use super::Shard;
use crate::channel::{Ended, Reply, Status, Stop};
use crate::command::{Command, JoinKey, SocketKey};
use crate::context::Context;
use crate::event::{self, Event};
use crate::hub::{MemberId, Place, Reach};
use crate::join::{AnyChannel, Finished, Job, Live, Outcome, Run, Seat};

impl Shard {
    /// A client's message, decoded.
    pub(crate) fn receive(&mut self, key: SocketKey, message: Incoming<'_>) {
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        let Incoming { join_ref, msg_ref, topic, event, payload } = message;
        match socket.session.admit(&join_ref, &topic, &event) {
            Verdict::Heartbeat => self.answer(key, &Ref::NULL, &msg_ref, &topic, Status::Ok, Payload::default()),
            Verdict::NotJoined => self.answer(key, &join_ref, &msg_ref, &topic, Status::Ok, Payload::default()),
            Verdict::Unmatched => self.unmatched(key, &msg_ref, &topic),
            Verdict::Stale => self.handle.counters().count(Event::Stale),
            Verdict::Join => self.begin_join(key, join_ref, msg_ref, &topic, payload, None),
            Verdict::Rejoin(slot) => {
                let old = self.sockets[key.index as usize].session.entry(slot).join_ref().clone();
                self.end_join(key, slot, Ended::DuplicateJoin);
                self.begin_join(key, join_ref, msg_ref, &topic, payload, Some(old));
            }
            Verdict::Leave(slot) => {
                let join = JoinKey { socket: key, serial: socket.session.entry(slot).serial() };
                self.give(join, Job::Leave { msg_ref });
            }
            Verdict::Wait(slot) | Verdict::Dispatch(slot) => {
                let join = JoinKey { socket: key, serial: socket.session.entry(slot).serial() };
                self.give(join, Job::Frame { join_ref, msg_ref, event: event.into(), payload });
            }
        }
    }

    fn begin_join(
        &mut self,
        key: SocketKey,
        join_ref: Ref,
        msg_ref: Ref,
        topic: &str,
        payload: Payload,
        replaced: Option<Ref>,
    ) {
        if let Some(refusal) = self.refusal_of(key, topic) {
            match refusal {
                None => self.unmatched(key, &msg_ref, topic),
                Some(reason) => {
                    self.answer(key, &join_ref, &msg_ref, topic, Status::Error, reason_payload(&reason));
                }
            }
            return self.close_replaced(key, topic, replaced);
        }
        let topic = self.hub.interned(topic).unwrap_or_else(|| topic.into());
        let socket = &mut self.sockets[key.index as usize];
        let (route, found) = socket.info.mount.route_of(&topic).expect("a topic without a route was refused");
        let (channel, presence) = (found.channel.clone(), found.presence.clone());
        let seat = Seat { route, replaced: replaced.map(Box::new), ..Seat::default() };
        let serial = socket.session.begin(topic.clone(), join_ref.clone(), &msg_ref, seat);
        let slot = socket.session.position(serial).expect("the join has just begun");
        let push_ref_size = socket.session.entry(slot).push_ref().text().len().min(usize::from(u16::MAX)) as u16;
        let join = JoinKey { socket: key, serial };
        let info = socket.info.clone();
        let cx = Context {
            join,
            topic,
            presence: presence.unwrap_or_else(|| info.endpoint.presence_default().clone()),
            socket: info,
            join_ref,
            msg_ref: msg_ref.clone(),
            push_ref_size,
            tracks: false,
        };
        self.start_run(join, channel.clone(), msg_ref, channel.join(cx, payload));
        // What runs at once is answered first; a join that takes time must not keep the old channel's client waiting.
        self.settle();
        if let Some(slot) = self.socket(key).and_then(|socket| socket.session.position(serial)) {
            let entry = self.sockets[key.index as usize].session.entry_mut(slot);
            let (topic, replaced) = (entry.topic().clone(), entry.data.replaced.take().map(|old| *old));
            self.close_replaced(key, &topic, replaced);
        }
    }

    /// Why a topic cannot be joined: `Some(None)` when no channel is declared for it.
    fn refusal_of(&self, key: SocketKey, topic: &str) -> Option<Option<String>> {
        let socket = &self.sockets[key.index as usize];
        let counters = self.handle.counters();
        if let Err(error) = check_topic(topic) {
            counters.count(Event::BadTopic);
            return Some(Some(error.to_string()));
        }
        if socket.info.mount.route_of(topic).is_none() {
            return Some(None);
        }
        if socket.session.is_full() {
            counters.count(Event::TooManyJoins);
            return Some(Some("too many channels joined".to_owned()));
        }
        None
    }

    /// Lets a channel's code run; what it comes to arrives as `Finished`, behind all that it sent.
    fn start_run(&mut self, join: JoinKey, channel: Arc<dyn AnyChannel>, msg_ref: Ref, run: Run) {
        let shard = self.handle.clone();
        self.run_user_code(run, move |outcome| {
            shard.send(Command::Finished(Box::new(Finished { join, channel, msg_ref, outcome })));
        });
    }

    pub(super) fn finished(&mut self, finished: Finished) {
        let Finished { join, channel, msg_ref, outcome } = finished;
        let Some(slot) = self.slot(join) else { return self.finished_alone(join, channel, outcome) };
        match outcome {
            Outcome::Joined { live, reply, meta } => self.joined(join, slot, &msg_ref, live, reply, meta),
            Outcome::Refused { cx, response } => {
                self.handle.counters().count(Event::JoinRefused);
                self.join_failed(join.socket, slot, &msg_ref, cx, response);
            }
            Outcome::JoinCrashed { cx, reason } => {
                event::join_crashed(self.handle.counters(), &cx.topic, &reason);
                self.join_failed(join.socket, slot, &msg_ref, cx, reason_payload("join crashed"));
            }
            Outcome::Ran { live, result } => {
                self.entry(join.socket, slot).data.live = Some(live);
                match result {
                    Ok(reply) => self.ran(join, slot, &msg_ref, reply),
                    Err(reason) => self.crash(join.socket, slot, reason),
                }
            }
        }
    }

    /// The join ended while its channel's code ran.
    fn finished_alone(&mut self, join: JoinKey, channel: Arc<dyn AnyChannel>, outcome: Outcome) {
        let ended = self.orphans.remove(&join).unwrap_or(Ended::Closed);
        match outcome {
            Outcome::Joined { live, .. } => self.terminate(channel, live, ended),
            Outcome::Ran { live, result } => {
                self.terminate(channel, live, result.err().map_or(ended, Ended::Crashed));
            }
            Outcome::Refused { cx, .. } | Outcome::JoinCrashed { cx, .. } => self.untrack(&cx, &ended),
        }
    }

    fn joined(&mut self, join: JoinKey, slot: usize, msg_ref: &Ref, live: Live, reply: Payload, meta: Option<Json>) {
        self.handle.counters().count(Event::Joined);
        let key = join.socket;
        let socket = &mut self.sockets[key.index as usize];
        let variant = socket.variant();
        socket.session.go_live(slot);
        let entry = socket.session.entry_mut(slot);
        let (topic, join_ref) = (entry.topic().clone(), entry.join_ref().clone());
        let intercepts = !socket.info.mount.routes[entry.data.route as usize].channel.intercepts().is_empty();
        let reach = if intercepts { Reach::Intercepted(variant) } else { Reach::Wire(variant) };
        let id = MemberId { socket: key.index, serial: join.serial };
        entry.data.place = Some(self.hub.join(&topic, id, reach));
        entry.data.live = Some(live);
        entry.data.meta = meta;
        let replaced = entry.data.replaced.take().map(|old| *old);
        let waiting = std::mem::take(&mut entry.data.jobs);
        self.answer(key, &join_ref, msg_ref, &topic, Status::Ok, reply);
        self.close_replaced(key, &topic, replaced);
        for job in waiting {
            match job {
                Job::Frame { join_ref, msg_ref, event, payload } => {
                    self.waited(key, &payload);
                    self.receive_again(key, &topic, join_ref, msg_ref, &event, payload);
                }
                job => self.give(join, job),
            }
        }
    }

    fn join_failed(&mut self, key: SocketKey, slot: usize, msg_ref: &Ref, cx: Context, response: Payload) {
        self.untrack(&cx, &Ended::Closed);
        let mut entry = self.take_entry(key, slot);
        self.answer(key, entry.join_ref(), msg_ref, entry.topic(), Status::Error, response);
        let replaced = entry.data.replaced.take().map(|old| *old);
        self.close_replaced(key, entry.topic(), replaced);
        self.receive_waiting(key, entry);
    }

    fn ran(&mut self, join: JoinKey, slot: usize, msg_ref: &Ref, reply: Reply) {
        let Reply { answer, stop } = reply;
        if let Some((status, response)) = answer {
            let entry = self.entry(join.socket, slot);
            let (topic, join_ref) = (entry.topic().clone(), entry.join_ref().clone());
            self.settle_batches(join.socket, slot);
            self.answer(join.socket, &join_ref, msg_ref, &topic, status, response);
        }
        match stop {
            None => self.next_job(join),
            Some(Stop::Error(reason)) => {
                self.end_with_frames(join.socket, slot, Ended::Stopped(Stop::Error(reason)), codec::error);
            }
            Some(stop) => self.end_with_frames(join.socket, slot, Ended::Stopped(stop), codec::close),
        }
    }

    fn crash(&mut self, key: SocketKey, slot: usize, reason: String) {
        let topic = self.entry(key, slot).topic().clone();
        event::channel_crashed(self.handle.counters(), &topic, &reason);
        self.end_with_frames(key, slot, Ended::Crashed(reason), codec::error);
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
    fn next_job(&mut self, join: JoinKey) {
        while let Some(slot) = self.slot(join) {
            let socket = &mut self.sockets[join.socket.index as usize];
            let entry = socket.session.entry_mut(slot);
            if entry.data.live.is_none() {
                return;
            }
            let Some(job) = entry.data.jobs.pop_front() else {
                // An idle join keeps no queue.
                entry.data.jobs = Default::default();
                return;
            };
            match job {
                Job::Push { event, payload } => self.push(join, event, payload),
                Job::Leave { msg_ref } => {
                    let (topic, join_ref) = (entry.topic().clone(), entry.join_ref().clone());
                    self.settle_batches(join.socket, slot);
                    self.answer(join.socket, &join_ref, &msg_ref, &topic, Status::Ok, Payload::default());
                    return self.end_with_frames(join.socket, slot, Ended::Left, codec::close);
                }
                mut job => {
                    let channel = socket.info.mount.routes[entry.data.route as usize].channel.clone();
                    let mut live = entry.data.live.take().expect("checked above");
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
        let (topic, push_ref) = (entry.topic().clone(), entry.push_ref().clone());
        self.settle_batches(join.socket, slot);
        self.send(join.socket.index as usize, |format, out| {
            codec::push(format, &push_ref, &topic, &event, &payload, out)
                .expect("field lengths were checked when the push was made")
        });
    }

    /// A reply that a channel gives outside of the callback that it belongs to.
    pub(super) fn reply_from(&mut self, join: JoinKey, msg_ref: &Ref, reply: Reply) {
        let Some(slot) = self.slot(join) else { return };
        let entry = self.entry(join.socket, slot);
        let (topic, join_ref) = (entry.topic().clone(), entry.join_ref().clone());
        if let Some((status, response)) = reply.answer {
            self.settle_batches(join.socket, slot);
            self.answer(join.socket, &join_ref, msg_ref, &topic, status, response);
        }
        // A stop is an outcome of a callback; here it would race with the next one.
    }

    /// Sends a reply. A field that does not fit a binary frame makes it an error reply that says so.
    fn answer(
        &mut self,
        key: SocketKey,
        join_ref: &Ref,
        msg_ref: &Ref,
        topic: &str,
        status: Status,
        response: Payload,
    ) {
        if self.socket(key).is_none() {
            return;
        }
        let mut too_long = false;
        self.send(key.index as usize, |format, out| {
            codec::reply(format, join_ref, msg_ref, topic, status.as_str(), &response, out).unwrap_or_else(|error| {
                too_long = true;
                let reason = reason_payload(&error.to_string());
                codec::reply(format, join_ref, msg_ref, topic, "error", &reason, out).unwrap_or(Kind::Text)
            })
        });
        if too_long {
            self.handle.counters().count(Event::FieldTooLong);
        }
    }

    fn unmatched(&mut self, key: SocketKey, msg_ref: &Ref, topic: &str) {
        self.handle.counters().count(Event::Unmatched);
        self.answer(key, &Ref::NULL, msg_ref, topic, Status::Error, reason_payload("unmatched topic"));
    }

    fn close_replaced(&mut self, key: SocketKey, topic: &str, replaced: Option<Ref>) {
        if let Some(join_ref) = replaced
            && self.socket(key).is_some()
        {
            self.send(key.index as usize, |format, out| {
                codec::close(format, &join_ref, topic, out);
                Kind::Text
            });
        }
    }

    /// Ends a join, tells the client, and handles what waited behind it.
    fn end_with_frames(
        &mut self,
        key: SocketKey,
        slot: usize,
        ended: Ended,
        encode: fn(fanfare_proto::phoenix::message::Format, &Ref, &str, &mut Vec<u8>),
    ) {
        self.settle_batches(key, slot);
        let (entry, live) = self.leave_topics(key, slot, &ended);
        self.send(key.index as usize, |format, out| {
            encode(format, entry.join_ref(), entry.topic(), out);
            Kind::Text
        });
        let channel = self.channel_of(key, &entry);
        let left = ended == Ended::Left;
        if let Some(live) = live {
            self.terminate(channel, live, ended);
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
        self.settle_batches(key, slot);
        let (mut entry, live) = self.leave_topics(key, slot, &ended);
        let channel = self.channel_of(key, &entry);
        if let Some(live) = live {
            self.terminate(channel, live, ended);
        }
        for job in std::mem::take(&mut entry.data.jobs) {
            match job {
                Job::Frame { msg_ref, payload, .. } => {
                    self.waited(key, &payload);
                    self.unmatched(key, &msg_ref, entry.topic());
                }
                Job::Leave { msg_ref } => {
                    self.answer(key, entry.join_ref(), &msg_ref, entry.topic(), Status::Ok, Payload::default());
                }
                _ => {}
            }
        }
    }

    /// Takes a join off its socket and out of its topics. Without state its channel's code is running: it is an orphan.
    fn leave_topics(&mut self, key: SocketKey, slot: usize, ended: &Ended) -> (Entry<Seat>, Option<Live>) {
        let mut entry = self.take_entry(key, slot);
        let live = entry.data.live.take();
        if live.is_none() {
            self.orphans.insert(JoinKey { socket: key, serial: entry.serial() }, ended.clone());
        }
        (entry, live)
    }

    fn take_entry(&mut self, key: SocketKey, slot: usize) -> Entry<Seat> {
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

    /// Removes a member from the hub, and tells the one that took its place where it stands now.
    /// `ended` is an entry that its socket has no more.
    pub(super) fn leave_place(&mut self, place: Place, ended: Option<(SocketKey, &mut Entry<Seat>)>) {
        let Some((moved, from)) = self.hub.leave(place) else { return };
        let old = Place { position: from, ..place };
        if let Some((key, entry)) = ended
            && moved.socket == key.index
            && moved.serial == entry.serial()
        {
            return moved_place(&mut entry.data, old, place);
        }
        let session = &mut self.sockets[moved.socket as usize].session;
        // Nearly always the join of that very topic; a channel that merely subscribed is looked for among all.
        let own = session.find(self.hub.name(place)).filter(|&slot| session.entry(slot).serial() == moved.serial);
        if let Some(slot) = own.or_else(|| session.position(moved.serial)) {
            moved_place(&mut session.entry_mut(slot).data, old, place);
        }
    }

    /// Messages that waited behind a join that is over mean what they would mean if they came now.
    fn receive_waiting(&mut self, key: SocketKey, mut entry: Entry<Seat>) {
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

    fn forget_waiting(&mut self, key: SocketKey, entry: Entry<Seat>) {
        for job in entry.data.jobs {
            if let Job::Frame { payload, .. } = job {
                self.waited(key, &payload);
                self.handle.counters().count(Event::Stale);
            }
        }
    }

    fn receive_again(
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

    fn waited(&mut self, key: SocketKey, payload: &Payload) {
        if let Some(socket) = self.socket(key) {
            socket.waiting_bytes -= payload.size();
        }
    }

    /// Lets what was published so far leave ahead of a frame of the join's own.
    fn settle_batches(&mut self, key: SocketKey, slot: usize) {
        let Some(place) = self.entry(key, slot).data.place else { return };
        let mut settled = Vec::new();
        self.hub.settle(place, |_, frames| settled.push(frames));
        for frames in settled {
            self.queue(key.index as usize, frames.bytes, frames.count);
        }
    }

    pub(super) fn listen(&mut self, join: JoinKey, topic: &Arc<str>, listen: bool) {
        let Some(slot) = self.slot(join) else { return };
        let listens = &self.sockets[join.socket.index as usize].session.entry(slot).data.listens;
        let known = listens.iter().position(|&place| self.hub.is_at(place, topic));
        match (listen, known) {
            (true, None) => {
                let id = MemberId { socket: join.socket.index, serial: join.serial };
                let place = self.hub.join(topic, id, Reach::Each);
                self.entry(join.socket, slot).data.listens.push(place);
            }
            (false, Some(index)) => {
                let place = self.entry(join.socket, slot).data.listens.swap_remove(index);
                self.leave_place(place, None);
            }
            _ => {}
        }
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

    fn channel_of(&self, key: SocketKey, entry: &Entry<Seat>) -> Arc<dyn AnyChannel> {
        self.sockets[key.index as usize].info.mount.routes[entry.data.route as usize].channel.clone()
    }

    fn slot(&mut self, join: JoinKey) -> Option<usize> {
        self.socket(join.socket)?.session.position(join.serial)
    }

    fn entry(&mut self, key: SocketKey, slot: usize) -> &mut Entry<Seat> {
        self.sockets[key.index as usize].session.entry_mut(slot)
    }
}

fn moved_place(seat: &mut Seat, old: Place, new: Place) {
    if let Some(place) = seat.place.iter_mut().chain(&mut seat.listens).find(|place| **place == old) {
        *place = new;
    }
}

fn reason_payload(reason: &str) -> Payload {
    serde_json::json!({ "reason": reason }).into()
}
