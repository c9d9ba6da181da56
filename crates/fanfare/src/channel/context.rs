//! What a channel can do while it handles something.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::event::Reserved;
use fanfare_proto::message::Ref;
use fanfare_proto::payload::{IntoPayload, JsonText, Payload};
use fanfare_proto::phoenix::codec::FIELD_SIZE_MAX;
use fanfare_proto::position::Since;
use fanfare_proto::topic::check_topic;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::channel::{Mutes, Reply};
use crate::close_reason::CloseReason;
use crate::connect::SocketInfo;
use crate::endpoint::{Endpoint, Once};
use crate::error::Error;
use crate::event::Event;
use crate::fact::Kind;
use crate::history::Replay;
use crate::key::{JoinId, JoinKey};
use crate::mailbox::{Command, LateReply, ShardHandle};
use crate::message::{Draft, check_pushable, payload_of};
use crate::presence::{Presence, TrackerId};
use crate::publish::Publisher;

/// One join's handle on its socket, its topic and the engine.
///
/// What it sends reaches the client in the order in which it was sent. Nothing that it sends can be seen before the
/// reply to the join.
///
/// `I` is the channel's [`Info`](crate::Channel::Info). A function of yours that channels share takes a `&mut Context<I>` of any `I`.
pub struct Context<I = ()> {
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
    /// Whether the join has assigned something to its socket that the socket does not know yet.
    pub(crate) assigned: bool,
    pub(crate) info: PhantomData<fn(I)>,
}

impl<I> Context<I> {
    /// The same join for a channel whose `Info` is `J`.
    pub(crate) fn of_info<J>(self) -> Context<J> {
        let Context { join, topic, socket, presence, join_ref, msg_ref, push_ref_size, tracks, assigned, info: _ } =
            self;
        Context { join, topic, socket, presence, join_ref, msg_ref, push_ref_size, tracks, assigned, info: PhantomData }
    }

    /// The topic of this join.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Names this join to [`Endpoint::broadcast_from`].
    pub fn id(&self) -> JoinId {
        JoinId { shard: self.socket.shard.number(), join: self.join }
    }

    /// The client's join_ref, as the JSON text that it sent; `None` when it sent none.
    pub fn join_ref(&self) -> Option<&str> {
        (!self.join_ref.is_null()).then(|| self.join_ref.as_json())
    }

    /// The socket of this join.
    pub fn socket(&self) -> &SocketInfo {
        &self.socket
    }

    /// What connect, or [`assign`](Context::assign), assigned to the socket, if it is of this type.
    pub fn assigns<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.socket.assigns()
    }

    /// Assigns another value to the socket, in the place of what it had. This join sees it from now on, the others of the
    /// socket once this callback has ended. To change a part, clone the old value first:
    ///
    /// ```
    /// # use fanfare::Context;
    /// # #[derive(Clone)]
    /// # struct User { name: String }
    /// # fn rename(cx: &mut Context, name: String) {
    /// if let Some(user) = cx.assigns::<User>() {
    ///     let user = User { name, ..user.clone() };
    ///     cx.assign(user);
    /// }
    /// # }
    /// ```
    pub fn assign<T: Any + Send + Sync>(&mut self, value: T) {
        self.socket = Arc::new(SocketInfo::assigned(&self.socket, Arc::new(value)));
        self.assigned = true;
    }

    /// The engine.
    pub fn endpoint(&self) -> &Endpoint {
        &self.socket.endpoint
    }

    /// Sends an event to this client alone, with anything that serializes to a JSON object, or binary. From inside `join` it
    /// goes out after the reply.
    ///
    /// # Errors
    /// The event is [reserved](crate::Reserved), the payload is neither an object nor binary, a field of a binary frame is over
    /// 255 bytes, or too much from other threads waits for joins ([unavailable](Error::is_unavailable)): nothing was sent.
    pub fn push(&mut self, event: &str, payload: impl IntoPayload) -> Result<(), Error> {
        check_event(event)?;
        self.push_any(event, payload_of(event, payload)?)
    }

    fn push_any(&mut self, event: &str, payload: Payload) -> Result<(), Error> {
        check_pushable(event, &payload)?;
        if matches!(payload, Payload::Binary(_)) && usize::from(self.push_ref_size) > FIELD_SIZE_MAX {
            return Err(Error::invalid(format!(
                "the client's join_ref has {} bytes, a binary frame holds at most {FIELD_SIZE_MAX}: push JSON",
                self.push_ref_size
            )));
        }
        let size = payload.size();
        self.socket.shard.send_to_join(Command::Push { join: self.join, event: event.into(), payload }, size)
    }

    /// Sends an event to every join of this topic, this one included, with anything that serializes to a JSON object, or binary:
    /// at once, or when there is room. The future ends when it is sent and, where the topic keeps a history, kept.
    ///
    /// # Errors
    /// The event is [reserved](crate::Reserved), the payload is neither an object nor binary, a field of a binary frame is over
    /// 255 bytes, or the message cannot be published now ([unavailable](Error::is_unavailable)): nothing was sent.
    /// [`Endpoint::broadcast`] sends reserved events.
    pub fn broadcast<P: IntoPayload>(
        &mut self,
        event: &str,
        payload: P,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<I, P> {
        self.publish(event, payload_of(event, payload), false)
    }

    /// Sends an event to every other join of this topic.
    ///
    /// # Errors
    /// As [`broadcast`](Context::broadcast).
    pub fn broadcast_from<P: IntoPayload>(
        &mut self,
        event: &str,
        payload: P,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<I, P> {
        self.publish(event, payload_of(event, payload), true)
    }

    fn publish(
        &mut self,
        event: &str,
        payload: Result<Payload, Error>,
        to_others: bool,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<I> {
        let draft = check_event(event).and(payload).and_then(|payload| Draft::new(self.topic.clone(), event, payload));
        let publishing = draft.and_then(|draft| {
            let once = Once { key: None, expected: None, publisher: Publisher::Client };
            self.endpoint().publish_draft(draft, to_others.then(|| self.id()).as_ref(), once)
        });
        async move { publishing?.end().await.map(drop) }
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
        let since = Some(self.endpoint().interest().set_out(self.socket.shard.number().into(), &topic));
        self.send_command(Command::Listen { join: self.join, topic, since });
        Ok(())
    }

    /// Takes [`subscribe`](Context::subscribe) back. Safe for a topic that is not subscribed to.
    pub fn unsubscribe(&mut self, topic: &str) {
        self.send_command(Command::Listen { join: self.join, topic: topic.into(), since: None });
    }

    /// Sends something to this join's own [`handle_info`](crate::Channel::handle_info), which sees it after what is being
    /// handled now. The compiler takes the channel's `Info` only:
    ///
    /// ```compile_fail,E0308
    /// # use fanfare::Context;
    /// fn tick(cx: &mut Context<u32>) {
    ///     cx.send("tick").unwrap();
    /// }
    /// ```
    ///
    /// # Errors
    /// Too much from other threads waits for joins ([unavailable](Error::is_unavailable)): nothing was sent.
    pub fn send(&mut self, info: I) -> Result<(), Error>
    where
        I: Send + 'static,
    {
        self.sender().send(info)
    }

    /// The same after a while, by the engine's clock.
    pub fn send_after(&mut self, delay: Duration, info: I)
    where
        I: Send + 'static,
    {
        let due_ms = self.endpoint().clock().after(delay);
        self.send_command(Command::InfoAt { join: self.join, due_ms, info: Box::new(info) });
    }

    /// A handle with which other code sends to this join.
    pub fn sender(&self) -> JoinSender<I> {
        JoinSender { shard: self.socket.shard.clone(), join: self.join, info: PhantomData }
    }

    /// Says that `key` is present in this topic, through this join, until the join ends. Returns the presence's ref.
    ///
    /// # Errors
    /// This join tracks `key` already, or `meta` is not an object. An [unavailable](Error::is_unavailable) one, if the topic has
    /// as many present as its presence allows.
    pub async fn track(&mut self, key: &str, meta: impl Serialize) -> Result<String, Error> {
        self.tracks = true;
        let meta = object(meta)?;
        self.presence.track(self.endpoint(), &self.topic, self.tracker(), key, meta)
    }

    /// Replaces the meta of a key that this join tracks. Returns the presence's new ref.
    ///
    /// # Errors
    /// This join does not track `key`, or `meta` is not an object. An [unavailable](Error::is_unavailable) one, if the topic's
    /// metas have as many bytes as its presence allows.
    pub async fn update(&mut self, key: &str, meta: impl Serialize) -> Result<String, Error> {
        let meta = object(meta)?;
        self.update_with(key, |_| meta).await
    }

    /// The same with a function of the old meta, which has no `phx_ref`.
    ///
    /// # Errors
    /// As [`update`](Context::update).
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
    pub async fn presences(&self) -> JsonText {
        self.presence.list(&self.topic).await
    }

    /// The metas of one key in this topic, as a JSON list; empty when nobody has it.
    pub async fn presences_of(&self, key: &str) -> JsonText {
        self.presence.get(&self.topic, key)
    }

    /// Pushes `presence_state`, or `presence_count` where a presence only counts: call it once, after the join has been answered
    /// (from `handle_info`).
    ///
    /// # Errors
    /// Too much from other threads waits for joins ([unavailable](Error::is_unavailable)): nothing was sent.
    pub async fn push_presence_state(&mut self) -> Result<(), Error> {
        let (presence, topic) = (self.presence.clone(), self.topic.clone());
        presence.ready(self.endpoint(), &topic, self.socket.shard.number()).await;
        if presence.has_hooks() {
            // A diff that overtakes this is kept by the client until the state comes.
            let state = presence.state_of_hooks(self.endpoint(), &topic).await;
            return self.socket.shard.send_to_join(Command::PushState { join: self.join, state }, 0);
        }
        self.socket.shard.send_to_join(Command::PushPresent { join: self.join, presence, topic }, 0)
    }

    /// Closes this join's socket as a drain would, with 1012: the client comes back.
    pub fn drain_socket(&mut self) {
        self.send_command(Command::Close { socket: self.join.socket, reason: CloseReason::Drain });
    }

    /// Something that this join will be asked about.
    pub(crate) fn tell(&self, what: (Kind, Event), detail: fmt::Arguments<'_>) {
        self.socket.tell(self.endpoint().own_counters(), what, Some(&*self.topic), detail);
    }

    /// Changes what of its topic this join does not get, of which it has been told before that there is something.
    pub(crate) fn mute(&self, mutes: Mutes) {
        self.send_command(Command::Mute { join: self.join, mutes });
    }

    /// What this join has missed may follow, behind all that its channel has sent it so far.
    pub(crate) fn feed(&self) -> Result<(), Error> {
        self.socket.shard.send_to_join(Command::Feed { join: self.join }, 0)
    }

    pub(crate) fn tracker(&self) -> TrackerId {
        TrackerId { shard: self.socket.shard.number(), join: self.join }
    }

    fn send_command(&self, command: Command) {
        self.socket.shard.send(command);
    }
}

impl<I> fmt::Debug for Context<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("topic", &self.topic).finish_non_exhaustive()
    }
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
    ///
    /// # Errors
    /// Its response cannot be serialized, or too much from other threads waits for joins ([unavailable](Error::is_unavailable)): nothing was sent.
    pub fn send(&self, reply: Reply) -> Result<(), Error> {
        if let Some(fault) = reply.fault {
            return Err(fault);
        }
        let size = reply.answer.as_ref().map_or(0, |(_, response)| response.size());
        let late = LateReply { join: self.join, msg_ref: self.msg_ref.clone(), reply };
        self.shard.send_to_join(Command::Reply(Box::new(late)), size)
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
    ///
    /// # Errors
    /// Too much from other threads waits for joins ([unavailable](Error::is_unavailable)): nothing was sent.
    pub fn send(&self, info: I) -> Result<(), Error> {
        self.shard.send_to_join(Command::Info { join: self.join, info: Box::new(info) }, size_of::<I>())
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

/// Only the endpoint's own handle sends what clients or the server act on: an event that a client chose must not be one.
fn check_event(event: &str) -> Result<(), Error> {
    match Reserved::of(event) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!(
            "the event {event:?} is reserved: channels send events of their own; the endpoint's broadcast and disconnect send \
             reserved ones"
        ))),
    }
}

fn object(meta: impl Serialize) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(meta).map_err(|error| Error::unserializable("a presence's meta", &error))? {
        Value::Object(meta) => Ok(meta),
        other => Err(Error::invalid(format!("a presence's meta must be an object, not {other}"))),
    }
}
