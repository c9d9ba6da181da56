//! What a channel can do while it handles something.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::message::Ref;
use fanfare_proto::payload::{Json, Payload};
use fanfare_proto::phoenix::codec::FIELD_SIZE_MAX;
use fanfare_proto::position::Since;
use fanfare_proto::topic::check_topic;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::channel::Reply;
use crate::command::{Command, JoinKey};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::history::Replay;
use crate::join::Job;
use crate::mailbox::ShardHandle;
use crate::message::{Message, check_pushable};
use crate::presence::{Presence, TrackerId};
use crate::socket::{CloseReason, SocketInfo};

/// One join's handle on its socket, its topic and the engine.
///
/// What it sends reaches the client in the order in which it was sent. Nothing that it sends can be seen before the
/// reply to the join.
pub struct Context {
    pub(crate) join: JoinKey,
    pub(crate) topic: Arc<str>,
    pub(crate) socket: Arc<SocketInfo>,
    pub(crate) presence: Presence,
    pub(crate) join_ref: Ref,
    /// The ref of the message being handled.
    pub(crate) msg_ref: Ref,
    /// The join_ref of own pushes has this many bytes.
    pub(crate) push_ref_size: u16,
    /// Whether the join has tracked something, so that its end must untrack it.
    pub(crate) tracks: bool,
}

impl Context {
    /// The topic of this join.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Names this join to [`Endpoint::broadcast_from`].
    pub fn id(&self) -> JoinId {
        JoinId { shard: self.socket.shard.clone(), join: self.join }
    }

    /// The client's join_ref, as the JSON text that it sent; `None` when it sent none.
    pub fn join_ref(&self) -> Option<&str> {
        (!self.join_ref.is_null()).then(|| self.join_ref.as_json())
    }

    /// The socket of this join.
    pub fn socket(&self) -> &SocketInfo {
        &self.socket
    }

    /// What connect assigned to the socket, if it is of this type.
    pub fn assigns<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.socket.assigns()
    }

    /// The engine.
    pub fn endpoint(&self) -> &Endpoint {
        &self.socket.endpoint
    }

    /// Sends an event to this client alone. From inside `join` it goes out after the reply.
    ///
    /// # Errors
    /// The payload is neither an object nor binary, or a field of a binary frame is over 255 bytes: nothing was sent.
    pub fn push(&mut self, event: &str, payload: impl Into<Payload>) -> Result<(), Error> {
        let payload = payload.into();
        check_pushable(event, &payload)?;
        if matches!(payload, Payload::Binary(_)) && usize::from(self.push_ref_size) > FIELD_SIZE_MAX {
            return Err(Error::invalid(format!(
                "the client's join_ref has {} bytes, a binary frame holds at most {FIELD_SIZE_MAX}: push JSON",
                self.push_ref_size
            )));
        }
        self.send_command(Command::Push { join: self.join, event: event.into(), payload });
        Ok(())
    }

    /// Sends an event to every join of this topic, this one included.
    ///
    /// # Errors
    /// The payload is neither an object nor binary, or a field of a binary frame is over 255 bytes: nothing was sent.
    pub async fn broadcast(&mut self, event: &str, payload: impl Into<Payload>) -> Result<(), Error> {
        let message = Message::new(self.topic.clone(), event, payload.into())?;
        self.endpoint().publish_message(message, None).await
    }

    /// Sends an event to every other join of this topic.
    ///
    /// # Errors
    /// As [`broadcast`](Context::broadcast).
    pub async fn broadcast_from(&mut self, event: &str, payload: impl Into<Payload>) -> Result<(), Error> {
        let message = Message::new(self.topic.clone(), event, payload.into())?;
        self.endpoint().publish_message(message, Some(&self.id())).await
    }

    /// The newest messages of this topic's history, at most `limit`, for a join that tells what was said. Messages that come
    /// between this and the reply to the join are not missed by [`Joined::catch_up`](crate::Joined::catch_up) only.
    ///
    /// # Errors
    /// The topic keeps no history, or it cannot be read now.
    pub async fn history(&self, limit: usize) -> Result<Replay, Error> {
        self.endpoint().history(&self.topic, Since::Now, limit).await
    }

    /// Keeps the ref of the message being handled, to reply to it later or more than once.
    pub fn reply_later(&self) -> ReplyHandle {
        ReplyHandle { shard: self.socket.shard.clone(), join: self.join, msg_ref: self.msg_ref.clone() }
    }

    /// Lets [`handle_broadcast`](crate::Channel::handle_broadcast) see what is broadcast on another topic.
    ///
    /// # Errors
    /// The topic is empty, over 255 bytes, or has control characters.
    pub fn subscribe(&mut self, topic: &str) -> Result<(), Error> {
        check_topic(topic).map_err(|error| Error::invalid(error.to_string()))?;
        let topic = topic.into();
        let since = Some(self.endpoint().interest().set_out(self.shard_index().into(), &topic));
        self.send_command(Command::Listen { join: self.join, topic, since });
        Ok(())
    }

    /// Takes [`subscribe`](Context::subscribe) back. Safe for a topic that is not subscribed to.
    pub fn unsubscribe(&mut self, topic: &str) {
        self.send_command(Command::Listen { join: self.join, topic: topic.into(), since: None });
    }

    /// Sends something to this join's own [`handle_info`](crate::Channel::handle_info), which sees it after what is
    /// being handled now. `info` must be of the channel's `Info` type: another type ends the join as a crash.
    pub fn send<I: Send + 'static>(&mut self, info: I) {
        self.sender().send(info);
    }

    /// The same after a while, by the engine's clock.
    pub fn send_after<I: Send + 'static>(&mut self, delay: Duration, info: I) {
        let (join, due_ms) = (self.join, self.endpoint().clock().after(delay));
        let run = move |shard: &mut crate::shard::Shard| shard.give(join, Job::Info(Box::new(info)));
        self.send_command(Command::RunAt { due_ms, run: Box::new(run) });
    }

    /// A handle with which other code sends to this join.
    pub fn sender<I: Send + 'static>(&self) -> JoinSender<I> {
        JoinSender { shard: self.socket.shard.clone(), join: self.join, info: PhantomData }
    }

    /// Says that `key` is present in this topic, through this join, until the join ends. Returns the presence's ref.
    ///
    /// # Errors
    /// This join tracks `key` already, or `meta` is not an object.
    pub async fn track(&mut self, key: &str, meta: impl Serialize) -> Result<String, Error> {
        self.tracks = true;
        let meta = object(meta)?;
        self.presence.track(self.endpoint(), &self.topic, self.tracker(), key, meta)
    }

    /// Replaces the meta of a key that this join tracks. Returns the presence's new ref.
    ///
    /// # Errors
    /// This join does not track `key`, or `meta` is not an object.
    pub async fn update(&mut self, key: &str, meta: impl Serialize) -> Result<String, Error> {
        let meta = object(meta)?;
        self.update_with(key, |_| meta).await
    }

    /// The same with a function of the old meta, which has no `phx_ref`.
    ///
    /// # Errors
    /// This join does not track `key`.
    pub async fn update_with(
        &mut self,
        key: &str,
        change: impl FnOnce(Map<String, Value>) -> Map<String, Value>,
    ) -> Result<String, Error> {
        self.presence.update(self.endpoint(), &self.topic, self.tracker(), key, change)
    }

    /// Takes [`track`](Context::track) back. Safe for a key that is not tracked.
    pub async fn untrack(&mut self, key: &str) {
        self.presence.untrack(self.endpoint(), &self.topic, self.tracker(), key);
    }

    /// Who is present in this topic, as `presence_state` tells it.
    pub async fn presences(&self) -> Json {
        self.presence.list(&self.topic).await
    }

    /// The metas of one key in this topic, as a JSON list; empty when nobody has it.
    pub async fn presences_of(&self, key: &str) -> Json {
        self.presence.get(&self.topic, key)
    }

    /// Pushes `presence_state`: call it once, after the join has been answered (from `handle_info`).
    ///
    /// # Errors
    /// None today; the push is checked like any other.
    pub async fn push_presence_state(&mut self) -> Result<(), Error> {
        let presence = self.presence.clone();
        let topic = self.topic.clone();
        presence.push_state(&topic, |state| self.push("presence_state", state)).await
    }

    /// Closes this join's socket as a drain would, with 1012: the client comes back.
    pub fn drain_socket(&mut self) {
        self.send_command(Command::Close { socket: self.join.socket, reason: CloseReason::Drain });
    }

    pub(crate) fn tracker(&self) -> TrackerId {
        TrackerId { shard: self.shard_index(), join: self.join }
    }

    fn shard_index(&self) -> u16 {
        self.endpoint().shard_index(&self.socket.shard)
    }

    fn send_command(&self, command: Command) {
        self.socket.shard.send(command);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The name of a join.
#[derive(Debug, Clone)]
pub struct JoinId {
    pub(crate) shard: ShardHandle,
    pub(crate) join: JoinKey,
}

/// Replies to one message, now or later. After the join has ended its replies go nowhere.
#[derive(Debug, Clone)]
pub struct ReplyHandle {
    shard: ShardHandle,
    join: JoinKey,
    msg_ref: Ref,
}

impl ReplyHandle {
    /// Sends a reply; may be called more than once.
    pub fn send(&self, reply: Reply) {
        self.shard.send(Command::Reply { join: self.join, msg_ref: self.msg_ref.clone(), reply });
    }
}

/// Sends to one join's [`handle_info`](crate::Channel::handle_info). After the join has ended it goes nowhere.
pub struct JoinSender<I> {
    shard: ShardHandle,
    join: JoinKey,
    info: PhantomData<fn(I)>,
}

impl<I: Send + 'static> JoinSender<I> {
    /// Sends; the join handles it after what it has been sent before.
    pub fn send(&self, info: I) {
        self.shard.send(Command::Job { join: self.join, job: Job::Info(Box::new(info)) });
    }
}

impl<I> Clone for JoinSender<I> {
    fn clone(&self) -> Self {
        JoinSender { shard: self.shard.clone(), join: self.join, info: PhantomData }
    }
}

impl<I> fmt::Debug for JoinSender<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSender")
    }
}

fn object(meta: impl Serialize) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(meta)? {
        Value::Object(meta) => Ok(meta),
        other => Err(Error::invalid(format!("a presence's meta must be an object, not {other}"))),
    }
}
