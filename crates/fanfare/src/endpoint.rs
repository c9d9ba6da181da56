//! The handle of the running engine.

mod drain;
mod elsewhere;
mod holding;
mod members;
#[cfg(feature = "metrics")]
pub mod metrics;
mod nodes;
mod overview;
mod pace;
mod publishing;
mod pulse;
mod rolls;
mod started;
mod tenants;
mod traced;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fanfare_proto::payload::JsonText;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::broker::Incarnation;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::event::past::PastFact;
use crate::event::{Counters, Event, Tally};
use crate::fact::{Fact, Kind, Who};
use crate::figures::{Labels, SharedFigures};
use crate::gate::{Bodies, Gate};
use crate::history::Store;
use crate::interest::Interest;
use crate::key::SocketKey;
use crate::mailbox::{AdmittedSocket, Command, NewSocket, Question, ShardHandle};
use crate::outbox::Outboxes;
use crate::policy::Policies;
use crate::presence::{Exchange, Presence};
use crate::publish::Publisher;
use crate::room::{Inboxes, Share};
use crate::surroundings::Surroundings;
use crate::tap::{Tap, TapFilter};
use crate::transport::Carrier;

pub use drain::Drain;
pub(crate) use elsewhere::Answered;
use elsewhere::Elsewhere;
pub use nodes::{GoneNode, NodeSummary};
pub use overview::{ChannelFigures, Overview, ShardFigures};
pub(crate) use publishing::Once;
pub use rolls::Roll;
use rolls::Rolls;
pub(crate) use started::Ownership;
use started::Started;

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
    presence: Presence,
    /// What it says to other nodes, if they are there.
    exchange: Option<Exchange>,
    /// What other nodes are asked, and ask.
    elsewhere: Elsewhere,
    nodes: nodes::Nodes,
    paces: pace::Paces,
    /// There if any topic keeps something.
    history: Option<Arc<dyn Store>>,
    /// What is counted outside of shards.
    counters: Counters,
    figures: SharedFigures,
    /// How many messages were published, by channel and publisher.
    published: Box<[[AtomicU64; Publisher::ALL.len()]]>,
    publishing_timeout: Duration,
    started: Started,
    alive: holding::Alive,
    rolls: Rolls,
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

/// What an endpoint is made of.
pub(crate) struct Parts {
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) surroundings: Surroundings,
    pub(crate) gate: Gate,
    pub(crate) presence: Presence,
    pub(crate) exchange: Option<Exchange>,
    pub(crate) history: Option<Arc<dyn Store>>,
    pub(crate) published: Box<[[AtomicU64; Publisher::ALL.len()]]>,
    pub(crate) publishing_timeout: Duration,
    pub(crate) cluster: Option<Arc<Cluster>>,
}

impl Endpoint {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { shards, surroundings, gate, presence, exchange, history, published, publishing_timeout, cluster } =
            parts;
        Endpoint(Arc::new(Engine {
            shards,
            surroundings,
            gate,
            presence,
            exchange,
            elsewhere: Elsewhere::default(),
            nodes: nodes::Nodes::default(),
            paces: pace::Paces::default(),
            history,
            counters: Counters::default(),
            figures: SharedFigures::default(),
            published,
            publishing_timeout,
            started: Started::default(),
            alive: holding::Alive::default(),
            rolls: Rolls::default(),
            cluster,
            draining: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        }))
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
                shard.ask_promptly(Question::Alive).await?;
            }
            Ok::<_, Error>(())
        };
        matches!(tokio::time::timeout(within, answers).await, Ok(Ok(())))
    }

    /// How many sockets this node has, those of this process included.
    pub fn sockets(&self) -> usize {
        self.0.shards.iter().map(ShardHandle::sockets).sum()
    }

    /// Who is present in a topic, as `presence_state` tells it, in the presence of the first mount whose route for it has one of its own; where
    /// none has, in that of the endpoint. Nodes of a cluster tell each other of that one. Of those on other nodes it has what they had a second ago at most.
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

    /// Whoever publishes over an API in front of this endpoint has more messages than `admin.publish_rate` allows: counts it, logs it, and
    /// keeps it among the [last facts](Endpoint::facts).
    pub fn publishing_refused(&self, address: Option<SocketAddr>, detail: &str) {
        let who = Who { address, ..Who::default() };
        let (kind, event, code) = (Kind::Limited, Event::ApiPublishRateRefused, Some(429));
        Fact { kind, event, who, topic: None, code, detail: format_args!("{detail}") }.tell(self.own_counters());
    }

    /// What a source in front of this endpoint has got can never be published: counts it, and keeps it among the
    /// [last facts](Endpoint::facts). The detail names the source and what is wrong, and never what was in the message.
    pub fn source_skipped(&self, topic: Option<&str>, detail: &str) {
        let (kind, event, who) = (Kind::Dropped, Event::SourceSkipped, Who::default());
        // The source has a line of its own.
        Fact { kind, event, who, topic, code: None, detail: format_args!("{detail}") }.note(self.own_counters(), 1);
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
    pub(crate) async fn attach(&self, admitted: AdmittedSocket, carrier: Carrier) -> Result<SocketKey, Error> {
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

    /// What waits for all sockets.
    pub(crate) fn outboxes(&self) -> &Outboxes {
        &self.0.surroundings.outboxes
    }

    /// What all sockets hold of what was sent to them.
    pub(crate) fn inboxes(&self) -> &Inboxes {
        &self.0.surroundings.inboxes
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

    /// The presence of a topic: that of the first mount whose route for it has one of its own. A mount that takes all topics, and tracks
    /// nobody in this one, hides none.
    pub(crate) fn presence_of(&self, topic: &str) -> Presence {
        let mounts = self.0.gate.mounts();
        let own = mounts.iter().find_map(|(_, mount)| mount.route_of(topic)?.1.presence.as_ref());
        own.unwrap_or(&self.0.presence).clone()
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

    /// What is counted outside of shards and is no event.
    pub(crate) fn figures(&self) -> &SharedFigures {
        &self.0.figures
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
