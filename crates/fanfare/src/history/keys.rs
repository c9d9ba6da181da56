//! The idempotency keys that a topic remembers: the last ones, for a while.

use std::collections::VecDeque;
use std::sync::Arc;

use fanfare_proto::position::Position;
use hashbrown::HashMap;

/// Keys are remembered for so long.
const AGE_MAX_MS: u64 = 5 * 60_000;

/// A topic remembers at most so many.
const KEYS_MAX: usize = 1_024;

/// What a key takes in memory beside its bytes, about.
const KEY_SIZE: usize = 96;

/// The keys of a topic, oldest first.
#[derive(Debug, Default)]
pub(super) struct Keys {
    positions: HashMap<Arc<str>, Position, foldhash::fast::RandomState>,
    order: VecDeque<(u64, Arc<str>)>,
    /// The bytes of all keys.
    text_size: usize,
}

impl Keys {
    /// Where the message with a key stands, if the key is remembered.
    pub(super) fn find(&mut self, key: &str, now_ms: u64) -> Option<Position> {
        self.forget(now_ms);
        self.positions.get(key).copied()
    }

    /// Remembers a key that is not.
    pub(super) fn remember(&mut self, key: &str, position: Position, now_ms: u64) {
        let key: Arc<str> = key.into();
        self.text_size += key.len();
        self.positions.insert(key.clone(), position);
        self.order.push_back((now_ms, key));
        self.forget(now_ms);
    }

    /// Gives up those that are too old or too many.
    pub(super) fn forget(&mut self, now_ms: u64) {
        while let Some((at_ms, key)) = self.order.front()
            && (at_ms.saturating_add(AGE_MAX_MS) <= now_ms || self.order.len() > KEYS_MAX)
        {
            self.positions.remove(key);
            self.text_size -= key.len();
            self.order.pop_front();
        }
    }

    /// All of them with their messages' offsets and times, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.order.iter().filter_map(|(at_ms, key)| Some((&**key, self.positions.get(key)?.offset, *at_ms)))
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The bytes of all keys.
    pub(super) fn text_size(&self) -> usize {
        self.text_size
    }

    /// What they take in memory.
    pub(super) fn size(&self) -> usize {
        self.text_size + self.order.len() * KEY_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_proto::position::Epoch;

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch::new(1).unwrap(), offset }
    }

    #[test]
    fn keys_are_remembered_for_five_minutes() {
        let mut keys = Keys::default();
        keys.remember("k", at(1), 1_000);
        assert_eq!(keys.find("k", 1_000 + AGE_MAX_MS - 1), Some(at(1)));
        assert_eq!(keys.find("k", 1_000 + AGE_MAX_MS), None);
        assert_eq!((keys.len(), keys.size()), (0, 0));
    }

    #[test]
    fn the_last_1024_keys_are_remembered() {
        let mut keys = Keys::default();
        for n in 1..=1_024 {
            keys.remember(&n.to_string(), at(n), 0);
        }
        assert_eq!(keys.find("1", 0), Some(at(1)), "a look takes no key's place");
        keys.remember("one more", at(1_025), 0);
        assert_eq!((keys.find("1", 0), keys.find("2", 0)), (None, Some(at(2))));
        assert_eq!(keys.len(), 1_024);
        let text_size: usize = keys.iter().map(|(key, ..)| key.len()).sum();
        assert_eq!((keys.text_size(), keys.size()), (text_size, text_size + 1_024 * KEY_SIZE));
    }
}
