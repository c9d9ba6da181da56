//! A number that one thread writes and all can read: it costs its writer a load and a store, and no other core's cache line.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that grows, whoever writes it.
pub(crate) trait Count: Default {
    fn grow(&self, n: u64);
    fn now(&self) -> u64;
}

impl Count for Cell {
    #[inline]
    fn grow(&self, n: u64) {
        self.add(n);
    }

    fn now(&self) -> u64 {
        self.get()
    }
}

/// For many threads.
impl Count for AtomicU64 {
    fn grow(&self, n: u64) {
        self.fetch_add(n, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

/// The number. Were two threads to write, counts would be lost.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    #[inline]
    pub(crate) fn subtract(&self, n: u64) {
        self.set(self.get().wrapping_sub(n));
    }

    #[inline]
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
