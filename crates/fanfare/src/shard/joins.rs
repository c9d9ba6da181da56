//! The life of a join: asked for, answered. `jobs` has what it does meanwhile, `leaves` its end.

use std::sync::Arc;

use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::heartbeat;
use fanfare_proto::position::Position;
use fanfare_proto::resume::{behind, gap_param, resume_param};
use fanfare_proto::rooms;
use fanfare_proto::session::{Entry, Verdict};
use fanfare_proto::topic::check_topic;

use super::Shard;
use super::credentials::ACCESS_TOKEN;
use super::deliver::reach_of;
use super::replies::reason_payload;
use super::resume::Joining;
use crate::channel::{Ended, Status};
use crate::command::{Command, JoinKey, SocketKey};
use crate::context::Context;
use crate::event::{self, Event};
use crate::hub::{MemberId, Reach};
use crate::join::{AnyChannel, CatchingUp, Finished, HistoryRead, Job, Live, Outcome, Run, Seat};
use crate::socket::Protocol;

/// A join that ends because its client joins the topic again.
pub(super) struct Replaced {
    join_ref: Ref,
    /// What it was sent of the topic's messages, if it resumes: all from a position up to another.
    sent: Option<(Position, Position)>,
}

impl Shard {
    /// A client's message, decoded.
    pub(crate) fn receive(&mut self, key: SocketKey, message: Incoming<'_>) {
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        let is_in_rooms = socket.protocol == Protocol::Rooms;
        let verdict = match socket.protocol {
            Protocol::Phoenix => heartbeat::admit(&socket.session, &message),
            _ => socket.session.admit(&message),
        };
        let concerns_credential = socket.info.is_pending || message.event == ACCESS_TOKEN;
        let message = match concerns_credential && socket.info.mount.connect.refreshes() {
            true => self.take_credential(key, verdict, message),
            false => Some(message),
        };
        let Some(Incoming { join_ref, msg_ref, topic, event, payload }) = message else { return };
        if is_in_rooms && self.is_otherwise_in_rooms(key, verdict, &topic, &event, &msg_ref) {
            return;
        }
        match verdict {
            Verdict::Heartbeat => self.answer(key, &Ref::NULL, &msg_ref, &topic, Status::Ok, Payload::default()),
            Verdict::NotJoined => self.answer(key, &join_ref, &msg_ref, &topic, Status::Ok, Payload::default()),
            Verdict::Unmatched => self.unmatched(key, &msg_ref, &topic),
            Verdict::Stale => self.handle.counters().count(Event::Stale),
            Verdict::Join => self.begin_join(key, join_ref, msg_ref, &topic, payload, None),
            Verdict::Rejoin(slot) => {
                let replaced = Replaced {
                    join_ref: self.sockets[key.index as usize].session.entry(slot).join_ref().clone(),
                    sent: self.sent(key, slot),
                };
                self.end_join(key, slot, Ended::DuplicateJoin);
                self.begin_join(key, join_ref, msg_ref, &topic, payload, Some(replaced));
            }
            Verdict::Leave(slot) => {
                let join = JoinKey { socket: key, serial: self.entry(key, slot).serial() };
                self.give(join, Job::Leave { msg_ref });
            }
            Verdict::Wait(slot) | Verdict::Dispatch(slot) => {
                let join = JoinKey { socket: key, serial: self.entry(key, slot).serial() };
                self.give(join, Job::Frame { join_ref, msg_ref, event: event.into(), payload });
            }
        }
    }

    /// Joins the only topic of a stream.
    pub(crate) fn join_stream(&mut self, key: SocketKey, topic: &str, params: Payload) {
        if self.socket(key).is_some() {
            self.begin_join(key, Ref::NULL, Ref::NULL, topic, params, None);
        }
    }

    /// What means something else in the rooms protocol than in Phoenix's.
    fn is_otherwise_in_rooms(
        &mut self,
        key: SocketKey,
        verdict: Verdict,
        topic: &str,
        event: &str,
        msg_ref: &Ref,
    ) -> bool {
        match verdict {
            // Joining again changes nothing, leaving what was not joined is safe: both are acknowledged.
            Verdict::Rejoin(_) => self.answer(key, &Ref::NULL, msg_ref, topic, Status::Ok, Payload::default()),
            Verdict::NotJoined => self.close_replaced(key, topic, Some(Ref::NULL)),
            Verdict::Unmatched if event != "phx_join" => self.break_off(key, rooms::NOT_JOINED),
            _ => return false,
        }
        true
    }

    pub(super) fn begin_join(
        &mut self,
        key: SocketKey,
        join_ref: Ref,
        msg_ref: Ref,
        topic: &str,
        payload: Payload,
        replaced: Option<Replaced>,
    ) {
        let sent = replaced.as_ref().and_then(|replaced| replaced.sent);
        let replaced = replaced.map(|replaced| replaced.join_ref);
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
        let has_history = socket.info.endpoint.store_of(&topic).is_some();
        let since = match has_history.then(|| resume_param(&payload)).transpose() {
            Ok(since) => since.flatten().or(socket.info.since.filter(|_| has_history)).map(|since| behind(since, sent)),
            Err(reason) => {
                self.answer(key, &join_ref, &msg_ref, &topic, Status::Error, reason_payload(&reason));
                return self.close_replaced(key, &topic, replaced);
            }
        };
        let (route, found) = socket.info.mount.route_of(&topic).expect("a topic without a route was refused");
        let (channel, presence) = (found.channel.clone(), found.presence.clone());
        let catching_up = since.map(|since| Box::new(CatchingUp::Wanted(since)));
        let resumes = since.is_some();
        let hears_gaps = socket.info.endpoint.policies().slow(&topic).is_some() && gap_param(&payload);
        let seat =
            Seat { route, replaced: replaced.map(Box::new), resumes, hears_gaps, catching_up, ..Seat::default() };
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
    pub(super) fn refusal_of(&self, key: SocketKey, topic: &str) -> Option<Option<String>> {
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
    pub(super) fn start_run(&mut self, join: JoinKey, channel: Arc<dyn AnyChannel>, msg_ref: Ref, run: Run) {
        let shard = self.handle.clone();
        self.run_user_code(run, move |outcome| {
            shard.send(Command::Finished(Box::new(Finished { join, channel, msg_ref, outcome })));
        });
    }

    pub(super) fn finished(&mut self, finished: Finished) {
        let Finished { join, channel, msg_ref, outcome } = finished;
        let Some(slot) = self.slot(join) else { return self.finished_alone(join, channel, outcome) };
        match outcome {
            Outcome::Joined { mut live, admitted } => {
                self.renew(join.socket, &mut live);
                self.admitted(slot, Joining { join, channel, msg_ref, live, admitted });
            }
            Outcome::Read(read) => {
                let HistoryRead { mut live, admitted, replay } = *read;
                self.renew(join.socket, &mut live);
                self.history_read(slot, Joining { join, channel, msg_ref, live, admitted }, replay);
            }
            Outcome::Refused { cx, response } => {
                self.handle.counters().count(Event::JoinRefused);
                self.join_failed(join.socket, slot, &msg_ref, cx, response);
            }
            Outcome::JoinCrashed { cx, reason } => {
                event::join_crashed(self.handle.counters(), &cx.topic, &reason);
                self.join_failed(join.socket, slot, &msg_ref, cx, reason_payload("join crashed"));
            }
            Outcome::Ran { mut live, result } => {
                self.renew(join.socket, &mut live);
                let seat = &mut self.entry(join.socket, slot).data;
                (seat.live, seat.handled) = (Some(live), None);
                match result {
                    Ok(reply) => self.ran(join, slot, &msg_ref, reply),
                    Err(reason) => self.crash(join.socket, slot, reason),
                }
            }
        }
    }

    /// The join ended while its channel's code ran.
    pub(super) fn finished_alone(&mut self, join: JoinKey, channel: Arc<dyn AnyChannel>, outcome: Outcome) {
        let ended = self.orphans.remove(&join).unwrap_or(Ended::Closed);
        match outcome {
            Outcome::Joined { live, .. } => self.terminate(channel, live, ended),
            Outcome::Read(read) => self.terminate(channel, read.live, ended),
            Outcome::Ran { live, result } => {
                self.terminate(channel, live, result.err().map_or(ended, Ended::Crashed));
            }
            Outcome::Refused { cx, .. } | Outcome::JoinCrashed { cx, .. } => self.untrack(&cx, &ended),
        }
    }

    /// The join is answered; it is a member of its topic already if it has read the history.
    pub(super) fn joined(&mut self, join: JoinKey, slot: usize, msg_ref: &Ref, live: Live, reply: Payload) {
        self.handle.counters().count(Event::Joined);
        let key = join.socket;
        self.sockets[key.index as usize].session.go_live(slot);
        if self.entry(key, slot).data.place.is_none() {
            self.enter_as(join, slot, reach_of(&self.sockets[key.index as usize], slot));
        }
        let entry = self.entry(key, slot);
        let (topic, join_ref) = (entry.topic().clone(), entry.join_ref().clone());
        entry.data.live = Some(live);
        let replaced = entry.data.replaced.take().map(|old| *old);
        self.answer(key, &join_ref, msg_ref, &topic, Status::Ok, reply);
        self.close_replaced(key, &topic, replaced);
    }

    /// A join becomes a member of its topic.
    pub(super) fn enter_as(&mut self, join: JoinKey, slot: usize, reach: Reach) {
        let topic = self.entry(join.socket, slot).topic().clone();
        let id = MemberId { socket: join.socket.index, serial: join.serial };
        let place = self.enter(&topic, id, reach, None);
        self.entry(join.socket, slot).data.place = Some(place);
    }

    /// What came for a join before it was answered.
    pub(super) fn after_joining(&mut self, join: JoinKey, slot: usize) {
        let key = join.socket;
        let entry = self.entry(key, slot);
        let topic = entry.topic().clone();
        for job in std::mem::take(&mut entry.data.jobs) {
            match job {
                Job::Frame { join_ref, msg_ref, event, payload } => {
                    self.waited(key, &payload);
                    self.receive_again(key, &topic, join_ref, msg_ref, &event, payload);
                }
                job => self.give(join, job),
            }
        }
    }

    pub(super) fn join_failed(&mut self, key: SocketKey, slot: usize, msg_ref: &Ref, cx: Context, response: Payload) {
        self.untrack(&cx, &Ended::Closed);
        let mut entry = self.take_entry(key, slot);
        self.answer(key, entry.join_ref(), msg_ref, entry.topic(), Status::Error, response);
        let replaced = entry.data.replaced.take().map(|old| *old);
        self.close_replaced(key, entry.topic(), replaced);
        self.receive_waiting(key, entry);
    }

    pub(super) fn channel_of(&self, key: SocketKey, entry: &Entry<Seat>) -> Arc<dyn AnyChannel> {
        self.sockets[key.index as usize].info.mount.routes[entry.data.route as usize].channel.clone()
    }

    pub(super) fn slot(&mut self, join: JoinKey) -> Option<usize> {
        self.socket(join.socket)?.session.position(join.serial)
    }

    pub(super) fn entry(&mut self, key: SocketKey, slot: usize) -> &mut Entry<Seat> {
        self.sockets[key.index as usize].session.entry_mut(slot)
    }
}
