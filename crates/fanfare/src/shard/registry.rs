//! Joins without a channel, by sockets of this process and of protocols whose clients do not join by themselves, and what can
//! be asked about members.

use std::sync::Arc;

use fanfare_proto::message::Ref;
use fanfare_proto::payload::Json;

use super::Shard;
use crate::command::{JoinKey, SocketKey};
use crate::hub::{MemberId, Reach};
use crate::join::Seat;
use crate::registry::{Member, TopicSummary};
use crate::socket::{CloseReason, Protocol};

impl Shard {
    /// Joins a socket of this process to a topic. Joining again changes nothing and keeps the first meta.
    pub(crate) fn join_registry(&mut self, key: SocketKey, topic: &Arc<str>, meta: Option<Json>) -> Result<(), usize> {
        let Some(socket) = self.socket(key) else { return Ok(()) };
        if socket.session.find(topic).is_some() {
            return Ok(());
        }
        if socket.session.is_full() {
            return Err(socket.session.joins_max());
        }
        self.join_without_channel(key, topic, meta, Some(Reach::Each));
        Ok(())
    }

    /// Joins a new socket to a topic that connect gave it.
    pub(super) fn join_at_once(&mut self, key: SocketKey, topic: &Arc<str>) {
        let Some(socket) = self.socket(key).filter(|socket| socket.session.find(topic).is_none()) else { return };
        // A publisher has its place among the socket's topics only, not among those who get something.
        let is_publisher = socket.protocol == Protocol::HubPublisher;
        let reach = (!is_publisher).then(|| Reach::Wire(socket.variant()));
        let (info, protocol) = (socket.info.clone(), socket.protocol);
        match info.since.filter(|_| !is_publisher) {
            None => drop(self.join_without_channel(key, topic, None, reach)),
            Some(since) => {
                let join = self.join_without_channel(key, topic, None, None);
                self.read_for_subscriber(join, since);
            }
        }
        let waits = info.mount.waits_for_topic;
        if protocol == Protocol::HubSubscriber && !waits && !info.endpoint.started().contains(topic, None) {
            // It has ended since the subscriber was let in, and nobody would tell.
            self.close(key, CloseReason::TopicEnded);
        }
    }

    fn join_without_channel(
        &mut self,
        key: SocketKey,
        topic: &Arc<str>,
        meta: Option<Json>,
        reach: Option<Reach>,
    ) -> JoinKey {
        let topic = &self.hub.interned(topic).unwrap_or_else(|| topic.clone());
        let session = &mut self.sockets[key.index as usize].session;
        let seat = Seat { meta, ..Seat::default() };
        let serial = session.begin(topic.clone(), Ref::NULL, &Ref::NULL, seat);
        let slot = session.position(serial).expect("the join has just begun");
        session.go_live(slot);
        if let Some(reach) = reach {
            let place = self.enter(topic, MemberId { socket: key.index, serial }, reach, None);
            self.entry(key, slot).data.place = Some(place);
        }
        JoinKey { socket: key, serial }
    }

    /// Leaves a topic; safe for one that is not joined.
    pub(crate) fn leave_registry_topic(&mut self, key: SocketKey, topic: &str) {
        if let Some(slot) = self.socket(key).and_then(|socket| socket.session.find(topic)) {
            self.leave_at(key, slot);
        }
    }

    /// Ends a join without a channel.
    pub(super) fn leave_at(&mut self, key: SocketKey, slot: usize) {
        let entry = self.sockets[key.index as usize].session.end(slot);
        if let Some(place) = entry.data.place {
            self.leave_place(place, None);
        }
    }

    /// Whether a socket has joined a topic.
    pub(crate) fn is_member(&mut self, key: SocketKey, topic: &str) -> bool {
        self.socket(key).is_some_and(|socket| socket.session.find(topic).is_some())
    }

    /// The topics that a socket has joined, in order.
    pub(crate) fn topics_of(&mut self, key: SocketKey) -> Vec<Arc<str>> {
        let entries = self.socket(key).map(|socket| socket.session.entries()).unwrap_or_default();
        let mut topics: Vec<_> = entries.iter().map(|entry| entry.topic().clone()).collect();
        topics.sort_unstable();
        topics
    }

    /// Every topic with members here.
    pub(crate) fn topic_summaries(&self) -> Vec<TopicSummary> {
        self.hub.topics().map(|(topic, members)| TopicSummary { topic: topic.to_string(), members }).collect()
    }

    /// The members of a topic here. Channels that merely subscribed are none.
    pub(crate) fn members_of(&self, topic: &str) -> Vec<Member> {
        let member = |id: MemberId| {
            let socket = &self.sockets[id.socket as usize];
            let entry = socket.session.entry(socket.session.position(id.serial)?);
            (**entry.topic() == *topic).then(|| Member {
                socket_id: socket.info.id().map(str::to_owned),
                transport: socket.info.transport,
                meta: entry.data.meta.clone(),
            })
        };
        self.hub.members(topic).filter_map(member).collect()
    }

    /// How many sockets this shard has.
    pub(crate) fn socket_count(&self) -> usize {
        self.sockets.len()
    }
}
