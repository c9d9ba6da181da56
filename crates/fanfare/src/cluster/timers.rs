//! What is due when: holes, attachments that take too long, topics without members, heads to be compared.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Cluster;

/// What is looked at. Whether anything is to be done is known by the state of the topic alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A message is missing, or a repair has failed.
    Hole,
    /// Someone waits for an attachment or a read.
    Waiting,
    /// A topic may have no members any more.
    Idle,
    /// The head of the log is compared.
    Check,
}

/// The timers of some topics.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(u64, Timer, Arc<str>)>>);

impl Timers {
    pub(super) fn set(&mut self, due_ms: u64, timer: Timer, topic: &Arc<str>) {
        self.0.push(Reverse((due_ms, timer, topic.clone())));
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((due_ms, ..))| *due_ms)
    }

    fn take_due(&mut self, now_ms: u64) -> Option<(Timer, Arc<str>)> {
        self.0.peek().filter(|Reverse((due_ms, ..))| *due_ms <= now_ms)?;
        self.0.pop().map(|Reverse((_, timer, topic))| (timer, topic))
    }
}

impl Cluster {
    /// When something is due next.
    #[cfg(feature = "testing")]
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let due = self.stripes.iter().map(|stripe| stripe.due_ms.load(Ordering::Acquire));
        due.min().filter(|due_ms| *due_ms != u64::MAX)
    }

    /// Does what is due.
    pub(crate) fn tick(&self) {
        let now_ms = self.now_ms();
        let mut to_be_compared = Vec::new();
        for stripe in &self.stripes {
            if stripe.due_ms.load(Ordering::Acquire) > now_ms {
                continue;
            }
            self.within(stripe, |topics| {
                // One timer may be set for a topic several times: it is looked at once.
                let mut due = BTreeMap::new();
                while let Some((timer, topic)) = topics.timers.take_due(now_ms) {
                    due.insert((topic, timer), ());
                }
                for (topic, timer) in due.into_keys() {
                    match timer {
                        Timer::Hole => self.look_at_hole(topics, &topic),
                        Timer::Waiting => self.look_at_waiting(topics, &topic, now_ms),
                        Timer::Idle => self.look_at_idle(topics, &topic, now_ms),
                        Timer::Check if topics.checks(&topic, now_ms) => to_be_compared.push(topic),
                        Timer::Check => {}
                    }
                }
            });
        }
        self.compare_heads(to_be_compared);
    }
}
