//! A shard: one thread that owns sockets, their joins and its part of every topic.
//!
//! A turn: take what the kernel and other threads bring, carry it out, then write. Whatever was published within a turn
//! leaves together; nothing waits for more. Sockets are never locked, because nobody else touches them. A channel's code
//! begins on this thread and moves to the runtime only if it has to wait.
//!
//! `shard/` has the parts: `receive` (bytes in), `joins`, `resume`, `jobs` and `leaves` (the life of a join), `replies` (what the
//! protocol itself answers), `credentials` (sent and renewed in band), `deliver` (frames out), `waiting` (those that do
//! not leave at once), `poll` (long-poll sessions), `close` (the end of a socket), `registry`,
//! `lockstep` (a shard without a thread).

mod close;
mod credentials;
mod deliver;
mod feed;
mod jobs;
mod joins;
mod leaves;
#[cfg(feature = "testing")]
mod lockstep;
mod poll;
mod receive;
mod registry;
mod replies;
mod resume;
mod waiting;

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_proto::session::Session;
use fanfare_proto::websocket::decoder::Scratch;
use hashbrown::{HashMap, HashSet};
use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use crate::clock::Clock;
use crate::command::{Command, JoinKey, SocketKey};
use crate::event::Event;
use crate::hub::Hub;
use crate::interest::Interest;
use crate::join::Live;
use crate::mailbox::{self, ShardHandle};
use crate::observer::{Observers, SocketHandle};
use crate::policy::Policies;
use crate::socket::{AdmittedSocket, Carrier, NewSocket, Protocol, Socket};
use crate::transport::stream::Stream;
use crate::transport::websocket::Pool;

const WAKER: Token = Token(usize::MAX);

/// Events taken from the kernel in one turn.
const EVENTS_PER_TURN_MAX: usize = 1024;

/// One read of a socket takes at most this many bytes. The buffer belongs to the thread.
const READ_BUFFER_SIZE: usize = 64 * 1024;

/// Timers fire at multiples of this.
const TIMER_GRAIN_MS: u64 = 10;

/// What a shard shares with the rest of the engine.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) interest: Arc<Interest>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) observers: Arc<Observers>,
    /// Runs of channels' code that went on on the runtime and are not finished.
    pub(crate) running: Arc<AtomicUsize>,
}

/// The thread's state.
pub(crate) struct Shard {
    number: usize,
    handle: ShardHandle,
    surroundings: Surroundings,
    poll: Poll,
    sockets: Slab<Box<Socket>>,
    next_generation: u32,
    hub: Hub,
    by_id: HashMap<Arc<str>, HashSet<u32, foldhash::fast::RandomState>, foldhash::fast::RandomState>,
    /// Joins that ended while their channel's code ran; it is told when it comes back.
    orphans: HashMap<JoinKey, crate::channel::Ended, foldhash::fast::RandomState>,
    timers: BTreeMap<u64, Vec<Timer>>,
    /// Sockets with something queued in this turn.
    dirty: Vec<u32>,
    /// Sockets whose outbox is full; closed when the turn's writing is done, so that nothing ends under the feet of the
    /// code that wanted to send.
    slow: Vec<SocketKey>,
    /// Sockets that had more to read than a turn takes.
    unread: Vec<SocketKey>,
    /// Sockets with room for more of what their joins missed: each gets a portion a turn.
    hungry: Vec<SocketKey>,
    pool: Pool,
    read_buffer: Box<[u8]>,
    scratch: Scratch,
    now_ms: u64,
    stopping: bool,
}

/// Something to look at when its time has come. All are lazy: what was pushed back meanwhile is found then.
enum Timer {
    Idle(SocketKey),
    Stalled(SocketKey),
    Linger(SocketKey),
    Expired(SocketKey),
    Pending(SocketKey),
    PollWindow(SocketKey, u32),
    Unpolled(SocketKey),
    Run(Box<dyn FnOnce(&mut Shard) + Send>),
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Timer")
    }
}

/// What came since the last turn: the memory is used again in the next one.
#[derive(Debug)]
pub(crate) struct Arrivals {
    events: Events,
    mail: Vec<Command>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Arrivals { events: Events::with_capacity(EVENTS_PER_TURN_MAX), mail: Vec::new() }
    }
}

impl Shard {
    /// A shard that nobody runs yet.
    pub(crate) fn new(number: usize, surroundings: Surroundings) -> io::Result<Self> {
        let poll = Poll::new()?;
        Ok(Shard {
            number,
            handle: ShardHandle::new(Waker::new(poll.registry(), WAKER)?),
            hub: Hub::new(number, surroundings.interest.clone(), surroundings.policies.clone()),
            surroundings,
            poll,
            sockets: Slab::new(),
            next_generation: 0,
            by_id: HashMap::default(),
            orphans: HashMap::default(),
            timers: BTreeMap::new(),
            dirty: Vec::new(),
            slow: Vec::new(),
            unread: Vec::new(),
            hungry: Vec::new(),
            pool: Pool::default(),
            read_buffer: vec![0; READ_BUFFER_SIZE].into_boxed_slice(),
            scratch: Scratch::default(),
            now_ms: 0,
            stopping: false,
        })
    }

    /// The shard's address.
    pub(crate) fn handle(&self) -> &ShardHandle {
        &self.handle
    }

    /// Gives the shard a thread of its own.
    pub(crate) fn start(mut self) -> io::Result<()> {
        std::thread::Builder::new().name(format!("fanfare-{}", self.number)).spawn(move || {
            self.handle.own_thread();
            // Channels' code may use the runtime's timers and sockets from this thread.
            let runtime = self.surroundings.runtime.clone();
            let _entered = runtime.enter();
            if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
                // Its sockets would hang for ever, unheard; their clients reconnect when the process has gone.
                tracing::error!("a shard has panicked, which is a bug in fanfare: the process ends");
                std::process::abort();
            }
        })?;
        Ok(())
    }

    fn run(&mut self) {
        let mut arrivals = Arrivals::default();
        while !self.stopping {
            if let Err(error) = self.turn(&mut arrivals, self.patience()) {
                tracing::error!(%error, "a shard cannot wait for its sockets and stops");
                return;
            }
        }
    }

    /// One turn; the kernel may let it wait for so long.
    fn turn(&mut self, arrivals: &mut Arrivals, patience: Option<Duration>) -> io::Result<()> {
        let Arrivals { events, mail } = arrivals;
        match self.poll.poll(events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.now_ms = self.surroundings.clock.now_ms();
        let unread = std::mem::take(&mut self.unread);
        for event in &*events {
            if event.token() != WAKER {
                self.ready(event.token().0, event.is_readable(), event.is_read_closed(), event.is_writable());
            }
        }
        for key in unread {
            self.read(key);
        }
        if !self.hungry.is_empty() {
            self.feed_hungry();
        }
        self.handle.take_mailbox(mail);
        for command in mail.drain(..) {
            self.execute(command);
            self.settle();
        }
        self.expire_timers();
        self.write();
        Ok(())
    }

    /// Writes until nothing is left: what writing brings about (sockets lost, their channels told) may publish as well.
    fn write(&mut self) {
        loop {
            // Others first, so that they can work beside us.
            mailbox::flush_outgoing();
            self.flush();
            self.settle();
            if !self.hub.has_batches() && self.dirty.is_empty() && self.slow.is_empty() {
                return mailbox::flush_outgoing();
            }
        }
    }

    /// Carries out what this shard sent to itself, until nothing is left.
    fn settle(&mut self) {
        while let Some(command) = mailbox::next_local() {
            self.execute(command);
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Attach(new) => self.attach(*new),
            Command::Publish { message, at, except } => self.publish(&message, at, except),
            Command::Fence => self.fence(),
            Command::Push { join, event, payload } => self.push(join, event, payload),
            Command::Reply { join, msg_ref, reply } => self.reply_from(join, &msg_ref, reply),
            Command::Finished(finished) => self.finished(*finished),
            Command::Job { join, job } => self.give(join, job),
            Command::Listen { join, topic, since: Some(since) } => self.listen(join, &topic, since),
            Command::Listen { join, topic, since: None } => self.stop_listening(join, &topic),
            Command::RunAt { due_ms, run } => self.at(due_ms, Timer::Run(run)),
            Command::Disconnect { socket_id } => self.disconnect(&socket_id),
            Command::Close { socket, reason } => self.close(socket, reason),
            Command::Poll { socket, secret, position, answer } => self.poll_session(socket, secret, position, answer),
            Command::Post { socket, secret, messages, answer } => self.post(socket, secret, messages, answer),
            Command::Run(run) => run(self),
            Command::Stop => self.stopping = true,
        }
    }

    fn attach(&mut self, new: NewSocket) {
        let NewSocket { admitted, mut carrier, mut received, attached } = new;
        let AdmittedSocket { info, protocol, topics } = admitted;
        let entry = self.sockets.vacant_entry();
        let key = SocketKey { index: entry.key() as u32, generation: self.next_generation };
        if let Carrier::WebSocket(websocket) = &mut carrier
            && let Err(error) = websocket.stream.register(self.poll.registry(), Token(entry.key()))
        {
            tracing::warn!(%error, "a connection could not be taken over");
            return;
        }
        self.next_generation = self.next_generation.wrapping_add(1);
        let session = Session::new(info.mount.limits.joins_max);
        let unpolled_ms = info.mount.unpolled_timeout.as_millis() as u64;
        let pending_ms = info.mount.credential_timeout.as_millis() as u64;
        let is_pending = info.is_pending;
        let is_poll = matches!(carrier, Carrier::Poll(_));
        let is_websocket = matches!(carrier, Carrier::WebSocket(_));
        self.handle.socket_came();
        entry.insert(Box::new(Socket {
            key,
            info,
            protocol,
            carrier,
            session,
            heard_ms: self.now_ms,
            waiting_bytes: 0,
            is_dirty: false,
            closing: false,
            is_behind: false,
            overflowed: false,
            credentials: Default::default(),
        }));
        self.name(key);
        self.handle.counters().count(Event::Connected);
        if is_websocket {
            self.watch_idle(key);
        }
        if is_poll {
            self.at(self.now_ms + unpolled_ms, Timer::Unpolled(key));
        }
        self.watch_expiry(key);
        if is_pending {
            self.at(self.now_ms + pending_ms, Timer::Pending(key));
        }
        topics.iter().for_each(|topic| self.join_at_once(key, topic));
        if let Some(attached) = attached {
            // The one who asked may have gone; an unpolled session then ends by its timer.
            let _ = attached.send(key);
        }
        if !is_pending {
            self.tell(key, |observer, socket| observer.opened(socket));
        }
        if !received.is_empty() {
            self.take_bytes(key, &mut received);
        }
        // The kernel's readiness may have been reported before we registered.
        self.read(key);
    }

    /// The connection of a socket that was attached without, once the upgrade is answered: what waits for it leaves now.
    pub(crate) fn connected(&mut self, key: SocketKey, mut stream: Stream, mut received: Vec<u8>) {
        // It may have been closed meanwhile: the connection goes with it.
        if self.socket(key).is_none() {
            return;
        }
        if let Err(error) = stream.register(self.poll.registry(), Token(key.index as usize)) {
            tracing::warn!(%error, "a connection could not be taken over");
            return self.lost(key);
        }
        if let Some(Socket { carrier: Carrier::WebSocket(websocket), .. }) = self.socket(key) {
            websocket.stream = stream;
        }
        if !received.is_empty() {
            self.take_bytes(key, &mut received);
        }
        // The kernel's readiness may have been reported before we registered.
        self.ready(key.index as usize, true, false, true);
    }

    /// Makes a socket known by its id.
    fn name(&mut self, key: SocketKey) {
        if let Some(id) = self.socket(key).and_then(|socket| socket.info.id.clone()) {
            self.by_id.entry(id).or_default().insert(key.index);
        }
    }

    /// Tells the observers of a socket, unless it is one of this process.
    fn tell(&mut self, key: SocketKey, what: impl Fn(&dyn crate::observer::Observer, &SocketHandle)) {
        let observers = self.surroundings.observers.clone();
        if !observers.is_empty()
            && let Some(socket) = self.socket(key).filter(|socket| socket.protocol != Protocol::Registry)
        {
            let handle = SocketHandle { info: socket.info.clone(), key };
            observers.tell(|observer| what(observer, &handle));
        }
    }

    /// The socket with this key, if it is still there.
    fn socket(&mut self, key: SocketKey) -> Option<&mut Socket> {
        self.sockets.get_mut(key.index as usize).map(|socket| &mut **socket).filter(|socket| socket.key == key)
    }

    fn at(&mut self, due_ms: u64, timer: Timer) {
        self.timers.entry(due_ms.next_multiple_of(TIMER_GRAIN_MS)).or_default().push(timer);
    }

    /// Whether this turn has left something for the next.
    fn has_more(&self) -> bool {
        !self.unread.is_empty() || !self.hungry.is_empty()
    }

    /// How long the kernel may let us sleep.
    fn patience(&self) -> Option<Duration> {
        if self.has_more() {
            return Some(Duration::ZERO);
        }
        if self.surroundings.clock.is_virtual() {
            return None;
        }
        let (&due_ms, _) = self.timers.first_key_value()?;
        Some(Duration::from_millis(due_ms.saturating_sub(self.surroundings.clock.now_ms())))
    }

    /// When the next timer is due.
    #[cfg(feature = "testing")]
    pub(crate) fn next_timer_ms(&self) -> Option<u64> {
        self.timers.first_key_value().map(|(&due_ms, _)| due_ms)
    }

    pub(crate) fn expire_timers(&mut self) {
        self.now_ms = self.surroundings.clock.now_ms();
        while let Some(entry) = self.timers.first_entry() {
            if *entry.key() > self.now_ms {
                return;
            }
            for timer in entry.remove() {
                match timer {
                    Timer::Idle(key) => self.watch_idle(key),
                    Timer::Stalled(key) => self.check_stalled(key),
                    Timer::Linger(key) => self.remove(key),
                    Timer::Expired(key) => self.expired(key),
                    Timer::Pending(key) => self.check_pending(key),
                    Timer::PollWindow(key, serial) => self.end_poll_window(key, serial),
                    Timer::Unpolled(key) => self.check_unpolled(key),
                    Timer::Run(run) => run(self),
                }
                self.settle();
            }
        }
    }

    /// Lets a future of the user's run: here until it waits, then on the runtime.
    fn run_user_code<T: Send + 'static>(
        &mut self,
        mut future: std::pin::Pin<Box<dyn Future<Output = T> + Send>>,
        then: impl FnOnce(T) + Send + 'static,
    ) {
        // The runtime polls it again from the start, so that no wake-up of this first poll can be lost.
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut nobody))) {
            Ok(std::task::Poll::Ready(value)) => return then(value),
            Ok(std::task::Poll::Pending) => {}
            // Callbacks are guarded one by one; what is left is a state whose `drop` panics.
            Err(panic) => {
                let panic = crate::join::panic_message(&*panic);
                return tracing::error!(panic, "a channel's state panicked when it was dropped");
            }
        }
        // What it has sent to other shards must stay ahead of what it will send from elsewhere.
        mailbox::flush_outgoing();
        let running = self.surroundings.running.clone();
        running.fetch_add(1, Ordering::AcqRel);
        self.surroundings.runtime.spawn(async move {
            then(future.await);
            running.fetch_sub(1, Ordering::AcqRel);
        });
    }

    fn terminate(&mut self, channel: Arc<dyn crate::join::AnyChannel>, live: Live, ended: crate::channel::Ended) {
        self.untrack(&live.cx, &ended);
        self.run_user_code(channel.terminate(live, ended), |()| ());
    }
}
