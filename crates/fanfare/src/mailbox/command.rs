//! What a shard can be asked to do.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::payload::Payload;
use fanfare_proto::position::Position;
use fanfare_proto::presence::State;
use tokio::sync::oneshot;

use super::newcomer::Newcomer;
use super::question::Question;
use crate::channel::{Finished, Mutes, Reply};
use crate::close_reason::CloseReason;
use crate::connect::{Connected, GivenTopic, Rejected, SocketInfo};
use crate::dialect::Dialect;
use crate::endpoint::Ownership;
use crate::error::Error;
use crate::history::Replay;
use crate::interest::Tick;
use crate::key::{JoinKey, SocketKey};
use crate::message::Message;
use crate::presence::{Presence, Untold};
use crate::transport::Carrier;
use crate::transport::longpoll::Polled;
use crate::transport::stream::Stream;

/// What is known of a connection before it has a carrier.
#[derive(Debug)]
pub(crate) struct AdmittedSocket {
    pub(crate) info: Arc<SocketInfo>,
    pub(crate) dialect: Dialect,
    /// What it is joined to at once, without a channel. A hub's publisher gets nothing from its own.
    pub(crate) topics: Vec<GivenTopic>,
    /// Of a hub's publisher.
    pub(crate) ownership: Option<Box<Ownership>>,
}

/// A connection on its way to its shard.
#[derive(Debug)]
pub(crate) struct NewSocket {
    pub(crate) admitted: AdmittedSocket,
    pub(crate) carrier: Carrier,
    /// What the client sent right behind its handshake.
    pub(crate) received: Vec<u8>,
    /// Told where the socket lives.
    pub(crate) attached: Option<oneshot::Sender<SocketKey>>,
}

/// A credential that was checked.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) asked: Asked,
    pub(crate) refreshed: Result<Connected, Rejected>,
}

/// What a credential is answered to.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) join_ref: Ref,
    pub(crate) msg_ref: Ref,
    pub(crate) topic: Box<str>,
}

/// A reply that a channel gives after the callback.
#[derive(Debug)]
pub(crate) struct LateReply {
    pub(crate) join: JoinKey,
    pub(crate) msg_ref: Ref,
    pub(crate) reply: Reply,
}

/// The client's messages of one long-poll request.
pub(crate) struct Post {
    pub(crate) socket: SocketKey,
    pub(crate) secret: u128,
    /// `Err` ends the session.
    pub(crate) messages: Result<Vec<Incoming<'static>>, usize>,
    /// Told whether the session exists, when all were handled.
    pub(crate) answer: oneshot::Sender<bool>,
}

/// One request to a shard, carried out on its thread. Most are moved several times, so that the large ones are boxed.
pub(crate) enum Command {
    /// Read what an accepted connection wants.
    Welcome(Newcomer),
    /// Give up connections that have not said what they want, of servers that end.
    DismissNewcomers,
    /// Take over a new connection.
    Attach(Box<NewSocket>),
    /// The connection of a socket that was attached without one, and what the client has sent behind its handshake.
    Connected { socket: SocketKey, stream: Box<Stream>, received: Vec<u8> },
    /// A stream over HTTP joins its topic.
    JoinStream { socket: SocketKey, topic: Box<str>, params: Payload },
    /// Fan a message that was published at some time out to the members on this shard; `except` is a join of this shard
    /// that does not get it.
    Publish { message: Arc<Message>, at: Tick, except: Option<JoinKey> },
    /// Members of a topic do not get some messages, if it is a log's those behind a position up to another.
    Lost { topic: Arc<str>, from: Option<Position>, to: Option<Position> },
    /// What was published so far stays ahead of what is published from now on, in all topics.
    Fence,
    /// Tell the members of a topic what has changed in its presence.
    TellPresent(Untold),
    /// A push of a join's own.
    Push { join: JoinKey, event: Box<str>, payload: Payload },
    /// Tell a join who is present in its topic: those who are when it is carried out, since all that it does not have is told afterwards.
    PushPresent { join: JoinKey, presence: Presence, topic: Arc<str> },
    /// Tell a join who was present, as hooks tell it.
    PushState { join: JoinKey, state: State },
    /// A reply to a message that a join received.
    Reply(Box<LateReply>),
    /// A channel's code ran to its end.
    Finished(Finished),
    /// Something for a join's channel.
    Info { join: JoinKey, info: Box<dyn Any + Send> },
    /// What a join's channel sends to itself, to be given to it when the engine's clock has come so far.
    InfoAt { join: JoinKey, due_ms: u64, info: Box<dyn Any + Send> },
    /// A page of the history was read for a join that waits for no answer.
    PageRead { join: JoinKey, replay: Box<Result<Replay, Error>> },
    /// A credential was checked.
    Verified { socket: SocketKey, verified: Box<Verified> },
    /// Let a join's channel see what is broadcast on another topic from some time on, or (`None`) no longer.
    Listen { join: JoinKey, topic: Arc<str>, since: Option<Tick> },
    /// A join gets what it has missed, for which it has waited.
    Feed { join: JoinKey },
    /// A join gets more or less of its topic than before.
    Mute { join: JoinKey, mutes: Mutes },
    /// Anything rare, when the engine's clock has come so far.
    RunAt { due_ms: u64, run: Box<dyn FnOnce() + Send> },
    /// Read a socket on that was not read while what it sends had no room.
    ReadOn { socket: SocketKey },
    /// Close the subscribers of a hub's topic, which has ended, behind what was published on it.
    EndTopic(Arc<str>),
    /// Close one socket.
    Close { socket: SocketKey, reason: CloseReason },
    /// A long-poll request for messages, from a client that has so many if that can be known.
    Poll { socket: SocketKey, secret: u128, position: Option<u64>, answer: oneshot::Sender<Polled> },
    /// A long-poll request with messages.
    Post(Box<Post>),
    /// Anything rare that is answered.
    Ask(Box<Question>),
    /// End the thread.
    Stop,
}

impl Command {
    /// Whether it concerns one socket or join, and nobody else could tell when it is carried out.
    pub(crate) fn is_for_one(&self) -> bool {
        use Command::{Feed, Finished, Info, InfoAt, Listen, PageRead, Push, PushPresent, PushState, Reply, Verified};
        matches!(
            self,
            Push { .. }
                | PushPresent { .. }
                | PushState { .. }
                | Reply(_)
                | Feed { .. }
                | Finished(_)
                | Info { .. }
                | InfoAt { .. }
                | Listen { .. }
                | PageRead { .. }
                | Verified { .. }
        )
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may hold secrets; the kind of command is enough.
        let name = match self {
            Command::Welcome(_) => "Welcome",
            Command::DismissNewcomers => "DismissNewcomers",
            Command::Attach(_) => "Attach",
            Command::Publish { .. } => "Publish",
            Command::Fence => "Fence",
            Command::Lost { .. } => "Lost",
            Command::Push { .. } => "Push",
            Command::TellPresent(_) => "TellPresent",
            Command::PushPresent { .. } => "PushPresent",
            Command::PushState { .. } => "PushState",
            Command::Feed { .. } => "Feed",
            Command::Mute { .. } => "Mute",
            Command::Reply(_) => "Reply",
            Command::Finished(_) => "Finished",
            Command::Info { .. } => "Info",
            Command::InfoAt { .. } => "InfoAt",
            Command::PageRead { .. } => "PageRead",
            Command::Verified { .. } => "Verified",
            Command::Listen { .. } => "Listen",
            Command::RunAt { .. } => "RunAt",
            Command::ReadOn { .. } => "ReadOn",
            Command::Close { .. } => "Close",
            Command::Poll { .. } => "Poll",
            Command::Post(_) => "Post",
            Command::Ask(question) => question.name(),
            Command::Connected { .. } => "Connected",
            Command::JoinStream { .. } => "JoinStream",
            Command::EndTopic(_) => "EndTopic",
            Command::Stop => "Stop",
        };
        f.write_str(name)
    }
}

/// A publish is moved from hand to hand: two cache lines, with what it takes in its queue.
const _: () = assert!(size_of::<Command>() <= 104);
