//! Events that wait to be sent. Those of one subject leave one after the other; those of different ones beside each other.

use std::collections::{HashMap, HashSet, VecDeque};

use super::event::{Event, Subject};

/// Bounded in events, those that are on their way included.
#[derive(Debug)]
pub(super) struct Queue {
    size_max: usize,
    size: usize,
    waiting: HashMap<Subject, VecDeque<Event>>,
    /// Those with something that waits and nothing on its way, the oldest first.
    ready: VecDeque<Subject>,
    on_the_way: HashSet<Subject>,
}

impl Queue {
    pub(super) fn new(size_max: usize) -> Self {
        Self { size_max, size: 0, waiting: HashMap::new(), ready: VecDeque::new(), on_the_way: HashSet::new() }
    }

    /// How many events there are.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether there was room.
    pub(super) fn push(&mut self, event: Event) -> bool {
        if self.size >= self.size_max {
            return false;
        }
        self.size += 1;
        let subject = event.subject.clone();
        let waiting = self.waiting.entry(subject.clone()).or_default();
        waiting.push_back(event);
        if waiting.len() == 1 && !self.on_the_way.contains(&subject) {
            self.ready.push_back(subject);
        }
        true
    }

    /// The next events to send together, in order; empty if nothing is ready. They count until they are [`done`](Self::done).
    pub(super) fn take(&mut self, count_max: usize) -> Vec<Event> {
        let mut batch = Vec::new();
        while batch.len() < count_max {
            let Some(subject) = self.ready.pop_front() else { break };
            let Some(events) = self.waiting.get_mut(&subject) else { continue };
            let count = events.len().min(count_max - batch.len());
            batch.extend(events.drain(..count));
            if events.is_empty() {
                self.waiting.remove(&subject);
            }
            self.on_the_way.insert(subject);
        }
        batch
    }

    /// These are sent, or given up: what waits behind them is ready.
    pub(super) fn done(&mut self, batch: &[Event]) {
        self.size -= batch.len();
        for event in batch {
            if self.on_the_way.remove(&event.subject) && self.waiting.contains_key(&event.subject) {
                self.ready.push_back(event.subject.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn push(queue: &mut Queue, topic: &str, id: &str) -> bool {
        let subject = Subject::Topic(topic.into());
        queue.push(Event { id: id.into(), subject, is_here: true, at: SystemTime::UNIX_EPOCH })
    }

    fn ids(batch: &[Event]) -> Vec<&str> {
        batch.iter().map(|event| &event.id[..]).collect()
    }

    #[test]
    fn a_subject_is_on_its_way_once() {
        let mut queue = Queue::new(100);
        for (topic, id) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1")] {
            assert!(push(&mut queue, topic, id));
        }
        let first = queue.take(1);
        assert_eq!(ids(&first), ["a1"]);
        let second = queue.take(10);
        assert_eq!(ids(&second), ["b1", "c1"]);
        push(&mut queue, "b", "b2");
        assert!(queue.take(10).is_empty());
        queue.done(&second);
        let third = queue.take(10);
        assert_eq!(ids(&third), ["b2"]);
        queue.done(&first);
        assert_eq!(ids(&queue.take(10)), ["a2"]);
        assert_eq!(queue.size(), 2);
    }

    #[test]
    fn it_is_full_at_its_bound() {
        let mut queue = Queue::new(2);
        assert!(push(&mut queue, "a", "1") && push(&mut queue, "a", "2") && !push(&mut queue, "a", "3"));
        let batch = queue.take(10);
        assert!(!push(&mut queue, "a", "4"));
        queue.done(&batch);
        assert!(push(&mut queue, "a", "5") && queue.size() == 1);
        let batch = queue.take(10);
        queue.done(&batch);
        assert!(queue.waiting.is_empty() && queue.on_the_way.is_empty() && queue.ready.is_empty());
    }
}
