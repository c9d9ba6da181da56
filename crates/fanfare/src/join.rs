//! One socket's membership of one topic: its state, what waits for it, and how the user's code is run for it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::vec;

use fanfare_proto::message::Ref;
use fanfare_proto::payload::{FromPayload, Json, Payload};
use fanfare_proto::position::{Position, Since};

use crate::channel::{Broadcast, Channel, Ended, Flow, Joined, Refused, RefusedKind, Reply};
use crate::command::JoinKey;
use crate::context::Context;
use crate::error::Error;
use crate::history::{Replay, Stored, Wanted};
use crate::hub::Place;
use crate::message::Message;

/// What the engine keeps for a join.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// Its route in the socket's mount.
    pub(crate) route: u32,
    /// The channel's state; away while the channel's code runs.
    pub(crate) live: Option<Live>,
    /// What waits for the channel's code, or for the join to be answered.
    pub(crate) jobs: VecDeque<Job>,
    /// Its membership of its own topic, once it is joined.
    pub(crate) place: Option<Place>,
    /// Its memberships of other topics.
    pub(crate) listens: Vec<Place>,
    /// What [`crate::Endpoint::members`] tells.
    pub(crate) meta: Option<Json>,
    /// The join that this one replaced is told of its end after this one is answered.
    pub(crate) replaced: Option<Box<Ref>>,
    /// Its messages carry positions.
    pub(crate) resumes: bool,
    /// Behind here it has been sent all, if it resumes and was answered.
    pub(crate) complete_from: Option<Box<Position>>,
    /// Of the intercepted message that its channel handles: what is pushed meanwhile takes the place of that.
    pub(crate) handled: Option<Box<Position>>,
    /// Its client wants to hear of messages that have given way because it was slow. One that resumes does so in any case.
    pub(crate) hears_gaps: bool,
    /// Until it has caught up with its topic.
    pub(crate) catching_up: Option<Box<CatchingUp>>,
}

/// How far a join is that gets what its topic has kept.
#[derive(Debug)]
pub(crate) enum CatchingUp {
    /// The client wants to go on from here.
    Wanted(Since),
    /// The history is being read.
    Reading { wanted: Wanted, held: Held },
    /// What was read is sent, as fast as the client takes it.
    Feeding(Feed),
    /// What comes up to here it has got already.
    Behind(Position),
}

/// What was published since a history was read. `None`: too much, and it is in the history.
pub(crate) type Held = Option<Vec<Arc<Message>>>;

/// A page of the history on its way to a client.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) page: vec::IntoIter<Stored>,
    /// It has been sent all up to here.
    pub(crate) at: Position,
    /// Where the topic was when the page was read. If the page ends before, there is another.
    pub(crate) head: Position,
    pub(crate) held: Held,
}

/// A join's state together with its context.
pub(crate) struct Live {
    pub(crate) state: Box<dyn Any + Send>,
    pub(crate) cx: Context,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cx.fmt(f)
    }
}

/// Something for a join to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// A client's message.
    Frame { join_ref: Ref, msg_ref: Ref, event: Box<str>, payload: Payload },
    /// The client leaves.
    Leave { msg_ref: Ref },
    /// From other code.
    Info(Box<dyn Any + Send>),
    /// Of a topic that the channel subscribed to.
    Broadcast(Arc<Message>),
    /// An intercepted event.
    Out(Arc<Message>),
    /// A push made before the join was answered.
    Push { event: Box<str>, payload: Payload },
}

/// The end of a run of a channel's code.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) join: JoinKey,
    /// The route, for a join whose socket is gone.
    pub(crate) channel: Arc<dyn AnyChannel>,
    pub(crate) msg_ref: Ref,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Joined {
        live: Live,
        admitted: Admitted,
    },
    /// What the topic has kept for it was read.
    Read(Box<HistoryRead>),
    Refused {
        cx: Context,
        response: Payload,
    },
    JoinCrashed {
        cx: Context,
        reason: String,
    },
    Ran {
        live: Live,
        result: Result<Reply, String>,
    },
}

/// A join that was let in, and what its topic had kept.
#[derive(Debug)]
pub(crate) struct HistoryRead {
    pub(crate) live: Live,
    pub(crate) admitted: Admitted,
    pub(crate) replay: Result<Replay, Error>,
}

/// What a channel says to a join that it lets in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) reply: Payload,
    pub(crate) meta: Option<Json>,
    /// How many of the newest messages the reply shall have.
    pub(crate) catch_up: Option<usize>,
}

/// A run of a channel's code.
pub(crate) type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A [`Channel`] whose types the engine need not know.
pub(crate) trait AnyChannel: Send + Sync {
    fn join(self: Arc<Self>, cx: Context, params: Payload) -> Run;
    fn run(self: Arc<Self>, live: Live, job: Job) -> Run;
    fn terminate(self: Arc<Self>, live: Live, reason: Ended) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    fn intercepts(&self) -> &'static [&'static str];
}

impl fmt::Debug for dyn AnyChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

impl<C: Channel> AnyChannel for C {
    fn join(self: Arc<Self>, mut cx: Context, params: Payload) -> Run {
        Box::pin(async move {
            let joined = guarded(async {
                match C::Params::from_payload(params) {
                    Ok(params) => Channel::join(&*self, &mut cx, params).await,
                    Err(error) => Err(Refused::reason(&format!("invalid params: {error}"))),
                }
            });
            match joined.await {
                Ok(Ok(Joined { state, reply, meta, catch_up })) => Outcome::Joined {
                    live: Live { state: Box::new(state), cx },
                    admitted: Admitted { reply, meta, catch_up },
                },
                Ok(Err(Refused(RefusedKind::Response(response)))) => Outcome::Refused { cx, response },
                Ok(Err(Refused(RefusedKind::Crashed(reason)))) | Err(reason) => Outcome::JoinCrashed { cx, reason },
            }
        })
    }

    fn run(self: Arc<Self>, mut live: Live, job: Job) -> Run {
        Box::pin(async move {
            let result = run_job(&*self, &mut live, job).await;
            Outcome::Ran { live, result }
        })
    }

    fn terminate(self: Arc<Self>, mut live: Live, reason: Ended) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Live { state, cx } = &mut live;
            let state = state.downcast_mut().expect("a join's state is its channel's");
            if let Err(panic) = guarded(Channel::terminate(&*self, state, cx, &reason)).await {
                tracing::warn!(topic = cx.topic(), panic, "terminate panicked");
            }
        })
    }

    fn intercepts(&self) -> &'static [&'static str] {
        C::INTERCEPT
    }
}

/// One callback for one job. `Err` is why the join crashed.
async fn run_job<C: Channel>(channel: &C, live: &mut Live, job: Job) -> Result<Reply, String> {
    let Live { state, cx } = live;
    let state = state.downcast_mut::<C::State>().expect("a join's state is its channel's");
    let without_answer = |flow: Flow| match flow {
        Flow::Continue => Reply::none(),
        Flow::Stop(stop) => Reply::none().stop(stop),
    };
    let result = match job {
        Job::Frame { event, payload, .. } => guarded(channel.handle_in(state, cx, &event, payload)).await,
        Job::Info(info) => {
            let info = info.downcast().map_err(|_| "an info of another type than the channel's Info".to_owned())?;
            guarded(channel.handle_info(state, cx, *info)).await.map(|result| result.map(without_answer))
        }
        Job::Broadcast(message) => guarded(channel.handle_broadcast(state, cx, Broadcast(message)))
            .await
            .map(|result| result.map(without_answer)),
        Job::Out(message) => guarded(channel.handle_out(state, cx, &message.event, message.payload.clone()))
            .await
            .map(|result| result.map(without_answer)),
        Job::Leave { .. } | Job::Push { .. } => unreachable!("the shard does these without the channel"),
    };
    result.and_then(|result| result.map_err(|error| error.to_string()))
}

/// Runs the user's code so that a panic in it ends there. `Err` is the panic's message.
pub(crate) async fn guarded<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        // The state that the panic may have left half-changed is shown to `terminate` only.
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic_message(&*panic))),
        }
    })
    .await
}

/// The same for code that does not wait: a panic in it is logged.
pub(crate) fn caught(what: &str, run: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(run)) {
        tracing::error!(what, panic = panic_message(&*panic), "the application's code panicked");
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "panicked".to_owned(),
    }
}
