//! What can be asked about the sockets of a shard, and what is done to several of them.

use crate::close_reason::CloseReason;
use crate::hub::MemberId;
use crate::key::SocketKey;
use crate::mailbox::{Member, Question, Slice};
use crate::socket::Socket;

use super::Shard;

impl Shard {
    /// Answers a question. Whoever asked may have gone: then nobody is told.
    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Alive(answer) => _ = answer.send(()),
            Question::SocketCount(answer) => _ = answer.send(self.sockets.len()),
            Question::OpenSockets(answer) => _ = answer.send(self.open_sockets()),
            Question::Topics { from, places, answer } => _ = answer.send(self.topic_summaries(from, places)),
            Question::Members { topic, from, count, answer } => {
                _ = answer.send(self.members_of(&topic, from, count));
            }
            Question::Disconnect { id, answer } => _ = answer.send(self.disconnect(&id)),
            Question::Drain(answer) => _ = answer.send(self.drain()),
            Question::CutAll(answer) => {
                self.cut_all();
                _ = answer.send(());
            }
            Question::JoinTopic { socket, topic, meta, answer } => {
                _ = answer.send(self.with(socket, |socket, turn| socket.join_registry(turn, &topic, meta)));
            }
            Question::LeaveTopic { socket, topic, answer } => {
                self.with(socket, |socket, turn| socket.leave_registry_topic(turn, &topic));
                _ = answer.send(());
            }
            Question::TopicsOf { socket, answer } => _ = answer.send(self.with(socket, |socket, _| socket.topics())),
            Question::IsMember { socket, topic, answer } => {
                _ = answer.send(self.with(socket, |socket, _| socket.session.find(&topic).is_some()));
            }
            #[cfg(feature = "testing")]
            Question::ExpireTimers(answer) => {
                self.expire_timers();
                _ = answer.send(());
            }
            #[cfg(feature = "testing")]
            Question::NextTimer(answer) => _ = answer.send(self.lent.timers.next_ms()),
            #[cfg(feature = "testing")]
            Question::Receive { socket, message, answer } => {
                self.with(socket, |socket, turn| socket.receive(turn, *message));
                _ = answer.send(());
            }
            #[cfg(feature = "testing")]
            Question::Give { socket, topic, job, answer } => {
                self.with(socket, |socket, turn| socket.give_in(turn, &topic, job));
                _ = answer.send(());
            }
        }
    }

    /// Topics with members here, so many places of the hub at a time.
    fn topic_summaries(&self, from: usize, places: usize) -> Slice<(String, usize)> {
        let (topics, next) = self.lent.hub.topics(from, places);
        let items = topics.map(|(topic, members)| (topic.to_string(), members)).collect();
        Slice { items, next }
    }

    /// So many of the members of a topic here. Channels that merely subscribed are none.
    fn members_of(&self, topic: &str, from: usize, count: usize) -> Slice<Member> {
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

    /// The sockets of clients that are not being closed.
    fn open_sockets(&self) -> Vec<SocketKey> {
        let is_open = |socket: &Socket| socket.is_open() && socket.dialect.has_client();
        self.sockets.iter().filter(|(_, socket)| is_open(socket)).map(|(_, socket)| socket.key).collect()
    }

    /// Closes every socket with this id.
    fn disconnect(&mut self, socket_id: &str) -> usize {
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
    pub(super) fn end_topic(&mut self, topic: &str) {
        let is_subscriber = |socket: &Socket| socket.dialect.ends_with_topic();
        let members = self.lent.hub.members(topic).map(|member| &self.sockets[member.socket as usize]);
        let keys: Vec<SocketKey> = members.filter(|socket| is_subscriber(socket)).map(|socket| socket.key).collect();
        for key in keys {
            self.with(key, |socket, turn| socket.close(turn, &CloseReason::TopicEnded));
        }
    }

    /// Closes every client's socket for a drain, and returns how many are left.
    fn drain(&mut self) -> usize {
        for key in self.open_sockets() {
            self.with(key, |socket, turn| socket.close(turn, &CloseReason::Drain));
            self.settle();
        }
        self.sockets.iter().filter(|(_, socket)| socket.dialect.has_client()).count()
    }

    /// Lets all connections go, whatever was not written.
    fn cut_all(&mut self) {
        let keys: Vec<SocketKey> = self.sockets.iter().map(|(_, socket)| socket.key).collect();
        for key in keys {
            self.with(key, Socket::lost);
        }
    }
}
