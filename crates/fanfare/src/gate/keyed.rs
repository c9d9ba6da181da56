//! Rates of addresses and users: buckets that many threads ask for.

use std::hash::{BuildHasher, Hash};

use fanfare_proto::rate::{Bucket, Keyed};
use parking_lot::Mutex;

/// So many locks.
const LOCKS: usize = 64;

/// The buckets of all keys of a kind. There are about so many at most, by which a key whose bucket has no room is let pass.
#[derive(Debug)]
pub(crate) struct KeyedRates<K> {
    locks: [Mutex<Keyed<K>>; LOCKS],
    hashes: foldhash::fast::RandomState,
}

impl<K: Eq + Hash + Clone> KeyedRates<K> {
    pub(super) fn new(keys_max: usize) -> Self {
        let of_each = keys_max.div_ceil(LOCKS);
        KeyedRates { locks: std::array::from_fn(|_| Mutex::new(Keyed::new(of_each))), hashes: Default::default() }
    }

    /// The bucket of a key, if it has one.
    pub(super) fn get(&self, key: &K) -> Option<Bucket> {
        self.locks[self.hashes.hash_one(key) as usize % LOCKS].lock().get(key)
    }

    /// Does something with the bucket of a key. `None` if there is no room for it.
    pub(crate) fn with<T>(&self, key: &K, now_ns: u64, act: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        self.locks[self.hashes.hash_one(key) as usize % LOCKS].lock().with(key, now_ns, act)
    }
}
