//! What a shard can be asked to do.

use std::fmt;
use std::sync::Arc;

use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::payload::Payload;
use tokio::sync::oneshot;

use crate::channel::Reply;
use crate::interest::Tick;
use crate::join::{Finished, Job};
use crate::message::Message;
use crate::shard::Shard;
use crate::socket::{CloseReason, NewSocket};

/// A socket of a shard. The generation tells it from an earlier one in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SocketKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A join of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JoinKey {
    pub(crate) socket: SocketKey,
    pub(crate) serial: u32,
}

/// A long-poll answer: the messages, or why there are none.
#[derive(Debug)]
pub(crate) enum Polled {
    /// At least one message, and how many the client has with these.
    Messages(Vec<bytes::Bytes>, u64),
    /// The window ended, the session was closed while waiting, or a drain began.
    Nothing,
    /// There is no such session.
    Gone,
}

/// One request to a shard, carried out on its thread.
pub(crate) enum Command {
    /// Take over a new connection.
    Attach(Box<NewSocket>),
    /// Fan a message that was published at some time out to the members on this shard; `except` is a join of this shard
    /// that does not get it.
    Publish { message: Arc<Message>, at: Tick, except: Option<JoinKey> },
    /// What was published so far stays ahead of what is published from now on, in all topics.
    Fence,
    /// A push of a join's own.
    Push { join: JoinKey, event: Box<str>, payload: Payload },
    /// A reply to a message that a join received.
    Reply { join: JoinKey, msg_ref: Ref, reply: Reply },
    /// A channel's code ran to its end.
    Finished(Box<Finished>),
    /// Something for a join's channel.
    Job { join: JoinKey, job: Job },
    /// Let a join's channel see what is broadcast on another topic from some time on, or (`None`) no longer.
    Listen { join: JoinKey, topic: Arc<str>, since: Option<Tick> },
    /// Anything rare, when the engine's clock has come so far.
    RunAt { due_ms: u64, run: Box<dyn FnOnce(&mut Shard) + Send> },
    /// Close every socket with this id.
    Disconnect { socket_id: Arc<str> },
    /// Close one socket.
    Close { socket: SocketKey, reason: CloseReason },
    /// A long-poll request for messages, from a client that has so many if that can be known.
    Poll { socket: SocketKey, secret: u128, position: Option<u64>, answer: oneshot::Sender<Polled> },
    /// The client's messages of one long-poll request; `Err` ends the session. Answers whether the session exists.
    Post {
        socket: SocketKey,
        secret: u128,
        messages: Result<Vec<Incoming<'static>>, usize>,
        answer: oneshot::Sender<bool>,
    },
    /// Anything rare: queries, registry operations, drains.
    Run(Box<dyn FnOnce(&mut Shard) + Send>),
    /// End the thread.
    Stop,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may hold secrets; the kind of command is enough.
        let name = match self {
            Command::Attach(_) => "Attach",
            Command::Publish { .. } => "Publish",
            Command::Fence => "Fence",
            Command::Push { .. } => "Push",
            Command::Reply { .. } => "Reply",
            Command::Finished(_) => "Finished",
            Command::Job { .. } => "Job",
            Command::Listen { .. } => "Listen",
            Command::RunAt { .. } => "RunAt",
            Command::Disconnect { .. } => "Disconnect",
            Command::Close { .. } => "Close",
            Command::Poll { .. } => "Poll",
            Command::Post { .. } => "Post",
            Command::Run(_) => "Run",
            Command::Stop => "Stop",
        };
        f.write_str(name)
    }
}
