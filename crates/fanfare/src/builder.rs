//! From settings to a running engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::rate::Rate;

use tokio::runtime::Handle;

use crate::address::Proxies;
use crate::broker::{Broker, Incarnation};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::endpoint::{Endpoint, Parts};
use crate::error::Error;
use crate::figures::Labels;
use crate::gate::{self, Gate};
use crate::history::{History, Store};
use crate::interest::{Interest, ShardSet, Watch};
use crate::mount::Mount;
use crate::observer::{Observer, Observers};
use crate::outbox::Outboxes;
use crate::policy::{Policies, Policy};
use crate::presence::{Exchange, Presence};
use crate::room::{Inboxes, Waiting};
use crate::shard::Shard;
use crate::surroundings::Surroundings;
use crate::tenant::Quotas;
use crate::trace::{Tracer, Tracing};

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
    outboxes_bytes_max: usize,
    inboxes_bytes_max: usize,
    tracing: Tracing,
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

    /// Tells this tracer of [spans](crate::trace). Default: nothing is traced.
    pub fn tracer(mut self, tracer: Arc<dyn Tracer>) -> Self {
        self.tracing = Tracing(Some(tracer));
        self
    }

    /// How many long-poll sessions and event streams there may be together, over all addresses; above it the answer is 503. Default
    /// 1,000,000.
    pub fn sessions_max(mut self, sessions: usize) -> Self {
        self.gate.sessions_max = sessions;
        self
    }

    /// How many long-poll sessions and event streams one client address may have; above it the answer is 429. Default 10,000, since many
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

    /// How many clients of one address may connect a second; of IPv6 a /64 is one address. Beyond it the answer is 429 with a `Retry-After`, before
    /// [`Connect`](crate::Connect) is asked. Default: no limit.
    pub fn accept_rate_per_address(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.gate.accept_rate_per_address = rate.into();
        self
    }

    /// Of how many addresses, users and topics, each, it is remembered how much they have done lately. Whoever comes when there are as many, all of
    /// them busy, is let pass, and counted. Default 100,000.
    pub fn keys_max(mut self, keys: usize) -> Self {
        self.gate.keys_max = keys;
        self
    }

    /// What those may have who share the node, each with all of its clients: see [`Mount::tenant_from`] and
    /// [`Connected::tenant`](crate::Connected::tenant). Default: as much as they like.
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.gate.quotas = quotas;
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

    /// How much memory what waits for all clients may take together: for slow readers, between two polls, and what was read of histories for
    /// clients that have missed it. What many wait for counts once. Beyond it the messages of those that hold most give way, where their
    /// topic's policy allows that, and otherwise their sockets are closed with 1013; from three quarters of it on nothing more is read for
    /// clients that have missed something. 1 or more. Default 1,000,000,000.
    pub fn outboxes_bytes_max(mut self, bytes: usize) -> Self {
        self.outboxes_bytes_max = bytes;
        self
    }

    /// How much of what clients have sent may be held together before it is handled: messages behind joins that are not answered, busy
    /// channels and credentials that are checked, messages of which a part has come, and what was read of connections. While so much is, a
    /// client of which more than 4 KiB are held is not read, so that its own system keeps the rest: nothing is lost. Messages of which a part
    /// has come may take half of it; beyond that those clients are closed with 1013 of which most has come. 1 or more, and at least twice
    /// [`message_size_max`](crate::Mount::message_size_max). Default 500,000,000.
    pub fn inboxes_bytes_max(mut self, bytes: usize) -> Self {
        self.inboxes_bytes_max = bytes;
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
    /// its burst is 0, the PROXY protocol is asked of requests, the broker keeps no history and topics have one, its admin URL is none, a bound of what may wait to be published, or of what may wait for all clients, is out of its range, the directory of the history cannot be used, or the system gives no more threads.
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
        let gate = Gate::new(self.gate)?;
        let policies = Arc::new(Policies::new(self.policies)?);
        let cluster = match &self.broker {
            Some(broker) => {
                broker.check()?;
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
            waiting: self.waiting,
            outboxes: Arc::new(Outboxes::new(count, self.outboxes_bytes_max)?),
            inboxes: Arc::new(Inboxes::new(count, self.inboxes_bytes_max)?),
            labels: Arc::new(labels),
            running: Arc::default(),
            taps: Arc::default(),
            tracing: self.tracing,
        };
        let (observers, mounts) = (Arc::new(Observers::new(self.observers)), gate.mounts().len());
        let shards = (0..count)
            .map(|number| Shard::new(number, surroundings.clone(), observers.clone(), mounts))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::io("a shard could not be made", error))?;
        let endpoint = Endpoint::new(Parts {
            shards: shards.iter().map(|shard| shard.handle().clone()).collect(),
            surroundings,
            gate,
            presence: self.presence,
            exchange,
            history,
            published,
            publishing_timeout: self.publishing_timeout,
            cluster,
        });
        if let Some(broker) = self.broker {
            endpoint.begin_cluster(broker)?;
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
            outboxes_bytes_max: Outboxes::BYTES_MAX,
            inboxes_bytes_max: Inboxes::BYTES_MAX,
            tracing: Tracing::default(),
            clock: Clock::Real(std::time::Instant::now()),
        }
    }
}
