//! What can be asked about the sockets of a shard, and what is done to several of them.

use std::sync::Arc;

use crate::close_reason::CloseReason;
use crate::hub::MemberId;
use crate::key::{SocketId, SocketKey};
use crate::mailbox::{
    Best, Found, Member, Question, Search, Seen, Slice, SocketPlace, SocketQuery, SocketReport, TopicMember,
};
use crate::socket::Socket;

use super::Shard;
use super::report::report;

impl Shard {
    /// Answers a question. Whoever asked may have gone: then nobody is told.
    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Alive(answer) => _ = answer.send(()),
            Question::OpenSockets(answer) => _ = answer.send(self.open_sockets()),
            Question::Topics { prefix, from, places, answer } => {
                _ = answer.send(self.topics_seen(&prefix, from, places));
            }
            Question::Topic { topic, answer } => _ = answer.send(self.topic_seen(&topic)),
            Question::Sockets { search, from, places, answer } => {
                _ = answer.send(self.find_sockets(&search, from, places));
            }
            Question::Socket { socket, topics_max, answer } => {
                _ = answer.send(self.report_of(socket, topics_max));
            }
            Question::MemberSockets { topic, from, count, answer } => {
                _ = answer.send(self.reports_of(&topic, from, count));
            }
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

    /// Topics of a prefix with members here, of so many places of the hub.
    fn topics_seen(&self, prefix: &str, from: usize, places: usize) -> Slice<(Arc<str>, Seen)> {
        let (topics, next) = self.lent.hub.topics(from, places);
        let topics = topics.filter(|(topic, ..)| topic.starts_with(prefix));
        let items = topics.map(|(topic, members, flow)| (topic.clone(), Seen { members, flow })).collect();
        Slice { items, next }
    }

    /// One topic here.
    fn topic_seen(&self, topic: &str) -> Seen {
        Seen { members: self.lent.hub.members(topic).len(), flow: self.lent.hub.flow(topic) }
    }

    /// The clients' sockets in so many places that fit and come first.
    fn find_sockets(&self, search: &Search, from: usize, places: usize) -> Found {
        let (to, number) = (from.saturating_add(places), self.lent.shard.number());
        let mut found = Found { next: (to < self.sockets.capacity()).then_some(to), ..Found::default() };
        let mut best = Best::new(search.query.limit);
        let now_ms = self.lent.now_ms;
        let sockets = (from..to.min(self.sockets.capacity())).filter_map(|index| self.sockets.get(index));
        for socket in sockets.filter(|socket| is_wanted(socket, &search.query)) {
            found.total += 1;
            let report = report(socket, SocketId::new(number, socket.key), now_ms);
            let place = SocketPlace::new(search.query.order, &report, socket.began_ms);
            if search.query.after.is_some_and(|after| place <= after) {
                continue;
            }
            match search.bar {
                Some(bar) if place >= bar => found.has_more = true,
                _ => best.offer(place, report),
            }
        }
        let (page, has_more) = best.into_page();
        found.has_more |= has_more;
        found.best = page;
        found
    }

    /// One socket of a client's, and the first of its topics.
    fn report_of(&self, key: SocketKey, topics_max: usize) -> Option<(SocketReport, Vec<Arc<str>>)> {
        let socket = self.sockets.get(key.index as usize).filter(|socket| socket.key == key)?;
        (socket.is_open() && socket.dialect.has_client()).then(|| {
            let report = report(socket, SocketId::new(self.lent.shard.number(), key), self.lent.now_ms);
            let joins = socket.session.entries().iter().take(topics_max);
            (report, joins.map(|join| join.topic().clone()).collect())
        })
    }

    /// So many of the clients that are members of a topic here.
    fn reports_of(&self, topic: &str, from: usize, count: usize) -> Slice<TopicMember> {
        let number = self.lent.shard.number();
        let member = |id: MemberId| {
            let socket = &self.sockets[id.socket as usize];
            let entry = socket.session.entry(socket.session.position(id.serial)?);
            (**entry.topic() == *topic && socket.dialect.has_client()).then(|| TopicMember {
                socket: report(socket, SocketId::new(number, socket.key), self.lent.now_ms),
                resumes: entry.data.resumes,
            })
        };
        let (members, to) = (self.lent.hub.members(topic), from + count);
        let next = (to < members.len()).then_some(to);
        Slice { items: members.skip(from).take(count).filter_map(member).collect(), next }
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

fn is_wanted(socket: &Socket, query: &SocketQuery) -> bool {
    let info = &socket.info;
    socket.is_open()
        && socket.dialect.has_client()
        && query.user.as_deref().is_none_or(|user| info.who().user == Some(user))
        && query.address.is_none_or(|address| info.peer.is_some_and(|peer| peer.ip() == address))
        && query
            .endpoint
            .as_deref()
            .is_none_or(|path| info.mount.path.as_ref().is_some_and(|own| own.to_string() == path))
        && query.transport.is_none_or(|transport| info.transport == transport)
        && query.topic.as_deref().is_none_or(|topic| socket.session.find(topic).is_some())
}
