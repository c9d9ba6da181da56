//! A channel's state for one join, and how the application's code is run for it: erased, so that the engine need not know its types.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use compact_str::CompactString;
use fanfare_proto::message::Ref;
use fanfare_proto::payload::{FromPayload, JsonText, Payload, PayloadError};
use fanfare_proto::position::Since;

use super::{Channel, Context, Ended, Flow, Joined, Mutes, Refused, RefusedKind, Reply};
use crate::error::{Error, NotNow};
use crate::event::Event;
use crate::fact::{Fact, Kind};
use crate::gap::Gap;
use crate::guard::guarded;
use crate::history::Replay;
use crate::key::JoinKey;
use crate::message::{Broadcast, Message};
use crate::trace::Traced;

/// A channel's state for one join, together with its context.
pub(crate) struct Instance {
    pub(crate) state: Box<dyn Any + Send>,
    pub(crate) cx: Context,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cx.fmt(f)
    }
}

/// Something for a join to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// A client's message. Nearly all events are short enough to need no memory of their own.
    Frame { join_ref: Ref, msg_ref: Ref, event: CompactString, payload: Payload },
    /// The client leaves.
    Leave { msg_ref: Ref },
    /// From other code.
    Info(Box<dyn Any + Send>),
    /// Of a topic that the channel subscribed to.
    Broadcast(Arc<Message>),
    /// An intercepted event, or any other message of the topic that comes behind one.
    Out(Arc<Message>),
    /// Messages of the topic are gone.
    Lost(Box<Gap>),
    /// A push made before the join was answered.
    Push { event: Box<str>, payload: Payload },
}

impl Job {
    /// What it counts for while it waits.
    pub(crate) fn size(&self) -> usize {
        match self {
            Job::Frame { payload, .. } | Job::Push { payload, .. } => payload.size(),
            Job::Leave { .. } | Job::Info(_) | Job::Broadcast(_) | Job::Out(_) | Job::Lost(_) => 0,
        }
    }
}

/// The end of a run of a channel's code.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) join: JoinKey,
    /// The route, for a join whose socket is gone.
    pub(crate) channel: Arc<dyn AnyChannel>,
    pub(crate) msg_ref: Ref,
    pub(crate) outcome: Box<Outcome>,
    /// Where the run stands in its trace, if it is traced.
    pub(crate) trace: Option<Box<Traced>>,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Joined {
        instance: Instance,
        admitted: Admitted,
    },
    /// What the topic has kept for it was read.
    Read(Box<HistoryRead>),
    Refused {
        cx: Context,
        response: Payload,
        /// For the log.
        because: Option<Box<str>>,
    },
    JoinCrashed {
        cx: Context,
        reason: String,
    },
    Ran {
        instance: Instance,
        result: Result<Reply, String>,
    },
}

/// A join that was let in, and what its topic had kept.
#[derive(Debug)]
pub(crate) struct HistoryRead {
    pub(crate) instance: Instance,
    pub(crate) admitted: Admitted,
    pub(crate) replay: Result<Replay, Error>,
}

/// What a channel says to a join that it lets in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) reply: Payload,
    pub(crate) meta: Option<JsonText>,
    /// How many of the newest messages the reply shall have.
    pub(crate) catch_up: Option<usize>,
    /// From where on it gets what its topic has kept, whatever its client says.
    pub(crate) since: Option<Since>,
    /// It gets that once its channel says so.
    pub(crate) waits: bool,
    pub(crate) mutes: Mutes,
}

/// A run of a channel's code. What it comes to goes through several hands.
pub(crate) type Run = Pin<Box<dyn Future<Output = Box<Outcome>> + Send>>;

/// A [`Channel`] whose types the engine need not know.
pub(crate) trait AnyChannel: Send + Sync {
    fn join(self: Arc<Self>, cx: Context, params: Payload) -> Run;
    fn run(self: Arc<Self>, instance: Instance, job: Job) -> Run;
    fn terminate(self: Arc<Self>, instance: Instance, reason: Ended) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    fn intercepts(&self) -> &'static [&'static str];
    #[cfg(feature = "contract")]
    fn contract(&self) -> super::Contract;
}

impl fmt::Debug for dyn AnyChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

impl<C: Channel> AnyChannel for C {
    // What these futures begin with is made outside of them: they would keep it twice.
    fn join(self: Arc<Self>, cx: Context, params: Payload) -> Run {
        let mut cx = cx.of_info();
        Box::pin(async move {
            let joined = guarded(pin!(async {
                match C::Params::from_payload(params) {
                    Ok(params) => Channel::join(&*self, &mut cx, params).await,
                    Err(error) => Err(Refused::reason(&format!("invalid params: {error}"))),
                }
            }))
            .await;
            let joined = joined.unwrap_or_else(|panic| Err(Refused::crashed(panic)));
            let cx = cx.of_info();
            Box::new(match joined.and_then(admitted) {
                Ok((state, admitted)) => {
                    Outcome::Joined { instance: Instance { state: Box::new(state), cx }, admitted }
                }
                Err(Refused { kind: RefusedKind::Response(response), because }) => {
                    Outcome::Refused { cx, response, because }
                }
                Err(Refused { kind: RefusedKind::Crashed(reason), .. }) => Outcome::JoinCrashed { cx, reason },
            })
        })
    }

    fn run(self: Arc<Self>, instance: Instance, job: Job) -> Run {
        let Instance { mut state, cx } = instance;
        let mut cx = cx.of_info();
        Box::pin(async move {
            let result = run_job(&*self, &mut *state, &mut cx, job).await;
            Box::new(Outcome::Ran { instance: Instance { state, cx: cx.of_info() }, result })
        })
    }

    fn terminate(self: Arc<Self>, instance: Instance, reason: Ended) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Instance { mut state, cx } = instance;
        let mut cx = cx.of_info();
        Box::pin(async move {
            let Some(state) = state.downcast_mut() else {
                return tracing::error!(topic = cx.topic(), "terminate was not called: {STRANGE_STATE}");
            };
            let terminated = guarded(pin!(Channel::terminate(&*self, state, &mut cx, &reason))).await;
            if let Err(panic) = terminated {
                tracing::warn!(topic = cx.topic(), panic, "terminate panicked");
            }
        })
    }

    fn intercepts(&self) -> &'static [&'static str] {
        C::INTERCEPT
    }

    #[cfg(feature = "contract")]
    fn contract(&self) -> super::Contract {
        C::contract()
    }
}

/// A join and its state are of one route, so this is a bug of the engine's. It ends the join.
const STRANGE_STATE: &str = "the join's state is of another channel, which is a bug in fanfare";

/// What a channel says to a join that it lets in, with the join's state.
fn admitted<S>(joined: Joined<S>) -> Result<(S, Admitted), Refused> {
    let Joined { state, reply, meta, catch_up, since, waits, mutes } = joined;
    let crashed = |what: &str, error| Refused::crashed(Error::unserializable(what, &error).to_string());
    let reply = reply.map_err(|error| crashed("the reply to the join", error))?;
    let meta = meta.transpose().map_err(|error| crashed("the member's meta", error))?;
    Ok((state, Admitted { reply, meta, catch_up, since, waits, mutes }))
}

/// One callback for one job. `Err` is why the join crashed.
///
/// An `async fn` would keep its job twice, and what is run is moved at the cost of its size.
fn run_job<C: Channel>(
    channel: &C,
    state: &mut (dyn Any + Send),
    cx: &mut Context<C::Info>,
    job: Job,
) -> impl Future<Output = Result<Reply, String>> + Send {
    let is_push = matches!(job, Job::Frame { .. });
    async move {
        let state = state.downcast_mut::<C::State>().ok_or(STRANGE_STATE)?;
        let without_answer = |flow: Flow| match flow {
            Flow::Continue => Reply::none(),
            Flow::Stop(stop) => Reply::none().stop(stop),
        };
        let result = match job {
            Job::Frame { event, payload, .. } => guarded(pin!(channel.handle_in(state, cx, &event, payload))).await,
            Job::Info(info) => {
                let info = info.downcast().map_err(|_| "an info of another type than the channel's Info".to_owned())?;
                guarded(pin!(channel.handle_info(state, cx, *info))).await.map(|result| result.map(without_answer))
            }
            Job::Broadcast(message) => guarded(pin!(channel.handle_broadcast(state, cx, Broadcast(message))))
                .await
                .map(|result| result.map(without_answer)),
            Job::Out(message) => guarded(pin!(channel.handle_out(state, cx, &message.event, message.payload.clone())))
                .await
                .map(|result| result.map(without_answer)),
            // The socket does these without the channel.
            Job::Leave { .. } | Job::Push { .. } | Job::Lost(_) => return Ok(Reply::none()),
        };
        match result? {
            Ok(Reply { fault: Some(fault), .. }) => Err(fault.to_string()),
            Ok(reply) => Ok(reply),
            // Nothing is wrong with the channel: its client is told whether to try again, and of a gap where there is one.
            Err(error) if let Some(not_now) = NotNow::of(&error) => {
                let fact = Fact {
                    kind: Kind::Dropped,
                    event: Event::Unavailable,
                    who: cx.socket.who(),
                    topic: Some(&cx.topic),
                    code: None,
                    detail: format_args!("the channel could not handle a message now: {error}"),
                };
                fact.tell(cx.endpoint().own_counters());
                Ok(if is_push { Reply::error(told(not_now)) } else { Reply::none() })
            }
            // The client has sent something else than the channel expects, and is told what.
            Err(error) if is_push && error.is::<PayloadError>() => {
                Ok(Reply::error(serde_json::json!({ "reason": format!("invalid payload: {error}") })))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn told(NotNow { reason, is_only_here }: NotNow) -> serde_json::Value {
    match is_only_here {
        true => serde_json::json!({ "reason": reason, "delivered": "local" }),
        false => serde_json::json!({ "reason": reason }),
    }
}
