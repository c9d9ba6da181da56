//! A join of a topic that keeps a history: what the client missed is read, and sent (see `feed`) before anything that is live.
//!
//! The join is a member of its topic from before the read on, and what is published meanwhile is held for it. Since a store
//! hands a message on only after it has kept it, the read and what was held have no hole between them; what both have is
//! known by its position.

use std::sync::Arc;

use fanfare_proto::frame::Outgoing;
use fanfare_proto::message::Ref;
use fanfare_proto::position::{Position, Since};
use fanfare_proto::resume::{resumed, with_messages, with_resume};
use tokio::sync::oneshot;

use super::replies::reason_payload;
use super::seat::{CatchingUp, Membership, Page, Phase, Seat, Withheld};
use super::{Socket, Turn};
use crate::channel::{Admitted, AnyChannel, Ended, Finished, HistoryRead, Instance, Job, Outcome};
use crate::close_reason::CloseReason;
use crate::error::Error;
use crate::event::Event;
use crate::history::{Replay, Stored, Wanted};
use crate::hub::Reach;
use crate::mailbox::Command;

impl Socket {
    /// A channel has let a join in: if that wants something of the history, it is read first.
    pub(super) fn admitted(&mut self, turn: &mut Turn, slot: usize, mut joining: Joining) {
        if let Some(attached) = self.info.endpoint.attachment(self.session.entry(slot).topic()) {
            return self.await_attachment(turn, slot, joining, attached);
        }
        let admitted = &mut joining.admitted;
        let seat = self.seat(slot);
        seat.meta = admitted.meta.take();
        seat.mutes = admitted.mutes;
        let since = if let Phase::Asked { since, .. } = seat.phase { since } else { None };
        let since = admitted.since.or(since);
        let serial = self.entry(slot).serial();
        if since.is_none() && admitted.catch_up.is_none() {
            self.joined(turn, slot, &joining.msg_ref, joining.instance, joining.admitted.reply);
            return self.after_joining(turn, serial);
        }
        let info = self.info.clone();
        let entry = self.session.entry(slot);
        let Some(store) = info.endpoint.store_of(entry.topic()) else {
            // A reply with messages, of which a topic without a history has none.
            let reply = with_messages(&admitted.reply, None, []);
            self.joined(turn, slot, &joining.msg_ref, joining.instance, reply);
            return self.after_joining(turn, serial);
        };
        let wanted = self.wanted(since.unwrap_or(Since::Now), admitted.catch_up.unwrap_or_default());
        let place = self.enter(turn, slot, Reach::Held);
        let entry = self.entry(slot);
        let phase = &mut entry.data.phase;
        let (replaced, began_ms) = (phase.take_replaced(), phase.began_ms().unwrap_or(turn.now_ms));
        *phase = Phase::Admitted { place, page: Box::new(Page::new(wanted)), began_ms, replaced };
        let reading = store.read(entry.topic(), wanted);
        let Joining { channel, msg_ref, instance, admitted } = joining;
        let (shard, join) = (turn.shard.clone(), self.join(slot));
        let is_read = turn.run_user_code(reading, move |replay| {
            let outcome = Box::new(Outcome::Read(Box::new(HistoryRead { instance, admitted, replay })));
            shard.send(Command::Finished(Finished { join, channel, msg_ref, outcome, trace: None }));
        });
        if !is_read {
            self.takes_time(turn, slot);
        }
    }

    /// The topic's first member on this node: what is published on others has to reach it before the join is answered.
    fn await_attachment(&mut self, turn: &mut Turn, slot: usize, joining: Joining, attached: Attachment) {
        let Joining { channel, msg_ref, instance, admitted } = joining;
        let (shard, join) = (turn.shard.clone(), self.join(slot));
        let is_attached = turn.run_user_code(Box::pin(attached), move |attached| {
            let failed = match attached {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(Error::unavailable("the topic was given up while it was being attached")),
            };
            let outcome = Box::new(match failed {
                None => Outcome::Joined { instance, admitted },
                Some(error) => Outcome::Read(Box::new(HistoryRead { instance, admitted, replay: Err(error) })),
            });
            shard.send(Command::Finished(Finished { join, channel, msg_ref, outcome, trace: None }));
        });
        if !is_attached {
            self.takes_time(turn, slot);
        }
    }

    /// The history was read: the join is answered, and gets what it missed.
    pub(super) fn history_read(
        &mut self,
        turn: &mut Turn,
        slot: usize,
        joining: Joining,
        replay: Result<Replay, Error>,
    ) {
        let Joining { channel, msg_ref, instance, admitted } = joining;
        let Phase::Admitted { page, .. } = &mut self.seat(slot).phase else { return };
        let (wanted, held) = (page.wanted, page.held.take());
        let replay = match replay {
            Ok(replay) => replay,
            Err(error) => {
                turn.terminate(channel, instance, Ended::Closed);
                if self.dialect.is_stream() {
                    // A refused join would be for good.
                    self.take_entry(turn, slot);
                    return self.cannot_read(turn, &error);
                }
                let detail = format_args!("the history could not be read: {error}");
                let topic = self.entry(slot).topic().clone();
                self.tell_not_joined(turn, Event::JoinHistoryUnavailable, &topic, detail);
                let reason = reason_payload("the history cannot be read now: join again");
                return self.not_joined(turn, slot, &msg_ref, reason);
            }
        };
        let CaughtUp { replay, missed, from } = judge(turn, replay, wanted);
        let entry = self.entry(slot);
        let (serial, seat) = (entry.serial(), &mut entry.data);
        let resumes = seat.resumes;
        let resume = resumes.then(|| resumed(from, replay.recovered));
        let in_reply: &[Stored] = if missed { &[] } else { &replay.messages };
        turn.figures().resumed_messages.add(in_reply.len() as u64);
        let reply = match admitted.catch_up {
            Some(_) => with_messages(&admitted.reply, resume.as_ref(), in_reply.iter().map(Stored::parts)),
            None => with_resume(&admitted.reply, resume.as_ref()),
        };
        let is_over = seat.jobs.iter().any(ends_join);
        if resumes && !is_over {
            seat.complete_from = Some(Box::new(from));
        }
        self.joined(turn, slot, &msg_ref, instance, reply);
        if resumes && self.dialect.says_joined() {
            self.say_joined(turn, slot, from, replay.recovered);
        }
        // Whoever has left or joined anew meanwhile gets its messages by that join, and would get them twice.
        let (at, held) = if is_over { (replay.head, Some(Withheld::default())) } else { (from, held) };
        let messages = if missed && !is_over { replay.messages } else { Vec::new() };
        let ration = self.prepare_feed(turn, slot, at, Replay { messages, ..replay }, held, admitted.waits);
        self.feed_join(turn, serial, Some(ration));
        self.after_joining(turn, serial);
    }

    /// Joins a topic without a channel, to go on from a position: the history is read. Where there is none, the join gets what
    /// comes.
    pub(super) fn join_reading(&mut self, turn: &mut Turn, topic: &Arc<str>, since: Since) {
        let info = self.info.clone();
        let store = info.endpoint.store_of(topic);
        let of_tenant = self.tenant_join();
        let seat =
            Seat { resumes: store.is_some(), _of_tenant: of_tenant, ..Seat::new(Phase::Live(Membership::default())) };
        let slot = self.session.begin(topic.clone(), Ref::NULL, &Ref::NULL, seat);
        let reach = if store.is_some() { Reach::Held } else { self.reach_of(slot) };
        let place = Some(self.enter(turn, slot, reach));
        let wanted = self.wanted(since, 0);
        let catching_up = store.map(|_| Box::new(CatchingUp::Reading(Page::new(wanted))));
        self.seat(slot).phase = Phase::Live(Membership { place, catching_up, ..Membership::default() });
        if let Some(store) = store {
            self.await_page(turn, slot, store.read(topic, wanted));
        }
    }

    /// A page was read that is for no answer: another one of a join that is fed, or the first one of a subscriber without a
    /// channel, which is told in its own form.
    pub(crate) fn page_read(&mut self, turn: &mut Turn, serial: u32, replay: Result<Replay, Error>) {
        let Some((slot, page)) = self.take_page(serial) else { return };
        match (replay, page.wanted.since) {
            (Err(error), _) => self.cannot_read(turn, &error),
            (Ok(replay), _) if !page.is_next => {
                let CaughtUp { replay, missed, from } = judge(turn, replay, page.wanted);
                self.say_joined(turn, slot, from, replay.recovered);
                let messages = if missed { replay.messages } else { Vec::new() };
                self.begin_feeding(turn, slot, from, Replay { messages, ..replay }, page.held);
            }
            (Ok(replay), Since::Position(at)) if replay.recovered => {
                self.begin_feeding(turn, slot, at, replay, page.held);
            }
            (Ok(_), _) => self.close_later(turn, CloseReason::Slow),
        }
    }

    /// The page that a live join was reading.
    fn take_page(&mut self, serial: u32) -> Option<(usize, Page)> {
        let slot = self.slot(serial)?;
        let Phase::Live(Membership { catching_up, .. }) = &mut self.seat(slot).phase else { return None };
        let is_reading = |how: &mut Box<CatchingUp>| matches!(**how, CatchingUp::Reading(_));
        match *catching_up.take_if(is_reading)? {
            CatchingUp::Reading(page) => Some((slot, page)),
            CatchingUp::Feeding(_) | CatchingUp::Behind { .. } => None,
        }
    }

    /// What a subscriber is told first that has no replies.
    fn say_joined(&mut self, turn: &mut Turn, slot: usize, from: Position, recovered: bool) {
        let topic = self.entry(slot).topic().clone();
        let payload = resumed(from, recovered).into();
        let push = Outgoing::Push {
            join_ref: &Ref::NULL,
            topic: &topic,
            event: "joined",
            payload: &payload,
            position: Some(from),
        };
        self.send_to(turn, slot, push);
    }

    /// What a join that resumes has been sent of its topic's messages: all from a position up to another.
    pub(super) fn sent(&self, turn: &Turn, slot: usize) -> Option<(Position, Position)> {
        let seat = &self.session.entry(slot).data;
        let from = **seat.complete_from.as_ref()?;
        let live = seat.phase.place().and_then(|place| turn.hub.last_kept(place));
        let to = match (seat.phase.catching_up(), live) {
            (None, live) => live.map(|(position, _)| position),
            (Some(CatchingUp::Behind { number, .. }), Some((live, newest))) if newest > *number => Some(live),
            (Some(CatchingUp::Behind { head, .. }), _) => Some(*head),
            (Some(CatchingUp::Feeding(feed)), _) => Some(feed.at),
            // The next page: all before it has been sent.
            (Some(CatchingUp::Reading(Page { wanted: Wanted { since: Since::Position(at), .. }, .. })), _) => Some(*at),
            (Some(CatchingUp::Reading(_)), _) => None,
        };
        to.map(|to| (from, to))
    }
}

/// What becomes of a read: whether its messages are what was missed, and from where on the client knows all.
fn judge(turn: &Turn, replay: Replay, wanted: Wanted) -> CaughtUp {
    let is_back = !matches!(wanted.since, Since::Now);
    let missed = is_back && replay.recovered;
    if is_back {
        turn.count(if replay.recovered { Event::Recovered } else { Event::NotRecovered });
    }
    let from = match wanted.since {
        Since::Position(position) if missed => position,
        Since::Start if missed => Position { offset: 0, ..replay.head },
        _ => replay.head,
    };
    CaughtUp { replay, missed, from }
}

/// Whether a job that waits for a join's answer is the end of it.
fn ends_join(job: &Job) -> bool {
    matches!(job, Job::Leave { .. })
        || matches!(job, Job::Frame { event, .. } if matches!(&**event, "phx_join" | "phx_leave"))
}

/// Resolves when a topic is attached.
type Attachment = oneshot::Receiver<Result<(), Error>>;

/// A join that its channel has let in, and that is not answered yet.
pub(super) struct Joining {
    pub(super) channel: Arc<dyn AnyChannel>,
    pub(super) msg_ref: Ref,
    pub(super) instance: Instance,
    pub(super) admitted: Admitted,
}

/// A read that was judged.
struct CaughtUp {
    replay: Replay,
    /// The messages of the replay are those that the client missed.
    missed: bool,
    from: Position,
}
