//! Sockets of this process: code that joins topics and receives what is broadcast there, beside the clients.

use std::fmt;
use std::sync::Arc;

use fanfare_proto::payload::JsonText;
use fanfare_proto::topic::check_topic;
use tokio::sync::{mpsc, oneshot};

use crate::channel::Broadcast;
use crate::close_reason::CloseReason;
use crate::command::Command;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::key::SocketKey;
use crate::mailbox::ShardHandle;
use crate::observer::SocketHandle;
use crate::shard::Shard;
use crate::socket::Transport;

/// A topic and who is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicSummary {
    /// The topic.
    pub topic: String,
    /// Its members on this node.
    pub members: usize,
    /// Whether a publisher of a [hub](crate::Mount::hub) has started it, and it has not ended.
    pub is_started: bool,
    /// That publisher, while it is connected.
    pub publisher: Option<SocketHandle>,
}

/// One membership of a topic.
#[derive(Debug, Clone)]
pub struct Member {
    /// The socket's id, if connect gave it one.
    pub socket_id: Option<String>,
    /// What carries the socket.
    pub transport: Transport,
    /// What was given when it joined.
    pub meta: Option<JsonText>,
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
        let (key, topic): (_, Arc<str>) = (self.key, topic.into());
        let joined =
            ask(&self.shard, move |shard| shard.with(key, |socket, turn| socket.join_registry(turn, &topic, meta)));
        match joined.await? {
            None => Ok(()),
            Some(max) => Err(Error::invalid(format!("the socket has joined {max} topics: leave one first"))),
        }
    }

    /// Leaves a topic; safe for one that is not joined.
    pub async fn leave(&self, topic: &str) {
        let (key, topic) = (self.key, topic.to_owned());
        // The engine can be gone: then there is nothing to leave.
        let _ = ask(&self.shard, move |shard| {
            shard.with(key, |socket, turn| socket.leave_registry_topic(turn, &topic));
        })
        .await;
    }

    /// Leaves everything.
    pub async fn leave_all(&self) {
        for topic in self.topics().await {
            self.leave(&topic).await;
        }
    }

    /// The topics that it has joined, in order.
    pub async fn topics(&self) -> Vec<Arc<str>> {
        let key = self.key;
        ask(&self.shard, move |shard| shard.with(key, |socket, _| socket.topics())).await.unwrap_or_default()
    }

    /// Whether it has joined a topic.
    pub async fn is_member(&self, topic: &str) -> bool {
        let (key, topic) = (self.key, topic.to_owned());
        let is_member = move |shard: &mut Shard| shard.with(key, |socket, _| socket.session.find(&topic).is_some());
        ask(&self.shard, is_member).await.unwrap_or_default()
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
    /// The members of a topic, folded into one value: nobody needs to hold a list of them. Others may join and leave
    /// meanwhile; in a topic of more than 1,000 members one that moved for that may be missed, or come twice.
    pub async fn fold_members<T: Send>(&self, topic: &str, init: T, mut fold: impl FnMut(T, Member) -> T) -> T {
        let mut value = init;
        for shard in self.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let topic = topic.to_owned();
                let slice = ask_promptly(shard, move |shard| shard.members_of(&topic, from, SLICE)).await;
                let Slice { items, next: rest } = slice.unwrap_or_default();
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
        let mut topics = std::collections::BTreeMap::<String, TopicSummary>::new();
        let empty = |topic: &str| TopicSummary { topic: topic.to_owned(), ..TopicSummary::default() };
        for shard in self.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let slice = ask_promptly(shard, move |shard| shard.topic_summaries(from, SLICE)).await;
                let Slice { items, next: rest } = slice.unwrap_or_default();
                for (topic, members) in items {
                    topics.entry(topic).or_insert_with_key(|topic| empty(topic)).members += members;
                }
                next = rest;
            }
        }
        let mut last = None;
        loop {
            let slice = self.started().after(last.as_deref(), SLICE);
            last = slice.last().map(|(topic, _)| topic.clone());
            let has_more = slice.len() == SLICE;
            for (topic, publisher) in slice {
                let summary = topics.entry(topic).or_insert_with_key(|topic| empty(topic));
                (summary.is_started, summary.publisher) = (true, publisher);
            }
            if !has_more {
                return topics.into_values().collect();
            }
        }
    }

    /// How many sockets this node has.
    pub async fn socket_count(&self) -> usize {
        let mut count = 0;
        for shard in self.shards() {
            count += ask_promptly(shard, |shard| shard.socket_count()).await.unwrap_or_default();
        }
        count
    }
}

/// So many topics or members are told at a time: whoever asks must not keep the shard's sockets waiting.
const SLICE: usize = 1_000;

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Slice<T> {
    pub(crate) items: Vec<T>,
    /// Where the next part begins, if there is one.
    pub(crate) next: Option<usize>,
}

impl<T> Default for Slice<T> {
    fn default() -> Self {
        Slice { items: Vec::new(), next: None }
    }
}

/// Runs something on a shard's thread, behind all that was published before, and waits for what it gives.
pub(crate) async fn ask<T: Send + 'static>(
    shard: &ShardHandle,
    question: impl FnOnce(&mut Shard) -> T + Send + 'static,
) -> Result<T, Error> {
    let (command, answered) = asking(question);
    shard.send(command);
    answered.await.map_err(|_| Error::failed("the engine has ended"))
}

/// The same without waiting for messages.
pub(crate) async fn ask_promptly<T: Send + 'static>(
    shard: &ShardHandle,
    question: impl FnOnce(&mut Shard) -> T + Send + 'static,
) -> Result<T, Error> {
    let (command, answered) = asking(question);
    shard.send_promptly(command);
    answered.await.map_err(|_| Error::failed("the engine has ended"))
}

/// The same in two steps.
pub(crate) fn asking<T: Send + 'static>(
    question: impl FnOnce(&mut Shard) -> T + Send + 'static,
) -> (Command, oneshot::Receiver<T>) {
    let (answer, answered) = oneshot::channel();
    let run = move |shard: &mut Shard| {
        // The one who asked may have gone.
        let _ = answer.send(question(shard));
    };
    (Command::Run(Box::new(run)), answered)
}
