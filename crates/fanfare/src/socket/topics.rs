//! Joins without a channel, by sockets of this process and of protocols whose clients do not join by themselves.

use std::sync::Arc;

use fanfare_proto::message::Ref;
use fanfare_proto::payload::JsonText;

use super::seat::{Membership, Phase, Seat};
use super::{Socket, Turn};
use crate::close_reason::CloseReason;
use crate::connect::GivenTopic;
use crate::hub::Reach;

impl Socket {
    /// It is there: joins the topics that connect gave it, and waits for its client.
    pub(crate) fn begin(&mut self, turn: &mut Turn, topics: &[GivenTopic]) {
        if let Some(of_user) = &self.info.of_user {
            of_user.lives_at(&self.info, self.key);
        }
        self.count_for_tenant(turn);
        topics.iter().for_each(|given| self.join_at_once(turn, given));
        if !self.info.is_pending {
            self.tell(turn, |observer, socket| observer.opened(socket));
        }
        if topics.iter().any(|given| self.dialect.has_lost(&self.info, &given.topic)) {
            // It has ended since the subscriber was let in, and nobody would tell.
            self.close(turn, &CloseReason::TopicEnded);
        }
        self.begin_to_watch(turn);
    }

    /// Joins a socket of this process to a topic. Joining again changes nothing and keeps the first meta. `Some` is how many
    /// topics it has joined, which is the most.
    pub(crate) fn join_registry(&mut self, turn: &mut Turn, topic: &Arc<str>, meta: Option<JsonText>) -> Option<usize> {
        if self.session.find(topic).is_some() {
            return None;
        }
        if self.session.is_full() {
            return Some(self.session.joins_max());
        }
        let topic = &turn.hub.interned(topic).unwrap_or_else(|| topic.clone());
        self.join_without_channel(turn, topic, meta, Some(Reach::Each));
        None
    }

    /// Joins a new socket to a topic that connect gave it.
    fn join_at_once(&mut self, turn: &mut Turn, GivenTopic { topic, since }: &GivenTopic) {
        if self.session.find(topic).is_some() {
            return;
        }
        let topic = &turn.hub.interned(topic).unwrap_or_else(|| topic.clone());
        if let Some(ownership) = &self.ownership {
            ownership.lives_at(&self.info, self.key);
        }
        let receives = self.dialect.receives();
        match since.filter(|_| receives) {
            None => {
                let reach = receives.then(|| Reach::Shared(self.variant()));
                self.join_without_channel(turn, topic, None, reach);
            }
            Some(since) => self.join_reading(turn, topic, since),
        }
    }

    fn join_without_channel(
        &mut self,
        turn: &mut Turn,
        topic: &Arc<str>,
        meta: Option<JsonText>,
        reach: Option<Reach>,
    ) {
        let seat = Seat { meta, _of_tenant: self.tenant_join(), ..Seat::new(Phase::Live(Membership::default())) };
        let slot = self.session.begin(topic.clone(), Ref::NULL, &Ref::NULL, seat);
        if let Some(reach) = reach {
            let place = self.enter(turn, slot, reach);
            self.seat(slot).phase = Phase::Live(Membership { place: Some(place), ..Membership::default() });
        }
    }

    /// Leaves a topic without a channel; safe for one that is not joined.
    pub(crate) fn leave_registry_topic(&mut self, turn: &mut Turn, topic: &str) {
        if let Some(slot) = self.session.find(topic) {
            self.take_entry(turn, slot);
        }
    }

    /// The topics that it has joined, in order.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<_> = self.session.entries().iter().map(|entry| entry.topic().clone()).collect();
        topics.sort_unstable();
        topics
    }
}
