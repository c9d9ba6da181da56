//! How the messages of a topic reach a join.

use std::sync::Arc;

use fanfare_proto::phoenix::message::Version;
use fanfare_proto::session::Entry;

use super::seat::Seat;
use super::{Socket, Turn};
use crate::channel::{AnyChannel, Mutes};
use crate::hub::{MemberId, Place, Reach};
use crate::policy::DeltaKey;

impl Socket {
    /// A join becomes a member of its topic.
    pub(super) fn enter(&self, turn: &mut Turn, slot: usize, reach: Reach) -> Place {
        let entry = self.session.entry(slot);
        let id = MemberId { socket: self.key.index, serial: entry.serial() };
        turn.enter(entry.topic(), id, reach, None)
    }

    pub(super) fn channel_of(&self, entry: &Entry<Seat>) -> Option<&Arc<dyn AnyChannel>> {
        self.info.mount.routes.get(entry.data.route as usize).map(|route| &route.channel)
    }

    /// How a join that has caught up takes the messages of its topic.
    pub(crate) fn reach_of(&self, slot: usize) -> Reach {
        let resumes = self.session.entry(slot).data.resumes;
        let variant = if resumes { self.resuming_variant() } else { self.variant() };
        let gets_all = self.session.entry(slot).data.mutes == Mutes::NOTHING;
        let is_plain = gets_all && self.intercepted(slot).is_empty() && !self.gives_ids();
        if is_plain { Reach::Shared(variant) } else { Reach::Intercepted(variant) }
    }

    /// By what the messages of a join's topic are told apart, so that it can be told differences; or why it gets whole messages.
    pub(super) fn delta_key(&self, slot: usize) -> Result<Arc<DeltaKey>, &'static str> {
        let key = self.info.endpoint.policies().delta(self.session.entry(slot).topic());
        let key = key.ok_or("this topic has no delta on the server")?;
        if self.info.version != Version::V2 {
            // It could not tell what was sent to all from what was sent to it alone.
            return Err("delta takes protocol version 2.0.0");
        }
        match self.reach_of(slot) {
            Reach::Shared(variant) if !variant.is_text() => Ok(key.clone()),
            Reach::Shared(_) => Err("delta takes a WebSocket: messages over long-polling are whole"),
            Reach::Intercepted(_) | Reach::Each | Reach::Held => {
                Err("the channel looks at each message before this client gets it")
            }
        }
    }

    /// Changes what a join does not get. One that has got all, and was not asked about each message, stays so.
    pub(crate) fn mute(&mut self, serial: u32, mutes: Mutes) {
        if let Some(slot) = self.slot(serial) {
            self.seat(slot).mutes = mutes;
        }
    }

    /// Whether a join does not get an event of its topic.
    pub(crate) fn mutes(&self, slot: usize, event: &str) -> bool {
        self.session.entry(slot).data.mutes.has(event)
    }

    /// Whether a join's channel wants to see an event before its client does.
    pub(crate) fn intercepts(&self, slot: usize, event: &str) -> bool {
        self.intercepted(slot).contains(&event)
    }

    /// The events that a join's channel wants to see first. A topic that connect gave has no channel, nor need its mount have
    /// any.
    fn intercepted(&self, slot: usize) -> &'static [&'static str] {
        match self.channel_of(self.session.entry(slot)) {
            Some(channel) if self.dialect.has_channels() => channel.intercepts(),
            _ => &[],
        }
    }
}
