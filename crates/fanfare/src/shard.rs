//! A shard: one thread that owns sockets, their joins and its part of every topic.
//!
//! A turn: take what the kernel and other threads bring, carry it out, then write. Whatever was published within a turn
//! leaves together; nothing waits for more. Sockets are never locked, because nobody else touches them. A channel's code
//! begins on this thread and moves to the runtime only if it has to wait.
//!
//! What a socket does in its turn is in `socket`: the shard lends it what its sockets have in common, and does what that means
//! for others. `shard/` has the parts: `receive` (bytes in), `deliver` (frames out), `newcomers` (connections before their
//! first request), `poll` (long-poll sessions), `members` (what is asked about many sockets, or done to them), `relieve`
//! (what waits takes too much memory), `report`
//! (what is told of one), `lockstep` (a shard without a thread).

mod deliver;
#[cfg(feature = "testing")]
mod lockstep;
mod members;
mod newcomers;
mod poll;
mod receive;
mod relieve;
mod report;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::websocket::decoder::Scratch;
use hashbrown::{HashMap, HashSet};
use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use crate::channel::{Finished, Job};
use crate::event::Event;
use crate::figures::{Figures, Underway};
use crate::key::SocketKey;
use crate::mailbox::budget::Budget;
use crate::mailbox::{self, Command, Freed, LateReply, NewSocket, Own, Queued, ShardHandle};
use crate::observer::Observers;
use crate::presence;
use crate::socket::{Errand, Reading, Socket, Turn};
use crate::surroundings::Surroundings;
use crate::timers::Due;
use crate::transport::stream::Stream;
use crate::transport::{Carrier, Transport};
use newcomers::Newcomers;
use relieve::relieve;

const WAKER: Token = Token(usize::MAX);

/// While sockets are held up by a crowd, or by what waits for all of them, it is looked this often whether they still have to be.
const HELD_UP_LOOK: Duration = Duration::from_millis(20);

/// Events taken from the kernel in one turn.
const EVENTS_PER_TURN_MAX: usize = 1024;

/// One read of a socket takes at most this many bytes. The buffer belongs to the thread.
const READ_BUFFER_SIZE: usize = 64 * 1024;

/// The thread's state.
pub(crate) struct Shard {
    poll: Poll,
    sockets: Slab<Box<Socket>>,
    next_generation: u32,
    newcomers: Newcomers,
    by_id: HashMap<Arc<str>, HashSet<u32, foldhash::fast::RandomState>, foldhash::fast::RandomState>,
    /// What a socket is lent for its turn.
    lent: Turn,
    read_buffer: Box<[u8]>,
    scratch: Scratch,
    /// What the shard has yet to do, while no thread runs it.
    own: Option<Box<Own>>,
    /// What is left of this turn.
    budget: Budget,
    freed: Freed,
    underway: Underway,
    stopping: bool,
}

/// What the kernel has reported: the memory is used again in the next turn.
#[derive(Debug)]
pub(crate) struct Arrivals(Events);

impl Default for Arrivals {
    fn default() -> Self {
        Arrivals(Events::with_capacity(EVENTS_PER_TURN_MAX))
    }
}

impl Shard {
    /// A shard that nobody runs yet.
    pub(crate) fn new(
        number: usize,
        surroundings: Surroundings,
        observers: Arc<Observers>,
        mounts: usize,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let figures = Arc::new(Figures::new(surroundings.labels.clone(), mounts));
        let handle = ShardHandle::new(number, Waker::new(poll.registry(), WAKER)?, surroundings.waiting, figures);
        Ok(Shard {
            poll,
            sockets: Slab::new(),
            next_generation: 0,
            newcomers: Newcomers::default(),
            by_id: HashMap::default(),
            own: Some(Own::new(handle.clone())),
            budget: Budget::new(),
            freed: Freed::default(),
            underway: Underway::default(),
            lent: Turn::new(number, handle, surroundings, observers),
            read_buffer: vec![0; READ_BUFFER_SIZE].into_boxed_slice(),
            scratch: Scratch::default(),
            stopping: false,
        })
    }

    /// The shard's address.
    pub(crate) fn handle(&self) -> &ShardHandle {
        &self.lent.shard
    }

    /// Gives the shard a thread of its own.
    pub(crate) fn start(mut self) -> io::Result<()> {
        std::thread::Builder::new().name(format!("fanfare-{}", self.lent.number)).spawn(move || {
            mailbox::own_thread(self.own.take());
            // Channels' code may use the runtime's timers and sockets from this thread.
            let runtime = self.lent.surroundings.runtime.clone();
            let _entered = runtime.enter();
            match catch_unwind(AssertUnwindSafe(|| self.run())) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::error!(%error, "a shard cannot wait for its sockets: the process ends"),
                Err(_) => tracing::error!("a shard has panicked, which is a bug in fanfare: the process ends"),
            }
            // Its sockets would hang for ever, unheard; their clients reconnect when the process has gone.
            std::process::abort();
        })?;
        Ok(())
    }

    /// Takes turns until it is stopped.
    ///
    /// # Errors
    /// The kernel does not tell what comes for the sockets any more.
    fn run(&mut self) -> io::Result<()> {
        let mut arrivals = Arrivals::default();
        while !self.stopping {
            self.turn(&mut arrivals, self.patience())?;
        }
        Ok(())
    }

    /// One turn; the kernel may let it wait for so long. Reading comes first, then what others ask, then what is published,
    /// then what was not heard in time, and writing in the end.
    fn turn(&mut self, Arrivals(events): &mut Arrivals, patience: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let began_us = self.lent.surroundings.clock.now_us();
        self.lent.now_ms = began_us / 1_000;
        self.lent.shard.figures().turn_began_us.set(began_us.max(1));
        self.lent.shard.awake();
        let (inboxes, number) = (&self.lent.surroundings.inboxes, self.lent.number);
        self.lent.reading.begin(inboxes.allowance(number));
        self.read_left_over();
        for event in &*events {
            if event.token() != WAKER && !self.newcomers.notice(event.token()) {
                self.ready(event.token().0, event.is_readable(), event.is_read_closed(), event.is_writable());
            }
        }
        // Each once: those that have had their portion wait behind the others.
        for _ in 0..self.lent.hungry() {
            let Some(key) = self.lent.next_to_feed() else { break };
            self.with(key, Socket::feed);
            self.settle();
        }
        // Those that come meanwhile wait for the next turn.
        for _ in 0..mailbox::count_prompt() {
            if let Some(Queued { command, .. }) = mailbox::next_prompt() {
                self.execute(command);
            }
        }
        self.settle();
        if self.newcomers.has_work() {
            self.look_at_newcomers();
        }
        self.expire_timers();
        for key in self.lent.answerable() {
            self.with(key, Socket::write_out);
        }
        self.write();
        self.end_turn(began_us);
        Ok(())
    }

    /// Writes until nothing is left: what writing brings about (sockets lost, their channels told) may publish as well.
    fn write(&mut self) {
        loop {
            // Others first, so that they can work beside us.
            mailbox::wake_others();
            self.flush();
            self.settle();
            if !self.lent.hub.has_batches() && self.lent.backlog.is_empty() && !relieve(self) {
                return mailbox::wake_others();
            }
        }
    }

    /// Publishers that wait get the room of what was handed out.
    fn end_turn(&mut self, began_us: u64) {
        // What comes at the end of a turn is taken over in the next.
        let left_over = if self.budget.is_spent() { mailbox::work() as u64 } else { 0 };
        self.lent.shard.give_back(std::mem::take(&mut self.freed));
        self.budget.renew(std::mem::take(&mut self.lent.backlog.queued));
        self.lent.backlog.meters.tell();
        if !self.lent.reading.held_up.is_empty() && !mailbox::has_line() {
            self.let_go();
        }
        if !self.lent.reading.crowded.is_empty() {
            self.look_for_room();
        }
        let figures = self.lent.shard.figures();
        figures.left_over.set(left_over);
        let now_us = self.lent.surroundings.clock.now_us();
        self.underway.are_written(now_us, &figures.written);
        self.underway.tell_traced(&figures.labels, self.lent.number);
        figures.busy_us.add(now_us - began_us);
        figures.turn_began_us.set(0);
    }

    /// Reads the sockets on that were held up by a crowd which is gone.
    #[cold]
    fn let_go(&mut self) {
        for key in std::mem::take(&mut self.lent.reading.held_up) {
            self.with(key, |socket, turn| match socket.reading {
                Reading::WaitsInCrowd(share) if socket.info.endpoint.is_crowded(share) => {
                    turn.reading.held_up.push(key)
                }
                _ => socket.let_go(turn),
            });
        }
    }

    /// Reads the sockets on that were not read since all held too much, where there is room again.
    #[cold]
    fn look_for_room(&mut self) {
        let inboxes = &self.lent.surroundings.inboxes;
        let allowance = inboxes.allowance(self.lent.number);
        self.lent.reading.begin(allowance);
        for key in std::mem::take(&mut self.lent.reading.crowded) {
            self.with(key, Socket::look_for_room);
        }
    }

    /// Carries out what has come in order, until nothing is left or the turn has done enough.
    fn settle(&mut self) {
        while let Some(queued) = mailbox::next(&mut self.budget) {
            self.freed.count(&queued);
            self.execute(queued.command);
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Welcome(newcomer) => self.newcomers.came(newcomer),
            Command::DismissNewcomers => self.newcomers.dismiss(),
            Command::Attach(new) => self.attach(*new),
            Command::Publish { message, at, except } => self.publish(&message, at, except),
            Command::Fence => self.fence(),
            Command::Lost { topic, from, to } => self.lost(&topic, from, to),
            Command::Push { join, event, payload } => {
                self.with(join.socket, |socket, turn| socket.push(turn, join.serial, event, payload));
            }
            Command::TellPresent(untold) => untold.tell(),
            Command::PushPresent { join, presence, topic } => self.with(join.socket, |socket, turn| {
                socket.push_present(turn, join.serial, &presence, &topic);
            }),
            Command::PushState { join, state } => {
                self.with(join.socket, |socket, turn| socket.push_state(turn, join.serial, presence::STATE, &state));
            }
            Command::Feed { join } => self.with(join.socket, |socket, turn| socket.feed_on(turn, join.serial)),
            Command::Mute { join, mutes } => self.with(join.socket, |socket, _| socket.mute(join.serial, mutes)),
            Command::Reply(late) => {
                let LateReply { join, msg_ref, reply } = *late;
                self.with(join.socket, |socket, turn| socket.reply_from(turn, join.serial, &msg_ref, reply));
            }
            Command::Finished(finished) => self.finished(finished),
            Command::Info { join, info } => {
                self.with(join.socket, |socket, turn| socket.give(turn, join.serial, Job::Info(info)));
            }
            Command::InfoAt { join, due_ms, info } => {
                self.with(join.socket, |socket, turn| socket.give_later(turn, join.serial, due_ms, info));
            }
            Command::Listen { join, topic, since: Some(since) } => {
                self.with(join.socket, |socket, turn| socket.listen(turn, join.serial, &topic, since));
                let lent = &self.lent;
                lent.surroundings.interest.arrived(lent.number, &topic, lent.hub.has_members(&topic));
            }
            Command::Listen { join, topic, since: None } => {
                self.with(join.socket, |socket, turn| socket.stop_listening(turn, join.serial, &topic));
            }
            Command::PageRead { join, replay } => {
                self.with(join.socket, |socket, turn| socket.page_read(turn, join.serial, *replay));
            }
            Command::Verified { socket: key, verified } => {
                self.with(key, |socket, turn| socket.verified(turn, *verified));
                while let Some(message) = self.with(key, Socket::release_held) {
                    self.with(key, |socket, turn| socket.take_in(turn, message));
                    self.settle();
                }
            }
            Command::RunAt { due_ms, run } => self.lent.timers.run_later(due_ms, run),
            Command::Close { socket, reason } => self.with(socket, |socket, turn| socket.close(turn, &reason)),
            Command::Poll { socket, secret, position, answer } => self.poll_session(socket, secret, position, answer),
            Command::Post(post) => self.post(*post),
            Command::ReadOn { socket } => self.with(socket, Socket::read_on),
            Command::Connected { socket, stream, received } => self.connected(socket, *stream, received),
            Command::JoinStream { socket, topic, params } => {
                self.with(socket, |socket, turn| socket.join_stream(turn, &topic, params));
            }
            Command::EndTopic(topic) => self.end_topic(&topic),
            Command::Ask(question) => self.answer(*question),
            Command::Stop => self.stopping = true,
        }
    }

    fn attach(&mut self, mut new: NewSocket) {
        if let Carrier::Wire(wire) = &mut new.carrier
            && let Err(error) = wire.stream.register(self.poll.registry(), Token(self.sockets.vacant_key()))
        {
            tracing::warn!(%error, "a connection could not be taken over");
            return;
        }
        let key = self.seat(new);
        // The kernel's readiness may have been reported before we registered.
        self.read(key);
    }

    /// Makes a socket of a connection that is registered as the next one.
    fn seat(&mut self, new: NewSocket) -> SocketKey {
        let NewSocket { mut admitted, carrier, mut received, attached } = new;
        let entry = self.sockets.vacant_entry();
        let key = SocketKey { index: entry.key() as u32, generation: self.next_generation };
        self.next_generation = self.next_generation.wrapping_add(1);
        self.lent.shard.socket_came();
        self.lent.counters().count(Event::Connected);
        self.lent.sockets_of(&admitted.info).opened.add(1);
        let topics = std::mem::take(&mut admitted.topics);
        entry.insert(Box::new(Socket::new(key, admitted, carrier, self.lent.now_ms)));
        self.name(key);
        self.with(key, |socket, turn| socket.begin(turn, &topics));
        if let Some(attached) = attached {
            // The one who asked may have gone; an unpolled session then ends by its timer.
            let _ = attached.send(key);
        }
        if !received.is_empty() {
            self.take_bytes(key, &mut received);
        }
        key
    }

    /// The connection of a socket that was attached without, once the upgrade is answered: what waits for it leaves now.
    fn connected(&mut self, key: SocketKey, mut stream: Stream, received: Vec<u8>) {
        // It may have been closed meanwhile: the connection goes with it.
        if self.socket(key).is_none() {
            return;
        }
        if let Err(error) = stream.register(self.poll.registry(), Token(key.index as usize)) {
            tracing::warn!(%error, "a connection could not be taken over");
            return self.with(key, Socket::lost);
        }
        // The kernel's readiness may have been reported before we registered.
        self.carry(key, stream, received, true);
    }

    /// Gives a socket the connection that it was attached without.
    fn carry(&mut self, key: SocketKey, stream: Stream, mut received: Vec<u8>, is_readable: bool) {
        if let Some(Socket { carrier: Carrier::Wire(wire), .. }) = self.socket(key) {
            wire.stream = stream;
        }
        if !received.is_empty() {
            self.take_bytes(key, &mut received);
        }
        self.ready(key.index as usize, is_readable, false, true);
    }

    /// The socket with this key, if it is still there.
    fn socket(&mut self, key: SocketKey) -> Option<&mut Socket> {
        find(&mut self.sockets, key)
    }

    /// Lets a socket act if it is still there, and does what that means for others.
    fn with<T: Default>(&mut self, key: SocketKey, act: impl FnOnce(&mut Socket, &mut Turn) -> T) -> T {
        let Some(socket) = find(&mut self.sockets, key) else { return T::default() };
        let result = act(socket, &mut self.lent);
        self.run_errands();
        result
    }

    /// A channel's code comes back, perhaps to a socket that is gone.
    fn finished(&mut self, mut finished: Finished) {
        match finished.trace.take() {
            None => self.finish(finished),
            // What is told of it belongs to the trace.
            Some(trace) => trace.run(|| self.finish(finished)),
        }
        self.run_errands();
    }

    #[inline]
    fn finish(&mut self, finished: Finished) {
        match find(&mut self.sockets, finished.join.socket) {
            Some(socket) => socket.finished(&mut self.lent, finished),
            None => self.lent.finished_alone(finished),
        }
    }

    /// Does what a socket's acts mean for others.
    #[inline]
    fn run_errands(&mut self) {
        while let Some(errand) = self.lent.errands.pop_front() {
            match errand {
                Errand::Moved(moved) => {
                    if let Some(socket) = self.sockets.get_mut(moved.member.socket as usize) {
                        socket.moved(moved);
                    }
                }
                Errand::Named(key) => self.name(key),
                Errand::Receive(key, message) => {
                    if let Some(socket) = find(&mut self.sockets, key) {
                        socket.take_in(&mut self.lent, *message);
                    }
                }
                Errand::Close(key, reason) => {
                    if let Some(socket) = find(&mut self.sockets, key) {
                        socket.close(&mut self.lent, &reason);
                    }
                }
                Errand::Gone(key) => self.forget(key),
            }
        }
    }

    /// Makes a socket known by its id.
    fn name(&mut self, key: SocketKey) {
        if let Some(id) = self.socket(key).and_then(|socket| socket.info.id.clone()) {
            self.by_id.entry(id).or_default().insert(key.index);
        }
    }

    /// Forgets a socket that has ended. Its descriptor is closed with it, after which the poll tells nothing of it.
    fn forget(&mut self, key: SocketKey) {
        if self.socket(key).is_none() {
            return;
        }
        let mut socket = self.sockets.remove(key.index as usize);
        socket.forget_inbox(&mut self.lent);
        self.lent.shard.socket_went();
        self.lent.sockets_of(&socket.info).ended.add(1);
        if socket.info.transport != Transport::Local {
            let lived_ms = self.lent.now_ms.saturating_sub(socket.began_ms);
            self.lent.figures().lifetimes.observe(lived_ms.saturating_mul(1_000));
        }
        self.lent.backlog.pool.forget(socket.carrier.outbox_if_any());
        self.lent.needs_no_ration(key);
        self.lent.backlog.meters.leave(socket.meter);
        self.lent.unanswered.remove(&key);
        if let Some(id) = &socket.info.id
            && let Some(sockets) = self.by_id.get_mut(id)
        {
            sockets.remove(&key.index);
            if sockets.is_empty() {
                self.by_id.remove(id);
            }
        }
    }

    /// Whether this turn has left something for the next.
    fn has_more(&self) -> bool {
        !self.lent.reading.is_empty() || self.lent.can_feed() || self.newcomers.has_work() || mailbox::work() > 0
    }

    /// How long the kernel may let us sleep.
    fn patience(&self) -> Option<Duration> {
        if self.has_more() {
            return Some(Duration::ZERO);
        }
        let clock = &self.lent.surroundings.clock;
        if clock.is_virtual() {
            return None;
        }
        // Nobody tells when other shards have room again.
        let reading = &self.lent.reading;
        let waits = !reading.held_up.is_empty()
            || !reading.crowded.is_empty()
            || self.lent.hungry() > 0
            || !self.lent.unanswered.is_empty();
        let look = waits.then_some(HELD_UP_LOOK);
        let timer = self.lent.timers.next_ms().into_iter().chain(self.newcomers.expiry_ms()).min();
        // Nor that they hold more, of which this shard may have to give up some.
        let (surroundings, number) = (&self.lent.surroundings, self.lent.number);
        let is_above_part = surroundings.outboxes.is_above_part(number) || surroundings.inboxes.is_above_part(number);
        let look = look.or_else(|| is_above_part.then_some(HELD_UP_LOOK));
        let timer = timer.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(clock.now_ms())));
        look.into_iter().chain(timer).min()
    }

    fn expire_timers(&mut self) {
        self.lent.now_ms = self.lent.surroundings.clock.now_ms();
        self.newcomers.expire(self.lent.now_ms);
        let newest = self.lent.timers.newest();
        while let Some(due) = self.lent.timers.take_due(self.lent.now_ms, newest) {
            match due {
                Due::Socket(key) => {
                    let now_ms = self.lent.now_ms;
                    if self.socket(key).is_some_and(|socket| socket.seems_silent(now_ms)) {
                        // What it has sent may be unread.
                        self.read(key);
                    }
                    self.with(key, Socket::look);
                }
                Due::Info(join, info) => {
                    self.with(join.socket, |socket, turn| socket.give(turn, join.serial, Job::Info(info)));
                }
                Due::Run(run) => run(),
            }
            self.settle();
        }
    }
}

/// The socket with this key, if it is still there.
fn find(sockets: &mut Slab<Box<Socket>>, key: SocketKey) -> Option<&mut Socket> {
    sockets.get_mut(key.index as usize).map(|socket| &mut **socket).filter(|socket| socket.key == key)
}
