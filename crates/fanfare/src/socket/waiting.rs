//! What is sent to the client: at once where nothing waits, or else queued, where the messages of some topics may give way.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::frame::{Form, Kind, Outgoing};
use fanfare_proto::phoenix::codec::FieldTooLong;
use fanfare_proto::session::Session;
use fanfare_proto::wire;

use super::seat::Seat;
use super::{Socket, Turn};
use crate::connect::SocketInfo;
use crate::event::{Event, ShardCounters, Tally};
use crate::gap::Voice;
use crate::hub::{Due, Frames, Settled};
use crate::key::SocketKey;
use crate::mailbox::ShardHandle;
use crate::message::{Message, Variant, carry, with_buffer};
use crate::outbox::{Bounds, Outbox, Yielding};
use crate::policy::Slow;
use crate::tenant::{Meter, Meters};
use crate::transport::Carrier;
use crate::transport::wire::{Pool, Written};

/// What waits to be written, of all sockets of a shard.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) pool: Pool,
    /// Sockets with something queued in this turn.
    pub(crate) dirty: Vec<u32>,
    /// Sockets whose outbox is full; closed when the turn's writing is done, so that nothing ends under the feet of the
    /// code that wanted to send.
    pub(crate) slow: Vec<SocketKey>,
    /// How often a message was queued in this turn for a reader who does not take it at once.
    pub(crate) queued: usize,
    /// What is counted for the tenants of sockets.
    pub(crate) meters: Meters,
    shard: ShardHandle,
}

impl Backlog {
    pub(super) fn new(shard: ShardHandle) -> Self {
        Backlog {
            pool: Pool::new(shard.figures().clone()),
            dirty: Vec::new(),
            slow: Vec::new(),
            queued: 0,
            meters: Meters::default(),
            shard,
        }
    }

    fn counters(&self) -> &ShardCounters {
        self.shard.counters()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.dirty.is_empty() && self.slow.is_empty()
    }
}

impl Socket {
    /// Encodes a frame of the socket's own and queues it: it leaves at the end of the turn.
    ///
    /// # Errors
    /// The frame must be binary, and a field does not fit: nothing is sent.
    pub(super) fn try_send(&mut self, turn: &mut Turn, frame: Outgoing<'_>) -> Result<(), FieldTooLong> {
        let form = self.form();
        self.send_as(turn, form, frame)
    }

    /// The same where that cannot be, since the frame is text or its fields were checked. If it is nevertheless, it is
    /// counted.
    pub(super) fn send(&mut self, turn: &mut Turn, frame: Outgoing<'_>) {
        if self.try_send(turn, frame).is_err() {
            turn.count(Event::FieldTooLong);
        }
    }

    /// The same in the form of one of its joins.
    pub(super) fn send_to(&mut self, turn: &mut Turn, slot: usize, frame: Outgoing<'_>) {
        let form = if self.seat(slot).resumes { self.resuming_form() } else { self.form() };
        if self.send_as(turn, form, frame).is_err() {
            turn.count(Event::FieldTooLong);
        }
    }

    fn send_as(&mut self, turn: &mut Turn, form: Form, frame: Outgoing<'_>) -> Result<(), FieldTooLong> {
        if turn.surroundings.taps.is_any() {
            turn.surroundings.taps.sent(self.id(), self.info.who(), &frame);
        }
        let carriage = self.carriage();
        let positions = match (form, &frame) {
            (Form::Data, Outgoing::Push { topic, position: Some(position), .. }) => {
                self.streaming().map(|streaming| (streaming.positions(), *topic, *position))
            }
            _ => None,
        };
        let bytes = with_buffer(|out| {
            if let Some((positions, topic, position)) = positions {
                positions.write_id(topic, position, out);
            }
            let kind = wire::encode(form, frame, out)?;
            Ok(kind.map(|kind| carry(carriage, kind, out)))
        })?;
        if let Some(bytes) = bytes {
            self.queue(&mut turn.backlog, bytes, 1);
        }
        Ok(())
    }

    /// Sends a text of the protocol's own.
    pub(crate) fn send_text(&mut self, turn: &mut Turn, text: &str) {
        let bytes = carry(self.carriage(), Kind::Text, text.as_bytes());
        self.queue(&mut turn.backlog, bytes, 1);
    }

    /// Queues whole frames, which must not be lost.
    pub(crate) fn queue(&mut self, backlog: &mut Backlog, bytes: Bytes, frames: usize) {
        if self.is_writable() {
            let size = bytes.len();
            let queued = self.put(bytes, frames, backlog);
            self.queued(queued, (frames, size), backlog);
        }
    }

    /// Queues what a member was to get before something else.
    pub(crate) fn queue_settled(&mut self, backlog: &mut Backlog, settled: Settled) {
        let Settled { member, what } = settled;
        match what {
            Due::Whole(bytes, frames) => self.queue(backlog, bytes, frames),
            Due::Yielding(message, variant, slow) => {
                self.queue_message(backlog, member.serial, &message, variant, Some(&slow));
            }
        }
    }

    /// Queues one message of a join's topic.
    pub(super) fn queue_message(
        &mut self,
        backlog: &mut Backlog,
        serial: u32,
        message: &Message,
        variant: Variant,
        slow: Option<&Arc<Slow>>,
    ) {
        let with_id = self.streaming().and_then(|streaming| streaming.with_id(message));
        let Some(slow) = slow else {
            return self.queue(backlog, with_id.unwrap_or_else(|| message.encoded(variant).clone()), 1);
        };
        if self.is_writable() {
            let size = with_id.as_ref().map_or_else(|| message.encoded(variant).len(), Bytes::len);
            let queued = self.offer(serial, message, variant, slow, with_id, backlog);
            self.queued(queued, (1, size), backlog);
        }
    }

    /// Lets what was published so far leave ahead of a frame of the join's own.
    pub(crate) fn settle_batches(&mut self, turn: &mut Turn, slot: usize) {
        let Some(place) = self.seat(slot).phase.place() else { return };
        let mut settled = Vec::new();
        turn.hub.settle(place, |member, frames| frames.keep_for(member, &mut settled));
        settled.into_iter().for_each(|settled| self.queue_settled(&mut turn.backlog, settled));
    }

    fn is_writable(&self) -> bool {
        self.is_open() && !self.overflowed
    }

    fn queued(&mut self, queued: Written, (frames, bytes): (usize, usize), backlog: &mut Backlog) {
        if queued == Written::Full {
            self.overflowed = true;
            backlog.slow.push(self.key);
        } else {
            backlog.counters().add(Event::Delivered, frames as u64);
            if self.meter != Meter::NONE {
                backlog.meters.sent(self.meter, frames, bytes);
            }
            self.mark_dirty(backlog);
        }
    }

    /// Has what is queued written at the end of the turn.
    pub(crate) fn mark_dirty(&mut self, backlog: &mut Backlog) {
        if !std::mem::replace(&mut self.is_dirty, true) {
            backlog.dirty.push(self.key.index);
        }
    }

    /// Queues whole frames that must not be lost.
    fn put(&mut self, bytes: Bytes, frames: usize, backlog: &mut Backlog) -> Written {
        let bounds = self.info.mount.limits.outbox;
        let outbox = match &mut self.carrier {
            Carrier::Wire(wire) => wire.outbox(&mut backlog.pool),
            Carrier::Poll(session) => session.outbox(),
            #[cfg(feature = "testing")]
            Carrier::Frames(test_kit) => {
                // Its end may be gone: then its socket is about to be closed.
                let _ = test_kit.send(crate::transport::LocalFrame::Text(bytes));
                return Written::All;
            }
            Carrier::Broadcasts(_) => return Written::All,
        };
        if outbox.has_room(bytes.len(), frames, bounds) {
            outbox.push(bytes, frames);
            return Written::Waiting;
        }
        self.put_in_full(bytes.len(), frames, bounds, backlog, |outbox| outbox.push(bytes, frames))
    }

    /// Queues a frame in parts, which must not be lost.
    pub(super) fn queue_parts(&mut self, backlog: &mut Backlog, head: Bytes, parts: VecDeque<Bytes>) {
        if self.is_writable() {
            let bounds = self.info.mount.limits.outbox;
            let size = head.len() + parts.iter().map(Bytes::len).sum::<usize>();
            let queued = self.put_in_full(size, 1, bounds, backlog, |outbox| outbox.push_parts(head, parts));
            self.queued(queued, (1, size), backlog);
        }
    }

    /// Queues frames for which other messages may have to give way.
    #[cold]
    #[inline(never)]
    fn put_in_full(
        &mut self,
        bytes: usize,
        frames: usize,
        bounds: Bounds,
        backlog: &mut Backlog,
        push: impl FnOnce(&mut Outbox),
    ) -> Written {
        let Socket { carrier, session, info, .. } = self;
        let Some((outbox, _)) = outbox_of(carrier, bytes, frames, bounds, &mut backlog.pool) else {
            return Written::All;
        };
        let has_room = outbox.make_room(bytes, frames, bounds);
        if has_room {
            push(outbox);
        }
        note_losses(outbox, session, info, backlog.counters());
        if has_room { Written::Waiting } else { Written::Full }
    }

    /// Whether frames that must not be lost can go behind what waits, since the reader takes what there is.
    pub(crate) fn takes_at_once(&mut self, frames: Frames<'_>, backlog: &mut Backlog) -> bool {
        let bounds = self.info.mount.limits.outbox;
        match &mut self.carrier {
            Carrier::Wire(wire) if wire.has_waiting() && !wire.is_held_up() => {
                wire.outbox(&mut backlog.pool).has_room(frames.bytes.len(), frames.messages.len(), bounds)
            }
            Carrier::Wire(wire) => !wire.is_held_up(),
            Carrier::Poll(_) | Carrier::Broadcasts(_) => false,
            #[cfg(feature = "testing")]
            Carrier::Frames(_) => true,
        }
    }

    /// Queues a member's share of a batch.
    pub(crate) fn put_share(&mut self, serial: u32, frames: Frames<'_>, backlog: &mut Backlog) -> Written {
        let Some(slow) = frames.slow else {
            return self.put(frames.bytes.clone(), frames.messages.len(), backlog);
        };
        for message in frames.messages {
            match self.offer(serial, message, frames.variant, slow, None, backlog) {
                Written::Waiting | Written::All => {}
                trouble => return trouble,
            }
        }
        Written::Waiting
    }

    /// Queues what has not left of a member's share, of which so many bytes have.
    #[cold]
    #[inline(never)]
    pub(crate) fn put_rest(
        &mut self,
        serial: u32,
        frames: Frames<'_>,
        written: usize,
        backlog: &mut Backlog,
    ) -> Written {
        backlog.queued += frames.messages.len();
        backlog.pool.outflow().not_sent(0, frames.bytes.len() - written, self.streaming().is_some());
        self.queue_rest(serial, frames, written, backlog);
        // Nothing may be written to it for long.
        backlog.pool.account(self.carrier.outbox_if_any());
        Written::Waiting
    }

    fn queue_rest(&mut self, serial: u32, frames: Frames<'_>, written: usize, backlog: &mut Backlog) {
        let Carrier::Wire(wire) = &mut self.carrier else { return };
        let Some(slow) = frames.slow else {
            return wire.outbox(&mut backlog.pool).push_rest(frames.bytes.clone(), frames.messages.len(), written);
        };
        let mut end = 0;
        for message in frames.messages {
            let bytes = message.encoded(frames.variant);
            let begin = end;
            end += bytes.len();
            if end <= written {
                continue;
            }
            if begin < written {
                let Carrier::Wire(wire) = &mut self.carrier else { return };
                wire.outbox(&mut backlog.pool).push_rest(bytes.clone(), 1, written - begin);
            } else {
                self.offer(serial, message, frames.variant, slow, None, backlog);
            }
        }
    }

    /// The connection was lost when a member's share of a batch was to be written.
    #[cold]
    pub(crate) fn lost_share(&mut self, frames: Frames<'_>, backlog: &mut Backlog) -> Written {
        backlog.pool.outflow().not_sent(0, frames.bytes.len(), self.streaming().is_some());
        Written::Lost
    }

    /// Queues one message of a topic, by the rule of the topic. `with_id` is the message where its stream gives it an id; should it
    /// come to say another place than its own, it has none, and the client goes on from the event before it.
    fn offer(
        &mut self,
        serial: u32,
        message: &Message,
        variant: Variant,
        slow: &Slow,
        with_id: Option<Bytes>,
        backlog: &mut Backlog,
    ) -> Written {
        let bytes = with_id.as_ref().unwrap_or_else(|| message.encoded(variant));
        let Some(rule) = slow.rule() else { return self.put(bytes.clone(), 1, backlog) };
        let key = match slow {
            Slow::Latest { key } => message.key(key.as_deref()),
            _ => 0,
        };
        let (form, resuming_form, carriage) = (self.form(), self.resuming_form(), self.carriage());
        let bounds = self.info.mount.limits.outbox;
        let Socket { carrier, session, info, .. } = self;
        let voice = || {
            let entry = session.entry(session.position(serial)?);
            let resumes = entry.data.resumes;
            let form = if resumes { resuming_form } else { form };
            let (topic, join_ref) = (entry.topic().clone(), entry.push_ref().clone());
            (resumes || entry.data.hears_gaps).then(|| Box::new(Voice { topic, join_ref, form, carriage, resumes }))
        };
        let Some((outbox, is_held_up)) = outbox_of(carrier, bytes.len(), 1, bounds, &mut backlog.pool) else {
            return self.put(bytes.clone(), 1, backlog);
        };
        let yielding = Yielding { lane: serial, rule, key, stamp: message.stamp, is_held_up };
        let encode = |position| match &with_id {
            Some(with_id) if position == message.position() => with_id.clone(),
            _ => message.encoded_at(variant, position),
        };
        outbox.offer(yielding, encode, bounds, voice);
        note_losses(outbox, session, info, backlog.counters());
        Written::Waiting
    }
}

/// Counts what has given way. A join that resumes has been sent all of its topic only from behind that on.
pub(super) fn note_losses(outbox: &mut Outbox, session: &mut Session<Seat>, info: &SocketInfo, counters: &impl Tally) {
    outbox.take_losses().note(|| info.who(), counters);
    for (serial, position) in outbox.take_gaps() {
        if let Some(slot) = session.position(serial)
            && let Some(from) = &mut session.entry_mut(slot).data.complete_from
        {
            **from = position;
        }
    }
}

/// The outbox for so much more, and whether the reader takes no more at present; `None` on a carrier where nothing waits. A
/// reader is slow once the kernel takes no more: before anything gives way, it gets what is there.
fn outbox_of<'a>(
    carrier: &'a mut Carrier,
    bytes: usize,
    frames: usize,
    bounds: Bounds,
    pool: &mut Pool,
) -> Option<(&'a mut Outbox, bool)> {
    match carrier {
        Carrier::Wire(wire) => {
            if !wire.is_held_up() && wire.has_waiting() && !wire.outbox(pool).has_room(bytes, frames, bounds) {
                // That the connection is lost is seen by the next write as well.
                let _ = wire.flush(pool);
            }
            let is_held_up = wire.is_held_up();
            Some((wire.outbox(pool), is_held_up))
        }
        Carrier::Poll(session) => {
            let is_held_up = session.is_held_up();
            Some((session.outbox(), is_held_up))
        }
        #[cfg(feature = "testing")]
        Carrier::Frames(_) => None,
        Carrier::Broadcasts(_) => None,
    }
}
