//! The histories of many topics under common bounds, without locks and clocks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fanfare_proto::history::{Retention, Stream};
use fanfare_proto::payload::Payload;
use fanfare_proto::position::{Epoch, Position, Since};
use hashbrown::HashMap;

use super::{HistoryLimits, Replay, Stored, Wanted};
use crate::error::Error;

/// What a kept message takes beside its event and payload, in bytes: about what the allocator gives for it.
const ENTRY_SIZE: usize = 96;

/// A topic without messages is remembered for so long after the last one: who comes back meanwhile has missed nothing.
const REMEMBERED_MS: u64 = 24 * 3_600_000;

/// Idempotency keys are remembered for so long.
const KEY_AGE_MAX_MS: u64 = 5 * 60_000;

/// A topic remembers at most so many keys.
const KEYS_MAX: usize = 1_024;

/// Some or all of a store's topics.
#[derive(Debug)]
pub(super) struct Topics {
    limits: HistoryLimits,
    by_name: HashMap<Arc<str>, Topic, foldhash::fast::RandomState>,
    /// The topics by the time of their last message, as a count of messages.
    by_age: BTreeMap<u64, Arc<str>>,
    appends: u64,
    bytes: usize,
    /// That of topics that are not known. It changes whenever one is forgotten: nobody may take the topic's next life for the
    /// one before.
    epoch: Epoch,
    seed: u64,
}

#[derive(Debug)]
struct Topic {
    stream: Stream<Entry>,
    retention: Retention,
    keys: Keys,
    /// Its place in `by_age`.
    age: u64,
    last_ms: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Arc<str>,
    pub(super) payload: Payload,
}

/// The idempotency keys of a topic, oldest first.
#[derive(Debug, Default)]
struct Keys {
    positions: HashMap<Arc<str>, Position, foldhash::fast::RandomState>,
    order: VecDeque<(u64, Arc<str>)>,
}

/// What becomes of a message, as far as its topic is concerned.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is to be kept, at this position.
    Keep(Position),
    /// It was kept before.
    Repeated(Position),
}

impl Topics {
    /// No topics. Their epochs follow from the seed.
    pub(super) fn new(limits: HistoryLimits, mut seed: u64) -> Self {
        Topics {
            limits,
            by_name: HashMap::default(),
            by_age: BTreeMap::new(),
            appends: 0,
            bytes: 0,
            epoch: next_epoch(&mut seed),
            seed,
        }
    }

    /// What is to become of a message.
    ///
    /// # Errors
    /// The topic is not where it was expected to be.
    pub(super) fn judge(
        &mut self,
        topic: &str,
        key: Option<&str>,
        expected: Option<Since>,
        now_ms: u64,
    ) -> Result<Verdict, Error> {
        let topic = self.by_name.get_mut(topic);
        let head = topic.as_ref().map_or(Position { epoch: self.epoch, offset: 0 }, |topic| topic.stream.head());
        if let (Some(topic), Some(key)) = (topic, key)
            && let Some(position) = topic.keys.find(key, now_ms)
        {
            return Ok(Verdict::Repeated(position));
        }
        let is_there = match expected {
            None | Some(Since::Now) => true,
            Some(Since::Start) => head.offset == 0,
            Some(Since::Position(position)) => head == position,
        };
        if !is_there {
            return Err(Error::conflict(format!(
                "the topic is at {}, not where the message expects it: read what has come since, and publish again",
                if head.offset == 0 { "0:0".to_owned() } else { head.to_string() },
            )));
        }
        Ok(Verdict::Keep(Position { offset: head.offset + 1, ..head }))
    }

    /// Keeps a message at the position that [`judge`](Topics::judge) gave.
    pub(super) fn keep(
        &mut self,
        topic: &Arc<str>,
        position: Position,
        entry: Entry,
        key: Option<&str>,
        retention: Retention,
        now_ms: u64,
    ) {
        let size = entry.size();
        self.change(topic, position.epoch, retention, now_ms, |topic| {
            let appended = topic.stream.append(entry, size, now_ms, &retention);
            debug_assert_eq!(appended, position, "nothing came between the judgement and this");
            topic.keys.remember(key, position, now_ms);
        });
        self.evict(now_ms);
    }

    /// What of a topic a reader gets. A topic that is not known stays so: its epoch is that of whoever is the first to
    /// publish there.
    pub(super) fn read(&mut self, name: &str, wanted: Wanted, now_ms: u64) -> Replay {
        let Wanted { since, limit, newest } = wanted;
        let Some(topic) = self.by_name.get_mut(name) else {
            let head = Position { epoch: self.epoch, offset: 0 };
            let recovered = !matches!(since, Since::Position(position) if position != head);
            return Replay { head, recovered, messages: Vec::new() };
        };
        let before = topic.stream.bytes();
        topic.stream.trim(now_ms, &topic.retention);
        self.bytes -= before - topic.stream.bytes();
        let recovery = topic.stream.recover(since, limit);
        let comes_back = recovery.recovered && since != Since::Now;
        let count = if comes_back { recovery.count } else { newest };
        let stored = |(position, entry): (Position, &Entry)| Stored {
            position,
            event: entry.event.clone(),
            payload: entry.payload.clone(),
        };
        let messages = topic.stream.newest(count).map(stored).collect();
        Replay { head: topic.stream.head(), recovered: recovery.recovered, messages }
    }

    /// Changes a topic, and keeps account of it.
    fn change(
        &mut self,
        name: &Arc<str>,
        epoch: Epoch,
        retention: Retention,
        now_ms: u64,
        change: impl FnOnce(&mut Topic),
    ) {
        let age = self.appends;
        self.appends += 1;
        let topic = self.by_name.entry_ref(&**name).or_insert_with(|| Topic {
            stream: Stream::new(epoch),
            retention,
            keys: Keys::default(),
            age,
            last_ms: now_ms,
        });
        let shared = self.by_age.remove(&topic.age).unwrap_or_else(|| name.clone());
        self.by_age.insert(age, shared);
        (topic.age, topic.last_ms, topic.retention) = (age, now_ms, retention);
        let before = topic.bytes();
        change(topic);
        self.bytes = self.bytes + topic.bytes() - before;
    }

    /// Forgets what the common bounds have no room for, and whom nobody can remember.
    fn evict(&mut self, now_ms: u64) {
        // The topic that has just been published to is the last to go.
        while self.by_age.len() > 1
            && let Some(oldest) = self.by_age.first_entry()
        {
            let topic = &self.by_name[oldest.get()];
            let is_too_much = self.bytes > self.limits.bytes_max || self.by_name.len() > self.limits.topics_max;
            let forgotten_ms = topic.last_ms.saturating_add(topic.retention.age_max_ms).saturating_add(REMEMBERED_MS);
            if !is_too_much && forgotten_ms > now_ms {
                return;
            }
            let topic = self.by_name.remove(&oldest.remove()).expect("both name the same topics");
            self.bytes -= topic.bytes();
            self.epoch = next_epoch(&mut self.seed);
        }
    }
}

impl Topic {
    fn bytes(&self) -> usize {
        self.stream.bytes() + self.keys.bytes()
    }
}

impl Entry {
    pub(super) fn size(&self) -> usize {
        ENTRY_SIZE + self.event.len() + self.payload.size()
    }
}

impl Keys {
    fn find(&mut self, key: &str, now_ms: u64) -> Option<Position> {
        self.forget(now_ms);
        self.positions.get(key).copied()
    }

    fn remember(&mut self, key: Option<&str>, position: Position, now_ms: u64) {
        self.forget(now_ms);
        let Some(key) = key.map(Arc::<str>::from) else { return };
        self.positions.insert(key.clone(), position);
        self.order.push_back((now_ms, key));
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some((at_ms, key)) = self.order.front()
            && (at_ms.saturating_add(KEY_AGE_MAX_MS) <= now_ms || self.order.len() >= KEYS_MAX)
        {
            self.positions.remove(key);
            self.order.pop_front();
        }
    }

    fn bytes(&self) -> usize {
        self.order.len() * ENTRY_SIZE
    }
}

/// An epoch that no topic has had, by the steps of SplitMix64.
fn next_epoch(seed: &mut u64) -> Epoch {
    loop {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if let Some(epoch) = Epoch::new(mixed ^ (mixed >> 31)) {
            return epoch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: HistoryLimits = HistoryLimits { bytes_max: 1_000_000, topics_max: 1_000 };

    fn publish(topics: &mut Topics, topic: &str, key: Option<&str>, now_ms: u64) -> Position {
        match topics.judge(topic, key, None, now_ms).unwrap() {
            Verdict::Repeated(position) => position,
            Verdict::Keep(position) => {
                let entry = Entry { event: "e".into(), payload: Payload::default() };
                topics.keep(&topic.into(), position, entry, key, Retention::default(), now_ms);
                position
            }
        }
    }

    fn resumes(topics: &mut Topics, topic: &str, position: Position, now_ms: u64) -> Option<usize> {
        let wanted = Wanted { since: Since::Position(position), limit: 100, newest: 0 };
        let replay = topics.read(topic, wanted, now_ms);
        replay.recovered.then_some(replay.messages.len())
    }

    #[test]
    fn topics_give_way_to_those_published_to_later() {
        for limits in [HistoryLimits { topics_max: 2, ..PLENTY }, HistoryLimits { bytes_max: 250, ..PLENTY }] {
            let mut topics = Topics::new(limits, 1);
            let [a, b] = ["a", "b"].map(|topic| publish(&mut topics, topic, None, 0));
            publish(&mut topics, "a", None, 0);
            let c = publish(&mut topics, "c", None, 0);
            assert_eq!(resumes(&mut topics, "b", b, 0), None, "it was published to before the others: {limits:?}");
            assert_eq!(resumes(&mut topics, "c", c, 0), Some(0));
            if limits.bytes_max == PLENTY.bytes_max {
                assert_eq!(resumes(&mut topics, "a", a, 0), Some(1));
            }
            let again = publish(&mut topics, "b", None, 0);
            assert!(again.offset == 1 && again.epoch != b.epoch, "a new life has a new epoch");
            assert!(topics.by_name.len() <= 2 && topics.bytes <= 300);
        }
    }

    #[test]
    fn a_topic_is_remembered_without_messages_for_a_day() {
        let mut topics = Topics::new(PLENTY, 1);
        let last = publish(&mut topics, "a", None, 0);
        let day = REMEMBERED_MS + Retention::default().age_max_ms;
        publish(&mut topics, "b", None, day - 1);
        assert_eq!(resumes(&mut topics, "a", last, day - 1), Some(0));
        assert_eq!(topics.bytes, topics.by_name.values().map(Topic::bytes).sum::<usize>());
        publish(&mut topics, "b", None, day);
        assert_eq!(resumes(&mut topics, "a", last, day), None);
    }

    /// A reader of a topic where nothing was ever published misses nothing that comes later.
    #[test]
    fn a_topic_begins_with_the_epoch_that_its_readers_were_told() {
        let mut topics = Topics::new(PLENTY, 1);
        let now = Wanted { since: Since::Now, limit: 100, newest: 0 };
        let head = topics.read("a", now, 0).head;
        publish(&mut topics, "a", None, 0);
        assert_eq!(resumes(&mut topics, "a", head, 0), Some(1));
        assert!(topics.by_name.len() == 1, "a read makes no topic");
    }

    #[test]
    fn keys_are_remembered_for_a_while_and_so_many() {
        let mut topics = Topics::new(PLENTY, 1);
        let first = publish(&mut topics, "a", Some("k"), 0);
        assert_eq!(publish(&mut topics, "a", Some("k"), KEY_AGE_MAX_MS - 1), first);
        assert_ne!(publish(&mut topics, "b", Some("k"), 0).epoch.number(), 0, "keys are a topic's own");
        assert_ne!(publish(&mut topics, "a", Some("k"), KEY_AGE_MAX_MS), first);
        for n in 0..KEYS_MAX {
            publish(&mut topics, "c", Some(&n.to_string()), 0);
        }
        assert_eq!(topics.by_name["c"].keys.order.len(), KEYS_MAX);
        assert_eq!(publish(&mut topics, "c", Some("1"), 0).offset, 2);
        publish(&mut topics, "c", Some("one more"), 0);
        assert!(publish(&mut topics, "c", Some("0"), 0).offset > 2, "the oldest gave way");
    }
}
