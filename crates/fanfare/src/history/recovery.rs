//! What a log makes of a store's topics at a start.
//!
//! Copies of a message may stand behind later ones, since a log is made shorter by copying what is worth keeping to its end:
//! messages are put in order here, and of equal offsets the last one counts. The last epoch of a topic is its epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare_proto::position::{Epoch, Position};
use hashbrown::HashMap;

use super::HistoryLimits;
use super::bounds::Bounds;
use super::files::Files;
use super::log::{Found, Seen, Stamp, frame, replay};
use super::record::{self, Record};
use super::topics::{Entry, Life, Topics};
use super::unknown::{Forgotten, next_epoch};
use crate::error::Error;
use crate::policy::Policies;

/// What a start depends on beside the log.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) limits: HistoryLimits,
    pub(super) policies: &'a Policies,
    /// Under what the log will be written; the epoch of unknown topics is set here.
    pub(super) stamp: Stamp,
    /// The wall clock, in milliseconds since 1970.
    pub(super) wall_ms: u64,
    pub(super) seed: u64,
}

/// What was made of it.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) topics: Topics,
    pub(super) found: Found,
    pub(super) stamp: Stamp,
    /// The epoch that all topics were given, because something may be missing.
    pub(super) renewed: Option<Epoch>,
    /// Records of topics that are not known any more.
    pub(super) forgotten: Vec<u8>,
    /// Whether the log must say what is new before anybody relies on it.
    pub(super) is_to_be_said: bool,
    /// The topics, by the segment where each begins.
    pub(super) origins: BTreeMap<u64, Vec<Arc<str>>>,
    /// The time now: that of the wall clock, but never before a time in the log.
    pub(super) now_ms: u64,
}

/// Reads the log.
///
/// # Errors
/// A file cannot be read, or is of another version.
pub(super) fn recover(files: &impl Files, start: Start<'_>) -> Result<Recovered, Error> {
    let Start { limits, policies, mut stamp, wall_ms, mut seed } = start;
    let (by_name, forgotten) = (HashMap::default(), HashMap::default());
    let mut lives = Lives { by_name, forgotten, unknown: next_epoch(&mut seed), newest_ms: wall_ms };
    let found = replay(files, stamp.boot, &mut |segment, seen| lives.see(segment, seen))?;
    let renewed = found.is_incomplete.then(|| next_epoch(&mut seed));
    if let Some(epoch) = renewed {
        lives.renew(epoch);
    }
    // What was published while topics kept no history is in no log: nobody may be told that he has missed nothing.
    let are_policies_new = found.stamp.is_some_and(|before| before.policies != stamp.policies)
        || lives.by_name.keys().any(|name| policies.retention(name).is_none());
    if are_policies_new {
        lives.begin_anew(next_epoch(&mut seed));
    }
    let Lives { by_name, forgotten, unknown, newest_ms: now_ms } = lives;
    let mut by_age: Vec<(Arc<str>, Life)> = by_name.into_iter().map(|(name, life)| (name, life.end())).collect();
    by_age.sort_unstable_by_key(|(_, life)| life.last_ms);
    let mut topics = Topics::new(Arc::new(Bounds::new(limits)), limits.topics_max, next_epoch(&mut seed).number());
    let mut origins: BTreeMap<u64, Vec<Arc<str>>> = BTreeMap::new();
    for (name, Forgotten { origin, .. }) in &forgotten {
        origins.entry(*origin).or_default().push(name.clone());
    }
    topics.unknown().restore(unknown, forgotten);
    let mut forgotten = Vec::new();
    for (name, life) in by_age {
        let Some(retention) = policies.retention(&name) else {
            frame(&mut forgotten, |out| Record::Forgotten { topic: &name, epoch: unknown }.write(out));
            continue;
        };
        origins.entry(life.origin).or_default().push(name.clone());
        topics.restore(&name, retention, life);
        topics.trimmed(&name, now_ms);
    }
    let is_to_be_said = renewed.is_some() || are_policies_new;
    topics.evict(now_ms, |record| frame(&mut forgotten, |out| record.write(out)));
    stamp.unknown = topics.unknown().epoch().number();
    Ok(Recovered { topics, found, stamp, renewed, forgotten, is_to_be_said, origins, now_ms })
}

/// The topics, as far as the log was read.
struct Lives {
    by_name: HashMap<Arc<str>, Life, foldhash::fast::RandomState>,
    forgotten: HashMap<Arc<str>, Forgotten, foldhash::fast::RandomState>,
    /// The epoch of all other topics.
    unknown: Epoch,
    newest_ms: u64,
}

impl Lives {
    fn see(&mut self, segment: u64, seen: Seen<'_>) -> bool {
        match seen {
            Seen::Header { unknown, renewed } => {
                let (unknown, renewed) = (Epoch::new(unknown), Epoch::new(renewed));
                if let Some(epoch) = renewed {
                    self.renew(epoch);
                }
                if let Some(epoch) = unknown.filter(|epoch| *epoch != self.unknown) {
                    self.begin_anew(epoch);
                }
                unknown.is_some()
            }
            // What was worth keeping was copied; the others were forgotten since, even if that is in no segment any more.
            Seen::Oldest(oldest) => {
                self.by_name.retain(|_, life| life.newest >= oldest);
                self.forgotten.retain(|_, forgotten| forgotten.origin >= oldest);
                true
            }
            Seen::Record(bytes) => record::read(bytes, |record| self.replay(segment, record)).is_some(),
        }
    }

    fn replay(&mut self, segment: u64, record: Record<'_>) {
        match record {
            Record::Message { topic, position, at_ms, key, event, payload } => {
                let life = self.life(segment, topic, position, at_ms);
                let entry = Entry { event: event.into(), payload: payload.clone() };
                life.messages.push((position.offset, at_ms, entry));
                if !key.is_empty() {
                    life.keys.push((key.into(), position.offset, at_ms));
                }
            }
            Record::Head { topic, position, at_ms } => {
                self.life(segment, topic, position, at_ms);
            }
            Record::Key { topic, position, at_ms, key } => {
                // Of a message that came when it came, whatever the topic has had since.
                let life = self.life(segment, topic, Position { offset: 0, ..position }, 0);
                life.keys.push((key.into(), position.offset, at_ms));
            }
            Record::Forgotten { topic, epoch } => self.forget(segment, topic, epoch),
            Record::Unknown { epoch } => self.begin_anew(epoch),
        }
    }

    /// The topic of a record, which knows of that position and time afterwards.
    fn life(&mut self, segment: u64, topic: &str, position: Position, at_ms: u64) -> &mut Life {
        self.newest_ms = self.newest_ms.max(at_ms);
        self.forgotten.remove(topic);
        let begin = || Life {
            head: position,
            last_ms: 0,
            origin: segment,
            newest: segment,
            messages: Vec::new(),
            keys: Vec::new(),
        };
        let life = self.by_name.entry_ref(topic).or_insert_with(begin);
        if life.head.epoch != position.epoch {
            *life = begin();
        }
        life.newest = segment;
        life.head.offset = life.head.offset.max(position.offset);
        life.last_ms = life.last_ms.max(at_ms);
        life
    }

    fn forget(&mut self, segment: u64, topic: &str, epoch: Epoch) {
        // A copy may stand behind the first message of the life that has its epoch.
        if self.by_name.get(topic).is_some_and(|life| life.head.epoch == epoch) {
            return;
        }
        let shared = self.by_name.remove_entry(topic).map_or_else(|| topic.into(), |(shared, _)| shared);
        if epoch != self.unknown {
            self.forgotten.insert(shared, Forgotten { epoch, origin: segment });
        }
    }

    /// Gives all topics an epoch.
    fn renew(&mut self, epoch: Epoch) {
        self.by_name.values_mut().for_each(|life| life.head.epoch = epoch);
        self.begin_anew(epoch);
    }

    /// Gives all topics an epoch that are not known.
    fn begin_anew(&mut self, epoch: Epoch) {
        self.unknown = epoch;
        self.forgotten.clear();
    }
}

impl Life {
    /// Leaves what there is without gaps up to the head.
    fn end(mut self) -> Self {
        // Both sorts are stable, and of equals the last one stays.
        self.messages.reverse();
        self.messages.sort_by_key(|&(offset, _, _)| offset);
        self.messages.dedup_by_key(|&mut (offset, _, _)| offset);
        let mut next = self.head.offset;
        let whole = self.messages.iter().rev().take_while(|&&(offset, _, _)| {
            let is_next = offset == next;
            next = next.wrapping_sub(1);
            is_next
        });
        let whole = whole.count();
        self.messages.drain(..self.messages.len() - whole);
        self.keys.sort_by(|(key, offset, _), (other, other_offset, _)| (key, offset).cmp(&(other, other_offset)));
        self.keys.dedup_by(|(key, offset, _), (other, other_offset, _)| key == other && offset == other_offset);
        self.keys.sort_by_key(|&(_, _, at_ms)| at_ms);
        self
    }
}
