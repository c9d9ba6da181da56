//! The handle of the running engine.

mod drain;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fanfare_proto::event::Reserved;
use fanfare_proto::history::Retention;
use fanfare_proto::payload::{Json, Payload};
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use fanfare_proto::topic::check_topic;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::accept_rate::AcceptRate;
use crate::address::AddressCounts;
use crate::clock::Clock;
use crate::command::Command;
use crate::context::JoinId;
use crate::error::Error;
use crate::event::{self, Counters, Event};
use crate::history::{Accepted, Append, History, KEY_SIZE_MAX, Replay, Settle, Store, Wanted};
use crate::interest::{Interest, ShardSet};
use crate::mailbox::ShardHandle;
use crate::message::{Draft, Message};
use crate::mount::Mount;
use crate::observer::{Observer, Observers};
use crate::ownership::Started;
use crate::path::MountPath;
use crate::policy::{Policies, Policy};
use crate::presence::Presence;
use crate::publish::{Publish, Published};
use crate::registry::LocalSocket;
use crate::shard::{Shard, Surroundings};
use crate::socket::{AdmittedSocket, Carrier, NewSocket, Protocol, SocketInfo, Transport};
use crate::token::TokenKey;
use crate::transport::bullet::BulletSessions;

pub use drain::Drain;

/// How many broadcasts may wait for a socket of this process.
const LOCAL_QUEUE_MAX: usize = 4_096;

/// How many topics a socket of this process may join.
const LOCAL_JOINS_MAX: usize = 100_000;

/// The running engine: mount it, broadcast from anywhere, drain it. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<Engine>);

struct Engine {
    shards: Vec<ShardHandle>,
    surroundings: Surroundings,
    mounts: Vec<(MountPath, Arc<Mount>)>,
    local_mount: Arc<Mount>,
    presence: Presence,
    /// There if any topic keeps something.
    history: Option<Arc<dyn Store>>,
    /// What is counted outside of shards.
    counters: Counters,
    token_key: TokenKey,
    session_counts: Arc<AddressCounts>,
    accept_rate: Option<AcceptRate>,
    started: Started,
    bullet_sessions: BulletSessions,
    draining: AtomicBool,
    turn: AtomicUsize,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shards.iter().for_each(|shard| shard.send(Command::Stop));
    }
}

/// What an [`Endpoint`] is built from.
pub struct Builder {
    mounts: Vec<(String, Mount)>,
    observers: Vec<Box<dyn Observer>>,
    shards: Option<usize>,
    presence: Presence,
    policies: Vec<(String, Policy)>,
    history: History,
    sessions_per_address_max: usize,
    accept_rate: Option<(u32, u32)>,
    clock: Clock,
}

impl Builder {
    /// Serves a mount below a path, e.g. `/socket`. The path may have named segments (`/path/:tenant`), which become
    /// params.
    pub fn mount(mut self, path: &str, mount: Mount) -> Self {
        self.mounts.push((path.to_owned(), mount));
        self
    }

    /// How many threads own sockets; they get the same number of them. Default: one fewer than there are cores, and at
    /// least one, because the kernel's own network work and the runtime need a core as well.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// The presence of all routes that are given no other.
    pub fn presence(mut self, presence: Presence) -> Self {
        self.presence = presence;
        self
    }

    /// What holds for the topics of a pattern (exact, or a prefix that ends in `*`). The first that fits a topic counts; topics
    /// without one keep no history, and who reads them too slowly is closed.
    pub fn policy(mut self, pattern: &str, policy: Policy) -> Self {
        self.policies.push((pattern.to_owned(), policy));
        self
    }

    /// Where the topics of policies with a history keep it, and how much all of them may keep. Default: in memory.
    pub fn history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Tells this observer of sockets and topics; may be called several times.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// How many long-poll sessions one client address may have; above it the answer is 429. Default 10,000, since many
    /// clients may share an address.
    pub fn sessions_per_address_max(mut self, sessions: usize) -> Self {
        self.sessions_per_address_max = sessions;
        self
    }

    /// Keeps histories in memory, with faults.
    #[cfg(feature = "testing")]
    pub fn faulty_history(mut self, faults: &crate::history::Faults) -> Self {
        self.history = History::faulty(faults);
        self
    }

    /// How many clients may connect a second, by all mounts and transports together, and how many at once when it was
    /// quiet. Beyond it the answer is 503 with a `Retry-After` of 1 to 5 seconds, before [`Connect`](crate::Connect) is
    /// asked. Default: no limit.
    ///
    /// The last quarter of `burst` is for clients that resume, which find the bucket empty later than new ones: those whose
    /// request has the parameter `resume` (Phoenix) or `since` (hub, rooms, streams), or the header `Last-Event-ID` (event streams).
    /// A long-poll session counts once, when it begins.
    pub fn accept_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.accept_rate = Some((per_second, burst));
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts the engine. Channels' code that has to wait runs on the current tokio runtime. A history in a directory is read
    /// before this ends.
    ///
    /// # Errors
    /// A mount's path is not a path or is taken, a pattern is none, the number of shards is 0 or above 128, an accept rate or
    /// its burst is 0, the directory of the history cannot be used, or the system gives no more threads.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn build(self) -> Result<Endpoint, Error> {
        let (endpoint, shards) = self.assemble(Handle::current())?;
        for shard in shards {
            shard.start().map_err(|error| Error::io("a shard could not be started", error))?;
        }
        Ok(endpoint)
    }

    /// The endpoint, and its shards without threads.
    pub(crate) fn assemble(self, runtime: Handle) -> Result<(Endpoint, Vec<Shard>), Error> {
        let count = self.shards.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            cores.saturating_sub(1).max(1)
        });
        if !(1..=ShardSet::SHARDS_MAX).contains(&count) {
            return Err(Error::invalid(format!("{count} shards: use 1 to {}", ShardSet::SHARDS_MAX)));
        }
        if let Some((per_second @ 0, burst)) | Some((per_second, burst @ 0)) = self.accept_rate {
            return Err(Error::invalid(format!(
                "an accept rate of {per_second} with a burst of {burst}: use 1 or more"
            )));
        }
        let now_ms = self.clock.now_ms();
        let accept_rate = self.accept_rate.map(|(per_second, burst)| AcceptRate::new(per_second, burst, now_ms));
        let mut mounts: Vec<(MountPath, Arc<Mount>)> = Vec::new();
        for (path, mount) in self.mounts {
            if let Some(problem) = mount.problem() {
                return Err(Error::invalid(format!("the mount at {path:?}: {problem}")));
            }
            let path = MountPath::parse(&path)?;
            if mounts.iter().any(|(taken, _)| *taken == path) {
                return Err(Error::invalid(format!("two mounts at {path}: give each a path of its own")));
            }
            mounts.push((path, Arc::new(mount)));
        }
        let policies = Policies::new(self.policies)?;
        // A mount that serves all paths below it leaves those that others are mounted at.
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let history: Option<Arc<dyn Store>> = match policies.have_history() {
            true => Some(self.history.open(self.clock.clone(), &policies)?),
            false => None,
        };
        let surroundings = Surroundings {
            clock: self.clock,
            runtime,
            interest: Arc::new(Interest::new(count)),
            policies: Arc::new(policies),
            observers: Arc::new(Observers::new(self.observers)),
            running: Arc::default(),
        };
        let shards = (0..count)
            .map(|number| Shard::new(number, surroundings.clone()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::io("a shard could not be made", error))?;
        let endpoint = Endpoint(Arc::new(Engine {
            shards: shards.iter().map(|shard| shard.handle().clone()).collect(),
            surroundings,
            mounts,
            local_mount: Arc::new(Mount::new().joins_max(LOCAL_JOINS_MAX)),
            presence: self.presence,
            history,
            counters: Counters::default(),
            token_key: TokenKey::generate()?,
            session_counts: AddressCounts::new(self.sessions_per_address_max),
            accept_rate,
            started: Started::default(),
            bullet_sessions: BulletSessions::default(),
            draining: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        }));
        Ok((endpoint, shards))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("mounts", &self.mounts).field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Begins an endpoint.
    pub fn builder() -> Builder {
        Builder {
            mounts: Vec::new(),
            observers: Vec::new(),
            shards: None,
            presence: Presence::new(),
            policies: Vec::new(),
            history: History::memory(),
            sessions_per_address_max: 10_000,
            accept_rate: None,
            clock: Clock::Real(std::time::Instant::now()),
        }
    }

    /// Sends an event to every join of a topic. Any event name passes, reserved ones included. Where the topic keeps a history,
    /// this ends once the message is kept.
    ///
    /// # Errors
    /// The topic is empty, over 255 bytes or has control characters, the payload is neither an object nor binary, a binary
    /// payload's event is over 255 bytes, or the message cannot be kept: nothing was sent.
    pub async fn broadcast(&self, topic: &str, event: &str, payload: impl Into<Payload>) -> Result<(), Error> {
        check_topic(topic).map_err(|error| Error::invalid(error.to_string()))?;
        self.publish_message(Draft::new(topic.into(), event, payload.into())?, None).await
    }

    /// Sends an event to every join of a topic but one, see [`Context::id`](crate::Context::id).
    ///
    /// # Errors
    /// As [`broadcast`](Endpoint::broadcast).
    pub async fn broadcast_from(
        &self,
        from: &JoinId,
        topic: &str,
        event: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), Error> {
        check_topic(topic).map_err(|error| Error::invalid(error.to_string()))?;
        self.publish_message(Draft::new(topic.into(), event, payload.into())?, Some(from)).await
    }

    /// Publishes a message, and says where it stands in its topic's history.
    ///
    /// # Errors
    /// As [`broadcast`](Endpoint::broadcast); a message with a key or an expectation whose topic keeps no history; and a
    /// [conflict](Error::is_conflict) where the topic is not at the expected position.
    pub async fn publish(&self, publish: Publish) -> Result<Published, Error> {
        let Publish { topic, event, payload, except, key, expected } = publish;
        check_topic(&topic).map_err(|error| Error::invalid(error.to_string()))?;
        let message = Draft::new(topic, event, payload)?;
        let Some((store, retention)) = self.history_of(&message) else {
            if key.is_some() || expected.is_some() {
                return Err(Error::invalid(format!(
                    "{:?} on {:?} is kept in no history, which a key and an expected position need: give the topic a policy \
                     with a history, or publish without them",
                    message.event, message.topic
                )));
            }
            self.dispatch(&message.into_message(None), except.as_ref());
            return Ok(Published { position: None, is_repeated: false });
        };
        if let Some(key) = key.as_ref().filter(|key| key.is_empty() || key.len() > KEY_SIZE_MAX) {
            let size = key.len();
            return Err(Error::invalid(format!("the idempotency key has {size} bytes: use 1 to {KEY_SIZE_MAX}")));
        }
        let (settle, published) = self.settle(except);
        store.append(Append { message, retention, key, expected, settle });
        published.await
    }

    /// What a topic's history has for a reader who comes from somewhere, at most `limit` messages at a time: those that follow, or, where
    /// some of them are gone, the newest. With [`Since::Now`] it is the newest as well.
    ///
    /// # Errors
    /// The topic keeps no history, or it cannot be read now.
    pub async fn history(&self, topic: &str, since: Since, limit: usize) -> Result<Replay, Error> {
        check_topic(topic).map_err(|error| Error::invalid(error.to_string()))?;
        match (&self.0.history, self.policies().retention(topic)) {
            (Some(store), Some(_)) => {
                store.read(topic, Wanted { since, limit, bytes_max: usize::MAX, newest: limit }).await
            }
            _ => Err(Error::invalid(format!("the topic {topic:?} keeps no history: give it a policy with one"))),
        }
    }

    /// Keeps order across topics: whatever this sender published before reaches a socket before what it publishes from
    /// now on, even if the socket gets the two by different topics. Within one topic no fence is needed.
    pub fn fence(&self) {
        self.0.shards.iter().for_each(|shard| shard.send(Command::Fence));
    }

    /// Closes every socket with this id, with 1001.
    pub async fn disconnect(&self, socket_id: &str) {
        let socket_id: Arc<str> = socket_id.into();
        for shard in &self.0.shards {
            shard.send(Command::Disconnect { socket_id: socket_id.clone() });
        }
    }

    /// Who is present in a topic, in the endpoint's own presence, as `presence_state` tells it.
    pub async fn presences(&self, topic: &str) -> Json {
        self.0.presence.list(topic).await
    }

    /// A socket of this process, which can join topics beside the clients.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn socket(&self) -> Result<LocalSocket, Error> {
        let (queue, broadcasts) = mpsc::channel(LOCAL_QUEUE_MAX);
        let shard = self.next_shard().clone();
        let info = SocketInfo {
            id: None,
            peer: None,
            assigns: None,
            version: Version::V2,
            transport: Transport::Local,
            mount: self.0.local_mount.clone(),
            endpoint: self.clone(),
            shard: shard.clone(),
            expires_ms: None,
            is_pending: false,
            since: None,
            ownership: None,
            _slot: None,
        };
        let new = AdmittedSocket { info: info.into(), protocol: Protocol::Registry, topics: Vec::new() };
        let key = self.attach(new, Carrier::Broadcasts(queue)).await?;
        Ok(LocalSocket::new(shard, key, broadcasts))
    }

    /// The same, with one topic joined.
    ///
    /// # Errors
    /// As [`socket`](Endpoint::socket) and [`LocalSocket::join`].
    pub async fn subscribe(&self, topic: &str) -> Result<LocalSocket, Error> {
        let socket = self.socket().await?;
        socket.join(topic, None).await?;
        Ok(socket)
    }

    /// All counters as (name, reason, value).
    pub fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        event::sum(self.0.shards.iter().map(ShardHandle::counters).chain([&self.0.counters]))
    }

    /// Publishes a message. What is returned ends once it is kept where it is to be kept, and does not carry the message.
    pub(crate) fn publish_message(
        &self,
        message: Draft,
        except: Option<&JoinId>,
    ) -> impl Future<Output = Result<(), Error>> + use<> {
        let kept = match self.history_of(&message) {
            Some((store, retention)) => {
                let (settle, published) = self.settle(except.cloned());
                store.append(Append { message, retention, key: None, expected: None, settle });
                Some(published)
            }
            None => {
                self.dispatch(&message.into_message(None), except);
                None
            }
        };
        async move { if let Some(published) = kept { published.await.map(drop) } else { Ok(()) } }
    }

    /// Publishes a message of a client that is not answered: one that cannot be kept is counted.
    pub(crate) fn publish_unanswered(&self, message: Draft) {
        let Some((store, retention)) = self.history_of(&message) else {
            return self.dispatch(&message.into_message(None), None);
        };
        let endpoint = self.clone();
        let settle: Settle = Box::new(move |accepted| match accepted {
            Ok(Accepted::New(message)) => endpoint.dispatch(&message, None),
            Ok(Accepted::Repeated(_)) => {}
            Err(error) => event::not_kept(&endpoint.0.counters, &error.to_string()),
        });
        store.append(Append { message, retention, key: None, expected: None, settle });
    }

    /// The store that keeps a message, and how much of its topic.
    fn history_of(&self, message: &Draft) -> Option<(&Arc<dyn Store>, Retention)> {
        let store = self.0.history.as_ref()?;
        let retention = self.policies().retention(&message.topic)?;
        // What is reserved means nothing later.
        Reserved::of(&message.event).is_none().then_some((store, retention))
    }

    /// What hands a message on once it is kept, and then says where.
    fn settle(&self, except: Option<JoinId>) -> (Settle, impl Future<Output = Result<Published, Error>> + use<>) {
        let endpoint = self.clone();
        let (done, published) = oneshot::channel();
        let settle: Settle = Box::new(move |accepted| {
            let published = accepted.map(|accepted| match accepted {
                Accepted::New(message) => {
                    endpoint.dispatch(&message, except.as_ref());
                    Published { position: message.position, is_repeated: false }
                }
                Accepted::Repeated(position) => Published { position: Some(position), is_repeated: true },
            });
            // Whoever published may not wait for the answer.
            let _ = done.send(published);
        });
        let ended = || Err(Error::unavailable("the engine ended before the message was kept"));
        (settle, async move { published.await.unwrap_or_else(|_| ended()) })
    }

    /// Where a topic keeps its history, if it has one.
    pub(crate) fn store_of(&self, topic: &str) -> Option<&Arc<dyn Store>> {
        self.policies().retention(topic).and(self.0.history.as_ref())
    }

    /// Hands a message to the shards that have members of its topic. `except` is the join that does not get it.
    pub(crate) fn dispatch(&self, message: &Arc<Message>, except: Option<&JoinId>) {
        self.0.counters.count(Event::Published);
        // The topic of a disconnect is the id of sockets, wherever they are.
        let is_disconnect = &*message.event == "disconnect";
        let (interested, at) = self.interest().shards_of(&message.topic);
        let shards = self.0.shards.iter().enumerate();
        for (_, shard) in shards.filter(|&(number, _)| is_disconnect || interested.contains(number)) {
            let except = except.filter(|id| id.shard == *shard).map(|id| id.join);
            shard.send(Command::Publish { message: message.clone(), at, except });
        }
    }

    /// Gives a new socket to its shard, and says where it lives once the shard has it.
    pub(crate) async fn attach(
        &self,
        admitted: AdmittedSocket,
        carrier: Carrier,
    ) -> Result<crate::command::SocketKey, Error> {
        let (attached, key) = oneshot::channel();
        let shard = admitted.info.shard.clone();
        shard.send(Command::Attach(Box::new(NewSocket {
            admitted,
            carrier,
            received: Vec::new(),
            attached: Some(attached),
        })));
        key.await.map_err(|_| Error::new("the engine has ended"))
    }

    pub(crate) fn shards(&self) -> &[ShardHandle] {
        &self.0.shards
    }

    pub(crate) fn mounts(&self) -> &[(MountPath, Arc<Mount>)] {
        &self.0.mounts
    }

    /// The shard of the next connection: one of those with the fewest sockets. The search begins at another shard each time,
    /// since a burst of connections is assigned before the first of them counts.
    pub(crate) fn next_shard(&self) -> &ShardHandle {
        let (before, after) = self.0.shards.split_at(self.0.turn.fetch_add(1, Ordering::Relaxed) % self.0.shards.len());
        let shards = after.iter().chain(before);
        shards.min_by_key(|shard| shard.sockets()).unwrap_or(&self.0.shards[0])
    }

    pub(crate) fn any_shard(&self) -> &ShardHandle {
        &self.0.shards[0]
    }

    pub(crate) fn shard_index(&self, shard: &ShardHandle) -> u16 {
        self.0.shards.iter().position(|other| other == shard).map_or(0, |index| index as u16)
    }

    pub(crate) fn presence_default(&self) -> &Presence {
        &self.0.presence
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.surroundings.clock
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.0.surroundings.policies
    }

    pub(crate) fn interest(&self) -> &Interest {
        &self.0.surroundings.interest
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.surroundings.runtime
    }

    pub(crate) fn own_counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(crate) fn session_counts(&self) -> &Arc<AddressCounts> {
        &self.0.session_counts
    }

    pub(crate) fn accept_rate(&self) -> Option<&AcceptRate> {
        self.0.accept_rate.as_ref()
    }

    /// The hub's topics.
    pub(crate) fn started(&self) -> &Started {
        &self.0.started
    }

    pub(crate) fn bullet_sessions(&self) -> &BulletSessions {
        &self.0.bullet_sessions
    }

    pub(crate) fn token_key(&self) -> &TokenKey {
        &self.0.token_key
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("shards", &self.0.shards.len()).finish_non_exhaustive()
    }
}
