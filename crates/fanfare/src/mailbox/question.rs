//! What can be asked about a shard's sockets, or done to them with an answer. Each question has a name, so that whoever asks need not
//! know what a shard is made of.

use std::sync::Arc;

#[cfg(feature = "testing")]
use fanfare_proto::message::Incoming;
use fanfare_proto::payload::JsonText;
use tokio::sync::oneshot;

use super::listing::{Found, Search, Seen, SocketReport, TopicMember};
use super::{Command, ShardHandle};
#[cfg(feature = "testing")]
use crate::channel::Job;
use crate::error::Error;
use crate::key::SocketKey;
use crate::transport::Transport;

/// Where an answer goes. Whoever asked may have gone.
pub(crate) type Answer<T> = oneshot::Sender<T>;

/// One question to a shard.
pub(crate) enum Question {
    /// Whether it takes turns.
    Alive(Answer<()>),
    /// Which sockets of clients are not being closed.
    OpenSockets(Answer<Vec<SocketKey>>),
    /// Topics of a prefix with members, of so many places of the hub.
    Topics { prefix: Box<str>, from: usize, places: usize, answer: Answer<Slice<(Arc<str>, Seen)>> },
    /// One topic.
    Topic { topic: Box<str>, answer: Answer<Seen> },
    /// Clients' sockets that fit, of so many places.
    Sockets { search: Search, from: usize, places: usize, answer: Answer<Found> },
    /// One socket of a client's, and the first of its topics.
    Socket { socket: SocketKey, topics_max: usize, answer: Answer<Option<(SocketReport, Vec<Arc<str>>)>> },
    /// So many of the clients that are members of a topic.
    MemberSockets { topic: Box<str>, from: usize, count: usize, answer: Answer<Slice<TopicMember>> },
    /// So many of the members of a topic.
    Members { topic: Box<str>, from: usize, count: usize, answer: Answer<Slice<Member>> },
    /// Closes the sockets with an id: how many there were.
    Disconnect { id: Arc<str>, answer: Answer<usize> },
    /// Closes all clients' sockets for a drain: how many have not ended.
    Drain(Answer<usize>),
    /// Lets all connections go, whatever was not written.
    CutAll(Answer<()>),
    /// Joins a socket of this process to a topic, unless it has joined as many as it may: how many that are.
    JoinTopic { socket: SocketKey, topic: Arc<str>, meta: Option<JsonText>, answer: Answer<Option<usize>> },
    /// Has it leave one.
    LeaveTopic { socket: SocketKey, topic: Box<str>, answer: Answer<()> },
    /// Which topics it has joined, in order.
    TopicsOf { socket: SocketKey, answer: Answer<Vec<Arc<str>>> },
    /// Whether it has joined this one.
    IsMember { socket: SocketKey, topic: Box<str>, answer: Answer<bool> },
    /// Does what is due by the engine's clock.
    #[cfg(feature = "testing")]
    ExpireTimers(Answer<()>),
    /// When that is next.
    #[cfg(feature = "testing")]
    NextTimer(Answer<Option<u64>>),
    /// A client's message, decoded.
    #[cfg(feature = "testing")]
    Receive { socket: SocketKey, message: Box<Incoming<'static>>, answer: Answer<()> },
    /// Has the channel of a join do something.
    #[cfg(feature = "testing")]
    Give { socket: SocketKey, topic: Box<str>, job: Job, answer: Answer<()> },
}

impl Question {
    /// What it is called where a command is shown.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Question::Alive(_) => "Alive",
            Question::OpenSockets(_) => "OpenSockets",
            Question::Topics { .. } => "Topics",
            Question::Topic { .. } => "Topic",
            Question::Sockets { .. } => "Sockets",
            Question::Socket { .. } => "Socket",
            Question::MemberSockets { .. } => "MemberSockets",
            Question::Members { .. } => "Members",
            Question::Disconnect { .. } => "Disconnect",
            Question::Drain(_) => "Drain",
            Question::CutAll(_) => "CutAll",
            Question::JoinTopic { .. } => "JoinTopic",
            Question::LeaveTopic { .. } => "LeaveTopic",
            Question::TopicsOf { .. } => "TopicsOf",
            Question::IsMember { .. } => "IsMember",
            #[cfg(feature = "testing")]
            Question::ExpireTimers(_) => "ExpireTimers",
            #[cfg(feature = "testing")]
            Question::NextTimer(_) => "NextTimer",
            #[cfg(feature = "testing")]
            Question::Receive { .. } => "Receive",
            #[cfg(feature = "testing")]
            Question::Give { .. } => "Give",
        }
    }
}

/// One membership of a topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Member {
    /// The socket's id, if connect gave it one.
    pub socket_id: Option<String>,
    /// What carries the socket.
    pub transport: Transport,
    /// What was given when it joined.
    pub meta: Option<JsonText>,
}

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

impl ShardHandle {
    /// Asks behind all that was published before.
    pub(crate) async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, Error> {
        answered(self.ask_later(question)).await
    }

    /// Asks without waiting for messages.
    pub(crate) async fn ask_promptly<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, Error> {
        let (answer, waits) = oneshot::channel();
        self.send_promptly(Command::Ask(Box::new(question(answer))));
        answered(waits).await
    }

    /// Asks as [`ask`](ShardHandle::ask) does, at once; the answer is waited for later.
    pub(crate) fn ask_later<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> oneshot::Receiver<T> {
        let (answer, waits) = oneshot::channel();
        self.send(Command::Ask(Box::new(question(answer))));
        waits
    }
}

async fn answered<T>(waits: oneshot::Receiver<T>) -> Result<T, Error> {
    waits.await.map_err(|_| Error::failed("the engine has ended"))
}
