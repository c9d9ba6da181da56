//! How commands reach a shard, from its own thread and from others.
//!
//! What has its place among the messages (they themselves, a join's pushes and replies, the end of a channel's run) takes the
//! **ordered** lane: first in, first out, whoever put it in, as much in a turn as the [budget](Budget) allows. What is asked
//! and answered (queries, polls, new connections) takes the **prompt** lane, and is carried out in every turn, so that a
//! crowd of messages does not keep it waiting.
//!
//! What a channel's code sends to its own join from the shard's thread **follows** at once, ahead of the line: an intercepted
//! message keeps its place, and a reply does not wait for a crowd of messages. Once the code has published something it
//! goes in line behind that, so that a reply still comes after the broadcast that was made before it.
//!
//! A command is in its lane when [`send`](ShardHandle::send) ends; only the wake-up of another shard may come later. `lane`
//! has the queue itself, `command` what a shard can be asked to do, `question` what it
//! answers, `listing` what it tells of topics and sockets, a page (`best`) at a time.

mod best;
pub(crate) mod budget;
mod command;
pub(crate) mod lane;
mod listing;
pub(crate) mod newcomer;
mod question;
mod sync;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mio::Waker;

use crate::error::Error;
use crate::event::ShardCounters;
use crate::figures::Figures;
use crate::room::{Room, Share, Waiting};
use budget::Budget;
use lane::Lane;

pub(crate) use best::Best;
pub(crate) use command::{AdmittedSocket, Asked, Command, LateReply, NewSocket, Post, Verified};
pub(crate) use listing::{Found, Search, Seen};
pub use listing::{SocketOrder, SocketPage, SocketPlace, SocketQuery, SocketReport, TopicMember};
pub use question::Member;
pub(crate) use question::{Question, Slice};

/// A shard's address: cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub(crate) struct ShardHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    number: u16,
    ordered: Lane<Queued>,
    prompt: Lane<Queued>,
    /// Of messages that are to be published.
    live_room: Room,
    /// Of those that are to be kept before.
    kept_room: Room,
    /// Of what channels send to joins from other threads: there is no client whose reading could be paused for it.
    joins_room: Room,
    /// Whether the shard knows already that there is something for it.
    woken: AtomicBool,
    waker: Waker,
    counters: ShardCounters,
    figures: Arc<Figures>,
    sockets: AtomicUsize,
}

/// A command on its way, and the units of room that it takes until it is carried out.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) command: Command,
    pub(crate) units: u32,
}

/// What a shard has at hand while a thread runs it: its own part of the lanes.
#[derive(Debug)]
pub(crate) struct Own {
    shard: ShardHandle,
    ordered: VecDeque<Queued>,
    /// Carried out ahead of the line.
    following: VecDeque<Queued>,
    prompt: VecDeque<Queued>,
    /// The code that runs has put something in line, and what it sends goes there as well.
    is_in_line: bool,
    /// How many have been carried out ahead of the line.
    ahead: usize,
    /// Shards that have got something in this turn, and are not awake for it.
    asleep: Vec<ShardHandle>,
}

/// So many go ahead of the line at a time, or joins that send to each other would hold it up for ever.
const AHEAD_MAX: usize = 64;

/// What channels may have sent to joins from other threads that the shard has not carried out.
const FOR_JOINS: Waiting = Waiting { messages_max: 65_536, bytes_max: 64 * 1024 * 1024 };

thread_local! {
    /// The shard that this thread runs.
    static LOCAL: RefCell<Option<Box<Own>>> = const { RefCell::new(None) };
}

impl ShardHandle {
    pub(crate) fn new(number: usize, waker: Waker, waiting: Waiting, figures: Arc<Figures>) -> Self {
        ShardHandle(Arc::new(Shared {
            number: number as u16,
            ordered: Lane::new(),
            prompt: Lane::new(),
            live_room: Room::new(waiting),
            kept_room: Room::new(waiting),
            joins_room: Room::new(FOR_JOINS),
            woken: AtomicBool::new(false),
            waker,
            counters: ShardCounters::default(),
            figures,
            sockets: AtomicUsize::new(0),
        }))
    }

    /// Puts a command in its place among the messages: behind all that was put there before.
    pub(crate) fn send(&self, command: Command) {
        self.send_in(command, 0);
    }

    /// The same for a message that has taken units of [room](ShardHandle::room).
    pub(crate) fn send_in(&self, command: Command, units: u32) {
        let queued = Queued { command, units };
        self.put(
            queued,
            |shared| &shared.ordered,
            |lane, own, queued| {
                if !own.is_in_line && queued.command.is_for_one() {
                    return own.following.push_back(queued);
                }
                own.is_in_line = true;
                lane.put_own(&mut own.ordered, queued);
            },
        );
    }

    /// The same for what a channel sends to a join, with so many bytes. What it sends from the shard's own thread has room:
    /// no more of that comes before it is carried out.
    ///
    /// # Errors
    /// Too much has come from other threads, and waits.
    pub(crate) fn send_to_join(&self, command: Command, size: usize) -> Result<(), Error> {
        let units = if self.is_here() { 0 } else { self.0.joins_room.units(size) };
        if units > 0 && !self.0.joins_room.try_take(units) {
            let Waiting { messages_max, bytes_max } = FOR_JOINS;
            return Err(Error::unavailable(format!(
                "{messages_max} messages or {bytes_max} bytes wait for joins of the same shard: send again later"
            )));
        }
        self.send_in(command, units);
        Ok(())
    }

    /// Puts in a command that waits for no messages.
    pub(crate) fn send_promptly(&self, command: Command) {
        let queued = Queued { command, units: 0 };
        self.put(queued, |shared| &shared.prompt, |lane, own, queued| lane.put_own(&mut own.prompt, queued));
    }

    #[inline]
    fn put(
        &self,
        queued: Queued,
        lane: impl FnOnce(&Shared) -> &Lane<Queued>,
        put_own: impl FnOnce(&Lane<Queued>, &mut Own, Queued),
    ) {
        let lane = lane(&self.0);
        LOCAL.with_borrow_mut(|local| match local {
            None => {
                lane.put(queued);
                self.wake();
            }
            Some(own) if own.shard == *self => put_own(lane, own, queued),
            Some(own) => {
                lane.put(queued);
                // It need not begin before this shard has done its turn: then there is more for it.
                if !own.asleep.contains(self) {
                    own.asleep.push(self.clone());
                }
            }
        });
    }

    /// Whether this thread runs the shard.
    pub(crate) fn is_here(&self) -> bool {
        with_own(false, |own| own.shard == *self)
    }

    /// The shard's number in its endpoint.
    pub(crate) fn number(&self) -> u16 {
        self.0.number
    }

    /// Tells shards apart, those of other endpoints as well.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The shard's own counters, which only its thread writes.
    pub(crate) fn counters(&self) -> &ShardCounters {
        &self.0.counters
    }

    /// What the shard counts beside events; only its thread writes it.
    pub(crate) fn figures(&self) -> &Arc<Figures> {
        &self.0.figures
    }

    /// How many commands wait for the shard, about.
    #[cfg(feature = "metrics")]
    pub(crate) fn mail(&self) -> u64 {
        (self.0.ordered.put_count() + self.0.prompt.put_count()) as u64 + self.0.figures.left_over.get()
    }

    /// The room for messages that the shard has not handed out.
    pub(crate) fn room(&self, share: Share) -> &Room {
        match share {
            Share::Live => &self.0.live_room,
            Share::Kept => &self.0.kept_room,
        }
    }

    /// Gives back the room of what was carried out in a turn.
    pub(crate) fn give_back(&self, freed: Freed) {
        self.0.live_room.give_back(freed.live);
        self.0.kept_room.give_back(freed.kept);
        self.0.joins_room.give_back(freed.for_joins);
    }

    /// How many sockets the shard owns: the next connection goes to the shard with the fewest.
    pub(crate) fn sockets(&self) -> usize {
        self.0.sockets.load(Ordering::Relaxed)
    }

    pub(crate) fn socket_came(&self) {
        self.0.sockets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn socket_went(&self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether others have sent something that the shard has not taken.
    #[cfg(feature = "testing")]
    pub(crate) fn has_mail(&self) -> bool {
        self.0.ordered.has_put() || self.0.prompt.has_put()
    }

    /// The shard is going to look into its lanes: what comes from now on wakes it again.
    pub(crate) fn awake(&self) {
        // Before the look: a sender that comes between the two wakes the shard once too often, never too seldom.
        self.0.woken.swap(false, Ordering::AcqRel);
    }

    fn wake(&self) {
        if !self.0.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.0.waker.wake()
        {
            // An eventfd write fails only when the shard is gone.
            tracing::debug!(%error, "a shard could not be woken");
        }
    }
}

impl PartialEq for ShardHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Units of room that are free again when a turn is over.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    live: usize,
    kept: usize,
    for_joins: usize,
}

impl Freed {
    /// A command is carried out.
    pub(crate) fn count(&mut self, queued: &Queued) {
        match &queued.command {
            Command::Publish { message, .. } if message.stamp.is_some() => self.kept += queued.units as usize,
            Command::Publish { .. } => self.live += queued.units as usize,
            _ => self.for_joins += queued.units as usize,
        }
    }
}

impl Own {
    pub(crate) fn new(shard: ShardHandle) -> Box<Self> {
        Box::new(Own {
            shard,
            ordered: VecDeque::new(),
            following: VecDeque::new(),
            prompt: VecDeque::new(),
            is_in_line: false,
            ahead: 0,
            asleep: Vec::new(),
        })
    }

    /// Whether something is left to do.
    #[cfg(feature = "testing")]
    pub(crate) fn has_work(&self) -> bool {
        self.work() > 0
    }

    /// How much that is.
    fn work(&self) -> usize {
        self.ordered.len() + self.following.len() + self.prompt.len()
    }

    /// The queue whose first command is next, if the budget allows it.
    #[inline]
    fn next_queue(&mut self, budget: &mut Budget) -> Option<&mut VecDeque<Queued>> {
        self.is_in_line = false;
        if self.ordered.is_empty() {
            self.shard.0.ordered.take_over(&mut self.ordered);
        }
        let may_go_ahead = self.ahead < AHEAD_MAX || self.ordered.is_empty();
        if may_go_ahead && let Some(queued) = self.following.front() {
            self.ahead += 1;
            return budget.spend(&queued.command).then_some(&mut self.following);
        }
        self.ahead = 0;
        let queued = self.ordered.front()?;
        budget.spend(&queued.command).then_some(&mut self.ordered)
    }
}

/// Makes this thread a shard's.
pub(crate) fn own_thread(own: Option<Box<Own>>) {
    LOCAL.set(own);
}

/// Gives the thread back: it may be another shard's next.
#[cfg(feature = "testing")]
pub(crate) fn leave_thread() -> Option<Box<Own>> {
    LOCAL.take()
}

fn with_own<T>(default: T, act: impl FnOnce(&mut Own) -> T) -> T {
    LOCAL.with_borrow_mut(|own| own.as_mut().map_or(default, |own| act(own)))
}

/// The next command of this thread's shard that is not prompt, if there is one and the budget allows it.
#[inline]
pub(crate) fn next(budget: &mut Budget) -> Option<Queued> {
    LOCAL.with_borrow_mut(|own| own.as_mut()?.next_queue(budget)?.pop_front())
}

/// What is sent from here on is another code's.
#[inline]
pub(crate) fn begin_run() {
    with_own((), |own| own.is_in_line = false);
}

/// How many prompt commands have come for this thread's shard.
pub(crate) fn count_prompt() -> usize {
    with_own(0, |own| {
        own.shard.0.prompt.take_over(&mut own.prompt);
        own.prompt.len()
    })
}

/// The next of them.
pub(crate) fn next_prompt() -> Option<Queued> {
    with_own(None, |own| own.prompt.pop_front())
}

/// Whether something waits in the line of this thread's shard.
pub(crate) fn has_line() -> bool {
    with_own(false, |own| !own.ordered.is_empty())
}

/// When the turn of this thread's shard began, by the engine's clock in microseconds, if it is one of these shards.
#[inline]
pub(crate) fn turn_began_us(shards: &[ShardHandle]) -> Option<u64> {
    with_own(None, |own| {
        let is_theirs = shards.get(usize::from(own.shard.number())).is_some_and(|shard| *shard == own.shard);
        is_theirs.then(|| own.shard.figures().turn_began_us.get()).filter(|&began_us| began_us > 0)
    })
}

/// How much this thread's shard has left to do.
pub(crate) fn work() -> usize {
    with_own(0, |own| own.work())
}

/// Wakes the shards that have got something from this thread's.
pub(crate) fn wake_others() {
    with_own((), |own| {
        if !own.asleep.is_empty() {
            own.asleep.drain(..).for_each(|shard| shard.wake());
        }
    });
}
