//! What a shard lends to a socket whose turn it is: all that sockets of one shard have in common.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare_proto::message::{Incoming, Ref};
use hashbrown::{HashMap, HashSet};

use super::rations::Rations;
use super::reading::ReadingList;
use super::traced::around;
use super::waiting::Backlog;
use crate::channel::{AnyChannel, Context, Ended, Finished, Instance, Outcome, Run};
use crate::close_reason::CloseReason;
use crate::connect::SocketInfo;
use crate::dialect::Dialect;
use crate::event::{Event, ShardCounters};
use crate::figures::{Figures, Sockets};
use crate::guard::panic_message;
use crate::hub::{Hub, MemberId, Place, Reach};
use crate::interest::Tick;
use crate::key::{JoinKey, SocketKey};
use crate::mailbox::{self, Command, ShardHandle};
use crate::observer::Observers;
use crate::surroundings::Surroundings;
use crate::timers::Timers;
use crate::trace::OpenSpan;

/// What a socket acts with. What its acts mean for other sockets is left as an [`Errand`].
#[derive(Debug)]
pub(crate) struct Turn {
    /// The shard's number.
    pub(crate) number: usize,
    /// The shard's address.
    pub(crate) shard: ShardHandle,
    pub(crate) surroundings: Surroundings,
    pub(crate) observers: Arc<Observers>,
    pub(crate) now_ms: u64,
    pub(crate) hub: Hub,
    pub(crate) backlog: Backlog,
    pub(crate) reading: ReadingList,
    pub(crate) timers: Timers,
    /// Long-poll sessions whose polls are answered once others have read what they were given.
    pub(crate) unanswered: HashSet<SocketKey, foldhash::fast::RandomState>,
    /// Who is sent more of what was missed.
    pub(super) rations: Rations,
    /// What is left for the shard to do before another socket acts.
    pub(crate) errands: VecDeque<Errand>,
    /// Joins that ended while their channel's code ran; it is told when it comes back.
    orphans: HashMap<JoinKey, Ended, foldhash::fast::RandomState>,
}

/// What is left to do when a socket has acted: for others, and for itself what must not be done in the middle of something.
#[derive(Debug)]
pub(crate) enum Errand {
    /// A member of another socket stands elsewhere in its topic.
    Moved(Moved),
    /// The socket has an id now, by which it can be found.
    Named(SocketKey),
    /// The socket receives a message again that has waited.
    Receive(SocketKey, Box<Incoming<'static>>),
    /// The socket is to be closed.
    Close(SocketKey, CloseReason),
    /// The socket has ended and is to be forgotten.
    Gone(SocketKey),
}

/// A member that took the place of one that left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) member: MemberId,
    pub(crate) from: Place,
    pub(crate) to: Place,
}

impl Turn {
    pub(crate) fn new(
        number: usize,
        shard: ShardHandle,
        surroundings: Surroundings,
        observers: Arc<Observers>,
    ) -> Self {
        Turn {
            number,
            hub: Hub::new(
                number,
                surroundings.interest.clone(),
                surroundings.policies.clone(),
                shard.figures().clone(),
            ),
            backlog: Backlog::new(shard.clone()),
            reading: ReadingList::default(),
            shard,
            surroundings,
            observers,
            now_ms: 0,
            timers: Timers::default(),
            unanswered: HashSet::default(),
            rations: Rations::default(),
            errands: VecDeque::new(),
            orphans: HashMap::default(),
        }
    }

    pub(crate) fn counters(&self) -> &ShardCounters {
        self.shard.counters()
    }

    pub(crate) fn figures(&self) -> &Figures {
        self.shard.figures()
    }

    /// What is counted of the sockets of an endpoint's path and transport.
    pub(crate) fn sockets_of(&self, info: &SocketInfo) -> &Sockets {
        let sockets = &self.figures().sockets;
        let mount = info.endpoint.gate().number_of(&info.mount).unwrap_or(sockets.len() - 1);
        &sockets[mount][info.transport as usize]
    }

    /// A client has sent a message.
    #[inline]
    pub(crate) fn received(&self, dialect: Dialect) {
        self.count(Event::Received);
        self.figures().received[dialect.protocol()].messages.add(1);
    }

    /// The sessions whose polls have waited until answers can be given, if they can now.
    pub(crate) fn answerable(&mut self) -> Vec<SocketKey> {
        if self.unanswered.is_empty() || !self.surroundings.outboxes.has_room_for_answers() {
            return Vec::new();
        }
        self.unanswered.drain().collect()
    }

    pub(crate) fn count(&self, event: Event) {
        self.counters().count(event);
    }

    /// Adds a member to the hub.
    pub(super) fn enter(&mut self, topic: &Arc<str>, id: MemberId, reach: Reach, since: Option<Tick>) -> Place {
        let place = self.hub.join(topic, id, reach, since);
        let observers = &self.observers;
        if !observers.is_empty() && self.hub.is_alone(place) {
            observers.entered(topic);
        }
        place
    }

    /// Removes a member from the hub. Another one may have moved.
    pub(super) fn leave(&mut self, place: Place) -> Option<Moved> {
        let observers = &self.observers;
        let vacated = (!observers.is_empty() && self.hub.is_alone(place)).then(|| self.hub.name(place).clone());
        let moved = self.hub.leave(place);
        if let Some(topic) = vacated {
            observers.left(&topic);
        }
        moved.map(|(member, from)| Moved { member, from: Place { position: from, ..place }, to: place })
    }

    /// Lets a future of the user's run: here until it waits, then on the runtime. Whether it has not had to wait.
    pub(super) fn run_user_code<T: Send + 'static>(
        &mut self,
        mut future: Pin<Box<dyn Future<Output = T> + Send>>,
        then: impl FnOnce(T) + Send + 'static,
    ) -> bool {
        mailbox::begin_run();
        // The runtime polls it again from the start, so that no wake-up of this first poll can be lost.
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut nobody))) {
            Ok(std::task::Poll::Ready(value)) => {
                then(value);
                return true;
            }
            Ok(std::task::Poll::Pending) => {}
            // Callbacks are guarded one by one; what is left is a state whose `drop` panics.
            Err(panic) => {
                let panic = panic_message(&*panic);
                tracing::error!(panic, "a channel's state panicked when it was dropped");
                return true;
            }
        }
        // What it has sent to other shards may be what it waits for.
        mailbox::wake_others();
        let running = self.surroundings.running.clone();
        running.fetch_add(1, Ordering::AcqRel);
        self.surroundings.runtime.spawn(async move {
            then(future.await);
            running.fetch_sub(1, Ordering::AcqRel);
        });
        false
    }

    /// Lets a channel's code run; what it comes to arrives as `Finished`, behind all that it sent. Whether it has not had to
    /// wait.
    pub(super) fn run_channel(
        &mut self,
        join: JoinKey,
        channel: Arc<dyn AnyChannel>,
        msg_ref: Ref,
        run: Run,
        span: Option<OpenSpan>,
    ) -> bool {
        let shard = self.shard.clone();
        let (run, trace) = match span {
            None => (run, None),
            Some(span) => {
                let within = Box::new(span.within());
                (around(span, run), Some(within))
            }
        };
        self.run_user_code(run, move |outcome| {
            shard.send(Command::Finished(Finished { join, channel, msg_ref, outcome, trace }));
        })
    }

    /// A join has ended while its channel's code runs.
    pub(super) fn orphan(&mut self, join: JoinKey, ended: Ended) {
        self.orphans.insert(join, ended);
    }

    /// The code of a channel whose join has ended comes back.
    pub(crate) fn finished_alone(&mut self, finished: Finished) {
        let Finished { join, channel, outcome, .. } = finished;
        let ended = self.orphans.remove(&join).unwrap_or(Ended::Closed);
        match *outcome {
            Outcome::Joined { instance, .. } => self.terminate(channel, instance, ended),
            Outcome::Read(read) => self.terminate(channel, read.instance, ended),
            Outcome::Ran { instance, result } => {
                self.terminate(channel, instance, result.err().map_or(ended, Ended::Crashed));
            }
            Outcome::Refused { cx, .. } | Outcome::JoinCrashed { cx, .. } => untrack(&cx, &ended),
        }
    }

    /// Tells a channel that its join has ended.
    pub(super) fn terminate(&mut self, channel: Arc<dyn AnyChannel>, instance: Instance, ended: Ended) {
        untrack(&instance.cx, &ended);
        self.run_user_code(channel.terminate(instance, ended), |()| ());
    }
}

/// Takes back what a join that has ended has tracked.
pub(super) fn untrack(cx: &Context, ended: &Ended) {
    if cx.tracks {
        let lost = matches!(ended, Ended::Closed | Ended::Draining | Ended::Crashed(_));
        cx.presence.end(cx.endpoint(), &cx.topic, cx.tracker(), lost);
    }
}
