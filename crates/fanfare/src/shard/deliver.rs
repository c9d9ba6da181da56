//! Frames out: batches to the members of topics, and what sockets have queued.

use std::sync::Arc;

use super::{Shard, find};
use fanfare_proto::position::Position;

use crate::channel::Job;
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::hub::{Frames, MemberId, Reach, Settled, Take};
use crate::interest::Tick;
use crate::key::{JoinKey, SocketKey};
use crate::message::{Broadcast, Message};
use crate::socket::CatchingUp;
use crate::socket::{Backlog, Socket};
use crate::transport::Carrier;
use crate::transport::wire::{Sent, Written};

impl Shard {
    /// Adds a message to its topic's batch, or hands it to those who want it by itself.
    pub(super) fn publish(&mut self, message: &Arc<Message>, at: Tick, except: Option<JoinKey>) {
        let except = except.and_then(|join| {
            let socket = self.sockets.get(join.socket.index as usize).filter(|socket| socket.key == join.socket);
            socket?.place_of(&self.lent, join.serial, &message.topic)
        });
        let mut settled = Vec::new();
        let mut singles = Vec::new();
        let mut followed = Vec::new();
        let sockets = &self.sockets;
        let has_members = self.lent.hub.publish(
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
        if has_members {
            self.underway.add(message.born_us);
            if message.trace.is_some() {
                self.underway.add_traced(message, self.lent.hub.members(&message.topic).len());
            }
        }
        // Each of them costs as much as one that is queued.
        self.lent.backlog.queued += settled.len() + singles.len();
        settled.into_iter().for_each(|settled| self.queue_settled(settled));
        for member in followed {
            self.sockets[member.socket as usize].has_caught_up(member.serial);
        }
        for (member, reach) in singles {
            self.hand_over(member, reach, message);
        }
    }

    /// Lets every batch go to its members' outboxes now, so that what is published next, in any topic, comes after it.
    pub(super) fn fence(&mut self) {
        let mut settled = Vec::new();
        let Shard { sockets, lent, .. } = self;
        lent.hub.flush(|member, frames| {
            let is_taken = !frames.at_once || sockets[member.socket as usize].takes_at_once(frames, &mut lent.backlog);
            if is_taken {
                frames.keep_for(member, &mut settled);
            }
            is_taken
        });
        settled.into_iter().for_each(|settled| self.queue_settled(settled));
    }

    /// Tells the members of a topic of messages that nobody here gets.
    pub(super) fn lost(&mut self, topic: &str, from: Option<Position>, to: Option<Position>) {
        self.fence();
        self.lent.hub.skip_to(topic, to);
        let members: Vec<MemberId> = self.lent.hub.members(topic).collect();
        for MemberId { socket, serial } in members {
            if let Some(key) = self.sockets.get(socket as usize).map(|socket| socket.key) {
                self.with(key, |socket, turn| socket.has_lost(turn, serial, topic, from, to));
            }
        }
    }

    fn queue_settled(&mut self, settled: Settled) {
        self.sockets[settled.member.socket as usize].queue_settled(&mut self.lent.backlog, settled);
    }

    fn hand_over(&mut self, member: MemberId, reach: Reach, message: &Arc<Message>) {
        // One that was handed the message before may have brought about that this one is gone.
        let Some(socket) = self.sockets.get(member.socket as usize) else { return };
        if let Carrier::Broadcasts(queue) = &socket.carrier {
            if queue.try_send(Broadcast(message.clone())).is_err() {
                let fact = Fact {
                    kind: Kind::Dropped,
                    event: Event::LocalLost,
                    who: Who::default(),
                    topic: Some(&message.topic),
                    code: None,
                    detail: format_args!(
                        "a subscriber within the process does not take its messages: its queue is full"
                    ),
                };
                fact.note(self.lent.counters(), 1);
            }
            return;
        }
        let MemberId { serial, .. } = member;
        self.with(socket.key, |socket, turn| match reach {
            Reach::Each => socket.give(turn, serial, Job::Broadcast(message.clone())),
            Reach::Held => socket.hold(turn, serial, message),
            Reach::Intercepted(_) | Reach::Shared(_) => socket.get_alone(turn, serial, message),
        });
    }

    /// Writes everything: batches first, then what single sockets have queued.
    pub(super) fn flush(&mut self) {
        if self.lent.hub.has_batches() {
            self.flush_batches();
        }
        // Closing a slow socket queues its close frame.
        while !self.lent.backlog.is_empty() {
            while let Some(index) = self.lent.backlog.dirty.pop() {
                if let Some(key) = self.sockets.get(index as usize).map(|socket| socket.key) {
                    self.write_out(key);
                }
            }
            for key in std::mem::take(&mut self.lent.backlog.slow) {
                self.with(key, Socket::too_slow);
            }
        }
    }

    fn flush_batches(&mut self) {
        let mut failed = Vec::new();
        let many = self.lent.hub.has_many_batches();
        let Shard { sockets, lent, .. } = self;
        let flushed = match lent.backlog.meters.is_empty() {
            true => lent.hub.flush(|MemberId { socket, serial }, frames| {
                let socket = &mut *sockets[socket as usize];
                let written = deliver(socket, serial, frames, many, &mut lent.backlog);
                is_taken(socket, written, &mut failed)
            }),
            // Without tenants nothing is asked about them: deliveries have a way of their own.
            false => lent.hub.flush(|MemberId { socket, serial }, frames| {
                let socket = &mut *sockets[socket as usize];
                let written = deliver(socket, serial, frames, many, &mut lent.backlog);
                let is_taken = is_taken(socket, written, &mut failed);
                if is_taken {
                    lent.backlog.meters.sent(socket.meter, frames.messages.len(), frames.bytes.len());
                }
                is_taken
            }),
        };
        self.lent.counters().add(Event::Delivered, flushed.messages);
        self.lent.backlog.pool.outflow().flushed(&flushed);
        for (key, trouble) in failed {
            self.with(key, |socket, turn| socket.trouble(turn, trouble));
        }
    }

    /// The kernel takes bytes of this socket again.
    pub(super) fn resume_writing(&mut self, key: SocketKey) {
        if let Some(Socket { carrier: Carrier::Wire(wire), .. }) = find(&mut self.sockets, key) {
            if let Some(since_ms) = wire.stalled_since_ms.take() {
                self.lent.figures().stalls.observe(self.lent.now_ms.saturating_sub(since_ms) * 1_000);
            }
            self.write_out(key);
        }
    }

    fn write_out(&mut self, key: SocketKey) {
        self.with(key, Socket::write_out);
    }
}

/// Whether a share is done with. What is wrong with its socket is left for when all is written.
#[inline(always)]
fn is_taken(socket: &Socket, written: Written, failed: &mut Vec<(SocketKey, Written)>) -> bool {
    match written {
        Written::All => true,
        Written::NotAtOnce => false,
        trouble => {
            failed.push((socket.key, trouble));
            true
        }
    }
}

/// One member's share of a batch: written at once where nothing else is queued for the socket.
#[inline(always)]
fn deliver(socket: &mut Socket, serial: u32, frames: Frames<'_>, many_batches: bool, backlog: &mut Backlog) -> Written {
    // It is open: one that is being closed has left its topics. Other batches may have something for the same socket: then
    // all leave in one write.
    let waits = many_batches && socket.session.entries().len() > 1;
    match &mut socket.carrier {
        // The fast path touches the socket and nothing else: each line of memory counts, ten thousand times a message.
        Carrier::Wire(wire) if !waits && !wire.has_waiting() => match wire.send(frames.bytes) {
            Sent::All => Written::All,
            Sent::HeldBack => Written::Waiting,
            Sent::Part(written) => socket.put_rest(serial, frames, written, backlog),
            Sent::Lost => socket.lost_share(frames, backlog),
        },
        _ => deliver_behind(socket, serial, frames, backlog),
    }
}

/// The same where something else is: what has not fitted leaves the outbox full, so that it is known here.
#[inline(never)]
fn deliver_behind(socket: &mut Socket, serial: u32, frames: Frames<'_>, backlog: &mut Backlog) -> Written {
    if frames.at_once && !socket.takes_at_once(frames, backlog) {
        return Written::NotAtOnce;
    }
    if socket.overflowed {
        backlog.pool.outflow().not_sent(1, frames.bytes.len(), socket.streaming().is_some());
        return Written::All;
    }
    backlog.queued += frames.messages.len();
    backlog.pool.outflow().not_sent(1, frames.bytes.len(), socket.streaming().is_some());
    match socket.put_share(serial, frames, backlog) {
        Written::Waiting => {
            let is_stalled = matches!(&socket.carrier, Carrier::Wire(socket) if socket.stalled_since_ms.is_some());
            if is_stalled {
                backlog.pool.account(socket.carrier.outbox_if_any());
            } else {
                socket.mark_dirty(backlog);
            }
            Written::All
        }
        other => other,
    }
}

/// What a member that is not plain `Shared` does with a message.
fn take(socket: &Socket, serial: u32, reach: Reach, message: &Message) -> Take {
    match reach {
        Reach::Each => Take::Alone,
        Reach::Shared(_) => Take::Batch,
        Reach::Intercepted(_) => match socket.session.position(serial) {
            Some(slot) if socket.mutes(slot, &message.event) => Take::Skip,
            Some(slot) if socket.intercepts(slot, &message.event) || socket.has_outs(slot) || socket.gives_ids() => {
                Take::Alone
            }
            _ => Take::Batch,
        },
        Reach::Held => {
            let Some(slot) = socket.session.position(serial) else { return Take::Skip };
            match socket.session.entry(slot).data.phase.catching_up() {
                Some(CatchingUp::Behind { number, .. }) if message.stamp.is_some() => {
                    let is_new = message.number > *number;
                    if is_new { Take::Follow(socket.reach_of(slot)) } else { Take::Skip }
                }
                _ => Take::Alone,
            }
        }
    }
}
