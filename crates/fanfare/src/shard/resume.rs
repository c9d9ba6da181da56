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

use super::Shard;
use super::deliver::reach_of;
use super::feed::portion;
use super::replies::reason_payload;
use crate::channel::{Ended, Status};
use crate::command::{Command, JoinKey, SocketKey};
use crate::error::Error;
use crate::event::Event;
use crate::history::{Reading, Replay, Stored, Wanted};
use crate::hub::Reach;
use crate::join::{Admitted, AnyChannel, CatchingUp, Finished, Held, HistoryRead, Job, Live, Outcome};
use crate::outbox::Bounds;
use crate::socket::{CloseReason, Protocol};

impl Shard {
    /// A channel has let a join in: if that wants something of the history, it is read first.
    pub(super) fn admitted(&mut self, slot: usize, mut joining: Joining) {
        let (join, admitted) = (joining.join, &mut joining.admitted);
        let seat = &mut self.entry(join.socket, slot).data;
        seat.meta = admitted.meta.take();
        let since = match seat.catching_up.as_deref() {
            Some(CatchingUp::Wanted(since)) => Some(*since),
            _ => None,
        };
        if since.is_none() && admitted.catch_up.is_none() {
            self.joined(join, slot, &joining.msg_ref, joining.live, joining.admitted.reply);
            return self.after_joining(join, slot);
        }
        let Some(reading) = self.begin_reading(join, slot, since.unwrap_or(Since::Now), admitted.catch_up) else {
            // A reply with messages, of which a topic without a history has none.
            let reply = with_messages(&admitted.reply, None, []);
            self.joined(join, slot, &joining.msg_ref, joining.live, reply);
            return self.after_joining(join, slot);
        };
        self.await_history(joining, reading);
    }

    fn await_history(&mut self, joining: Joining, reading: Reading) {
        let Joining { join, channel, msg_ref, live, admitted } = joining;
        let shard = self.handle.clone();
        self.run_user_code(reading, move |replay| {
            let outcome = Outcome::Read(Box::new(HistoryRead { live, admitted, replay }));
            shard.send(Command::Finished(Box::new(Finished { join, channel, msg_ref, outcome })));
        });
    }

    /// The same for a join that waits for no answer.
    pub(super) fn await_page(
        &mut self,
        join: JoinKey,
        reading: Reading,
        then: fn(&mut Shard, JoinKey, Result<Replay, Error>),
    ) {
        let shard = self.handle.clone();
        self.run_user_code(reading, move |replay| {
            shard.send(Command::Run(Box::new(move |shard| then(shard, join, replay))));
        });
    }

    /// Makes a join a member for which everything is held, and reads a page of what its topic has kept; `None` where it keeps
    /// nothing.
    pub(super) fn begin_reading(
        &mut self,
        join: JoinKey,
        slot: usize,
        since: Since,
        newest: Option<usize>,
    ) -> Option<Reading> {
        let topic = self.entry(join.socket, slot).topic().clone();
        let info = self.sockets[join.socket.index as usize].info.clone();
        let store = info.endpoint.store_of(&topic)?;
        let Bounds { frames_max: limit, bytes_max } = portion(info.mount.limits.outbox);
        let wanted = Wanted { since, limit, bytes_max, newest: newest.unwrap_or_default() };
        if self.entry(join.socket, slot).data.place.is_none() {
            self.enter_as(join, slot, Reach::Held);
        }
        let held = Some(Vec::new());
        self.entry(join.socket, slot).data.catching_up = Some(Box::new(CatchingUp::Reading { wanted, held }));
        Some(store.read(&topic, wanted))
    }

    /// The history was read: the join is answered, and gets what it missed.
    pub(super) fn history_read(&mut self, slot: usize, joining: Joining, replay: Result<Replay, Error>) {
        let join = joining.join;
        let key = join.socket;
        let (wanted, held) =
            self.end_reading(join, slot).expect("a join that reads is in that state until it has read");
        let replay = match replay {
            Ok(replay) => replay,
            Err(error) => {
                self.terminate(joining.channel, joining.live, Ended::Closed);
                let mut entry = self.take_entry(key, slot);
                if self.sockets[key.index as usize].protocol.is_stream() {
                    // A refused join would be for good.
                    return self.cannot_read(key, &error);
                }
                tracing::warn!(%error, "a history could not be read, a join was refused");
                let reason = reason_payload("the history cannot be read now: join again");
                self.answer(key, entry.join_ref(), &joining.msg_ref, entry.topic(), Status::Error, reason);
                let replaced = entry.data.replaced.take().map(|old| *old);
                self.close_replaced(key, entry.topic(), replaced);
                return self.receive_waiting(key, entry);
            }
        };
        let Joining { msg_ref, live, admitted, .. } = joining;
        let CaughtUp { replay, missed, from } = self.judge(replay, wanted);
        let resumes = self.entry(key, slot).data.resumes;
        let resume = resumes.then(|| resumed(from, replay.recovered));
        let in_reply: &[Stored] = if missed { &[] } else { &replay.messages };
        let reply = match admitted.catch_up {
            Some(_) => with_messages(&admitted.reply, resume.as_ref(), in_reply.iter().map(Stored::parts)),
            None => with_resume(&admitted.reply, resume.as_ref()),
        };
        let entry = self.entry(key, slot);
        let is_over = entry.data.jobs.iter().any(ends_join);
        if resumes && !is_over {
            entry.data.complete_from = Some(Box::new(from));
        }
        self.joined(join, slot, &msg_ref, live, reply);
        if resumes
            && let Some(slot) = self.slot(join)
            && self.sockets[key.index as usize].protocol != Protocol::Phoenix
        {
            self.say_joined(join, slot, from, replay.recovered);
        }
        // Whoever has left or joined anew meanwhile gets its messages by that join, and would get them twice.
        let (at, held) = if is_over { (replay.head, Some(Vec::new())) } else { (from, held) };
        let messages = if missed && !is_over { replay.messages } else { Vec::new() };
        self.begin_feeding(join, at, Replay { messages, ..replay }, held);
        if let Some(slot) = self.slot(join) {
            self.after_joining(join, slot);
        }
    }

    /// The same for a subscriber without a channel, which is told in its own form.
    pub(super) fn subscriber_read(&mut self, join: JoinKey, replay: Result<Replay, Error>) {
        let Some(slot) = self.slot(join) else { return };
        let Some((wanted, held)) = self.end_reading(join, slot) else { return };
        match replay {
            Ok(replay) => {
                let CaughtUp { replay, missed, from } = self.judge(replay, wanted);
                self.say_joined(join, slot, from, replay.recovered);
                let messages = if missed { replay.messages } else { Vec::new() };
                self.begin_feeding(join, from, Replay { messages, ..replay }, held);
            }
            Err(error) => self.cannot_read(join.socket, &error),
        }
    }

    /// What a join wanted of its history, and what was held for it while that was read.
    pub(super) fn end_reading(&mut self, join: JoinKey, slot: usize) -> Option<(Wanted, Held)> {
        match *self.entry(join.socket, slot).data.catching_up.take()? {
            CatchingUp::Reading { wanted, held } => Some((wanted, held)),
            _ => None,
        }
    }

    /// Closes a socket that has to come again, since there is no reply by which it could be told.
    pub(super) fn cannot_read(&mut self, key: SocketKey, error: &Error) {
        tracing::warn!(%error, "a history could not be read, a socket was closed");
        self.close(key, CloseReason::HistoryUnavailable);
    }

    /// Reads the history for a subscriber without a channel; where there is none, it gets what comes.
    pub(super) fn read_for_subscriber(&mut self, join: JoinKey, since: Since) {
        let Some(slot) = self.slot(join) else { return };
        match self.begin_reading(join, slot, since, None) {
            Some(reading) => {
                self.entry(join.socket, slot).data.resumes = true;
                self.await_page(join, reading, Shard::subscriber_read);
            }
            None => {
                let reach = reach_of(&self.sockets[join.socket.index as usize], slot);
                self.enter_as(join, slot, reach);
            }
        }
    }

    /// What a subscriber is told first that has no replies.
    fn say_joined(&mut self, join: JoinKey, slot: usize, from: Position, recovered: bool) {
        let topic = self.entry(join.socket, slot).topic().clone();
        let payload = resumed(from, recovered).into();
        let push = Outgoing::Push {
            join_ref: &Ref::NULL,
            topic: &topic,
            event: "joined",
            payload: &payload,
            position: Some(from),
        };
        self.send_to(join, slot, push);
    }

    /// What becomes of a read: whether its messages are what was missed, and from where on the client knows all.
    fn judge(&mut self, replay: Replay, wanted: Wanted) -> CaughtUp {
        let is_back = !matches!(wanted.since, Since::Now);
        let missed = is_back && replay.recovered;
        if is_back {
            let event = if replay.recovered { Event::Recovered } else { Event::NotRecovered };
            self.handle.counters().count(event);
        }
        let from = match wanted.since {
            Since::Position(position) if missed => position,
            Since::Start if missed => Position { offset: 0, ..replay.head },
            _ => replay.head,
        };
        CaughtUp { replay, missed, from }
    }

    /// What a join that resumes has been sent of its topic's messages: all from a position up to another.
    pub(super) fn sent(&self, key: SocketKey, slot: usize) -> Option<(Position, Position)> {
        let seat = &self.sockets[key.index as usize].session.entry(slot).data;
        let from = **seat.complete_from.as_ref()?;
        let live = seat.place.and_then(|place| self.hub.last_position(place));
        let to = match (seat.catching_up.as_deref(), live) {
            (None, live) => live,
            (Some(CatchingUp::Behind(head)), Some(live)) if live.epoch == head.epoch && live.offset > head.offset => {
                Some(live)
            }
            (Some(CatchingUp::Behind(head)), _) => Some(*head),
            (Some(CatchingUp::Feeding(feed)), _) => Some(feed.at),
            // The next page: all before it has been sent.
            (Some(CatchingUp::Reading { wanted: Wanted { since: Since::Position(at), .. }, .. }), _) => Some(*at),
            (Some(_), _) => None,
        };
        to.filter(|to| to.epoch == from.epoch).map(|to| (from, to))
    }
}

/// Whether a job that waits for a join's answer is the end of it.
fn ends_join(job: &Job) -> bool {
    matches!(job, Job::Leave { .. })
        || matches!(job, Job::Frame { event, .. } if matches!(&**event, "phx_join" | "phx_leave"))
}

/// A join that its channel has let in, and that is not answered yet.
pub(super) struct Joining {
    pub(super) join: JoinKey,
    pub(super) channel: Arc<dyn AnyChannel>,
    pub(super) msg_ref: Ref,
    pub(super) live: Live,
    pub(super) admitted: Admitted,
}

/// A read that was judged.
struct CaughtUp {
    replay: Replay,
    /// The messages of the replay are those that the client missed.
    missed: bool,
    from: Position,
}
