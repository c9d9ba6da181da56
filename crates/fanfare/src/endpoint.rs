//! The handle of the running engine.

mod drain;
mod elsewhere;
mod holding;
mod members;
#[cfg(feature = "metrics")]
pub mod metrics;
mod publishing;
mod pulse;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fanfare_proto::payload::JsonText;
use fanfare_proto::phoenix::message::Version;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::address::Proxies;
use crate::broker::{Broker, Incarnation};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::command::Command;
use crate::dialect::Dialect;
use crate::dialect::Started;
use crate::error::Error;
use crate::event::past::PastFact;
use crate::event::{Counters, Event, Tally};
use crate::figures::Labels;
use crate::gate::{self, Bodies, Gate};
use crate::history::{History, Store};
use crate::interest::{Interest, ShardSet, Watch};
use crate::mailbox::ShardHandle;
use crate::mailbox::room::{Share, Waiting};
use crate::mount::Mount;
use crate::observer::{Observer, Observers};
use crate::policy::{Policies, Policy};
use crate::presence::{Exchange, Presence};
use crate::publish::Publisher;
use crate::registry::{LocalSocket, ask_promptly};
use crate::shard::Shard;
use crate::socket::Surroundings;
use crate::socket::{AdmittedSocket, Carrier, NewSocket, SocketInfo, Transport};
use crate::tap::{Tap, TapFilter};

pub use drain::Drain;
pub(crate) use elsewhere::Answered;
use elsewhere::Elsewhere;
pub(crate) use publishing::Once;
pub use pulse::NodeSummary;

/// How many broadcasts may wait for a socket of this process.
const LOCAL_QUEUE_MAX: usize = 4_096;

/// How many topics a socket of this process may join.
const LOCAL_JOINS_MAX: usize = 100_000;

/// The running engine: mount it, broadcast from anywhere, drain it. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<Engine>);

/// The same without keeping the engine alive.
#[derive(Clone)]
pub(crate) struct WeakEndpoint(Weak<Engine>);

impl WeakEndpoint {
    pub(crate) fn upgrade(&self) -> Option<Endpoint> {
        self.0.upgrade().map(Endpoint)
    }
}

struct Engine {
    shards: Vec<ShardHandle>,
    surroundings: Surroundings,
    gate: Gate,
    local_mount: Arc<Mount>,
    presence: Presence,
    /// What it says to other nodes, if they are there.
    exchange: Option<Exchange>,
    /// What other nodes are asked, and ask.
    elsewhere: Elsewhere,
    beats: pulse::Beats,
    /// There if any topic keeps something.
    history: Option<Arc<dyn Store>>,
    /// What is counted outside of shards.
    counters: Counters,
    /// How many messages were published, by channel and publisher.
    published: Box<[[AtomicU64; Publisher::ALL.len()]]>,
    publishing_timeout: Duration,
    started: Started,
    alive: holding::Alive,
    /// There if other nodes are.
    cluster: Option<Arc<Cluster>>,
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
    gate: gate::Settings,
    observers: Vec<Box<dyn Observer>>,
    shards: Option<usize>,
    presence: Presence,
    policies: Vec<(String, Policy)>,
    history: History,
    broker: Option<Broker>,
    incarnation: Option<Incarnation>,
    waiting: Waiting,
    publishing_timeout: Duration,
    clock: Clock,
}

impl Builder {
    /// Serves a mount below a path, e.g. `/socket`. The path may have named segments (`/path/:tenant`), which become
    /// params.
    pub fn mount(mut self, path: &str, mount: Mount) -> Self {
        self.gate.mounts.push((path.to_owned(), mount));
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

    /// Makes the endpoint a node of a cluster: members of a topic on all nodes that share the broker get what is published on any of
    /// them, topics with a history keep it in the broker, and clients resume on whichever node they come back to. Default: none.
    pub fn broker(mut self, broker: Broker) -> Self {
        self.broker = Some(broker);
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
        self.gate.sessions_per_address_max = sessions;
        self
    }

    /// Which proxies stand in front of a server other than [ours](crate::serve::Server), such as `axum::serve`, and what tells the
    /// addresses of their clients. The server has to tell the address of the connection, see [`Connection`](crate::Connection). Default: no
    /// proxy is believed.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.gate.proxies = proxies;
        self
    }

    /// How many bytes the bodies of POST requests may take together while they are received; above it the answer is 503 with a
    /// `Retry-After`. A body may hold as much as is left, so make it twice the largest
    /// [`body_size_max`](Mount::body_size_max) or more. Default 16,000,000.
    pub fn bodies_bytes_max(mut self, bytes: usize) -> Self {
        self.gate.bodies_bytes_max = bytes;
        self
    }

    /// How long a client may take for the body of a request; after it the answer is 408. Default 10 s.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.gate.body_timeout = timeout;
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
        self.gate.accept_rate = Some((per_second, burst));
        self
    }

    /// How many messages may wait to be handed out, for each shard. While so many do, publishers wait for room, and sockets
    /// whose messages have none are not read, so that their clients wait as well. Messages that are kept first have as much
    /// room of their own: a disk that stalls delays nobody else. 1 to 1,048,576. Default 4,096.
    pub fn publishing_waiting_max(mut self, messages: usize) -> Self {
        self.waiting.messages_max = messages;
        self
    }

    /// The same in bytes of payloads. A larger message waits until no other does. 1 or more. Default 16,000,000.
    pub fn publishing_waiting_bytes_max(mut self, bytes: usize) -> Self {
        self.waiting.bytes_max = bytes;
        self
    }

    /// How long a publisher waits for room, before it is told that the message is not published, as
    /// [unavailable](Error::is_unavailable). Default 5 s.
    pub fn publishing_timeout(mut self, timeout: Duration) -> Self {
        self.publishing_timeout = timeout;
        self
    }

    /// By which a test tells nodes apart: not 0.
    #[cfg(feature = "testing")]
    pub fn incarnation(mut self, number: u64) -> Self {
        self.incarnation = Incarnation::new(number);
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
    /// its burst is 0, the PROXY protocol is asked of requests, the broker keeps no history and topics have one, a bound of what may wait to be published is out of its range, the directory of the history cannot be used, or the system gives no more threads.
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
        self.waiting.check()?;
        let gate = Gate::new(self.gate, self.clock.now_ms())?;
        let policies = Arc::new(Policies::new(self.policies)?);
        let cluster = match &self.broker {
            Some(broker) => {
                let incarnation = some_incarnation(self.incarnation)?;
                Some(Cluster::new(incarnation, self.clock.clone(), policies.clone(), broker))
            }
            None => None,
        };
        let history: Option<Arc<dyn Store>> = match (&cluster, policies.have_history()) {
            (_, false) => None,
            (None, true) => Some(self.history.open(self.clock.clone(), &policies)?),
            (Some(_), true) if self.history.is_elsewhere() => {
                return Err(Error::invalid(
                    "the history has a directory, and there is a broker, which keeps the histories of all nodes: use one of \
                     the two",
                ));
            }
            (Some(cluster), true) => Some(cluster.clone()),
        };
        let exchange = cluster.as_ref().map(|cluster| Exchange::new(cluster.clone(), self.clock.now_ms()));
        let served = gate.mounts();
        let declared = served.iter().flat_map(|(_, mount)| mount.declared()).chain(policies.declared());
        let labels = Labels::new(declared.cloned());
        drop(served);
        let published = labels.names().map(|_| Default::default()).collect();
        let surroundings = Surroundings {
            clock: self.clock,
            runtime,
            interest: Arc::new(Interest::new(count, cluster.clone().map(|cluster| cluster as Arc<dyn Watch>))),
            policies,
            observers: Arc::new(Observers::new(self.observers)),
            waiting: self.waiting,
            labels: Arc::new(labels),
            running: Arc::default(),
            taps: Arc::default(),
        };
        let mounts = gate.mounts().len();
        let shards = (0..count)
            .map(|number| Shard::new(number, surroundings.clone(), mounts))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::io("a shard could not be made", error))?;
        let endpoint = Endpoint(Arc::new(Engine {
            shards: shards.iter().map(|shard| shard.handle().clone()).collect(),
            surroundings,
            gate,
            local_mount: Arc::new(Mount::new().joins_max(LOCAL_JOINS_MAX)),
            presence: self.presence,
            exchange,
            elsewhere: Elsewhere::default(),
            beats: pulse::Beats::default(),
            history,
            counters: Counters::default(),
            published,
            publishing_timeout: self.publishing_timeout,
            started: Started::default(),
            alive: holding::Alive::default(),
            cluster: cluster.clone(),
            draining: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        }));
        if let (Some(cluster), Some(broker)) = (cluster, self.broker) {
            cluster.begin(broker, endpoint.as_members())?;
            endpoint.keep_time();
            endpoint.begin_pulse();
        }
        Ok((endpoint, shards))
    }
}

fn some_incarnation(given: Option<Incarnation>) -> Result<Incarnation, Error> {
    if let Some(given) = given {
        return Ok(given);
    }
    let number =
        getrandom::u64().map_err(|error| Error::failed(format!("the system gives no random bytes: {error}")))?;
    Incarnation::new(number | 1).ok_or_else(|| Error::failed("a node has the number 0"))
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("mounts", &self.gate.mounts)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Begins an endpoint.
    pub fn builder() -> Builder {
        Builder {
            gate: gate::Settings::default(),
            observers: Vec::new(),
            shards: None,
            presence: Presence::new(),
            policies: Vec::new(),
            history: History::memory(),
            broker: None,
            incarnation: None,
            waiting: Waiting::DEFAULT,
            publishing_timeout: Duration::from_secs(5),
            clock: Clock::Real(std::time::Instant::now()),
        }
    }

    /// Serves other mounts at the same paths, all of them from one moment on: whoever connects from then on. Sockets that are open keep
    /// the mount by which they have connected, with its limits and channels, and polled sessions theirs. Channels that are to keep what
    /// they know are given as clones of what the old mounts have.
    ///
    /// # Errors
    /// The paths are others, a mount speaks another protocol than the one that is served at its path, or a mount has a problem. Nothing
    /// was changed then.
    pub fn replace_mounts(&self, mounts: impl IntoIterator<Item = (String, Mount)>) -> Result<(), Error> {
        self.0.gate.replace(mounts.into_iter().collect())
    }

    /// Whether messages to topics with a history are refused, since the last one could not be written: the disk is full, or
    /// broken. It is so until one can be written again.
    pub fn is_history_failing(&self) -> bool {
        self.0.history.as_ref().is_some_and(|store| store.is_failing())
    }

    /// Keeps order across topics: whatever this sender published before reaches a socket before what it publishes from
    /// now on, even if the socket gets the two by different topics. Within one topic no fence is needed.
    pub fn fence(&self) {
        self.0.shards.iter().for_each(|shard| shard.send(Command::Fence));
    }

    /// Whether every shard answers within this time. One that does not is stuck in code that blocks, and so are its sockets.
    pub async fn is_alive(&self, within: Duration) -> bool {
        let answers = async {
            for shard in &self.0.shards {
                ask_promptly(shard, |_| ()).await?;
            }
            Ok::<_, Error>(())
        };
        matches!(tokio::time::timeout(within, answers).await, Ok(Ok(())))
    }

    /// How many sockets there are, those of this process included.
    pub fn sockets(&self) -> usize {
        self.0.shards.iter().map(ShardHandle::sockets).sum()
    }

    /// Who is present in a topic, as `presence_state` tells it, in the presence of the first mount that has a route for it.
    /// Of those on other nodes it has what they had a second ago at most.
    pub async fn presences(&self, topic: &str) -> JsonText {
        let presence = self.presence_of(topic);
        presence.ready_for_stranger(self, topic).await;
        presence.list(topic).await
    }

    /// How many are present in a topic: the keys, in the same presence. Of other nodes it knows those of topics that have members here, or
    /// that were [asked for](Endpoint::presences) within the last second.
    pub fn presence_count(&self, topic: &str) -> usize {
        self.presence_of(topic).count(topic)
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
        let new = AdmittedSocket { info: info.into(), dialect: Dialect::Local, topics: Vec::new() };
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
        Event::ALL.iter().map(|&event| (event.name().0, event.name().1, self.count_of(event))).collect()
    }

    /// How often something has happened.
    fn count_of(&self, event: Event) -> u64 {
        if event == Event::Published {
            let published = self.0.published.iter().flatten();
            return published.map(|published| published.load(Ordering::Relaxed)).sum();
        }
        let of_shards: u64 = self.0.shards.iter().map(|shard| shard.counters().get(event)).sum();
        let of_cluster: u64 = self.0.cluster.iter().map(|cluster| cluster.counters().get(event)).sum();
        of_shards + of_cluster + self.0.counters.get(event)
    }

    /// By which figures of topics are told apart.
    pub(crate) fn labels(&self) -> &Labels {
        &self.0.surroundings.labels
    }

    /// The last facts about clients, oldest first: who was refused, closed by the server, or lost something, and why. Of each
    /// shard, and of what comes before clients have one, the last 1,024 are kept, of one address a quarter of them; the same one
    /// within ten seconds is one entry with a number.
    pub fn facts(&self) -> Vec<PastFact> {
        let shards = self.0.shards.iter().map(|shard| shard.counters().past());
        let others = [self.0.counters.past()].into_iter();
        let all = shards.chain(others).chain(self.0.cluster.iter().map(|cluster| cluster.counters().past()));
        let mut facts: Vec<_> = all.flat_map(|past| past.all()).collect();
        facts.sort_by_key(|fact| fact.at);
        facts
    }

    /// Watches messages: what is published, what clients send, and what they are answered, at most `rate` of them a second. It ends
    /// when it is dropped.
    ///
    /// # Errors
    /// There are 16 taps.
    pub fn tap(&self, filter: TapFilter, rate: u32) -> Result<Tap, Error> {
        self.0.surroundings.taps.open(filter, rate)
    }

    /// Where a topic keeps its history, if it has one.
    pub(crate) fn store_of(&self, topic: &str) -> Option<&Arc<dyn Store>> {
        self.policies().retention(topic).and(self.0.history.as_ref())
    }

    /// Gives a new socket to its shard, and says where it lives once the shard has it.
    pub(crate) async fn attach(
        &self,
        admitted: AdmittedSocket,
        carrier: Carrier,
    ) -> Result<crate::key::SocketKey, Error> {
        let (attached, key) = oneshot::channel();
        let shard = admitted.info.shard.clone();
        shard.send_promptly(Command::Attach(Box::new(NewSocket {
            admitted,
            carrier,
            received: Vec::new(),
            attached: Some(attached),
        })));
        key.await.map_err(|_| Error::failed("the engine has ended"))
    }

    pub(crate) fn shards(&self) -> &[ShardHandle] {
        &self.0.shards
    }

    /// What collects the bodies of requests to this endpoint, for handlers of your own beside it.
    pub fn bodies(&self) -> &Bodies {
        &self.0.gate.bodies
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// The shard of the next connection: one of those with the fewest sockets. The search begins at another shard each time,
    /// since a burst of connections is assigned before the first of them counts.
    pub(crate) fn next_shard(&self) -> &ShardHandle {
        let (before, after) = self.0.shards.split_at(self.0.turn.fetch_add(1, Ordering::Relaxed) % self.0.shards.len());
        let shards = after.iter().chain(before);
        shards.min_by_key(|shard| shard.sockets()).unwrap_or(&self.0.shards[0])
    }

    /// Whether a shard has no room for what is published: then clients that publish are not read for a while.
    pub(crate) fn is_crowded(&self, share: Share) -> bool {
        self.0.shards.iter().any(|shard| shard.room(share).is_full())
    }

    /// Where the messages of a topic find their room.
    pub(crate) fn share_of(&self, topic: &str) -> Share {
        if self.store_of(topic).is_some() { Share::Kept } else { Share::Live }
    }

    pub(crate) fn any_shard(&self) -> &ShardHandle {
        &self.0.shards[0]
    }

    /// The presence of a topic: that of the first mount that has a route for it.
    pub(crate) fn presence_of(&self, topic: &str) -> Presence {
        let mounts = self.0.gate.mounts();
        let route = mounts.iter().find_map(|(_, mount)| mount.route_of(topic));
        route.and_then(|(_, route)| route.presence.as_ref()).unwrap_or(&self.0.presence).clone()
    }

    /// Each presence once.
    pub(crate) fn presences_all(&self) -> Vec<Presence> {
        let mut all = vec![self.0.presence.clone()];
        for presence in self.0.gate.mounts().iter().flat_map(|(_, mount)| mount.presences()) {
            if !all.iter().any(|known| known.is(presence)) {
                all.push(presence.clone());
            }
        }
        all
    }

    /// What is exchanged with other nodes about presences.
    pub(crate) fn exchange(&self) -> Option<&Exchange> {
        self.0.exchange.as_ref()
    }

    /// Who this node is, where there are others.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.0.cluster.as_ref().map(|cluster| cluster.incarnation())
    }

    pub(crate) fn downgrade(&self) -> WeakEndpoint {
        WeakEndpoint(Arc::downgrade(&self.0))
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

    /// The hub's topics.
    pub(crate) fn started(&self) -> &Started {
        &self.0.started
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("shards", &self.0.shards.len()).finish_non_exhaustive()
    }
}
