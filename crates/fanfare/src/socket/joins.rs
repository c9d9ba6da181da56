//! The life of a join: asked for, answered. `jobs` has what it does meanwhile, `leaves` its end.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use fanfare_proto::delta::{delta_param, with_delta};
use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::payload::Payload;
use fanfare_proto::position::Position;
use fanfare_proto::resume::{behind, gap_param, resume_param};
use fanfare_proto::session::Verdict;
use fanfare_proto::topic::{TopicError, check_topic};

use super::credentials::ACCESS_TOKEN;
use super::replies::reason_payload;
use super::resume::Joining;
use super::seat::{Code, Membership, Phase, Seat};
use super::tenant::OVER_QUOTA;
use super::turn::untrack;
use super::{Socket, Turn};
use crate::channel::{Context, Ended, Finished, HistoryRead, Instance, Job, Outcome, Status};
use crate::connect::SocketInfo;
use crate::event::Event;
use crate::fact::{Fact, Kind};
use crate::mount::Route;
use crate::protocol::Said;
use crate::tenant::{OverQuota, TenantJoin};

/// A join that ends because its client joins the topic again.
pub(super) struct Replaced {
    join_ref: Ref,
    /// What it was sent of the topic's messages, if it resumes: all from a position up to another.
    sent: Option<(Position, Position)>,
}

/// Why a topic cannot be joined.
enum Refusal {
    /// No channel is declared for it.
    Unmatched,
    /// It cannot be a topic.
    NotATopic(TopicError),
    /// The socket has as many joins as it may have.
    Full,
    /// Its tenant has all that it may have.
    Quota(OverQuota),
}

impl Socket {
    /// A client's message, decoded.
    pub(crate) fn receive(&mut self, turn: &mut Turn, message: Incoming<'_>) {
        if !self.is_open() {
            return;
        }
        if turn.surroundings.taps.is_any() {
            turn.surroundings.taps.received(self.id(), self.info.who(), &message);
        }
        if self.weighs_messages() && !self.may_say(turn, &message) {
            return;
        }
        self.take_in(turn, message);
    }

    /// The same with a message that was received before, and has waited.
    pub(crate) fn take_in(&mut self, turn: &mut Turn, message: Incoming<'_>) {
        if !self.is_open() {
            return;
        }
        let dialect = self.dialect;
        let verdict = dialect.admit(&self.session, &message);
        let concerns_credential = self.info.is_pending || message.event == ACCESS_TOKEN;
        let message = match concerns_credential && self.info.mount.connect.refreshes() {
            true => self.take_credential(turn, verdict, message),
            false => Some(message),
        };
        let Some(Incoming { join_ref, msg_ref, topic, event, payload }) = message else { return };
        if dialect.means_otherwise(self, turn, verdict, &Said { topic: &topic, event: &event, msg_ref: &msg_ref }) {
            return;
        }
        match verdict {
            Verdict::Heartbeat if !self.may_ping(turn) => {}
            Verdict::Heartbeat => self.answer(turn, &Ref::NULL, &msg_ref, &topic, Status::Ok, Payload::default()),
            Verdict::NotJoined => self.answer(turn, &join_ref, &msg_ref, &topic, Status::Ok, Payload::default()),
            Verdict::Unmatched => self.unmatched(turn, &msg_ref, &topic),
            Verdict::Stale => {
                self.tell_stale(turn, &topic);
                self.erred(turn);
            }
            Verdict::Join | Verdict::Rejoin(_) if !self.may_join(turn, &join_ref, &msg_ref, &topic) => {}
            Verdict::Join => self.begin_join(turn, join_ref, msg_ref, &topic, payload, None),
            Verdict::Rejoin(slot) => {
                let replaced = Replaced { join_ref: self.entry(slot).join_ref().clone(), sent: self.sent(turn, slot) };
                self.end_join(turn, slot, Ended::DuplicateJoin);
                self.begin_join(turn, join_ref, msg_ref, &topic, payload, Some(replaced));
            }
            Verdict::Leave(slot) => {
                let serial = self.entry(slot).serial();
                self.give(turn, serial, Job::Leave { msg_ref });
            }
            Verdict::Wait(slot) | Verdict::Dispatch(slot) => {
                let serial = self.entry(slot).serial();
                self.give(turn, serial, Job::Frame { join_ref, msg_ref, event: event.into(), payload });
            }
        }
    }

    /// A message of a join that is over.
    pub(super) fn tell_stale(&self, turn: &Turn, topic: &str) {
        let detail =
            format_args!("a message with the join_ref of a join that is over was dropped: send it with the newest one");
        self.info.tell(turn.counters(), (Kind::PushRefused, Event::Stale), Some(topic), detail);
    }

    /// Joins the only topic of a stream.
    pub(crate) fn join_stream(&mut self, turn: &mut Turn, topic: &str, params: Payload) {
        self.begin_join(turn, Ref::NULL, Ref::NULL, topic, params, None);
    }

    fn begin_join(
        &mut self,
        turn: &mut Turn,
        join_ref: Ref,
        msg_ref: Ref,
        topic: &str,
        payload: Payload,
        replaced: Option<Replaced>,
    ) {
        let sent = replaced.as_ref().and_then(|replaced| replaced.sent);
        let replaced = replaced.map(|replaced| replaced.join_ref);
        let (route, channel, presence, of_tenant) = match self.route_for(topic) {
            Ok((number, route, of_tenant)) => (number, route.channel.clone(), route.presence.clone(), of_tenant),
            Err(refusal) => {
                match refusal {
                    Refusal::Unmatched => {
                        let mount = self.info.mount.clone();
                        let detail = format_args!(
                            "no channel of this endpoint serves the topic; they serve {}: declare one for it",
                            mount.patterns()
                        );
                        self.tell_not_joined(turn, Event::Unmatched, topic, detail);
                        self.answer_unmatched(turn, &msg_ref, topic);
                    }
                    Refusal::NotATopic(error) => {
                        self.tell_not_joined(turn, Event::BadTopic, topic, format_args!("{error}"));
                        let reason = reason_payload(&error.to_string());
                        self.answer(turn, &join_ref, &msg_ref, topic, Status::Error, reason);
                    }
                    Refusal::Full => {
                        let max = self.session.joins_max();
                        let detail = format_args!(
                            "the socket has joined {max} topics, which is joins_max: leave some, or raise it"
                        );
                        self.tell_not_joined(turn, Event::TooManyJoins, topic, detail);
                        let reason = reason_payload("too many channels joined");
                        self.answer(turn, &join_ref, &msg_ref, topic, Status::Error, reason);
                    }
                    Refusal::Quota(over) => {
                        self.tell_over_quota(turn, &over, topic);
                        self.answer(turn, &join_ref, &msg_ref, topic, Status::Error, reason_payload(OVER_QUOTA));
                    }
                }
                self.erred(turn);
                return self.close_replaced(turn, topic, replaced.as_ref());
            }
        };
        let topic = turn.hub.interned(topic).unwrap_or_else(|| topic.into());
        let info = self.info.clone();
        let store = info.endpoint.store_of(&topic);
        let has_history = store.is_some();
        let epoch_at = |offset| store.and_then(|store| store.epoch_at(&topic, offset));
        let since = match has_history.then(|| resume_param(&payload)).transpose() {
            Ok(since) => {
                since.flatten().or(self.info.since.filter(|_| has_history)).map(|since| behind(since, sent, epoch_at))
            }
            Err(reason) => {
                self.tell_not_joined(turn, Event::NotAPosition, &topic, format_args!("{reason}"));
                self.answer(turn, &join_ref, &msg_ref, &topic, Status::Error, reason_payload(&reason));
                return self.close_replaced(turn, &topic, replaced.as_ref());
            }
        };
        let resumes = since.is_some();
        let hears_gaps =
            (info.endpoint.policies().slow(&topic).is_some() || info.endpoint.is_among_others()) && gap_param(&payload);
        let asked = Phase::Asked { since, began_ms: turn.now_ms, replaced: replaced.map(Box::new) };
        let wants_deltas = self.dialect.hears_of_deltas() && delta_param(&payload);
        let seat = Seat { route, resumes, hears_gaps, wants_deltas, _of_tenant: of_tenant, ..Seat::new(asked) };
        let slot = self.session.begin(topic.clone(), join_ref.clone(), &msg_ref, seat);
        let push_ref_size = self.entry(slot).push_ref().text().len().min(usize::from(u16::MAX)) as u16;
        let join = self.join(slot);
        let cx = Context {
            join,
            topic,
            presence: presence.unwrap_or_else(|| self.info.endpoint.presence_default().clone()),
            socket: self.info.clone(),
            join_ref,
            msg_ref: msg_ref.clone(),
            push_ref_size,
            tracks: false,
            assigned: false,
            info: PhantomData,
        };
        let span = self.trace_join(&cx.topic, &payload);
        let run = channel.clone().join(cx, payload);
        if !turn.run_channel(join, channel, msg_ref, run, span) {
            self.takes_time(turn, slot);
        }
    }

    /// Which route a topic that is to be joined takes, and its place among the joins of the socket's tenant.
    fn route_for(&self, topic: &str) -> Result<(u32, &Route, Option<TenantJoin>), Refusal> {
        check_topic(topic).map_err(Refusal::NotATopic)?;
        let (number, route) = self.info.mount.route_of(topic).ok_or(Refusal::Unmatched)?;
        if self.session.is_full() {
            return Err(Refusal::Full);
        }
        let of_tenant = self.take_tenant_join().map_err(Refusal::Quota)?;
        Ok((number, route, of_tenant))
    }

    /// Somebody could not join.
    pub(super) fn tell_not_joined(&self, turn: &Turn, event: Event, topic: &str, detail: fmt::Arguments<'_>) {
        let (kind, who) = (Kind::JoinRefused, self.info.who());
        Fact { kind, event, who, topic: Some(topic), code: None, detail }.tell(turn.counters());
        turn.figures().count_join(topic, event);
    }

    /// The answer of a join that runs at once comes before the end of the join that it replaces; but one that takes time must
    /// not keep the old channel's client waiting.
    pub(super) fn takes_time(&mut self, turn: &mut Turn, slot: usize) {
        let entry = self.entry(slot);
        if let Some(replaced) = entry.data.phase.take_replaced() {
            let topic = entry.topic().clone();
            self.close_replaced(turn, &topic, Some(&replaced));
        }
    }

    /// A channel's code comes back.
    pub(crate) fn finished(&mut self, turn: &mut Turn, finished: Finished) {
        let Some(slot) = self.slot(finished.join.serial) else { return turn.finished_alone(finished) };
        let Finished { join, channel, msg_ref, outcome, trace } = finished;
        match (&mut self.entry(slot).data.phase, *outcome) {
            (Phase::Asked { .. }, Outcome::Joined { mut instance, admitted }) => {
                self.renew(&mut instance);
                self.admitted(turn, slot, Joining { channel, msg_ref, instance, admitted });
            }
            // The broker has not attached its topic in time.
            (Phase::Asked { .. }, Outcome::Read(read)) => {
                turn.terminate(channel, read.instance, Ended::Closed);
                self.not_joined(turn, slot, &msg_ref, reason_payload("the broker takes too long: join again"));
            }
            (Phase::Admitted { .. }, Outcome::Read(read)) => {
                let HistoryRead { mut instance, admitted, replay } = *read;
                self.renew(&mut instance);
                self.history_read(turn, slot, Joining { channel, msg_ref, instance, admitted }, replay);
            }
            (_, Outcome::Refused { cx, response, because }) => {
                let because = because.as_deref().unwrap_or("the channel answered with an error");
                self.tell_not_joined(turn, Event::JoinRefused, &cx.topic, format_args!("{because}"));
                self.join_failed(turn, slot, &msg_ref, cx, response);
                self.erred(turn);
            }
            (_, Outcome::JoinCrashed { cx, reason }) => {
                let fact = Fact {
                    kind: Kind::Crashed,
                    event: Event::JoinCrashed,
                    who: self.info.who(),
                    topic: Some(&cx.topic),
                    code: None,
                    detail: format_args!("a join crashed: {reason}"),
                };
                fact.tell(turn.counters());
                turn.figures().count_join(&cx.topic, Event::JoinCrashed);
                self.join_failed(turn, slot, &msg_ref, cx, reason_payload("join crashed"));
            }
            (Phase::Live(_), Outcome::Ran { mut instance, result }) => {
                self.renew(&mut instance);
                self.seat(slot).phase.rest(instance);
                match result {
                    Ok(reply) => self.ran(turn, slot, &msg_ref, reply),
                    Err(reason) => self.crash(turn, slot, reason),
                }
            }
            (_, outcome) => {
                self.crash(turn, slot, "its channel's code came back from what it was not asked".to_owned());
                turn.finished_alone(Finished { join, channel, msg_ref, outcome: Box::new(outcome), trace });
            }
        }
    }

    /// Takes what a join's code has assigned to the socket, and gives it what else has changed meanwhile.
    fn renew(&mut self, instance: &mut Instance) {
        if std::mem::take(&mut instance.cx.assigned)
            && let Some(assigns) = instance.cx.socket.assigns.clone()
        {
            self.known_as(Arc::new(SocketInfo::assigned(&self.info, assigns)));
        }
        if !Arc::ptr_eq(&self.info, &instance.cx.socket) {
            instance.cx.socket = self.info.clone();
        }
    }

    /// The join is answered. It is a member of its topic already if it has read the history.
    pub(super) fn joined(&mut self, turn: &mut Turn, slot: usize, msg_ref: &Ref, instance: Instance, reply: Payload) {
        turn.count(Event::Joined);
        let phase = &mut self.seat(slot).phase;
        let (replaced, began_ms) = (phase.take_replaced(), phase.began_ms().unwrap_or(turn.now_ms));
        let place = match self.seat(slot).phase.place() {
            Some(place) => place,
            None => self.enter(turn, slot, self.reach_of(slot)),
        };
        let figures = turn.hub.figures_of(place);
        figures.joins[0].add(1);
        figures.joined.observe(turn.now_ms.saturating_sub(began_ms) * 1_000);
        let reply = match self.seat(slot).wants_deltas {
            false => reply,
            true => {
                let key = self.delta_key(slot);
                if key.is_ok() {
                    turn.hub.wants_deltas(place);
                }
                with_delta(&reply, key.as_ref().map(|key| key.0.as_deref()).map_err(|reason| *reason))
            }
        };
        let membership = Membership { place: Some(place), code: Code::Idle(instance), catching_up: None };
        self.seat(slot).phase = Phase::Live(membership);
        let entry = self.entry(slot);
        let (topic, join_ref) = (entry.topic().clone(), entry.join_ref().clone());
        self.answer(turn, &join_ref, msg_ref, &topic, Status::Ok, reply);
        self.close_replaced(turn, &topic, replaced.as_deref());
    }

    /// What came for a join before it was answered.
    pub(super) fn after_joining(&mut self, turn: &mut Turn, serial: u32) {
        let Some(slot) = self.slot(serial) else { return };
        let entry = self.entry(slot);
        let topic = entry.topic().clone();
        for job in std::mem::take(&mut entry.data.jobs) {
            self.waits_no_longer(turn, job.size());
            match job {
                Job::Frame { join_ref, msg_ref, event, payload } => {
                    let (topic, event) = ((&*topic).into(), (&*event).into());
                    self.take_in(turn, Incoming { join_ref, msg_ref, topic, event, payload });
                }
                job => self.give(turn, serial, job),
            }
        }
    }

    fn join_failed(&mut self, turn: &mut Turn, slot: usize, msg_ref: &Ref, cx: Context, response: Payload) {
        untrack(&cx, &Ended::Closed);
        self.not_joined(turn, slot, msg_ref, response);
    }

    /// The join is answered that it has not come about.
    pub(super) fn not_joined(&mut self, turn: &mut Turn, slot: usize, msg_ref: &Ref, response: Payload) {
        let mut entry = self.take_entry(turn, slot);
        self.answer(turn, entry.join_ref(), msg_ref, entry.topic(), Status::Error, response);
        let replaced = entry.data.phase.take_replaced();
        self.close_replaced(turn, entry.topic(), replaced.as_deref());
        self.receive_waiting(turn, entry);
    }
}
