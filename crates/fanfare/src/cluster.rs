//! A node among others: it hands on, of every topic that its members are in, what all nodes publish; of a log an unbroken chain, or a
//! word about the gap.
//!
//! It stands between the broker, which may lose, delay and forget, and the shards, which go on as they do on one node: to those it is a
//! [`Store`](crate::history::Store), and whoever publishes to their members. `cluster/` has the parts: `chain` (what follows what,
//! pure), `window` (the newest messages, for clients that come back), `topic` (what is kept of one topic, with its attachment),
//! `links` (to the servers of the broker), `publish` (out), `arrive` (in), `repair` (holes, heads, gaps), `read` (histories),
//! `timers`; and `store`, `connect`: its two sides.
//!
//! Topics share a few locks. Messages are handed on with the lock of their topic held, so that every shard gets them in the order of
//! the chain; the broker is called with none held, since it may answer at once.

mod arrive;
mod chain;
mod connect;
mod holds;
mod links;
mod publish;
mod read;
mod repair;
mod roll;
mod store;
mod tell;
mod timers;
mod topic;
mod window;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use fanfare_proto::envelope::Envelope;
use fanfare_proto::history::Retention;
use fanfare_proto::position::Position;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use crate::broker::{Attached, Broker, Incarnation, Parts, Read, Undone};
use crate::clock::Clock;
use crate::event::Counters;
use crate::history::Wanted;
use crate::message::Message;
use crate::policy::Policies;
use holds::Holds;
use links::Links;
use publish::Pending;
use timers::Timers;
use topic::Topic;
use window::Windows;

pub(crate) use holds::{HoldOver, Holder, NotHeld};
pub(crate) use publish::refused;
pub(crate) use roll::Roll;
pub use roll::{Herald, News};

/// So many locks share the topics between them.
const STRIPES: usize = 64;

/// The topic of nodes, on which they tell each other that they live, and what all of them are to do. Clients cannot join it: their
/// topics have no control characters.
pub(crate) const NODES: &str = "\u{1}nodes";

/// What all are to do is kept for those that were cut off, where the broker keeps logs.
const COMMANDS: Retention = Retention { messages_max: 1_000, bytes_max: 1024 * 1024, age_max_ms: 600_000 };

/// The members on this node, as the cluster reaches them.
pub(crate) trait Local: Send + Sync {
    /// Whether a topic has members here.
    fn is_interested(&self, topic: &str) -> bool;

    /// Whether a shard with members of a topic has no room for what comes from other nodes.
    fn is_full(&self, topic: &str, size: usize) -> bool;

    /// Hands a message to them.
    fn hand_out(&self, message: &Arc<Message>);

    /// They do not get some messages: those behind a position up to another, if it is a log's.
    fn has_lost(&self, topic: &Arc<str>, from: Option<Position>, to: Option<Position>);

    /// Something other than a message has come of a node, this one included: on a topic's channel, or in the inbox. Told with no lock held.
    fn heard(&self, channel: Option<&str>, envelope: &Envelope<'_>);

    /// A topic is attached. Told with no lock held.
    fn attached(&self, topic: &str);

    /// Whether a topic without members can be detached: false if something of this node is still told there.
    fn lets_go(&self, topic: &str) -> bool;

    /// Whether another node is certainly not alive.
    fn is_lost(&self, node: Incarnation) -> bool;

    /// This node has nothing to do with a topic's publisher any more. Told with no lock held.
    fn hold_is_over(&self, topic: &Arc<str>, over: HoldOver);

    /// Anything may have been missed, and can be asked for again. Told with no lock held.
    fn link_is_up(&self);
}

/// A node.
pub(crate) struct Cluster {
    me: Weak<Cluster>,
    incarnation: Incarnation,
    /// What it is called.
    name: Box<str>,
    admin_url: Box<str>,
    parts: OnceLock<Parts>,
    local: OnceLock<Box<dyn Local>>,
    clock: Clock,
    /// When it was made.
    begun_ms: u64,
    policies: Arc<Policies>,
    stripes: Box<[Stripe]>,
    hasher: foldhash::fast::FixedState,
    /// Counts what the node has published.
    published: AtomicU64,
    /// What of it the broker has taken.
    taken: Arc<AtomicU64>,
    links: Links,
    /// Topics that are attached without members.
    lingering: AtomicUsize,
    /// They stay so for about so long.
    grace_ms: u64,
    holds: Holds,
    /// Counts what rolls have told.
    told: AtomicU64,
    counters: Counters,
}

struct Stripe {
    topics: Mutex<Topics>,
    /// When the first of its timers is due.
    due_ms: AtomicU64,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Some of the topics.
struct Topics {
    by_name: Map<Arc<str>, Topic>,
    /// Own messages that the log has not taken, or that wait for those before them.
    pending: Map<u64, Pending>,
    /// Of topics without a log, how much the node has published.
    series: Map<Arc<str>, u64>,
    windows: Windows,
    timers: Timers,
    /// For the broker, once the lock is released.
    todo: Vec<Todo>,
}

/// What the broker is to be asked.
enum Todo {
    Attach {
        topic: Arc<str>,
        wants_head: bool,
    },
    Detach(Arc<str>),
    /// What comes behind the last message of a chain.
    Repair {
        topic: Arc<str>,
        since: Position,
        mark: u64,
        retention: Retention,
    },
    Read {
        topic: Arc<str>,
        wanted: Wanted,
        retention: Retention,
    },
    Heads(Vec<Arc<str>>),
}

impl Cluster {
    /// A node that is not connected yet.
    pub(crate) fn new(incarnation: Incarnation, clock: Clock, policies: Arc<Policies>, broker: &Broker) -> Arc<Self> {
        let hasher = || foldhash::fast::FixedState::with_seed(incarnation.number());
        let stripe = || Stripe {
            topics: Mutex::new(Topics {
                by_name: HashMap::with_hasher(hasher()),
                pending: HashMap::with_hasher(hasher()),
                series: HashMap::with_hasher(hasher()),
                windows: Windows::new(broker.window_bytes_max / STRIPES),
                timers: Timers::default(),
                todo: Vec::new(),
            }),
            due_ms: AtomicU64::new(u64::MAX),
        };
        Arc::new_cyclic(|me| Cluster {
            me: me.clone(),
            incarnation,
            name: broker.node_name.clone(),
            admin_url: broker.admin_url.clone(),
            parts: OnceLock::new(),
            local: OnceLock::new(),
            begun_ms: clock.now_ms(),
            clock,
            policies,
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            hasher: hasher(),
            published: AtomicU64::new(0),
            taken: Arc::default(),
            links: Links::default(),
            lingering: AtomicUsize::new(0),
            grace_ms: broker.grace.as_millis() as u64,
            holds: Holds::new(hasher()),
            told: AtomicU64::new(0),
            counters: Counters::default(),
        })
    }

    /// What is counted here.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn stripe(&self, topic: &str) -> &Stripe {
        &self.stripes[self.hasher.hash_one(topic) as usize % STRIPES]
    }

    /// Does something with the topics that share a lock with this one, and asks the broker for what that needs.
    fn with<T>(&self, topic: &str, act: impl FnOnce(&mut Topics) -> T) -> T {
        self.within(self.stripe(topic), act)
    }

    fn within<T>(&self, stripe: &Stripe, act: impl FnOnce(&mut Topics) -> T) -> T {
        let mut topics = stripe.topics.lock();
        let result = act(&mut topics);
        self.release(stripe, topics);
        result
    }

    fn release(&self, stripe: &Stripe, mut topics: MutexGuard<'_, Topics>) {
        stripe.due_ms.store(topics.timers.next_ms().unwrap_or(u64::MAX), Ordering::Release);
        let todo = std::mem::take(&mut topics.todo);
        drop(topics);
        todo.into_iter().for_each(|todo| self.ask(todo));
    }

    /// Asks the broker, with no lock held.
    fn ask(&self, todo: Todo) {
        let me = self.me.clone();
        let transport = self.parts.get().map(|parts| &parts.transport);
        match (todo, self.parts.get().and_then(|parts| parts.log.as_ref())) {
            (Todo::Attach { topic, wants_head }, _) => {
                let name = topic.clone();
                let done = move |attached: Result<Attached, _>| {
                    if let Some(me) = me.upgrade() {
                        me.attached(&name, attached);
                    }
                };
                match transport {
                    Some(transport) => transport.attach(&topic, wants_head, Box::new(done)),
                    // Once there is one.
                    None => done(Err(Undone::refused("the broker is not connected yet"))),
                }
            }
            (Todo::Detach(topic), _) => {
                let name = topic.clone();
                let done = move |_| {
                    if let Some(me) = me.upgrade() {
                        me.detached(&name);
                    }
                };
                if let Some(transport) = transport {
                    transport.detach(&topic, Box::new(done));
                }
            }
            (Todo::Repair { topic, since, mark, retention }, Some(log)) => {
                let name = topic.clone();
                let done = move |page| {
                    if let Some(me) = me.upgrade() {
                        me.repaired(&name, since, mark, page);
                    }
                };
                log.read(&topic, repair::page(since, retention), Box::new(done));
            }
            (Todo::Read { topic, wanted, retention }, Some(log)) => {
                let Wanted { since, limit, bytes_max, newest } = wanted;
                let read = Read { since, limit, bytes_max, newest, retention };
                let name = topic.clone();
                let done = move |page| {
                    if let Some(me) = me.upgrade() {
                        me.page_read(&name, wanted, page);
                    }
                };
                log.read(&topic, read, Box::new(done));
            }
            (Todo::Heads(topics), Some(log)) => {
                let names = topics.clone();
                let done = move |heads| {
                    if let Some(me) = me.upgrade() {
                        me.compare(&names, heads);
                    }
                };
                log.heads(topics, Box::new(done));
            }
            (Todo::Repair { .. } | Todo::Read { .. } | Todo::Heads(_), None) => {}
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}
