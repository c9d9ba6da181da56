//! The topics that a store does not know, and under which epoch each of them would begin.
//!
//! A reader of a topic that nobody has published to is told a position in it, and has missed nothing when it comes back, as long
//! as that is so. A topic that was forgotten must not be taken for such a one: its next life has an epoch of its own. So those
//! that were forgotten are remembered by name, and all others share one epoch. Where there are too many names, all begin anew
//! with another epoch, and readers are told of a gap.

use std::sync::Arc;

use fanfare_proto::position::{Epoch, Position};
use hashbrown::HashMap;

use super::record::{RECORD_SIZE, Record};

/// The topics that are not known.
#[derive(Debug)]
pub(super) struct Unknown {
    /// Of all that were not forgotten.
    epoch: Epoch,
    forgotten: HashMap<Arc<str>, Forgotten, foldhash::fast::RandomState>,
    /// At most so many.
    forgotten_max: usize,
    /// There were too many: any topic may be one of them.
    has_lost_names: bool,
    /// If all of them were written to a log, at most, in bytes.
    log_size: usize,
    seed: u64,
}

/// A topic that was known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forgotten {
    pub(super) epoch: Epoch,
    /// The oldest segment of a log in which something of it may be; 0 without a log.
    pub(super) origin: u64,
}

impl Unknown {
    /// No topic was ever known. Epochs follow from the seed.
    pub(super) fn new(forgotten_max: usize, mut seed: u64) -> Self {
        let epoch = next_epoch(&mut seed);
        Unknown { epoch, forgotten: HashMap::default(), forgotten_max, has_lost_names: false, log_size: 0, seed }
    }

    /// The epoch of all topics that were not forgotten.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where a topic is that nobody has published to since it is not known.
    pub(super) fn head_of(&self, topic: &str) -> Position {
        let epoch = self.forgotten.get(topic).map_or(self.epoch, |forgotten| forgotten.epoch);
        Position { epoch, offset: 0 }
    }

    /// Whether a topic may have had messages.
    pub(super) fn may_be_forgotten(&self, topic: &str) -> bool {
        self.has_lost_names || self.forgotten.contains_key(topic)
    }

    /// Goes on where another process has stopped.
    pub(super) fn restore(&mut self, epoch: Epoch, forgotten: impl IntoIterator<Item = (Arc<str>, Forgotten)>) {
        self.begin_anew(epoch);
        for (topic, forgotten) in forgotten {
            self.add(topic, forgotten);
        }
        if self.forgotten.len() > self.forgotten_max {
            let epoch = next_epoch(&mut self.seed);
            self.begin_anew(epoch);
            self.has_lost_names = true;
        }
    }

    /// A topic is not known any more. Tells what a log has to know.
    pub(super) fn forget(&mut self, topic: &Arc<str>, origin: u64, tell: &mut impl FnMut(Record<'_>)) {
        let epoch = next_epoch(&mut self.seed);
        tell(Record::Forgotten { topic, epoch });
        if self.forgotten.len() < self.forgotten_max {
            self.add(topic.clone(), Forgotten { epoch, origin });
        } else {
            self.begin_anew(epoch);
            self.has_lost_names = true;
            tell(Record::Unknown { epoch });
        }
    }

    /// A topic is known.
    pub(super) fn remove(&mut self, topic: &str) {
        if self.forgotten.remove(topic).is_some() {
            self.log_size -= log_size(topic);
        }
    }

    /// What is known of a topic that was forgotten.
    pub(super) fn forgotten(&mut self, topic: &str) -> Option<&mut Forgotten> {
        self.forgotten.get_mut(topic)
    }

    /// The bytes that a log takes which has all topics that were forgotten and nothing else, at most.
    pub(super) fn log_size(&self) -> usize {
        self.log_size
    }

    fn add(&mut self, topic: Arc<str>, forgotten: Forgotten) {
        let size = log_size(&topic);
        if self.forgotten.insert(topic, forgotten).is_none() {
            self.log_size += size;
        }
    }

    fn begin_anew(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.forgotten.clear();
        self.log_size = 0;
    }
}

fn log_size(topic: &str) -> usize {
    RECORD_SIZE + topic.len()
}

/// An epoch that no topic has had, by the steps of SplitMix64.
pub(super) fn next_epoch(seed: &mut u64) -> Epoch {
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

    fn forget(unknown: &mut Unknown, topic: &str) -> Vec<String> {
        let mut told = Vec::new();
        unknown.forget(&topic.into(), 0, &mut |record| told.push(format!("{record:?}")));
        told
    }

    #[test]
    fn a_forgotten_topic_begins_anew_and_no_other() {
        let mut unknown = Unknown::new(2, 1);
        let first = unknown.head_of("never").epoch;
        assert_eq!(unknown.head_of("a").epoch, first);
        assert_eq!(forget(&mut unknown, "a").len(), 1);
        let second = unknown.head_of("a").epoch;
        assert!(second != first && unknown.head_of("never").epoch == first);
        // It is known, and forgotten again.
        unknown.remove("a");
        forget(&mut unknown, "a");
        assert!(![first, second].contains(&unknown.head_of("a").epoch));
    }

    #[test]
    fn too_many_forgotten_topics_are_a_new_beginning_for_all() {
        let mut unknown = Unknown::new(2, 1);
        let first = unknown.head_of("never").epoch;
        forget(&mut unknown, "a");
        forget(&mut unknown, "b");
        let [a, b] = ["a", "b"].map(|topic| unknown.head_of(topic).epoch);
        assert_eq!(unknown.head_of("never").epoch, first);
        assert_eq!(unknown.log_size(), 2 * (RECORD_SIZE + 1));
        assert_eq!(forget(&mut unknown, "c").len(), 2, "a log is told that all begin anew");
        let epochs = ["a", "b", "c", "never"].map(|topic| unknown.head_of(topic).epoch);
        assert!(epochs.iter().all(|epoch| *epoch == unknown.epoch() && ![first, a, b].contains(epoch)));
        assert_eq!(unknown.log_size(), 0);
    }

    #[test]
    fn another_process_goes_on_with_what_was_forgotten() {
        let [shared, own] = [1, 2].map(|number| Epoch::new(number).unwrap());
        let forgotten = ["a", "b"].map(|topic| (topic.into(), Forgotten { epoch: own, origin: 3 }));
        let mut unknown = Unknown::new(2, 1);
        unknown.restore(shared, forgotten.clone());
        assert_eq!(["a", "b", "c"].map(|topic| unknown.head_of(topic).epoch), [own, own, shared]);
        assert_eq!(unknown.forgotten("a").map(|forgotten| forgotten.origin), Some(3));
        let mut unknown = Unknown::new(1, 1);
        unknown.restore(shared, forgotten);
        assert!(![own, shared].contains(&unknown.head_of("a").epoch), "the bound is smaller than it was");
        assert_eq!(unknown.head_of("a").epoch, unknown.head_of("c").epoch);
    }
}
