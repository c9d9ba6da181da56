//! The queue between threads: many may put something into it, its owner takes it out, and there is one order of both.
//!
//! The owner puts things in as well, most of them, and needs no lock for its own. So the queue has two parts: what others
//! have put in, behind a lock, and what the owner has taken over. **Whatever the owner puts in goes behind what others had
//! put in by then**: what somebody was told of comes before what was done about it.
//!
//! `tests/lane_model.rs` tries this file under a scheduler that permutes threads, which is why it names its primitives by
//! way of its parent.

use std::collections::VecDeque;

use super::sync::{AtomicUsize, Mutex, Ordering, lock};

/// The part for others.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    put: Mutex<Vec<T>>,
    /// How many there are, so that the owner need not lock to see that there is nothing. Changed under the lock.
    count: AtomicUsize,
}

impl<T> Lane<T> {
    pub(crate) fn new() -> Self {
        Lane { put: Mutex::new(Vec::new()), count: AtomicUsize::new(0) }
    }

    /// Puts something in, behind all that anybody has put in before.
    pub(crate) fn put(&self, item: T) {
        let mut put = lock(&self.put);
        put.push(item);
        self.count.store(put.len(), Ordering::Release);
    }

    /// Whether others have put something in that the owner has not taken over.
    pub(crate) fn has_put(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// How much that is.
    #[cfg(feature = "metrics")]
    pub(crate) fn put_count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Lets the owner take over what others have put in. Mostly that is nothing.
    #[inline]
    pub(crate) fn take_over(&self, own: &mut VecDeque<T>) {
        if self.has_put() {
            self.take_over_put(own);
        }
    }

    #[inline(never)]
    fn take_over_put(&self, own: &mut VecDeque<T>) {
        let mut put = lock(&self.put);
        self.count.store(0, Ordering::Release);
        own.extend(put.drain(..));
        if put.capacity() > KEPT_MAX {
            *put = Vec::new();
        }
    }

    /// Puts in something of the owner's.
    pub(crate) fn put_own(&self, own: &mut VecDeque<T>, item: T) {
        self.take_over(own);
        own.push_back(item);
    }
}

/// After a burst the memory for so many items is kept.
const KEPT_MAX: usize = 1_024;
