//! The histories of some or all topics of a store, without locks and clocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare_proto::history::{Retention, Stream};
use fanfare_proto::payload::Payload;
use fanfare_proto::position::{Epoch, Position, Since, Stamp};
use hashbrown::HashMap;

use super::bounds::{Age, Bounds};
use super::keys::Keys;
use super::record::{RECORD_SIZE, Record};
use super::unknown::Unknown;
use super::{Replay, Stored, Wanted};
use crate::error::Error;

/// What a kept message takes beside its event and payload, in bytes: about what the allocator gives for it.
const ENTRY_SIZE: usize = 96;

/// A topic without messages is remembered for so long after the last one: who comes back meanwhile has missed nothing.
const REMEMBERED_MS: u64 = 24 * 3_600_000;

/// Some or all of a store's topics.
#[derive(Debug)]
pub(super) struct Topics {
    /// Those of all topics of the store.
    bounds: Arc<Bounds>,
    by_name: HashMap<Arc<str>, Topic, foldhash::fast::RandomState>,
    /// Their names by their ages, each with the time from which on nobody can remember the topic.
    by_age: BTreeMap<Age, (Arc<str>, u64)>,
    /// If all topics were written to a log, at most, in bytes.
    log_size: usize,
    unknown: Unknown,
}

/// One topic that is known.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) stream: Stream<Entry>,
    retention: Retention,
    pub(super) keys: Keys,
    /// Its place in `by_age`.
    age: Age,
    pub(super) last_ms: u64,
    /// The oldest segment of a log in which something of it may be; 0 without a log.
    pub(super) origin: u64,
}

/// A message that was kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Whether its topic was not known before.
    pub(super) is_new: bool,
    /// See [`Message::number`](crate::message::Message::number).
    pub(super) number: u64,
}

/// What something takes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    memory: usize,
    /// If all of it that is worth keeping were written to a log, at most.
    log: usize,
    messages: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Arc<str>,
    pub(super) payload: Payload,
}

/// Where a topic stands for a message that comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) head: Position,
    /// Where the message with the same key stands, if there was one.
    pub(super) repeated: Option<Position>,
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
    /// No topics, and none that are forgotten, of which so many may be remembered. Epochs follow from the seed.
    pub(super) fn new(bounds: Arc<Bounds>, forgotten_max: usize, seed: u64) -> Self {
        let unknown = Unknown::new(forgotten_max, seed);
        Topics { bounds, by_name: HashMap::default(), by_age: BTreeMap::new(), log_size: 0, unknown }
    }

    /// How many topics its store has, and how many bytes they take.
    #[cfg(feature = "metrics")]
    pub(super) fn taken(&self) -> (usize, usize) {
        self.bounds.taken()
    }

    /// How many messages it keeps.
    #[cfg(feature = "metrics")]
    pub(super) fn messages(&self) -> usize {
        self.bounds.messages()
    }

    /// The topics that are not here.
    pub(super) fn unknown(&mut self) -> &mut Unknown {
        &mut self.unknown
    }

    /// The bytes that a log of all topics takes which has nothing else, at most.
    pub(super) fn log_size(&self) -> usize {
        self.log_size + self.unknown.log_size()
    }

    /// When the topic was published to which waits for the next message for the longest time; `None` without topics.
    pub(super) fn oldest(&self) -> Option<Age> {
        self.by_age.first_key_value().map(|(age, _)| *age)
    }

    /// Where a topic stands for a message with this key.
    pub(super) fn standing(&mut self, topic: &str, key: Option<&str>, now_ms: u64) -> Standing {
        match self.by_name.get_mut(topic) {
            None => Standing { head: self.unknown.head_of(topic), repeated: None },
            Some(topic) => {
                Standing { head: topic.stream.head(), repeated: key.and_then(|key| topic.keys.find(key, now_ms)) }
            }
        }
    }

    /// Keeps a message at the position that its topic's [`Standing`] gave; `origin` is where it is in a log then. Those that have to go for it are to be forgotten once all that has its position is
    /// kept.
    #[expect(clippy::too_many_arguments, reason = "all that a message is kept with")]
    pub(super) fn keep(
        &mut self,
        topic: &Arc<str>,
        position: Position,
        entry: Entry,
        key: Option<&str>,
        retention: Retention,
        now_ms: u64,
        origin: u64,
    ) -> Kept {
        let size = entry.size();
        self.change(topic, position.epoch, retention, now_ms, origin, |topic| {
            let appended = topic.stream.append(entry, size, now_ms, &topic.retention);
            debug_assert_eq!(appended, position, "nothing came between the judgement and this");
            match key {
                Some(key) => topic.keys.remember(key, position, now_ms),
                None => topic.keys.forget(now_ms),
            }
        })
    }

    /// Puts a topic back that another process has left. Those published to last come last.
    pub(super) fn restore(&mut self, name: &Arc<str>, retention: Retention, life: Life) {
        let Life { head, last_ms, origin, newest: _, messages, keys } = life;
        let _ = self.change(name, head.epoch, retention, last_ms, origin, |topic| {
            for (offset, at_ms, entry) in messages {
                let size = entry.size();
                topic.stream.restore(offset, entry, size, at_ms);
            }
            topic.stream.restore_head(head.offset);
            for (key, offset, at_ms) in keys {
                topic.keys.remember(&key, Position { offset, ..head }, at_ms);
            }
        });
    }

    /// A topic, without what is too old; `None` if it is not known.
    pub(super) fn trimmed(&mut self, name: &str, now_ms: u64) -> Option<&mut Topic> {
        let topic = self.by_name.get_mut(name)?;
        let before = topic.size(name);
        topic.stream.trim(now_ms, &topic.retention);
        topic.keys.forget(now_ms);
        account(&self.bounds, &mut self.log_size, before, topic.size(name));
        Some(topic)
    }

    /// What of a topic a reader gets. A topic that is not known stays so: its epoch is that of whoever is the first to
    /// publish there.
    pub(super) fn read(&mut self, name: &str, wanted: Wanted, now_ms: u64) -> Replay {
        let Wanted { since, limit, bytes_max, newest } = wanted;
        let (unknown, newest_number) = (self.unknown.head_of(name), self.bounds.newest_number());
        let Some(topic) = self.trimmed(name, now_ms) else {
            let recovered = match since {
                Since::Position(position) => position == unknown,
                Since::Start => !self.unknown.may_be_forgotten(name),
                Since::Now => true,
            };
            return Replay { head: unknown, number: newest_number, recovered, messages: Vec::new() };
        };
        let recovery = topic.stream.recover(since);
        let comes_back = recovery.recovered && since != Since::Now;
        let (count, limit, bytes_max) =
            if comes_back { (recovery.count, limit, bytes_max) } else { (newest, newest, usize::MAX) };
        let head = topic.stream.head();
        let stored = |(offset, at_ms, entry): (u64, u64, &Entry)| Stored {
            stamp: Stamp::in_row(Position { offset, ..head }),
            event: entry.event.clone(),
            payload: entry.payload.clone(),
            age_ms: now_ms.saturating_sub(at_ms),
        };
        let mut bytes = 0;
        let fits = |(_, _, entry): &(u64, u64, &Entry)| {
            let is_first = bytes == 0;
            bytes += entry.event.len() + entry.payload.size();
            is_first || bytes <= bytes_max
        };
        let newest = topic.stream.after(head.offset.saturating_sub(count as u64));
        let messages = newest.take(limit).take_while(fits).map(stored).collect();
        Replay { head, number: topic.age.number(), recovered: recovery.recovered, messages }
    }

    /// Knows that nothing of a topic is in segments before this one, whether it is known or forgotten.
    pub(super) fn set_origin(&mut self, name: &str, segment: u64) {
        if let Some(topic) = self.by_name.get_mut(name) {
            topic.origin = segment;
        } else if let Some(forgotten) = self.unknown.forgotten(name) {
            forgotten.origin = segment;
        }
    }

    /// Changes a topic, and keeps account of it.
    fn change(
        &mut self,
        name: &Arc<str>,
        epoch: Epoch,
        retention: Retention,
        now_ms: u64,
        origin: u64,
        change: impl FnOnce(&mut Topic),
    ) -> Kept {
        let Topics { bounds, by_name, by_age, log_size, unknown } = self;
        let age = bounds.next_age();
        let bytes_max = retention.bytes_max.min(bounds.limits().bytes_max);
        let retention = Retention { bytes_max, ..retention };
        let mut is_new = false;
        let topic = by_name.entry_ref(&**name).or_insert_with(|| {
            is_new = true;
            unknown.remove(name);
            bounds.add_topic();
            Topic { stream: Stream::new(epoch), retention, keys: Keys::default(), age, last_ms: now_ms, origin }
        });
        let shared = by_age.remove(&topic.age).map_or_else(|| name.clone(), |(shared, _)| shared);
        let forgotten_ms = now_ms.saturating_add(retention.age_max_ms).saturating_add(REMEMBERED_MS);
        by_age.insert(age, (shared, forgotten_ms));
        let before = if is_new { Size::default() } else { topic.size(name) };
        (topic.age, topic.last_ms, topic.retention) = (age, now_ms, retention);
        change(topic);
        account(bounds, log_size, before, topic.size(name));
        Kept { is_new, number: age.number() }
    }

    /// Forgets whom nobody can remember, and what the common bounds have no room for, in a store that has all its topics
    /// here. Tells what a log has to know.
    pub(super) fn evict(&mut self, now_ms: u64, mut tell: impl FnMut(Record<'_>)) {
        self.expire(now_ms, &mut tell);
        while self.bounds.are_exceeded() {
            self.forget_oldest(&mut tell);
        }
    }

    /// Forgets the topics that nobody can remember.
    pub(super) fn expire(&mut self, now_ms: u64, tell: &mut impl FnMut(Record<'_>)) {
        while self.by_age.first_key_value().is_some_and(|(_, (_, forgotten_ms))| *forgotten_ms <= now_ms) {
            self.forget_oldest(tell);
        }
    }

    /// Forgets the topic to which nobody has published for the longest time.
    pub(super) fn forget_oldest(&mut self, tell: &mut impl FnMut(Record<'_>)) {
        let Some((_, (name, _))) = self.by_age.pop_first() else { return };
        let topic = self.by_name.remove(&name).expect("both name the same topics");
        account(&self.bounds, &mut self.log_size, topic.size(&name), Size::default());
        self.bounds.remove_topic();
        self.unknown.forget(&name, topic.origin, tell);
    }
}

impl Standing {
    /// What is to become of a message that expects its topic somewhere.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn judge(self, expected: Option<Since>) -> Result<Verdict, Error> {
        let Standing { head, repeated } = self;
        if let Some(position) = repeated {
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
}

/// What another process has left of a topic.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) head: Position,
    pub(super) last_ms: u64,
    /// The oldest and the newest segment of the log with something of it.
    pub(super) origin: u64,
    pub(super) newest: u64,
    /// Offset, time and content, by their offsets.
    pub(super) messages: Vec<(u64, u64, Entry)>,
    /// Keys with the offset of their message and its time, by their times.
    pub(super) keys: Vec<(Box<str>, u64, u64)>,
}

impl Topic {
    fn size(&self, name: &str) -> Size {
        let (stream, keys) = (&self.stream, &self.keys);
        let records = 1 + stream.len() + keys.len();
        let contents = stream.bytes() - stream.len() * ENTRY_SIZE + keys.text_size();
        let (memory, messages) = (stream.bytes() + keys.size(), stream.len());
        Size { memory, log: records * (RECORD_SIZE + name.len()) + contents, messages }
    }
}

/// Keeps account of a topic that has changed.
fn account(bounds: &Bounds, log_size: &mut usize, before: Size, after: Size) {
    bounds.change(before.memory, after.memory);
    bounds.change_messages(before.messages, after.messages);
    *log_size = *log_size + after.log - before.log;
}

impl Entry {
    pub(super) fn size(&self) -> usize {
        ENTRY_SIZE + self.event.len() + self.payload.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::HistoryLimits;

    const PLENTY: HistoryLimits = HistoryLimits { bytes_max: 1_000_000, topics_max: 1_000, ..HistoryLimits::DEFAULT };

    fn topics(limits: HistoryLimits) -> Topics {
        Topics::new(Arc::new(Bounds::new(limits)), limits.topics_max, 1)
    }

    fn publish(topics: &mut Topics, topic: &str, key: Option<&str>, now_ms: u64) -> Position {
        match topics.standing(topic, key, now_ms).judge(None).unwrap() {
            Verdict::Repeated(position) => position,
            Verdict::Keep(position) => {
                let entry = Entry { event: "e".into(), payload: Payload::default() };
                topics.keep(&topic.into(), position, entry, key, Retention::default(), now_ms, 0);
                topics.evict(now_ms, |_| {});
                position
            }
        }
    }

    fn resumes(topics: &mut Topics, topic: &str, position: Position, now_ms: u64) -> Option<usize> {
        let wanted = Wanted { since: Since::Position(position), limit: 100, bytes_max: usize::MAX, newest: 0 };
        let replay = topics.read(topic, wanted, now_ms);
        replay.recovered.then_some(replay.messages.len())
    }

    #[test]
    fn topics_give_way_to_those_published_to_later() {
        for limits in [HistoryLimits { topics_max: 2, ..PLENTY }, HistoryLimits { bytes_max: 250, ..PLENTY }] {
            let mut topics = topics(limits);
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
            let (count, bytes) = topics.bounds.taken();
            let messages: usize = topics.by_name.values().map(|topic| topic.stream.len()).sum();
            assert_eq!(topics.bounds.messages(), messages);
            assert!(count == topics.by_name.len() && count <= 2 && bytes <= 300);
        }
    }

    /// Whoever comes for everything is told that something is gone, whether the topic's name is still remembered or not.
    #[test]
    fn the_start_of_a_forgotten_topic_is_gone() {
        let from_start = |topics: &mut Topics, topic| {
            topics
                .read(topic, Wanted { since: Since::Start, limit: 100, bytes_max: usize::MAX, newest: 0 }, 0)
                .recovered
        };
        let mut topics = topics(HistoryLimits { topics_max: 2, ..PLENTY });
        for topic in ["a", "b", "c"] {
            publish(&mut topics, topic, None, 0);
        }
        assert!(!from_start(&mut topics, "a"));
        assert!(from_start(&mut topics, "c") && from_start(&mut topics, "nobody published here"));
        for topic in ["d", "e", "f"] {
            publish(&mut topics, topic, None, 0);
        }
        assert!(!from_start(&mut topics, "a") && from_start(&mut topics, "f"));
        assert!(!from_start(&mut topics, "nobody published here"), "that is not known any more");
    }

    #[test]
    fn a_topic_is_remembered_without_messages_for_a_day() {
        let mut topics = topics(PLENTY);
        let last = publish(&mut topics, "a", None, 0);
        let day = REMEMBERED_MS + Retention::default().age_max_ms;
        publish(&mut topics, "b", None, day - 1);
        assert_eq!(resumes(&mut topics, "a", last, day - 1), Some(0));
        let memory: usize = topics.by_name.iter().map(|(name, topic)| topic.size(name).memory).sum();
        assert_eq!(topics.bounds.taken(), (2, memory));
        publish(&mut topics, "b", None, day);
        assert_eq!(resumes(&mut topics, "a", last, day), None);
    }

    /// A reader of a topic where nothing was ever published misses nothing that comes later.
    #[test]
    fn a_topic_begins_with_the_epoch_that_its_readers_were_told() {
        let mut topics = topics(PLENTY);
        let now = Wanted { since: Since::Now, limit: 100, bytes_max: usize::MAX, newest: 0 };
        let head = topics.read("a", now, 0).head;
        publish(&mut topics, "a", None, 0);
        assert_eq!(resumes(&mut topics, "a", head, 0), Some(1));
        assert!(topics.by_name.len() == 1, "a read makes no topic");
    }

    #[test]
    fn keys_are_a_topics_own() {
        let mut topics = topics(PLENTY);
        let first = publish(&mut topics, "a", Some("k"), 0);
        assert_eq!(publish(&mut topics, "a", Some("k"), 1), first);
        assert_eq!(publish(&mut topics, "b", Some("k"), 2).offset, 1);
        publish(&mut topics, "a", None, 300_000);
        assert_eq!(publish(&mut topics, "a", Some("k"), 300_000).offset, 3, "it was forgotten");
    }
}
