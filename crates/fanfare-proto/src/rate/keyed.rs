//! Buckets of many: of each address or user, made when it comes first and forgotten once they are full again.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Bucket, SECOND_NS};

/// Buckets by key. There are so many at most.
#[derive(Debug)]
pub struct Keyed<K> {
    buckets: HashMap<K, Bucket>,
    keys_max: usize,
    /// When full ones were last looked for in vain.
    swept_ns: Option<u64>,
}

impl<K: Eq + Hash + Clone> Keyed<K> {
    /// None yet.
    pub fn new(keys_max: usize) -> Self {
        Keyed { buckets: HashMap::new(), keys_max, swept_ns: None }
    }

    /// The bucket of a key, if it has one.
    pub fn get(&self, key: &K) -> Option<Bucket> {
        self.buckets.get(key).copied()
    }

    /// Does something with the bucket of a key. `None` if it has none and there is no room for another.
    pub fn with<T>(&mut self, key: &K, now_ns: u64, act: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        if let Some(bucket) = self.buckets.get_mut(key) {
            return Some(act(bucket));
        }
        if self.buckets.len() >= self.keys_max && !self.sweep(now_ns) {
            return None;
        }
        let mut bucket = Bucket::default();
        let done = act(&mut bucket);
        self.buckets.insert(key.clone(), bucket);
        Some(done)
    }

    /// Forgets all that are full. Where there are none it is tried once a second: it looks at every one.
    fn sweep(&mut self, now_ns: u64) -> bool {
        if self.swept_ns.is_some_and(|swept_ns| now_ns.saturating_sub(swept_ns) < SECOND_NS) {
            return false;
        }
        self.buckets.retain(|_, bucket| !bucket.is_full(now_ns));
        let has_room = self.buckets.len() < self.keys_max;
        self.swept_ns = (!has_room).then_some(now_ns);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Rate;

    #[test]
    fn each_has_its_own_and_full_ones_make_room() {
        let rate = Rate::per_second(1).burst(1);
        let mut keyed = Keyed::new(2);
        let mut take = |key: &str, at_s: u64| {
            let now_ns = at_s * SECOND_NS;
            keyed.with(&key.to_owned(), now_ns, |bucket| bucket.take(rate, now_ns, 1).is_ok())
        };
        for (key, at_s, expected) in [
            ("ann", 0, Some(true)),
            ("ann", 0, Some(false)),
            ("bob", 0, Some(true)),
            ("cyd", 0, None),
            ("ann", 0, Some(false)),
            ("ann", 1, Some(true)),
            ("cyd", 1, Some(true)),
            ("bob", 1, None),
            ("bob", 2, Some(true)),
        ] {
            assert_eq!(take(key, at_s), expected, "{key} at {at_s} s");
        }
        assert_eq!(keyed.buckets.len(), 1, "those that were full are forgotten");
    }
}
