//! The logs of one server in memory, without time and chance of their own: what a broker's scripts do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::history::Retention;
use fanfare_proto::position::{Epoch, Position, Since};

use crate::broker::{Appended, Cell, Entry, Epochs, Head, Page, Read, Stamp, Swapped};

/// A server knows so many topics at most; above it others are forgotten, and their readers are told.
const TOPICS_MAX: usize = 1_000_000;

/// A topic remembers so many idempotency keys, and for so long.
const KEYS_MAX: usize = 1_024;
const KEYS_AGE_MAX_MS: u64 = 5 * 60_000;

/// A server has so many cells at most.
const CELLS_MAX: usize = 65_536;

/// What a server keeps. A copy of it is what a replica has.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// What cannot survive a lost tail.
    pub(super) session: u64,
    logs: HashMap<Arc<str>, TopicLog>,
    cells: BTreeMap<String, Cell>,
    /// Cells that were taken away: a revision is never used twice.
    last_revision: u64,
}

/// The log of one topic.
#[derive(Debug, Clone)]
struct TopicLog {
    /// Of the last append.
    session: u64,
    epochs: Epochs,
    head: Position,
    entries: VecDeque<Kept>,
    bytes: usize,
    keys: VecDeque<(Box<str>, Position, u64)>,
}

#[derive(Debug, Clone)]
struct Kept {
    entry: Entry,
    at_ms: u64,
}

/// What a server is asked to add.
pub(super) struct Addition<'a> {
    pub(super) topic: &'a Arc<str>,
    pub(super) envelope: Bytes,
    pub(super) retention: Retention,
    pub(super) key: Option<Box<str>>,
    pub(super) expected: Option<Since>,
    pub(super) now_ms: u64,
    /// For a life or session that begins.
    pub(super) fresh: Epoch,
}

impl Server {
    pub(super) fn new(session: u64) -> Self {
        Server { session, logs: HashMap::new(), cells: BTreeMap::new(), last_revision: 0 }
    }

    pub(super) fn append(&mut self, addition: Addition<'_>) -> Appended {
        let Addition { topic, envelope, retention, key, expected, now_ms, fresh } = addition;
        let session = self.session;
        let log = self.log(topic, fresh);
        log.forget_keys(now_ms);
        let repeated = key.as_ref().and_then(|key| log.keys.iter().find(|(known, ..)| known == key));
        if let Some((_, position, _)) = repeated {
            return Appended::Repeated(*position);
        }
        let is_there = match expected {
            None | Some(Since::Now) => true,
            Some(Since::Start) => log.head.offset == 0,
            Some(Since::Position(position)) => log.head == position,
        };
        if !is_there {
            return Appended::Conflict(log.head);
        }
        let offset = log.head.offset + 1;
        if log.session != session {
            log.session = session;
            log.epochs.begin(fresh, offset);
        }
        let stamp = Stamp { position: Position { epoch: log.epochs.newest(), offset }, prev: log.head };
        log.head = stamp.position;
        log.bytes += envelope.len();
        log.entries.push_back(Kept { entry: Entry { stamp, envelope }, at_ms: now_ms });
        let first = log.first_kept(&retention, now_ms);
        log.entries.drain(..first).for_each(|kept| log.bytes -= kept.entry.envelope.len());
        if let Some(key) = key {
            log.keys.push_back((key, stamp.position, now_ms));
            log.forget_keys(now_ms);
        }
        Appended::New(stamp)
    }

    /// The head of a topic, which begins if it is not known.
    pub(super) fn head(&mut self, topic: &Arc<str>, fresh: Epoch) -> Head {
        let log = self.log(topic, fresh);
        Head { position: log.head, epochs: log.epochs.clone() }
    }

    #[cfg(feature = "testing")]
    pub(super) fn position(&self, topic: &str) -> Option<Position> {
        self.logs.get(topic).map(|log| log.head)
    }

    pub(super) fn read(&mut self, topic: &Arc<str>, read: Read, now_ms: u64, fresh: Epoch) -> Page {
        let log = self.log(topic, fresh);
        let head = Head { position: log.head, epochs: log.epochs.clone() };
        let first = log.first_kept(&read.retention, now_ms);
        let (missed, recovered) = match read.since {
            Since::Now => (None, true),
            Since::Start => (log.after(0, first), true),
            Since::Position(at) if head.has(at) => (log.after(at.offset, first), true),
            Since::Position(_) => (None, false),
        };
        let (start, limit, bytes_max) = match missed {
            Some(start) => (start, read.limit, read.bytes_max),
            None => (first.max(log.entries.len().saturating_sub(read.newest)), read.newest, usize::MAX),
        };
        let recovered = recovered && (missed.is_some() || read.since == Since::Now);
        let mut bytes = 0;
        let fits = |entry: &&Kept| {
            let is_first = bytes == 0;
            bytes += entry.entry.envelope.len();
            is_first || bytes <= bytes_max
        };
        let entries = log.entries.iter().skip(start).take(limit).take_while(fits).map(|kept| kept.entry.clone());
        Page { head, recovered, entries: entries.collect() }
    }

    /// Everything is gone.
    pub(super) fn flush(&mut self) {
        self.logs.clear();
        self.cells.clear();
    }

    /// A topic is forgotten, or only its messages are.
    pub(super) fn evict(&mut self, topic: &str, only_messages: bool) {
        match self.logs.get_mut(topic) {
            Some(log) if only_messages => {
                log.entries.clear();
                log.bytes = 0;
            }
            _ => drop(self.logs.remove(topic)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Cell> {
        self.cells.get(name).cloned()
    }

    /// `None`: there is no room for another cell.
    pub(super) fn put_if(&mut self, name: &str, revision: Option<u64>, value: Bytes, now_us: u64) -> Option<Swapped> {
        let found = self.cells.get(name);
        if found.map(|cell| cell.revision) != revision {
            return Some(Swapped::Not(found.cloned()));
        }
        if found.is_none() && self.cells.len() >= CELLS_MAX {
            return None;
        }
        self.last_revision = (self.last_revision + 1).max(now_us);
        let revision = self.last_revision;
        self.cells.insert(name.to_owned(), Cell { revision, value });
        Some(Swapped::Done(revision))
    }

    pub(super) fn delete_if(&mut self, name: &str, revision: u64) -> Swapped {
        match self.cells.get(name) {
            Some(cell) if cell.revision == revision => {
                self.cells.remove(name);
                Swapped::Done(revision)
            }
            found => Swapped::Not(found.cloned()),
        }
    }

    pub(super) fn list(&self, prefix: &str) -> Vec<(String, Cell)> {
        let cells = self.cells.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        cells.map(|(name, cell)| (name.clone(), cell.clone())).collect()
    }

    fn log(&mut self, topic: &Arc<str>, fresh: Epoch) -> &mut TopicLog {
        if self.logs.len() >= TOPICS_MAX
            && !self.logs.contains_key(topic)
            && let Some(any) = self.logs.keys().next().cloned()
        {
            self.logs.remove(&any);
        }
        let session = self.session;
        self.logs.entry(topic.clone()).or_insert_with(|| TopicLog {
            session,
            epochs: Epochs::new(fresh, 0),
            head: Position { epoch: fresh, offset: 0 },
            entries: VecDeque::new(),
            bytes: 0,
            keys: VecDeque::new(),
        })
    }
}

impl TopicLog {
    /// The first of the messages that count as kept.
    fn first_kept(&self, retention: &Retention, now_ms: u64) -> usize {
        let too_many = self.entries.len().saturating_sub(retention.messages_max.max(1));
        let is_old = |kept: &Kept| kept.at_ms.saturating_add(retention.age_max_ms) <= now_ms;
        let mut bytes: usize = self.entries.range(too_many..).map(|kept| kept.entry.envelope.len()).sum();
        let mut first = too_many;
        while let Some(kept) = self.entries.get(first) {
            let is_too_much = bytes > retention.bytes_max && first + 1 < self.entries.len();
            if !is_too_much && !is_old(kept) {
                break;
            }
            bytes -= kept.entry.envelope.len();
            first += 1;
        }
        first
    }

    /// Where the messages behind an offset of the log begin, if all of them are kept.
    fn after(&self, offset: u64, first: usize) -> Option<usize> {
        if offset == self.head.offset {
            return Some(self.entries.len());
        }
        let found = self.entries.iter().position(|kept| kept.entry.stamp.prev.offset == offset);
        found.filter(|found| *found >= first)
    }

    fn forget_keys(&mut self, now_ms: u64) {
        while let Some((.., at_ms)) = self.keys.front()
            && (self.keys.len() > KEYS_MAX || at_ms.saturating_add(KEYS_AGE_MAX_MS) <= now_ms)
        {
            self.keys.pop_front();
        }
    }
}
