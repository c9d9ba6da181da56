//! Sockets of this process: code that joins topics and receives what is broadcast there, beside the clients. And who is there:
//! `topics` and `sockets` list what a node has, a page at a time.

mod sockets;
pub(crate) mod topics;

use std::fmt;
use std::sync::Arc;

use fanfare_proto::payload::JsonText;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::topic::check_topic;
use tokio::sync::mpsc;

use crate::close_reason::CloseReason;
use crate::connect::{SocketHandle, SocketInfo};
use crate::dialect::Dialect;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::key::SocketKey;
use crate::mailbox::{AdmittedSocket, Command, Member, Question, ShardHandle, Slice};
use crate::message::Broadcast;
use crate::transport::{Carrier, Transport};

/// How many broadcasts may wait for a socket of this process.
const LOCAL_QUEUE_MAX: usize = 4_096;

/// A topic and who is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSummary {
    /// The topic.
    pub topic: String,
    /// Its members on this node.
    pub members: usize,
    /// Whether a publisher of a [hub](crate::Mount::hub) has started it, and it has not ended.
    pub is_started: bool,
    /// That publisher, while it is connected to this node.
    pub publisher: Option<SocketHandle>,
    /// The node that it is connected to, if that is another one, as [`NodeSummary::incarnation`](crate::NodeSummary) has it.
    pub publisher_node: Option<String>,
}

/// A socket of this process. It leaves everything when it is dropped.
pub struct LocalSocket {
    shard: ShardHandle,
    key: SocketKey,
    broadcasts: mpsc::Receiver<Broadcast>,
}

impl LocalSocket {
    pub(crate) fn new(shard: ShardHandle, key: SocketKey, broadcasts: mpsc::Receiver<Broadcast>) -> Self {
        LocalSocket { shard, key, broadcasts }
    }

    /// Joins a topic. Joining again changes nothing and keeps the first meta.
    ///
    /// # Errors
    /// The topic is empty, over 255 bytes or has control characters, or the socket has joined 100,000 topics.
    pub async fn join(&self, topic: &str, meta: Option<JsonText>) -> Result<(), Error> {
        check_topic(topic).map_err(|error| Error::invalid(error.to_string()))?;
        let (socket, topic) = (self.key, topic.into());
        match self.shard.ask(|answer| Question::JoinTopic { socket, topic, meta, answer }).await? {
            None => Ok(()),
            Some(max) => Err(Error::invalid(format!("the socket has joined {max} topics: leave one first"))),
        }
    }

    /// Leaves a topic; safe for one that is not joined.
    pub async fn leave(&self, topic: &str) {
        let (socket, topic) = (self.key, topic.into());
        // The engine can be gone: then there is nothing to leave.
        let _ = self.shard.ask(|answer| Question::LeaveTopic { socket, topic, answer }).await;
    }

    /// Leaves everything.
    pub async fn leave_all(&self) {
        for topic in self.topics().await {
            self.leave(&topic).await;
        }
    }

    /// The topics that it has joined, in order.
    pub async fn topics(&self) -> Vec<Arc<str>> {
        let socket = self.key;
        self.shard.ask(|answer| Question::TopicsOf { socket, answer }).await.unwrap_or_default()
    }

    /// Whether it has joined a topic.
    pub async fn is_member(&self, topic: &str) -> bool {
        let (socket, topic) = (self.key, topic.into());
        self.shard.ask(|answer| Question::IsMember { socket, topic, answer }).await.unwrap_or_default()
    }

    /// The next broadcast of its topics; `None` when the engine has ended. What does not fit its queue of 4,096 messages
    /// is lost, and counted.
    pub async fn recv(&mut self) -> Option<Broadcast> {
        self.broadcasts.recv().await
    }

    /// The next broadcast if there is one already.
    pub fn try_recv(&mut self) -> Option<Broadcast> {
        self.broadcasts.try_recv().ok()
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        self.shard.send(Command::Close { socket: self.key, reason: CloseReason::Lost });
    }
}

impl fmt::Debug for LocalSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalSocket")
    }
}

impl Endpoint {
    /// A socket of this process, which can join topics beside the clients.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn socket(&self) -> Result<LocalSocket, Error> {
        let (queue, broadcasts) = mpsc::channel(LOCAL_QUEUE_MAX);
        let shard = self.next_shard().clone();
        let info = SocketInfo {
            id: None,
            peer: None,
            assigns: None,
            version: Version::V2,
            transport: Transport::Local,
            mount: self.gate().local_mount.clone(),
            endpoint: self.clone(),
            shard: shard.clone(),
            expires_ms: None,
            is_pending: false,
            since: None,
            of_user: None,
            tenant: None,
            _slot: None,
        };
        let new = AdmittedSocket { info: info.into(), dialect: Dialect::Local, topics: Vec::new(), ownership: None };
        let key = self.attach(new, Carrier::Broadcasts(queue)).await?;
        Ok(LocalSocket::new(shard, key, broadcasts))
    }

    /// The same, with one topic joined.
    ///
    /// # Errors
    /// As [`socket`](Endpoint::socket) and [`LocalSocket::join`].
    pub async fn subscribe(&self, topic: &str) -> Result<LocalSocket, Error> {
        let socket = self.socket().await?;
        socket.join(topic, None).await?;
        Ok(socket)
    }

    /// The members of a topic, folded into one value: nobody needs to hold a list of them. Others may join and leave
    /// meanwhile; in a topic of more than 1,000 members one that moved for that may be missed, or come twice.
    pub async fn fold_members<T: Send>(&self, topic: &str, init: T, mut fold: impl FnMut(T, Member) -> T) -> T {
        let mut value = init;
        for shard in self.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let members = |answer| Question::Members { topic: topic.into(), from, count: SLICE, answer };
                let Slice { items, next: rest } = shard.ask_promptly(members).await.unwrap_or_default();
                value = items.into_iter().fold(value, &mut fold);
                next = rest;
            }
        }
        value
    }

    /// The members of a topic.
    pub async fn members(&self, topic: &str) -> Vec<Member> {
        self.fold_members(topic, Vec::new(), |mut members, member| {
            members.push(member);
            members
        })
        .await
    }

    /// The topics that have members on this node, and those that a hub's publisher has started, in order. Some may appear and
    /// vanish meanwhile: what was there all the time is told.
    pub async fn topics(&self) -> Vec<TopicSummary> {
        let query = topics::TopicQuery { limit: usize::MAX, ..Default::default() };
        self.list_topics(&query).await.topics.into_iter().map(|row| row.summary).collect()
    }
}

/// So many members are told at a time: whoever asks must not keep the shard's sockets waiting.
const SLICE: usize = 1_000;
