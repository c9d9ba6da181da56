//! Joins that are behind: what they missed is read page by page, and sent as fast as their clients take it, before
//! anything that is live.
//!
//! However much that is, it takes no more of the outbox than a portion. Only the last page is followed by what was held
//! since it was read; what comes before is in the history, and so in the next page. A client that is slower than its
//! topic, so that what it has yet to get is kept no more, is closed as one that reads too slowly, and is told of the
//! gap when it comes back.

use std::sync::Arc;

use fanfare_proto::position::{Position, Since};

use super::Shard;
use super::deliver::{intercepts, reach_of};
use crate::command::{JoinKey, SocketKey};
use crate::error::Error;
use crate::history::{Replay, Stored};
use crate::hub::{MemberId, Reach};
use crate::join::{CatchingUp, Feed, Held, Job};
use crate::message::{Draft, Message};
use crate::outbox::Bounds;

/// What a socket is sent at a time, at most, and what a page has.
const PORTION: Bounds = Bounds { frames_max: 1_024, bytes_max: 256 * 1024 };

/// So many messages may wait for a channel that wants to see them first.
const JOBS_MAX: usize = 16;

/// A portion, which leaves room for what else comes to the socket.
pub(super) fn portion(outbox: Bounds) -> Bounds {
    Bounds {
        frames_max: PORTION.frames_max.min(outbox.frames_max / 2).max(1),
        bytes_max: PORTION.bytes_max.min(outbox.bytes_max / 2).max(1),
    }
}

impl Shard {
    /// A join that has been sent all up to a position gets what was read for it, and what has come since.
    pub(super) fn begin_feeding(&mut self, join: JoinKey, at: Position, replay: Replay, held: Held) {
        // Writing may have shown that the connection is lost.
        let Some(slot) = self.slot(join) else { return };
        let feed = Feed { page: replay.messages.into_iter(), at, head: replay.head, held };
        self.entry(join.socket, slot).data.catching_up = Some(Box::new(CatchingUp::Feeding(feed)));
        self.feed(join);
    }

    /// A socket has taken what its joins were sent: they get more in the next turn.
    #[inline]
    pub(super) fn feed_soon(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if std::mem::take(&mut socket.is_behind) {
            self.hungry.push(socket.key);
        }
    }

    #[cold]
    pub(super) fn feed_hungry(&mut self) {
        for key in std::mem::take(&mut self.hungry) {
            self.feed_socket(key);
            self.settle();
        }
    }

    fn feed_socket(&mut self, key: SocketKey) {
        let Some(socket) = self.socket(key) else { return };
        let entries = socket.session.entries().iter();
        let behind = entries.filter(|entry| matches!(entry.data.catching_up.as_deref(), Some(CatchingUp::Feeding(_))));
        for serial in behind.map(|entry| entry.serial()).collect::<Vec<_>>() {
            self.feed(JoinKey { socket: key, serial });
        }
    }

    /// Sends a join of what it missed as much as its socket takes now.
    fn feed(&mut self, join: JoinKey) {
        while let Some(slot) = self.slot(join) {
            let has_room = self.has_room_for_missed(join.socket, slot);
            let entry = self.entry(join.socket, slot);
            let Some(CatchingUp::Feeding(feed)) = entry.data.catching_up.as_deref_mut() else { return };
            if !has_room {
                self.sockets[join.socket.index as usize].is_behind = true;
                return;
            }
            let Some(Stored { position, event, payload }) = feed.page.next() else {
                return self.end_page(join, slot);
            };
            feed.at = position;
            let topic = entry.topic().clone();
            let message = Draft::new(topic, event, payload).expect("it was checked when it was published");
            self.send_alone(join, &message.into_message(Some(position)));
        }
    }

    fn has_room_for_missed(&self, key: SocketKey, slot: usize) -> bool {
        let socket = &self.sockets[key.index as usize];
        let limits = socket.info.mount.limits;
        let (portion, jobs_max) = (portion(limits.outbox), (limits.waiting_frames_max / 2).max(1));
        let (bytes, frames) = socket.carrier.waiting();
        bytes < portion.bytes_max
            && frames < portion.frames_max
            && socket.session.entry(slot).data.jobs.len() < JOBS_MAX.min(jobs_max)
    }

    /// All of a page was sent: what was held follows, or the next page.
    fn end_page(&mut self, join: JoinKey, slot: usize) {
        let catching_up = self.entry(join.socket, slot).data.catching_up.take();
        let Some(CatchingUp::Feeding(Feed { at, head, held, .. })) = catching_up.map(|catching_up| *catching_up) else {
            return;
        };
        let Some(held) = held.filter(|_| at == head) else {
            let reading = self.begin_reading(join, slot, Since::Position(at), None);
            let reading = reading.expect("a topic goes on keeping a history");
            return self.await_page(join, reading, Shard::next_page_read);
        };
        self.entry(join.socket, slot).data.catching_up = Some(Box::new(CatchingUp::Behind(head)));
        for message in held {
            match message.position {
                Some(position) if position.epoch == head.epoch && position.offset <= head.offset => {}
                _ => self.send_alone(join, &message),
            }
        }
    }

    fn next_page_read(&mut self, join: JoinKey, replay: Result<Replay, Error>) {
        let Some(slot) = self.slot(join) else { return };
        let Some((wanted, held)) = self.end_reading(join, slot) else { return };
        match (replay, wanted.since) {
            (Ok(replay), Since::Position(at)) if replay.recovered => self.begin_feeding(join, at, replay, held),
            (Ok(_), _) => self.too_slow(join.socket),
            (Err(error), _) => self.cannot_read(join.socket, &error),
        }
    }

    /// A message was published for a join that is catching up.
    pub(super) fn hold(&mut self, join: JoinKey, message: &Arc<Message>) {
        let Some(slot) = self.slot(join) else { return };
        let limits = self.sockets[join.socket.index as usize].info.mount.limits;
        let held_max = (limits.waiting_frames_max / 2).min(portion(limits.outbox).frames_max);
        match self.entry(join.socket, slot).data.catching_up.as_deref_mut() {
            Some(CatchingUp::Reading { held, .. } | CatchingUp::Feeding(Feed { held, .. })) => {
                if held.as_ref().is_some_and(|held| held.len() >= held_max) {
                    *held = None;
                }
                if let Some(held) = held {
                    held.push(message.clone());
                }
            }
            _ => self.send_alone(join, message),
        }
    }

    /// Sends one message of its topic to a join that has been answered.
    fn send_alone(&mut self, join: JoinKey, message: &Arc<Message>) {
        let Some(slot) = self.slot(join) else { return };
        let index = join.socket.index as usize;
        if intercepts(&self.sockets[index], slot, &message.event) {
            return self.give(join, Job::Out(message.clone()));
        }
        let (Reach::Wire(variant) | Reach::Intercepted(variant)) = reach_of(&self.sockets[index], slot) else { return };
        let slow = self.entry(join.socket, slot).data.place.and_then(|place| self.hub.slow(place)).cloned();
        let member = MemberId { socket: join.socket.index, serial: join.serial };
        self.queue_message(member, message, variant, slow.as_ref());
    }

    /// A member has got all that its topic had kept, and is like the others from now on.
    pub(super) fn has_caught_up(&mut self, member: MemberId) {
        let session = &mut self.sockets[member.socket as usize].session;
        if let Some(slot) = session.position(member.serial) {
            session.entry_mut(slot).data.catching_up = None;
        }
    }
}
