//! What nodes need of a broker between them: messages to all that are interested, logs of topics, and cells that one of them
//! at a time changes.
//!
//! Three traits, which know envelopes as bytes and nothing of sockets, channels or shards. What a broker does is told by
//! `done`, from any thread, and what arrives goes to a [`Deliver`]; calls never block, since they are made on shards' threads.
//! `broker/` has the parts: `transport` (live messages), `log` (positions, appends, reads), `registers` (compare and set), `standing`
//! (how links stand, for those who ask); and for those that are reached over connections `wire` and `buffered` (bytes), `queue`
//! (commands), `turns` (the thread), `canary`, `pulse` (how a link stands), `settings` (what all are told), `authority` (a part of an
//! address) and `crc16`.
//!
//! **A broker is believed only as far as it can be checked.** It may lose what is live, and say late or not at all what became
//! of a command; a log may lose its tail, and says so by another epoch. What makes an unbroken chain of that is above these
//! traits, once, for all brokers.

#[cfg(any(feature = "nats", feature = "redis"))]
mod authority;
#[cfg(any(feature = "nats", feature = "redis"))]
mod buffered;
#[cfg(any(feature = "nats", feature = "redis"))]
mod canary;
#[cfg(any(feature = "nats", feature = "redis"))]
mod crc16;
mod log;
pub(crate) mod memory;
#[cfg(feature = "nats")]
pub(crate) mod nats;
#[cfg(any(feature = "nats", feature = "redis"))]
mod pulse;
#[cfg(any(feature = "nats", feature = "redis"))]
mod queue;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod registers;
#[cfg(any(feature = "nats", feature = "redis"))]
mod settings;
mod standing;
#[cfg(test)]
mod suite;
mod transport;
#[cfg(any(feature = "nats", feature = "redis"))]
mod turns;
#[cfg(any(feature = "nats", feature = "redis"))]
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::event::{Counters, Event};
use crate::fact::{self, Fact, Who};

pub(crate) use fanfare_proto::envelope::Incarnation;
use fanfare_proto::envelope::{ADMIN_URL_SIZE_MAX, NODE_NAME_SIZE_MAX, is_admin_url};
use fanfare_proto::history::Retention;
pub(crate) use fanfare_proto::position::Stamp;
pub(crate) use log::{Append, Appended, Entry, Epochs, Head, Log, Page, Read};
pub use memory::MemoryBroker;
#[cfg(feature = "nats")]
pub use nats::{NatsBroker, NatsJetStream, NatsServer};
#[cfg(feature = "redis")]
pub use redis::RedisBroker;
pub(crate) use registers::{Cell, REGISTER_SIZE_MAX, Registers, Swapped};
pub use standing::BrokerLink;
pub(crate) use transport::{Attached, Deliver, LinkId, LinkState, Transport};

/// Commands that wait for a link or for its answers, at most; above it they are refused.
pub(crate) const COMMANDS_WAITING_MAX: usize = 65_536;

/// The same in bytes.
pub(crate) const COMMANDS_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Topics to which a node is attached, at most; above it `attach` is refused.
pub(crate) const ATTACHMENTS_MAX: usize = 1_000_000;

/// What an envelope may have beside the largest message: names, numbers, the stamp of a log.
pub(crate) const ENVELOPE_OVERHEAD_MAX: usize = 1024;

/// Why a command was not carried out, as far as is known. The text names the server, the value and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undone {
    /// It was not sent: no link, or too much waits. Nothing has happened, and it is safe to repeat.
    Refused(Arc<str>),
    /// It cannot be carried as it is, such as one that is too large. Nothing has happened, and repeating it is of no use.
    Impossible(Arc<str>),
    /// The broker does not allow it, and will not until its settings, or those of this node, are changed. Nothing has happened.
    Denied(Arc<str>),
    /// It was sent, and there was no answer by the deadline, or the link broke before: it may have happened, or may yet happen.
    Unknown(Arc<str>),
    /// Only of [`Transport::send`]: nobody with that incarnation is attached. It has reached nobody.
    Gone,
}

impl Undone {
    pub(crate) fn refused(why: impl Into<Arc<str>>) -> Self {
        Undone::Refused(why.into())
    }

    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) fn denied(why: impl Into<Arc<str>>) -> Self {
        Undone::Denied(why.into())
    }

    /// The message takes more bytes on its way than the broker takes; `next` says what to change.
    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) fn too_large(size: usize, most: usize, next: &str) -> Self {
        let why = format!("it takes {size} bytes on its way, more than {most}: send less, or {next}");
        Undone::Impossible(why.into())
    }

    pub(crate) fn unknown(why: impl Into<Arc<str>>) -> Self {
        Undone::Unknown(why.into())
    }

    /// Counts and keeps that a message has come to this, and writes it into the log where somebody has to do something.
    pub(crate) fn note(&self, topic: &str, counters: &Counters) {
        let event = match self {
            Undone::Refused(_) | Undone::Impossible(_) | Undone::Denied(_) | Undone::Gone => Event::BrokerRefused,
            Undone::Unknown(_) => Event::BrokerUnknown,
        };
        let (kind, detail) = (fact::Kind::Dropped, format_args!("{self}"));
        let fact = Fact { kind, event, who: Who::default(), topic: Some(topic), code: None, detail };
        match self {
            // It goes on until somebody changes something.
            Undone::Denied(_) => fact.tell(counters),
            _ => fact.note(counters, 1),
        }
    }
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undone::Refused(why) | Undone::Impossible(why) => write!(f, "not sent to the broker: {why}"),
            Undone::Denied(why) => write!(f, "not taken by the broker: {why}"),
            Undone::Unknown(why) => write!(f, "sent to the broker, and not known to have arrived: {why}"),
            Undone::Gone => f.write_str("the node that it was for is gone"),
        }
    }
}

/// Told once what became of a command, from any thread: the caller's as well, before the call has returned. It does not
/// block and does not panic. A broker that ends tells all that wait that their commands are undone, and drops none.
pub(crate) type Done<T> = Box<dyn FnOnce(Result<T, Undone>) + Send>;

/// See [`Broker::grace`].
const GRACE: Duration = Duration::from_secs(30);

/// See [`Broker::window_bytes_max`].
const WINDOW_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What nodes have between them, so that they are one cluster.
#[derive(Debug, Clone)]
pub struct Broker {
    kind: Kind,
    pub(crate) grace: Duration,
    pub(crate) window_bytes_max: usize,
    pub(crate) node_name: Box<str>,
    pub(crate) admin_url: Box<str>,
}

#[derive(Debug, Clone)]
enum Kind {
    Memory(MemoryBroker),
    #[cfg(feature = "nats")]
    Nats(NatsBroker),
    #[cfg(feature = "redis")]
    Redis(RedisBroker),
}

impl Broker {
    /// One within the process: nodes that are given clones of it are one cluster.
    pub fn memory(broker: &MemoryBroker) -> Self {
        Broker::of(Kind::Memory(broker.clone()))
    }

    /// A Redis: nodes that name the same one, with the same namespace, are one cluster.
    #[cfg(feature = "redis")]
    pub fn redis(broker: &RedisBroker) -> Self {
        Broker::of(Kind::Redis(broker.clone()))
    }

    /// A NATS: nodes that name servers of the same one, with the same namespace, are one cluster.
    #[cfg(feature = "nats")]
    pub fn nats(broker: &NatsBroker) -> Self {
        Broker::of(Kind::Nats(broker.clone()))
    }

    /// How long a topic without members stays attached on this node, give or take a fifth: clients that come back within it cost the
    /// broker nothing. Default 30 seconds.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How many bytes of recent messages the node keeps of all topics with a history, so that a crowd of resuming clients need not be
    /// served by the broker. Default 64 MiB.
    pub fn window_bytes_max(mut self, bytes: usize) -> Self {
        self.window_bytes_max = bytes;
        self
    }

    /// What this node is called in [`Endpoint::nodes`](crate::Endpoint::nodes) of all nodes: it tells people which one is which, and nothing
    /// depends on it. Others get as much of it as has room in 64 bytes. Default none.
    pub fn node_name(mut self, name: &str) -> Self {
        self.node_name = name[..name.floor_char_boundary(NODE_NAME_SIZE_MAX)].into();
        self
    }

    /// Where the page of this node's administrators is, so that [`Endpoint::nodes`](crate::Endpoint::nodes) of all nodes has it: it begins
    /// with `https://` or `http://` and has 256 bytes at most, or [`Builder::build`](crate::Builder::build) fails. Default none.
    pub fn admin_url(mut self, url: &str) -> Self {
        self.admin_url = url.into();
        self
    }

    /// # Errors
    /// What is set cannot be.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let url = &*self.admin_url;
        if url.is_empty() || is_admin_url(url) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "Broker::admin_url is {url:.64?} of {} bytes, and takes {ADMIN_URL_SIZE_MAX} at most that begin with \"https://\" or \"http://\"",
            url.len()
        )))
    }

    fn of(kind: Kind) -> Self {
        let (node_name, admin_url) = Default::default();
        Broker { kind, grace: GRACE, window_bytes_max: WINDOW_BYTES_MAX, node_name, admin_url }
    }

    /// Connects a node.
    ///
    /// # Errors
    /// See [`Builder::build`](crate::Builder::build).
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "others are told with each command"))]
    pub(crate) fn open(self, incarnation: Incarnation, deliver: Arc<dyn Deliver>, logs: Logs) -> Result<Parts, Error> {
        match self.kind {
            Kind::Memory(broker) => Ok(broker.open(incarnation, deliver)),
            #[cfg(feature = "nats")]
            Kind::Nats(broker) => broker.open(incarnation, deliver, logs),
            #[cfg(feature = "redis")]
            Kind::Redis(broker) => broker.open(incarnation, deliver),
        }
    }
}

/// Which topics keep logs, for a broker that has to know before they are used.
#[derive(Clone)]
pub(crate) struct Logs {
    /// All that there are.
    pub(crate) kinds: Vec<Retention>,
    /// What a topic keeps.
    pub(crate) of: Arc<RetentionOf>,
}

/// What a topic keeps, by its name.
pub(crate) type RetentionOf = dyn Fn(&str) -> Option<Retention> + Send + Sync;

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

/// A connected broker, as the engine uses it.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) transport: Arc<dyn Transport>,
    /// None where the broker keeps nothing: then no topic may have a history.
    pub(crate) log: Option<Arc<dyn Log>>,
    /// None where it has no compare and set.
    pub(crate) registers: Option<Arc<dyn Registers>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    #[tokio::test]
    async fn an_admin_url_is_one_that_a_browser_opens_and_that_has_room() {
        let [longest, longer] = [0, 1].map(|more| format!("https://{}", "a".repeat(ADMIN_URL_SIZE_MAX - 8 + more)));
        for (url, is_taken) in [
            ("", true),
            ("http://a:4001/", true),
            (&longest, true),
            (&longer, false),
            ("javascript:alert(1)", false),
            ("a.example.com", false),
        ] {
            let broker = Broker::memory(&MemoryBroker::new().unwrap()).admin_url(url);
            let built = Endpoint::builder().shards(1).broker(broker).build().await;
            assert_eq!(built.is_ok(), is_taken, "{url}");
        }
    }
}
