//! The newest messages that a node has handed on of its logs, so that clients that come back need not be answered by the broker.

use std::collections::VecDeque;
use std::sync::Arc;

use fanfare_proto::history::Retention;
use fanfare_proto::position::Position;
use hashbrown::HashMap;

use crate::history::Stored;

/// What a message takes beside its event and payload, in bytes, about.
const ENTRY_SIZE: usize = 128;

/// The newest messages of some topics, together within a budget: the oldest of all go first.
#[derive(Debug)]
pub(super) struct Windows {
    by_topic: HashMap<Arc<str>, Window, foldhash::fast::FixedState>,
    /// Whose message came when, by the number that it has there.
    order: VecDeque<(Arc<str>, u64)>,
    bytes: usize,
    bytes_max: usize,
    next: u64,
}

#[derive(Debug)]
struct Window {
    /// Before its first message.
    floor: Position,
    messages: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    stored: Stored,
    size: usize,
    at_ms: u64,
    serial: u64,
}

impl Windows {
    pub(super) fn new(bytes_max: usize) -> Self {
        let by_topic = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(bytes_max as u64));
        Windows { by_topic, order: VecDeque::new(), bytes: 0, bytes_max, next: 0 }
    }

    /// A message was handed on. Those that count as kept no more go.
    pub(super) fn add(&mut self, topic: &Arc<str>, stored: Stored, retention: &Retention, now_ms: u64) {
        let size = ENTRY_SIZE + stored.event.len() + stored.payload.size();
        let floor = stored.stamp.prev;
        let new = || Window { floor, messages: VecDeque::new() };
        let window = self.by_topic.entry_ref(&**topic).or_insert_with(new);
        self.next += 1;
        window.messages.push_back(Kept { stored, size, at_ms: now_ms, serial: self.next });
        self.bytes += size;
        while let Some(first) = window.messages.front()
            && (window.messages.len() > retention.messages_max.max(1)
                || first.at_ms.saturating_add(retention.age_max_ms) <= now_ms)
        {
            self.bytes -= window.pop();
        }
        self.order.push_back((topic.clone(), self.next));
        while self.bytes > self.bytes_max || self.order.len() > 2 * self.by_topic.len() + self.bytes_max / ENTRY_SIZE {
            let Some((topic, serial)) = self.order.pop_front() else { return };
            if let Some(window) = self.by_topic.get_mut(&topic)
                && window.messages.front().is_some_and(|first| first.serial == serial)
            {
                self.bytes -= window.pop();
            }
        }
    }

    /// Nothing of a topic is known any more.
    pub(super) fn forget(&mut self, topic: &str) {
        if let Some(window) = self.by_topic.remove(topic) {
            self.bytes -= window.messages.iter().map(|kept| kept.size).sum::<usize>();
        }
    }

    /// The messages behind a position up to the last that was handed on, at most so many and so large, if all of them are here.
    pub(super) fn after(
        &self,
        topic: &str,
        at: Position,
        limit: usize,
        bytes_max: usize,
        retention: &Retention,
        now_ms: u64,
    ) -> Option<Vec<Stored>> {
        let window = self.by_topic.get(topic)?;
        let start = match window.floor == at {
            true => 0,
            false => 1 + window.messages.iter().position(|kept| kept.stored.stamp.position == at)?,
        };
        let missed = window.messages.range(start..);
        if missed.clone().next().is_some_and(|kept| kept.at_ms.saturating_add(retention.age_max_ms) <= now_ms)
            || missed.clone().map(|kept| kept.size).sum::<usize>() > retention.bytes_max
        {
            // The log knows exactly what counts as kept.
            return None;
        }
        let mut bytes = 0;
        let fits = |kept: &&Kept| {
            let is_first = bytes == 0;
            bytes += kept.size;
            is_first || bytes <= bytes_max
        };
        Some(missed.take(limit).take_while(fits).map(|kept| kept.stored.clone()).collect())
    }
}

impl Window {
    fn pop(&mut self) -> usize {
        let Some(kept) = self.messages.pop_front() else { return 0 };
        self.floor = kept.stored.stamp.position;
        kept.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_proto::payload::Payload;
    use fanfare_proto::position::{Epoch, Stamp};

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch::new(1).unwrap(), offset }
    }

    fn add(windows: &mut Windows, topic: &Arc<str>, offset: u64, retention: &Retention, now_ms: u64) {
        let stored =
            Stored { stamp: Stamp::in_row(at(offset)), event: "e".into(), payload: Payload::default(), age_ms: 0 };
        windows.add(topic, stored, retention, now_ms);
    }

    fn after(windows: &Windows, topic: &str, offset: u64, now_ms: u64) -> Option<usize> {
        let plenty = Retention::default();
        windows.after(topic, at(offset), 100, usize::MAX, &plenty, now_ms).map(|messages| messages.len())
    }

    #[test]
    fn a_window_reaches_back_as_far_as_its_topic_keeps() {
        let (mut windows, topic) = (Windows::new(1_000_000), "t".into());
        let three = Retention { messages_max: 3, ..Retention::default() };
        (4..=9).for_each(|offset| add(&mut windows, &topic, offset, &three, offset));
        let reached: Vec<_> = (4..=10).map(|offset| after(&windows, "t", offset, 9)).collect();
        assert_eq!(reached, [None, None, Some(3), Some(2), Some(1), Some(0), None]);
        assert_eq!(after(&windows, "t", 6, 7 + Retention::default().age_max_ms), None, "it is too old");
        windows.forget("t");
        assert_eq!((after(&windows, "t", 9, 9), windows.bytes), (None, 0));
    }

    #[test]
    fn all_windows_together_have_a_budget() {
        let mut windows = Windows::new(10 * (ENTRY_SIZE + 3));
        let topics: Vec<Arc<str>> = (0..5).map(|n| n.to_string().into()).collect();
        for offset in 1..=100 {
            topics.iter().for_each(|topic| add(&mut windows, topic, offset, &Retention::default(), 0));
            assert!(windows.bytes <= windows.bytes_max && windows.order.len() <= 40);
        }
        assert!(topics.iter().all(|topic| after(&windows, topic, 98, 0) == Some(2)));
        assert_eq!(after(&windows, "0", 97, 0), None, "it had to go");
    }
}
