//! Joins that are behind: what they missed is read page by page, and sent as fast as their clients take it, before
//! anything that is live.
//!
//! However much that is, it takes no more of the outbox than a portion. Only the last page is followed by what was held
//! since it was read; what comes before is in the history, and so in the next page. A client that is slower than its
//! topic, so that what it has yet to get is kept no more, is closed as one that reads too slowly, and is told of the
//! gap when it comes back.

use std::sync::Arc;

use fanfare_proto::frame::Outgoing;
use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;
use fanfare_proto::position::{Position, Since};

use super::missed::{Missed, size};
use super::rations::{Hunger, Ration, portion, takes_at_once};
use super::seat::{CatchingUp, Feed, Held, Membership, Page, Phase, Withheld};
use super::{Socket, Turn};
use crate::channel::Job;
use crate::close_reason::CloseReason;
use crate::error::Error;
use crate::gap::{GAP, Gap};
use crate::history::{Reading, Replay, Stored, Wanted};
use crate::hub::Reach;
use crate::mailbox::Command;
use crate::message::{Draft, Message};
use crate::outbox::Bounds;

/// So many messages may wait for a channel that wants to see them first.
const JOBS_MAX: usize = 16;

impl Socket {
    /// A live join that has been sent all up to a position gets what was read for it, and what has come since.
    pub(super) fn begin_feeding(&mut self, turn: &mut Turn, slot: usize, at: Position, replay: Replay, held: Held) {
        let ration = self.prepare_feed(turn, slot, at, replay, held, false);
        let serial = self.entry(slot).serial();
        self.feed_join(turn, serial, Some(ration));
    }

    /// The same before it begins; `waits` where it begins once its channel says so. What cannot be sent now, since another join of the
    /// socket gets what it has missed, or all sockets hold too much, is not kept but read again. How much is sent now.
    pub(super) fn prepare_feed(
        &mut self,
        turn: &mut Turn,
        slot: usize,
        at: Position,
        replay: Replay,
        held: Held,
        waits: bool,
    ) -> Ration {
        let Replay { head, number, messages, .. } = replay;
        // Before what was read takes the room.
        let ration = turn.ration_of_read(self.key);
        let has_room = self.has_room_for_missed(slot) && !(waits && ration.at_once);
        let page = Missed::new(messages, turn.shard.figures());
        let mut feed = Feed { page, at, head, number, held, waits };
        if !has_room {
            feed.put_off();
        }
        self.catch_up(slot, CatchingUp::Feeding(feed));
        ration
    }

    /// A join's channel has said what it had to say before.
    pub(crate) fn feed_on(&mut self, turn: &mut Turn, serial: u32) {
        let Some(slot) = self.slot(serial) else { return };
        let Phase::Live(Membership { catching_up: Some(catching_up), .. }) = &mut self.seat(slot).phase else { return };
        if let CatchingUp::Feeding(feed) = &mut **catching_up {
            feed.waits = false;
            self.feed_join(turn, serial, None);
        }
    }

    fn catch_up(&mut self, slot: usize, how: CatchingUp) {
        if let Phase::Live(membership) = &mut self.seat(slot).phase {
            membership.catching_up = Some(Box::new(how));
        }
    }

    /// Sends the joins that are behind more of what they missed.
    pub(crate) fn feed(&mut self, turn: &mut Turn) {
        self.hunger = Hunger::Nothing;
        let is_behind = |phase: &Phase| matches!(phase.catching_up(), Some(CatchingUp::Feeding(_)));
        let behind = self.session.entries().iter().filter(|entry| is_behind(&entry.data.phase));
        for serial in behind.map(|entry| entry.serial()).collect::<Vec<_>>() {
            self.feed_join(turn, serial, None);
        }
        self.has_been_fed(turn, None);
    }

    /// The client asks for what it is sent: it gets more at once.
    pub(super) fn feed_at_once(&mut self, turn: &mut Turn) {
        if self.hunger == Hunger::Full {
            self.feed(turn);
        }
    }

    /// Sends a join of what it missed as much as its socket takes now.
    pub(super) fn feed_join(&mut self, turn: &mut Turn, serial: u32, mut ration: Option<Ration>) {
        self.feed_portion(turn, serial, &mut ration);
        // Other sockets that are behind take what is left of the room.
        turn.backlog.pool.account(self.carrier.outbox_if_any());
        self.has_been_fed(turn, ration);
    }

    fn feed_portion(&mut self, turn: &mut Turn, serial: u32, ration: &mut Option<Ration>) {
        while let Some(slot) = self.slot(serial) {
            let has_room = self.has_room_for_missed(slot);
            let entry = self.session.entry_mut(slot);
            let Phase::Live(Membership { catching_up: Some(catching_up), .. }) = &mut entry.data.phase else { return };
            let CatchingUp::Feeding(feed) = &mut **catching_up else { return };
            if feed.waits {
                return;
            }
            if !has_room {
                return self.is_full(turn, ration.as_ref());
            }
            if ration.is_none() {
                *ration = turn.ration(self.key);
            }
            let Some(portion) = ration.as_mut().filter(|portion| portion.bytes > 0) else {
                return self.await_ration(turn);
            };
            if portion.at_once && !takes_at_once(&mut self.carrier, &mut turn.backlog.pool) {
                return self.is_full(turn, ration.as_ref());
            }
            let Some(stored) = feed.page.next() else {
                let is_last = feed.held.is_some() && feed.at == feed.head;
                return match portion.at_once && !is_last && !turn.has_grant(self.key) {
                    true => self.await_ration(turn),
                    false => self.end_page(turn, slot),
                };
            };
            portion.bytes = portion.bytes.saturating_sub(size(&stored));
            let Stored { stamp, event, payload, .. } = stored;
            feed.at = stamp.position;
            turn.figures().resumed_messages.add(1);
            if self.dialect.marks_kept() {
                self.send_kept(turn, slot, &event, &payload, stamp.position);
                continue;
            }
            match Draft::new(entry.topic().clone(), &*event, payload) {
                Ok(draft) => self.send_alone(turn, slot, &draft.into_kept(stamp, 0)),
                // It was checked when it was published, perhaps by another version.
                Err(error) => return self.cannot_read(turn, &error),
            }
        }
    }

    /// What a page of the history has.
    pub(super) fn wanted(&self, since: Since, newest: usize) -> Wanted {
        let Bounds { frames_max: limit, bytes_max } = portion(self.info.mount.limits.outbox);
        Wanted { since, limit, bytes_max, newest }
    }

    /// Waits for a page that is for no answer.
    pub(super) fn await_page(&self, turn: &mut Turn, slot: usize, reading: Reading) {
        let (shard, join) = (turn.shard.clone(), self.join(slot));
        turn.run_user_code(reading, move |replay| {
            shard.send(Command::PageRead { join, replay: Box::new(replay) });
        });
    }

    /// Closes a socket that has to come again, since there is no reply by which it could be told.
    pub(super) fn cannot_read(&mut self, turn: &mut Turn, error: &Error) {
        // The close has a line, which does not know the fault.
        tracing::warn!(%error, "a history could not be read");
        self.close_later(turn, CloseReason::HistoryUnavailable);
    }

    fn has_room_for_missed(&self, slot: usize) -> bool {
        let limits = self.info.mount.limits;
        let (portion, jobs_max) = (portion(limits.outbox), (limits.waiting_frames_max / 2).max(1));
        let (bytes, frames) = self.carrier.waiting();
        bytes < portion.bytes_max
            && frames < portion.frames_max
            && self.session.entry(slot).data.jobs.len() < JOBS_MAX.min(jobs_max)
    }

    /// All of a page was sent: what was held follows, or the next page.
    fn end_page(&mut self, turn: &mut Turn, slot: usize) {
        let Phase::Live(Membership { catching_up: Some(catching_up), .. }) = &mut self.seat(slot).phase else { return };
        let CatchingUp::Feeding(Feed { at, head, number, held, .. }) = &mut **catching_up else { return };
        let (at, head, number) = (*at, *head, *number);
        let Some(held) = held.take().filter(|_| at == head) else {
            let (info, topic) = (self.info.clone(), self.entry(slot).topic().clone());
            let Bounds { frames_max: limit, bytes_max } = turn.page(info.mount.limits.outbox);
            let wanted = Wanted { since: Since::Position(at), limit, bytes_max, newest: 0 };
            let Some(store) = info.endpoint.store_of(&topic) else {
                return self.cannot_read(turn, &Error::failed("the topic keeps no history any more"));
            };
            self.catch_up(slot, CatchingUp::Reading(Page { is_next: true, ..Page::new(wanted) }));
            return self.await_page(turn, slot, store.read(&topic, wanted));
        };
        self.catch_up(slot, CatchingUp::Behind { head, number });
        let serial = self.entry(slot).serial();
        for message in held.messages {
            let Some(slot) = self.slot(serial) else { return };
            if message.stamp.is_none() || message.number > number {
                self.send_alone(turn, slot, &message);
            }
        }
    }

    /// A message was published for a join that is catching up.
    pub(crate) fn hold(&mut self, turn: &mut Turn, serial: u32, message: &Arc<Message>) {
        let Some(slot) = self.slot(serial) else { return };
        let limits = self.info.mount.limits;
        let portion = portion(limits.outbox);
        let held_max = (limits.waiting_frames_max / 2).min(portion.frames_max);
        let Some(held) = self.seat(slot).phase.held() else { return self.send_alone(turn, slot, message) };
        let bytes = message.payload.size();
        let is_too_much = |held: &Withheld| held.messages.len() >= held_max || held.bytes + bytes > portion.bytes_max;
        if held.as_ref().is_some_and(is_too_much) {
            *held = None;
        }
        if let Some(held) = held {
            held.bytes += bytes;
            held.messages.push(message.clone());
        }
    }

    /// A message was published for a join that gets it by itself.
    pub(crate) fn get_alone(&mut self, turn: &mut Turn, serial: u32, message: &Arc<Message>) {
        if let Some(slot) = self.slot(serial) {
            self.send_alone(turn, slot, message);
        }
    }

    /// Nobody on this node gets the messages of a topic behind a position up to another; without positions it is not known which.
    pub(crate) fn has_lost(
        &mut self,
        turn: &mut Turn,
        serial: u32,
        topic: &str,
        from: Option<Position>,
        to: Option<Position>,
    ) {
        let Some(slot) = self.slot(serial) else { return };
        let entry = self.session.entry_mut(slot);
        if **entry.topic() != *topic {
            return;
        }
        if let Some(held) = entry.data.phase.held() {
            // What it is being sent was read before. Its next page shows whether it has missed anything.
            if to.is_some() {
                *held = None;
            }
            return;
        }
        let Phase::Live(membership) = &mut entry.data.phase else { return };
        if let (Some(CatchingUp::Behind { head, .. }), Some(to)) = (membership.catching_up.as_deref_mut(), to) {
            *head = to;
        }
        let seat = &mut entry.data;
        if let (Some(complete_from), Some(to)) = (&mut seat.complete_from, to) {
            **complete_from = to;
        }
        if seat.resumes || seat.hears_gaps {
            let gap = Gap::of_broker(from, to);
            match self.has_outs(slot) {
                true => self.give(turn, serial, Job::Lost(Box::new(gap))),
                false => self.tell_gap(turn, slot, &gap),
            }
        }
    }

    /// Tells a join of its gap.
    pub(super) fn tell_gap(&mut self, turn: &mut Turn, slot: usize, gap: &Gap) {
        let entry = self.session.entry(slot);
        let (topic, join_ref) = (entry.topic().clone(), entry.push_ref().clone());
        let position = gap.from.filter(|_| entry.data.resumes);
        let payload = gap.payload();
        let push = Outgoing::Push { join_ref: &join_ref, topic: &topic, event: GAP, payload: &payload, position };
        self.send_to(turn, slot, push);
    }

    /// Sends one that was kept where clients are told that it was.
    fn send_kept(&mut self, turn: &mut Turn, slot: usize, event: &str, payload: &Payload, position: Position) {
        let topic = self.entry(slot).topic().clone();
        let position = Some(position);
        let push = Outgoing::Push { join_ref: &Ref::NULL, topic: &topic, event, payload, position };
        self.send_to(turn, slot, push);
    }

    /// Sends one message of its topic to a join that has been answered.
    fn send_alone(&mut self, turn: &mut Turn, slot: usize, message: &Arc<Message>) {
        if self.mutes(slot, &message.event) {
            return;
        }
        if self.intercepts(slot, &message.event) || self.has_outs(slot) {
            let serial = self.session.entry(slot).serial();
            return self.give(turn, serial, Job::Out(message.clone()));
        }
        self.send_message(turn, slot, message);
    }

    /// Whether intercepted messages are not handled yet, which those that come later must not overtake.
    pub(crate) fn has_outs(&self, slot: usize) -> bool {
        let seat = &self.session.entry(slot).data;
        seat.outs > 0 || seat.phase.handles_out()
    }

    /// Sends one message of its topic to a join as it is.
    pub(super) fn send_message(&mut self, turn: &mut Turn, slot: usize, message: &Arc<Message>) {
        let entry = self.session.entry(slot);
        let (serial, place) = (entry.serial(), entry.data.phase.place());
        let (Reach::Shared(variant) | Reach::Intercepted(variant)) = self.reach_of(slot) else { return };
        let slow = place.and_then(|place| turn.hub.slow(place));
        if let Some(place) = place {
            turn.hub.figures_of(place).delivered.add(1);
        }
        self.queue_message(&mut turn.backlog, serial, message, variant, slow);
    }

    /// A member has got all that its topic had kept, and is like the others from now on.
    pub(crate) fn has_caught_up(&mut self, serial: u32) {
        if let Some(slot) = self.slot(serial)
            && let Phase::Live(membership) = &mut self.seat(slot).phase
        {
            membership.catching_up = None;
        }
    }
}
