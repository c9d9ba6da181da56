//! What can be asked about the sockets of a shard, and what is done to several of them.

use crate::close_reason::CloseReason;
use crate::hub::MemberId;
use crate::key::SocketKey;
use crate::registry::{Member, Slice};
use crate::socket::Socket;

use super::Shard;

impl Shard {
    /// Topics with members here, so many places of the hub at a time.
    pub(crate) fn topic_summaries(&self, from: usize, places: usize) -> Slice<(String, usize)> {
        let (topics, next) = self.lent.hub.topics(from, places);
        let items = topics.map(|(topic, members)| (topic.to_string(), members)).collect();
        Slice { items, next }
    }

    /// So many of the members of a topic here. Channels that merely subscribed are none.
    pub(crate) fn members_of(&self, topic: &str, from: usize, count: usize) -> Slice<Member> {
        let member = |id: MemberId| {
            let socket = &self.sockets[id.socket as usize];
            let entry = socket.session.entry(socket.session.position(id.serial)?);
            (**entry.topic() == *topic).then(|| Member {
                socket_id: socket.info.id().map(str::to_owned),
                transport: socket.info.transport,
                meta: entry.data.meta.clone(),
            })
        };
        let (members, to) = (self.lent.hub.members(topic), from + count);
        let next = (to < members.len()).then_some(to);
        Slice { items: members.skip(from).take(count).filter_map(member).collect(), next }
    }

    /// How many sockets this shard has.
    pub(crate) fn socket_count(&self) -> usize {
        self.sockets.len()
    }

    /// The sockets of clients that are not being closed.
    pub(crate) fn open_sockets(&self) -> Vec<SocketKey> {
        let is_open = |socket: &Socket| socket.is_open() && socket.dialect.has_client();
        self.sockets.iter().filter(|(_, socket)| is_open(socket)).map(|(_, socket)| socket.key).collect()
    }

    /// Closes every socket with this id.
    pub(crate) fn disconnect(&mut self, socket_id: &str) -> usize {
        let mut closed = 0;
        for index in self.by_id.get(socket_id).cloned().unwrap_or_default() {
            let found = self.sockets.get(index as usize).filter(|socket| socket.is_open());
            if let Some(key) = found.map(|socket| socket.key) {
                self.with(key, |socket, turn| socket.close(turn, &CloseReason::Disconnect));
                closed += 1;
            }
        }
        closed
    }

    /// Closes the subscribers of a hub's topic, which has ended, behind what was published on it.
    pub(crate) fn end_topic(&mut self, topic: &str) {
        let is_subscriber = |socket: &Socket| socket.dialect.ends_with_topic();
        let members = self.lent.hub.members(topic).map(|member| &self.sockets[member.socket as usize]);
        let keys: Vec<SocketKey> = members.filter(|socket| is_subscriber(socket)).map(|socket| socket.key).collect();
        for key in keys {
            self.with(key, |socket, turn| socket.close(turn, &CloseReason::TopicEnded));
        }
    }

    /// Closes every client's socket for a drain, and returns how many are left.
    pub(crate) fn drain(&mut self) -> usize {
        for key in self.open_sockets() {
            self.with(key, |socket, turn| socket.close(turn, &CloseReason::Drain));
            self.settle();
        }
        self.sockets.iter().filter(|(_, socket)| socket.dialect.has_client()).count()
    }

    /// Lets all connections go, whatever was not written.
    pub(crate) fn cut_all(&mut self) {
        let keys: Vec<SocketKey> = self.sockets.iter().map(|(_, socket)| socket.key).collect();
        for key in keys {
            self.with(key, Socket::lost);
        }
    }
}
