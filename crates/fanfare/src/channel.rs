//! The behaviour of a topic: what a user of the crate writes. `channel/` has what it is given (`context`) and how the engine runs it
//! (`instance`).

mod context;
#[cfg(feature = "contract")]
mod contract;
mod instance;
mod mutes;

use std::future::Future;

use fanfare_proto::payload::{FromPayload, IntoPayload, JsonText, Payload};
use fanfare_proto::position::Since;
use serde::Serialize;

use crate::error::{BoxError, Error, NotNow};
use crate::message::Broadcast;

pub use context::{Context, JoinSender, ReplyHandle};
#[cfg(feature = "contract")]
pub use contract::Contract;
pub(crate) use instance::{Admitted, AnyChannel, Finished, HistoryRead, Instance, Job, Outcome, Run};
pub(crate) use mutes::Mutes;

/// The behaviour of the topics that match a pattern.
///
/// One value serves all joins; what belongs to one join is its `State`. Within a join the callbacks run one at a time, in
/// order of arrival; joins run beside each other. A callback runs on the thread of its shard until it first waits, so it
/// must not block: use `spawn_blocking` for long computations.
///
/// A panic or an `Err` ends this join with `phx_error` and touches nothing else. Some errors do not: one of
/// [`Payload::to`] is a fault of the client's, so that a push is answered with it as an error reply. And those that are the fault of neither
/// side are answered with a reason:
///
/// - `{"reason": "unavailable"}`: [nothing was sent](crate::Error::is_unavailable), and the client may send it again later.
/// - `{"reason": "unknown"}`: the message [may have been sent](crate::Error::is_unknown). With `"delivered": "local"` it has reached the
///   members [on this node](crate::Error::is_only_here).
/// - `{"reason": "failed"}`: nothing was sent, and sending it again is of no use: the log says what to change.
///
/// ```
/// use fanfare::{BoxError, Channel, Context, Joined, Payload, Refused, Reply};
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
///
/// struct Room;
///
/// #[derive(Serialize, Deserialize)]
/// struct Message {
///     body: String,
/// }
///
/// impl Channel for Room {
///     type State = ();
///     type Params = Payload;
///     type Info = ();
///
///     async fn join(&self, _cx: &mut Context, _params: Payload) -> Result<Joined<()>, Refused> {
///         Ok(Joined::new(()))
///     }
///
///     async fn handle_in(&self, _: &mut (), cx: &mut Context, event: &str, payload: Payload) -> Result<Reply, BoxError> {
///         match event {
///             "new_msg" => {
///                 let message: Message = payload.to()?;
///                 cx.broadcast("new_msg", &message).await?;
///                 Ok(Reply::empty())
///             }
///             _ => Ok(Reply::error(json!({ "reason": "unknown event" }))),
///         }
///     }
/// }
/// ```
pub trait Channel: Send + Sync + 'static {
    /// What one join keeps.
    type State: Send + 'static;
    /// The payload of `phx_join`: any type that serde can deserialize, or [`Payload`] to take it as it is. A payload that
    /// does not fit is refused with a reason that says why.
    type Params: FromPayload + Send;
    /// What a join is sent by other code, with a [`JoinSender`](crate::JoinSender), and by itself, with [`Context::send`]. A
    /// callback's context is a `Context<Self::Info>`; where this is `()`, that is the same as `Context`.
    type Info: Send + 'static;

    /// The events that go through [`handle_out`](Channel::handle_out) before they reach the client.
    const INTERCEPT: &'static [&'static str] = &[];

    /// What may be said on its topics, as [`Endpoint::contract`](crate::Endpoint::contract) tells it. It is for documents and for types of
    /// clients: whether a payload fits is seen where it is read. Default: nothing in particular.
    #[cfg(feature = "contract")]
    fn contract() -> Contract {
        Contract::new()
    }

    /// A client asks to join. The topic is `cx.topic()`.
    fn join(
        &self,
        cx: &mut Context<Self::Info>,
        params: Self::Params,
    ) -> impl Future<Output = Result<Joined<Self::State>, Refused>> + Send;

    /// The client pushed an event.
    fn handle_in(
        &self,
        state: &mut Self::State,
        cx: &mut Context<Self::Info>,
        event: &str,
        payload: Payload,
    ) -> impl Future<Output = Result<Reply, BoxError>> + Send;

    /// An event named in [`INTERCEPT`](Channel::INTERCEPT) is about to be sent. The default passes it on.
    fn handle_out(
        &self,
        state: &mut Self::State,
        cx: &mut Context<Self::Info>,
        event: &str,
        payload: Payload,
    ) -> impl Future<Output = Result<Flow, BoxError>> + Send {
        let _ = state;
        async move {
            cx.push(event, payload)?;
            Ok(Flow::Continue)
        }
    }

    /// Other code sent something to this join. The default ignores it.
    fn handle_info(
        &self,
        state: &mut Self::State,
        cx: &mut Context<Self::Info>,
        info: Self::Info,
    ) -> impl Future<Output = Result<Flow, BoxError>> + Send {
        let _ = (state, cx, info);
        async { Ok(Flow::Continue) }
    }

    /// Something was broadcast on a topic that this join subscribed to. The default ignores it.
    fn handle_broadcast(
        &self,
        state: &mut Self::State,
        cx: &mut Context<Self::Info>,
        broadcast: Broadcast,
    ) -> impl Future<Output = Result<Flow, BoxError>> + Send {
        let _ = (state, cx, broadcast);
        async { Ok(Flow::Continue) }
    }

    /// The join has ended. The client may be gone: pushes go nowhere, broadcasts work.
    fn terminate(
        &self,
        state: &mut Self::State,
        cx: &mut Context<Self::Info>,
        reason: &Ended,
    ) -> impl Future<Output = ()> + Send {
        let _ = (state, cx, reason);
        async {}
    }
}

/// A join that succeeded.
#[derive(Debug)]
pub struct Joined<S> {
    pub(crate) state: S,
    /// Neither can be missing what serde could not serialize: the join fails then.
    pub(crate) reply: Result<Payload, serde_json::Error>,
    pub(crate) meta: Option<Result<JsonText, serde_json::Error>>,
    pub(crate) catch_up: Option<usize>,
    /// From where on it gets what its topic has kept, without being told so in the reply.
    pub(crate) since: Option<Since>,
    /// It gets that, and what comes, once its channel says so.
    pub(crate) waits: bool,
    /// What of its topic it does not get.
    pub(crate) mutes: Mutes,
}

impl<S> Joined<S> {
    /// Joined, with the empty object as the reply.
    pub fn new(state: S) -> Self {
        let (reply, mutes) = (Ok(Payload::default()), Mutes::NOTHING);
        Joined { state, reply, meta: None, catch_up: None, since: None, waits: false, mutes }
    }

    /// What the client gets as the response: anything that serializes to JSON, or binary.
    pub fn reply(mut self, reply: impl IntoPayload) -> Self {
        self.reply = reply.into_payload();
        self
    }

    /// Puts the newest messages of the topic's history into the reply, at most `limit`, as its member `messages`: a list of
    /// objects with `event`, `payload` and `position`, oldest first. What is published after the last of them follows as
    /// usual, without a gap. A client that comes back and gets all that it missed gets that, and an empty list.
    ///
    /// The reply must be an object then; any other is its member `value`. Without a history the list is empty.
    pub fn catch_up(mut self, limit: usize) -> Self {
        self.catch_up = Some(limit);
        self
    }

    /// What [`Endpoint::members`](crate::Endpoint::members) tells about this member.
    pub fn meta(mut self, meta: impl Serialize) -> Self {
        self.meta = Some(JsonText::of(&meta));
        self
    }
}

/// A join that did not succeed.
#[derive(Debug)]
pub struct Refused {
    pub(crate) kind: RefusedKind,
    /// For the log.
    pub(crate) because: Option<Box<str>>,
}

#[derive(Debug)]
pub(crate) enum RefusedKind {
    Response(Payload),
    Crashed(String),
}

impl Refused {
    /// The client gets `{"reason": reason}`.
    pub fn reason(reason: &str) -> Self {
        Refused::with(serde_json::json!({ "reason": reason })).because(reason)
    }

    /// The client gets this response.
    pub fn with(response: impl IntoPayload) -> Self {
        match response.into_payload() {
            Ok(response) => Refused { kind: RefusedKind::Response(response), because: None },
            Err(error) => Refused::crashed(format!("the refusal cannot be written as JSON: {error}")),
        }
    }

    /// What the log says of it, and the client is not told: which rule refused, and what would be allowed. The default is the
    /// [`reason`](Refused::reason).
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.because = Some(detail.into().into());
        self
    }

    pub(crate) fn crashed(reason: String) -> Self {
        Refused { kind: RefusedKind::Crashed(reason), because: None }
    }
}

/// The reason that clients are given where they may join again.
const UNAVAILABLE: &str = "unavailable";

/// Any error in a join, by `?`: the client is told "join crashed", the log why. Where it may help to try again, the client is told
/// "unavailable".
impl<E: Into<BoxError>> From<E> for Refused {
    fn from(cause: E) -> Self {
        let cause = cause.into();
        match NotNow::of(&cause) {
            Some(_) => Refused::reason(UNAVAILABLE).because(cause.to_string()),
            None => Refused::crashed(cause.to_string()),
        }
    }
}

/// What a channel answers to a push.
#[derive(Debug)]
pub struct Reply {
    pub(crate) answer: Option<(Status, Payload)>,
    pub(crate) stop: Option<Stop>,
    /// Why there is no answer, where there should be one.
    pub(crate) fault: Option<Error>,
    /// For the log.
    pub(crate) because: Option<Box<str>>,
    /// The log has more about it than this reply could say.
    pub(crate) is_told: bool,
}

/// The status of a reply.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Ok,
    Error,
    Other(String),
}

impl Status {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Status::Ok => "ok",
            Status::Error => "error",
            Status::Other(status) => status,
        }
    }
}

impl Reply {
    /// No reply now; perhaps later, by [`Context::reply_later`].
    pub fn none() -> Self {
        Reply { answer: None, stop: None, fault: None, because: None, is_told: false }
    }

    /// `ok` with the empty object.
    pub fn empty() -> Self {
        Reply::new(Status::Ok, Payload::default())
    }

    /// `ok` with anything that serializes to JSON, or binary. A response that serde cannot serialize ends the join as an error
    /// of the callback does.
    pub fn ok(response: impl IntoPayload) -> Self {
        Reply::new(Status::Ok, response)
    }

    /// `error` with a response of the same kinds.
    pub fn error(response: impl IntoPayload) -> Self {
        Reply::new(Status::Error, response)
    }

    /// A status of your own. Clients' `receive` hooks match it by name.
    pub fn status(status: impl Into<String>, response: impl IntoPayload) -> Self {
        Reply::new(Status::Other(status.into()), response)
    }

    fn new(status: Status, response: impl IntoPayload) -> Self {
        match response.into_payload() {
            Ok(response) => Reply { answer: Some((status, response)), ..Reply::none() },
            Err(error) => Reply { fault: Some(Error::unserializable("the response", &error)), ..Reply::none() },
        }
    }

    /// What the log says of an [`error`](Reply::error), and the client is not told: which rule refused, and what would be allowed.
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.because = Some(detail.into().into());
        self
    }

    /// Its refusal was told already, as more than a refused push.
    pub(crate) fn told(mut self) -> Self {
        self.is_told = true;
        self
    }

    /// Ends the join after the reply.
    pub fn stop(mut self, stop: Stop) -> Self {
        self.stop = Some(stop);
        self
    }
}

/// Whether a join goes on after a callback that has nobody to reply to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It ends.
    Stop(Stop),
}

/// Why a channel ends its own join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Done: the client gets `phx_close` and stays away.
    Normal,
    /// The same, as part of a shutdown.
    Shutdown,
    /// The same, with a detail for `terminate`.
    ShutdownWith(String),
    /// Something is wrong: the client gets `phx_error` and joins again.
    Error(String),
}

/// Why a join has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The client left.
    Left,
    /// The client closed, or the connection was lost.
    Closed,
    /// The socket was disconnected from the server's side.
    Disconnected,
    /// The server, or the socket, is being drained.
    Draining,
    /// The client joined the topic again.
    DuplicateJoin,
    /// The channel ended it.
    Stopped(Stop),
    /// The channel panicked or returned an error; the text says which.
    Crashed(String),
}
