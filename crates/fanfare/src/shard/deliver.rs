//! Frames out: batches to the members of topics, and what sockets have queued.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::frame::{Kind, Outgoing};
use fanfare_proto::phoenix::codec::FieldTooLong;
use fanfare_proto::wire;

use super::waiting::{self, Common};
use super::{Shard, Timer};
use crate::channel::Broadcast;
use crate::command::{JoinKey, SocketKey};
use crate::event::Event;
use crate::hub::{Due, Frames, MemberId, Reach, Settled, Take};
use crate::interest::Tick;
use crate::join::{CatchingUp, Job};
use crate::message::{Message, Variant, carry, with_buffer};
use crate::policy::Slow;
use crate::socket::{Carrier, CloseReason, Socket};
use crate::transport::websocket::{Sent, Written};

impl Shard {
    /// Adds a message to its topic's batch, or hands it to those who want it by itself.
    pub(super) fn publish(&mut self, message: &Arc<Message>, at: Tick, except: Option<JoinKey>) {
        if &*message.event == "disconnect" {
            self.disconnect(&message.topic);
        }
        let except = except.and_then(|join| self.place_of(join, &message.topic));
        let mut settled = Vec::new();
        let mut singles = Vec::new();
        let mut followed = Vec::new();
        let sockets = &self.sockets;
        self.hub.publish(
            message,
            at,
            except,
            |member, frames| frames.keep_for(member, &mut settled),
            |member, reach| {
                let take = take(&sockets[member.socket as usize], member.serial, reach, message);
                match take {
                    Take::Alone => singles.push((member, reach)),
                    Take::Follow(_) => followed.push(member),
                    Take::Batch | Take::Skip => {}
                }
                take
            },
        );
        settled.into_iter().for_each(|settled| self.queue_settled(settled));
        for member in followed {
            self.has_caught_up(member);
        }
        for (member, reach) in singles {
            self.hand_over(member, reach, message);
        }
    }

    /// Lets every batch go to its members' outboxes now, so that what is published next, in any topic, comes after it.
    pub(super) fn fence(&mut self) {
        let mut settled = Vec::new();
        self.hub.flush(|member, frames| frames.keep_for(member, &mut settled));
        settled.into_iter().for_each(|settled| self.queue_settled(settled));
    }

    fn hand_over(&mut self, member: MemberId, reach: Reach, message: &Arc<Message>) {
        let socket = &self.sockets[member.socket as usize];
        if let Carrier::Broadcasts(queue) = &socket.carrier {
            if queue.try_send(Broadcast(message.clone())).is_err() {
                self.handle.counters().count(Event::LocalLost);
            }
            return;
        }
        let join = JoinKey { socket: socket.key, serial: member.serial };
        match reach {
            Reach::Each => self.give(join, Job::Broadcast(message.clone())),
            Reach::Held => self.hold(join, message),
            Reach::Intercepted(_) | Reach::Wire(_) => self.give(join, Job::Out(message.clone())),
        }
    }

    /// Encodes a frame of the socket's own and queues it: it leaves at the end of the turn.
    ///
    /// # Errors
    /// The frame must be binary, and a field does not fit: nothing is sent.
    pub(super) fn send(&mut self, index: usize, frame: Outgoing<'_>) -> Result<(), FieldTooLong> {
        let (form, carriage) = (self.sockets[index].form(), self.sockets[index].carriage());
        let bytes = with_buffer(|out| {
            let kind = wire::encode(form, frame, out)?;
            Ok(kind.map(|kind| carry(carriage, kind, out)))
        })?;
        if let Some(bytes) = bytes {
            self.queue(index, bytes, 1);
        }
        Ok(())
    }

    /// The same in the form of one of its joins.
    pub(super) fn send_to(&mut self, join: JoinKey, slot: usize, frame: Outgoing<'_>) {
        let socket = &self.sockets[join.socket.index as usize];
        let resumes = socket.session.entry(slot).data.resumes;
        let form = if resumes { socket.resuming_form() } else { socket.form() };
        let carriage = socket.carriage();
        let bytes = with_buffer(|out| {
            let kind = wire::encode(form, frame, out);
            kind.expect("a join's own forms have no binary frames").map(|kind| carry(carriage, kind, out))
        });
        if let Some(bytes) = bytes {
            self.queue(join.socket.index as usize, bytes, 1);
        }
    }

    /// Sends a text of the protocol's own.
    pub(super) fn send_text(&mut self, index: usize, text: &str) {
        let bytes = carry(self.sockets[index].carriage(), Kind::Text, text.as_bytes());
        self.queue(index, bytes, 1);
    }

    /// Queues whole frames for a socket.
    pub(super) fn queue(&mut self, index: usize, bytes: Bytes, frames: usize) {
        self.queue_with(index, frames, |socket, common| waiting::queue(socket, bytes, frames, common));
    }

    /// Queues what a member was to get before something else.
    pub(super) fn queue_settled(&mut self, settled: Settled) {
        let Settled { member, what } = settled;
        match what {
            Due::Whole(bytes, frames) => self.queue(member.socket as usize, bytes, frames),
            Due::Yielding(message, variant, slow) => self.queue_message(member, &message, variant, Some(&slow)),
        }
    }

    /// Queues one message of a topic for a member.
    pub(super) fn queue_message(
        &mut self,
        member: MemberId,
        message: &Message,
        variant: Variant,
        slow: Option<&Arc<Slow>>,
    ) {
        let index = member.socket as usize;
        match slow {
            None => self.queue(index, message.encoded(variant).clone(), 1),
            Some(slow) => self.queue_with(index, 1, |socket, common| {
                waiting::queue_message(socket, member.serial, message, variant, slow, common)
            }),
        }
    }

    fn queue_with(&mut self, index: usize, frames: usize, queue: impl FnOnce(&mut Socket, &mut Common<'_>) -> Written) {
        let Shard { sockets, pool, dirty, handle, slow, .. } = self;
        let socket = &mut *sockets[index];
        if socket.closing || socket.overflowed {
            return;
        }
        let counters = handle.counters();
        match queue(socket, &mut Common { pool, dirty, counters }) {
            Written::Full => {
                socket.overflowed = true;
                slow.push(socket.key);
            }
            _ => {
                counters.add(Event::Delivered, frames as u64);
                mark_dirty(socket, dirty);
            }
        }
    }

    /// Writes everything: batches first, then what single sockets have queued.
    pub(super) fn flush(&mut self) {
        let mut failed = Vec::new();
        let (mut delivered, many) = (0, self.hub.has_many_batches());
        let Shard { hub, sockets, pool, dirty, handle, .. } = self;
        let mut common = Common { pool, dirty, counters: handle.counters() };
        hub.flush(|member, frames| {
            let socket = &mut *sockets[member.socket as usize];
            delivered += frames.messages.len() as u64;
            match deliver(socket, member.serial, frames, many, &mut common) {
                Written::All => {}
                trouble => failed.push((socket.key, trouble)),
            }
        });
        self.handle.counters().add(Event::Delivered, delivered);
        for (key, trouble) in failed {
            self.trouble(key, trouble);
        }
        // Closing a slow socket queues its close frame.
        while !self.slow.is_empty() || !self.dirty.is_empty() {
            while let Some(index) = self.dirty.pop() {
                self.write_out(index as usize);
            }
            for key in std::mem::take(&mut self.slow) {
                self.too_slow(key);
            }
        }
    }

    pub(super) fn write_out(&mut self, index: usize) {
        let now_ms = self.now_ms;
        let Some(socket) = self.sockets.get_mut(index) else { return };
        socket.is_dirty = false;
        if socket.overflowed && !socket.closing {
            return;
        }
        let key = socket.key;
        match &mut socket.carrier {
            Carrier::WebSocket(websocket) => match websocket.flush(&mut self.pool) {
                Written::All if socket.closing => self.end_of_writing(key),
                Written::All => self.feed_soon(index),
                trouble => self.trouble(key, trouble),
            },
            Carrier::Poll(session) => {
                session.answer_waiting(now_ms);
                self.feed_soon(index);
            }
            #[cfg(feature = "testing")]
            Carrier::Frames(_) => self.feed_soon(index),
            Carrier::Broadcasts(_) => {}
        }
    }

    /// Something other than "all has left" came of a write.
    fn trouble(&mut self, key: SocketKey, trouble: Written) {
        match trouble {
            Written::All => {}
            Written::Waiting => self.stalled(key),
            Written::Full => self.too_slow(key),
            Written::Lost => self.lost(key),
        }
    }

    /// The kernel takes no more of this socket: wait for it, but not for ever.
    fn stalled(&mut self, key: SocketKey) {
        let now_ms = self.now_ms;
        let Some(socket) = self.socket(key) else { return };
        let timeout_ms = socket.info.mount.write_timeout.as_millis() as u64;
        if let Carrier::WebSocket(websocket) = &mut socket.carrier
            && websocket.stalled_since_ms.is_none()
        {
            websocket.stalled_since_ms = Some(now_ms);
            if !std::mem::replace(&mut websocket.is_watched, true) {
                self.at(now_ms + timeout_ms, Timer::Stalled(key));
            }
        }
    }

    pub(super) fn check_stalled(&mut self, key: SocketKey) {
        let now_ms = self.now_ms;
        let Some(socket) = self.socket(key) else { return };
        let timeout_ms = socket.info.mount.write_timeout.as_millis() as u64;
        let Carrier::WebSocket(websocket) = &mut socket.carrier else { return };
        match websocket.stalled_since_ms {
            None => websocket.is_watched = false,
            Some(since_ms) if since_ms + timeout_ms <= now_ms => self.too_slow(key),
            Some(since_ms) => self.at(since_ms + timeout_ms, Timer::Stalled(key)),
        }
    }

    pub(super) fn too_slow(&mut self, key: SocketKey) {
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        let peer = socket.info.peer;
        let (bytes, frames) = socket.carrier.waiting();
        crate::event::slow_consumer(self.handle.counters(), peer, bytes, frames);
        self.close(key, CloseReason::Slow);
    }

    pub(super) fn mark_dirty(&mut self, index: usize) {
        mark_dirty(&mut self.sockets[index], &mut self.dirty);
    }
}

/// One member's share of a batch: written at once where nothing else is queued for the socket.
#[inline(always)]
fn deliver(
    socket: &mut Socket,
    serial: u32,
    frames: Frames<'_>,
    many_batches: bool,
    common: &mut Common<'_>,
) -> Written {
    if socket.closing {
        return Written::All;
    }
    // Other batches may have something for the same socket: then all leave in one write.
    let waits = many_batches && socket.session.entries().len() > 1;
    match &mut socket.carrier {
        // The fast path touches the socket and nothing else: each line of memory counts, ten thousand times a message.
        Carrier::WebSocket(websocket) if !waits && !websocket.has_waiting() => match websocket.send(frames.bytes) {
            Sent::All => Written::All,
            Sent::HeldBack => Written::Waiting,
            Sent::Part(written) => waiting::queue_rest(socket, serial, frames, written, common),
            Sent::Lost => Written::Lost,
        },
        _ => deliver_behind(socket, serial, frames, common),
    }
}

/// The same where something else is: what has not fitted leaves the outbox full, so that it is known here.
#[inline(never)]
fn deliver_behind(socket: &mut Socket, serial: u32, frames: Frames<'_>, common: &mut Common<'_>) -> Written {
    if socket.overflowed {
        return Written::All;
    }
    match waiting::queue_frames(socket, serial, frames, common) {
        Written::Waiting => {
            let is_stalled = matches!(&socket.carrier, Carrier::WebSocket(socket) if socket.stalled_since_ms.is_some());
            if !is_stalled {
                mark_dirty(socket, common.dirty);
            }
            Written::All
        }
        other => other,
    }
}

fn mark_dirty(socket: &mut Socket, dirty: &mut Vec<u32>) {
    if !std::mem::replace(&mut socket.is_dirty, true) {
        dirty.push(socket.key.index);
    }
}

/// What a member that is not plain `Wire` does with a message.
fn take(socket: &Socket, serial: u32, reach: Reach, message: &Message) -> Take {
    match reach {
        Reach::Each => Take::Alone,
        Reach::Wire(_) => Take::Batch,
        Reach::Intercepted(_) => match socket.session.position(serial) {
            Some(slot) if intercepts(socket, slot, &message.event) => Take::Alone,
            _ => Take::Batch,
        },
        Reach::Held => {
            let Some(slot) = socket.session.position(serial) else { return Take::Skip };
            match (socket.session.entry(slot).data.catching_up.as_deref(), message.position) {
                (Some(CatchingUp::Behind(head)), Some(position)) if position.epoch == head.epoch => {
                    let is_new = position.offset > head.offset;
                    if is_new { Take::Follow(reach_of(socket, slot)) } else { Take::Skip }
                }
                // Another epoch: the history was forgotten meanwhile, and the next one goes on from its beginning.
                (Some(CatchingUp::Behind(_)), Some(_)) => Take::Follow(reach_of(socket, slot)),
                _ => Take::Alone,
            }
        }
    }
}

/// How a join that has caught up takes the messages of its topic.
pub(super) fn reach_of(socket: &Socket, slot: usize) -> Reach {
    let variant = if socket.session.entry(slot).data.resumes { socket.resuming_variant() } else { socket.variant() };
    if intercepted(socket, slot).is_empty() { Reach::Wire(variant) } else { Reach::Intercepted(variant) }
}

/// Whether a join's channel wants to see an event before its client does.
pub(super) fn intercepts(socket: &Socket, slot: usize, event: &str) -> bool {
    intercepted(socket, slot).contains(&event)
}

/// The events that a join's channel wants to see first. A topic that connect gave has no channel, nor need its mount have any.
fn intercepted(socket: &Socket, slot: usize) -> &'static [&'static str] {
    let route = socket.session.entry(slot).data.route;
    match socket.info.mount.routes.get(route as usize) {
        Some(route) if socket.protocol.has_channels() => route.channel.intercepts(),
        _ => &[],
    }
}
