//! The bounds that all topics of a store have in common, however many locks share the topics between them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::HistoryLimits;

/// What all topics of a store take together, and the clock by which they are told apart when some have to go.
#[derive(Debug)]
pub(super) struct Bounds {
    limits: HistoryLimits,
    bytes: AtomicUsize,
    messages: AtomicUsize,
    topics: AtomicUsize,
    appends: AtomicU64,
}

/// When a topic was published to last, as a count of a store's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age(pub(super) u64);

impl Age {
    /// The number of the message that was published then.
    pub(super) fn number(self) -> u64 {
        self.0 + 1
    }
}

impl Bounds {
    pub(super) fn new(limits: HistoryLimits) -> Self {
        let none = || AtomicUsize::new(0);
        Bounds { limits, bytes: none(), messages: none(), topics: none(), appends: AtomicU64::new(0) }
    }

    pub(super) fn limits(&self) -> &HistoryLimits {
        &self.limits
    }

    /// The age of a topic that is published to now.
    pub(super) fn next_age(&self) -> Age {
        Age(self.appends.fetch_add(1, Ordering::Relaxed))
    }

    /// The largest number that a message of any topic has.
    pub(super) fn newest_number(&self) -> u64 {
        self.appends.load(Ordering::Relaxed)
    }

    /// What was kept of a topic took so many bytes, and takes so many now.
    pub(super) fn change(&self, before: usize, after: usize) {
        // A topic that is full gives up as much as it gets: most messages need no word with the other locks' topics.
        if before != after {
            self.bytes.fetch_add(after.wrapping_sub(before), Ordering::AcqRel);
        }
    }

    /// What was kept of a topic were so many messages, and are so many now.
    pub(super) fn change_messages(&self, before: usize, after: usize) {
        if before != after {
            self.messages.fetch_add(after.wrapping_sub(before), Ordering::AcqRel);
        }
    }

    /// How many messages are kept.
    #[cfg(any(test, feature = "metrics"))]
    pub(super) fn messages(&self) -> usize {
        self.messages.load(Ordering::Acquire)
    }

    pub(super) fn add_topic(&self) {
        self.topics.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn remove_topic(&self) {
        self.topics.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a topic has to go. The last one never has to, nor therefore the one that has just been published to.
    pub(super) fn are_exceeded(&self) -> bool {
        let topics = self.topics.load(Ordering::Acquire);
        topics > 1 && (topics > self.limits.topics_max || self.bytes.load(Ordering::Acquire) > self.limits.bytes_max)
    }

    /// How many topics there are, and how many bytes they take.
    #[cfg(any(test, feature = "metrics"))]
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.topics.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire))
    }
}
