//! One socket's membership of one topic: its state, what waits for it, and how the user's code is run for it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::vec;

use fanfare_proto::event::Reserved;
use fanfare_proto::message::Ref;
use fanfare_proto::payload::{FromPayload, JsonText, Payload, PayloadError};
use fanfare_proto::position::{Position, Since};
use fanfare_proto::session::Answered;

use crate::channel::{Broadcast, Channel, Ended, Flow, Joined, Refused, RefusedKind, Reply, UNAVAILABLE};
use crate::context::Context;
use crate::error::{Error, may_pass};
use crate::event::Event;
use crate::fact::{Fact, Kind};
use crate::gap::Gap;
use crate::history::{Replay, Stored, Wanted};
use crate::hub::Place;
use crate::key::JoinKey;
use crate::message::Message;

/// What the engine keeps for a join.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) phase: Phase,
    /// What waits for the join to be answered, or for the channel's code.
    pub(crate) jobs: VecDeque<Job>,
    /// Its memberships of other topics.
    pub(crate) listens: Vec<Place>,
    /// What [`crate::Endpoint::members`] tells.
    pub(crate) meta: Option<JsonText>,
    /// Behind here it has been sent all, if it resumes and was answered.
    pub(crate) complete_from: Option<Box<Position>>,
    /// How many of the jobs are messages of its topic: those that come have to wait behind them.
    pub(crate) outs: u32,
    /// Its route in the socket's mount.
    pub(crate) route: u32,
    /// Its messages carry positions.
    pub(crate) resumes: bool,
    /// Its client wants to hear of messages that have given way because it was slow. One that resumes does so in any case.
    pub(crate) hears_gaps: bool,
    /// It has sent something to itself that is not due yet.
    pub(crate) sends_later: bool,
    /// What of its topic it does not get.
    pub(crate) mutes: Mutes,
}

/// What of its topic a member does not get, since it has no right to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mutes {
    pub(crate) messages: bool,
    pub(crate) presence: bool,
}

impl Mutes {
    pub(crate) const NOTHING: Mutes = Mutes { messages: false, presence: false };

    /// Whether this is of an event.
    pub(crate) fn has(self, event: &str) -> bool {
        match Reserved::of(event) {
            None => self.messages,
            Some(Reserved::Presence) => self.presence,
            Some(Reserved::Protocol | Reserved::Disconnect) => false,
        }
    }
}

/// The life of a join. Its end is not among these: a join that has ended is no more, and if its channel's code runs at the time,
/// that is an orphan of its shard's.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its channel decides whether it lets it in.
    Asked {
        /// From where on the client wants what the topic has kept.
        since: Option<Since>,
        /// The join that this one replaces is told of its end after this one is answered, or when that takes time.
        replaced: Option<Box<Ref>>,
    },
    /// Its channel has let it in, and what its topic has kept is read for the answer. It is a member for which all is held.
    Admitted { place: Place, page: Box<Page>, replaced: Option<Box<Ref>> },
    /// It was answered, or needs no answer.
    Live(Membership),
}

/// A join that was answered.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// Where it stands in its topic. A hub's publisher stands nowhere.
    pub(crate) place: Option<Place>,
    pub(crate) code: Code,
    /// Until it has caught up with its topic.
    pub(crate) catching_up: Option<Box<CatchingUp>>,
}

/// A join's channel.
#[derive(Debug, Default)]
pub(crate) enum Code {
    /// It has none.
    #[default]
    None,
    /// It waits for something to do.
    Idle(Instance),
    /// It runs.
    Runs {
        /// What it handles is an intercepted message.
        is_out: bool,
        /// Of the intercepted message that it handles: what is pushed meanwhile takes the place of that.
        handled: Option<Box<Position>>,
    },
}

/// How far a join is that gets what its topic has kept.
#[derive(Debug)]
pub(crate) enum CatchingUp {
    /// A page is being read.
    Reading(Page),
    /// What was read is sent, as fast as the client takes it.
    Feeding(Feed),
    /// What comes up to here it has got already.
    Behind {
        /// For its client.
        head: Position,
        /// For comparing it with messages.
        number: u64,
    },
}

/// A page of the history that is being read.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) wanted: Wanted,
    pub(crate) held: Held,
    /// Whether it follows one that was sent.
    pub(crate) is_next: bool,
}

impl Page {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Page { wanted, held: Some(Vec::new()), is_next: false }
    }
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
    /// By which messages are compared with that.
    pub(crate) number: u64,
    pub(crate) held: Held,
}

impl Seat {
    pub(crate) fn new(phase: Phase) -> Self {
        Seat {
            phase,
            jobs: VecDeque::new(),
            listens: Vec::new(),
            meta: None,
            complete_from: None,
            outs: 0,
            route: 0,
            resumes: false,
            hears_gaps: false,
            sends_later: false,
            mutes: Mutes::NOTHING,
        }
    }
}

impl Answered for Seat {
    fn is_answered(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }
}

impl Phase {
    /// Where the join stands in its own topic.
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Phase::Asked { .. } => None,
            Phase::Admitted { place, .. } => Some(*place),
            Phase::Live(membership) => membership.place,
        }
    }

    pub(crate) fn place_mut(&mut self) -> Option<&mut Place> {
        match self {
            Phase::Asked { .. } => None,
            Phase::Admitted { place, .. } => Some(place),
            Phase::Live(membership) => membership.place.as_mut(),
        }
    }

    /// The join that this one replaces, to be told of its end.
    pub(crate) fn take_replaced(&mut self) -> Option<Box<Ref>> {
        match self {
            Phase::Asked { replaced, .. } | Phase::Admitted { replaced, .. } => replaced.take(),
            Phase::Live(_) => None,
        }
    }

    pub(crate) fn catching_up(&self) -> Option<&CatchingUp> {
        match self {
            Phase::Live(membership) => membership.catching_up.as_deref(),
            _ => None,
        }
    }

    /// What holds what is published, while something else comes first.
    pub(crate) fn held(&mut self) -> Option<&mut Held> {
        match self {
            Phase::Asked { .. } => None,
            Phase::Admitted { page, .. } => Some(&mut page.held),
            Phase::Live(membership) => match membership.catching_up.as_deref_mut()? {
                CatchingUp::Reading(page) => Some(&mut page.held),
                CatchingUp::Feeding(feed) => Some(&mut feed.held),
                CatchingUp::Behind { .. } => None,
            },
        }
    }

    /// The channel's state, if that is here.
    pub(crate) fn instance_mut(&mut self) -> Option<&mut Instance> {
        match self {
            Phase::Live(Membership { code: Code::Idle(instance), .. }) => Some(instance),
            _ => None,
        }
    }

    /// Whether the channel waits for something to do.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Phase::Live(Membership { code: Code::Idle(_), .. }))
    }

    /// Whether the channel's code runs for an intercepted message.
    pub(crate) fn handles_out(&self) -> bool {
        matches!(self, Phase::Live(Membership { code: Code::Runs { is_out: true, .. }, .. }))
    }

    /// The channel's state is back from a run.
    pub(crate) fn rest(&mut self, instance: Instance) {
        if let Phase::Live(membership) = self {
            membership.code = Code::Idle(instance);
        }
    }

    /// Takes the channel's part of a join that ends.
    pub(crate) fn take_code(&mut self) -> Code {
        match self {
            Phase::Asked { .. } | Phase::Admitted { .. } => Code::Runs { is_out: false, handled: None },
            Phase::Live(membership) => std::mem::replace(&mut membership.code, Code::None),
        }
    }

    /// Takes the channel's state for a run.
    pub(crate) fn start(&mut self, is_out: bool, handled: Option<Position>) -> Option<Instance> {
        let Phase::Live(Membership { code: code @ Code::Idle(_), .. }) = self else { return None };
        match std::mem::replace(code, Code::Runs { is_out, handled: handled.map(Box::new) }) {
            Code::Idle(instance) => Some(instance),
            Code::None | Code::Runs { .. } => None,
        }
    }
}

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
    /// A client's message.
    Frame { join_ref: Ref, msg_ref: Ref, event: Box<str>, payload: Payload },
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
    pub(crate) outcome: Outcome,
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
    pub(crate) mutes: Mutes,
}

/// A run of a channel's code.
pub(crate) type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A [`Channel`] whose types the engine need not know.
pub(crate) trait AnyChannel: Send + Sync {
    fn join(self: Arc<Self>, cx: Context, params: Payload) -> Run;
    fn run(self: Arc<Self>, instance: Instance, job: Job) -> Run;
    fn terminate(self: Arc<Self>, instance: Instance, reason: Ended) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    fn intercepts(&self) -> &'static [&'static str];
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
            match joined.and_then(admitted) {
                Ok((state, admitted)) => {
                    Outcome::Joined { instance: Instance { state: Box::new(state), cx }, admitted }
                }
                Err(Refused { kind: RefusedKind::Response(response), because }) => {
                    Outcome::Refused { cx, response, because }
                }
                Err(Refused { kind: RefusedKind::Crashed(reason), .. }) => Outcome::JoinCrashed { cx, reason },
            }
        })
    }

    fn run(self: Arc<Self>, instance: Instance, job: Job) -> Run {
        let Instance { mut state, cx } = instance;
        let mut cx = cx.of_info();
        Box::pin(async move {
            let result = run_job(&*self, &mut *state, &mut cx, job).await;
            Outcome::Ran { instance: Instance { state, cx: cx.of_info() }, result }
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
}

/// A join and its state are of one route, so this is a bug of the engine's. It ends the join.
const STRANGE_STATE: &str = "the join's state is of another channel, which is a bug in fanfare";

/// What a channel says to a join that it lets in, with the join's state.
fn admitted<S>(joined: Joined<S>) -> Result<(S, Admitted), Refused> {
    let Joined { state, reply, meta, catch_up, since, mutes } = joined;
    let crashed = |what: &str, error| Refused::crashed(Error::unserializable(what, &error).to_string());
    let reply = reply.map_err(|error| crashed("the reply to the join", error))?;
    let meta = meta.transpose().map_err(|error| crashed("the member's meta", error))?;
    Ok((state, Admitted { reply, meta, catch_up, since, mutes }))
}

/// One callback for one job. `Err` is why the join crashed.
async fn run_job<C: Channel>(
    channel: &C,
    state: &mut (dyn Any + Send),
    cx: &mut Context<C::Info>,
    job: Job,
) -> Result<Reply, String> {
    let state = state.downcast_mut::<C::State>().ok_or(STRANGE_STATE)?;
    let without_answer = |flow: Flow| match flow {
        Flow::Continue => Reply::none(),
        Flow::Stop(stop) => Reply::none().stop(stop),
    };
    let is_push = matches!(job, Job::Frame { .. });
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
        // Nothing is wrong with the channel: its client may try again, and a gap is told where there is one.
        Err(error) if may_pass(&error) => {
            let fact = Fact {
                kind: Kind::Dropped,
                event: Event::Unavailable,
                who: cx.socket.who(),
                topic: Some(&cx.topic),
                code: None,
                detail: format_args!("the channel could not handle a message now: {error}"),
            };
            fact.tell(cx.endpoint().own_counters());
            Ok(if is_push { Reply::error(serde_json::json!({ "reason": UNAVAILABLE })) } else { Reply::none() })
        }
        // The client has sent something else than the channel expects, and is told what.
        Err(error) if is_push && error.is::<PayloadError>() => {
            Ok(Reply::error(serde_json::json!({ "reason": format!("invalid payload: {error}") })))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Runs the user's code so that a panic in it ends there. `Err` is the panic's message.
pub(crate) fn guarded<T>(mut future: Pin<&mut impl Future<Output = T>>) -> impl Future<Output = Result<T, String>> {
    std::future::poll_fn(move |cx| {
        // The state that the panic may have left half-changed is shown to `terminate` only.
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic_message(&*panic))),
        }
    })
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
