//! What topics keep: stores behind one trait. A store gives each message its position, keeps it, and only then hands it
//! on, in the order of the positions, so that whoever reads the store and then the live messages misses none.
//!
//! `history/` has the parts: `topics` (histories, without locks, with their `keys`; and those that are `unknown`), `bounds` (what
//! all of a store may take), `memory` (a store that ends with the process), `disk` (one in a directory, which outlives it). Below
//! the latter: `writer` (judge, write, keep, hand on), `recovery` (a start), `compaction`, `record` (what is written), `log` (how),
//! `files` (where to). `faults` is a store that fails when a test says so.

mod bounds;
mod compaction;
mod disk;
#[cfg(feature = "testing")]
mod faults;
mod files;
mod keys;
mod log;
mod memory;
mod record;
mod recovery;
mod setup;
#[cfg(test)]
mod simulation;
#[cfg(all(test, feature = "testing"))]
mod tests;
mod topics;
mod unknown;
mod writer;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use fanfare_proto::frame;
use fanfare_proto::history::Retention;
use fanfare_proto::payload::Payload;
use fanfare_proto::position::{Epoch, Position, Since, Stamp};

use crate::error::Error;
use crate::message::{Draft, Message};

pub(crate) use disk::ENDING_TIMEOUT;
#[cfg(feature = "testing")]
pub use faults::Faults;
pub use setup::{History, HistoryLimits, HistorySync};

/// A store of histories.
pub(crate) trait Store: Send + Sync + fmt::Debug {
    /// Keeps a message, then settles: at once or later, from any thread, but for each topic in the order of the
    /// positions.
    fn append(&self, append: Append);

    /// What of a topic a reader gets.
    fn read(&self, topic: &str, wanted: Wanted) -> Reading;

    /// Waits until all that was accepted is as safe as it gets.
    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Keeps nothing more, lets go of what only one process at a time can have, and gives whether there was such a thing. What is kept can
    /// still be read.
    fn close(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(std::future::ready(false))
    }

    /// The epoch at an offset of a topic's log, if that has several epochs whose offsets can be compared.
    fn epoch_at(&self, _topic: &str, _offset: u64) -> Option<Epoch> {
        None
    }

    /// Whether the last message could not be kept.
    fn is_failing(&self) -> bool {
        false
    }

    /// What kind it is.
    #[cfg(feature = "metrics")]
    fn kind(&self) -> &'static str;

    /// How much it keeps, unless that is kept elsewhere.
    #[cfg(feature = "metrics")]
    fn size(&self) -> Option<StoreSize> {
        None
    }
}

/// How much a store keeps.
#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreSize {
    pub(crate) topics: usize,
    pub(crate) messages: usize,
    /// In memory.
    pub(crate) bytes: usize,
}

/// A read on its way.
pub(crate) type Reading = Pin<Box<dyn Future<Output = Result<Replay, Error>> + Send>>;

/// A message to be kept.
pub(crate) struct Append {
    pub(crate) message: Draft,
    pub(crate) retention: Retention,
    /// A repetition with the same key is not kept again.
    pub(crate) key: Option<Box<str>>,
    /// It is kept only if the topic is here.
    pub(crate) expected: Option<Since>,
    pub(crate) settle: Settle,
}

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append").field("message", &self.message).finish_non_exhaustive()
    }
}

/// Told what became of a message. A new one is handed to the topic's members by this, within the topic's order.
pub(crate) type Settle = Box<dyn FnOnce(Result<Accepted, Error>) + Send>;

/// A message that was accepted.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// It is kept, and has its position.
    New(Arc<Message>),
    /// One with the same key was kept before, there.
    Repeated(Position),
    /// It is kept there, and its topic's members get it by another way, or are told of a gap.
    Kept(Position),
}

/// What a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) since: Since,
    /// At most so many, the oldest first: there may be more behind the last of them.
    pub(crate) limit: usize,
    /// The same in bytes of events and payloads, but one message at least.
    pub(crate) bytes_max: usize,
    /// So many of the newest, for whoever is not recovered from a position.
    pub(crate) newest: usize,
}

/// What a reader gets: where the topic stands, and messages.
#[derive(Debug, Clone)]
pub struct Replay {
    pub(crate) head: Position,
    /// Of the messages of the topic that are handed on on this node, those up to this number are not behind the head, and all others
    /// are.
    pub(crate) number: u64,
    pub(crate) recovered: bool,
    pub(crate) messages: Vec<Stored>,
}

impl Replay {
    /// Behind the last message that the topic has had.
    pub fn position(&self) -> Position {
        self.head
    }

    /// Whether all from the wanted position on is kept: then the messages are those that follow it, and if there were
    /// too many for one read, the next goes on behind the last of them, up to [`position`](Replay::position). If not,
    /// some are gone, and the messages are the newest.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// The messages, oldest first.
    pub fn messages(&self) -> &[Stored] {
        &self.messages
    }
}

/// A message of a history.
#[derive(Clone)]
pub struct Stored {
    pub(crate) stamp: Stamp,
    pub(crate) event: Arc<str>,
    pub(crate) payload: Payload,
    /// How old it was when it was read, in milliseconds; 0 where its store does not know.
    pub(crate) age_ms: u64,
}

impl Stored {
    /// Where it stands.
    pub fn position(&self) -> Position {
        self.stamp.position
    }

    /// Its event.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Its payload.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Its parts, as a reply takes them.
    pub(crate) fn parts(&self) -> (&str, &Payload, Position) {
        (&self.event, &self.payload, self.stamp.position)
    }

    /// Appends the object by which clients are told: `event`, `payload` as in a message, and `position`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        frame::kept_message(&self.event, &self.payload, self.stamp.position, out);
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may hold secrets.
        f.debug_struct("Stored")
            .field("position", &self.stamp.position)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}
