//! The primitives of the queue between threads, in one place so that a model can take others.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use parking_lot::Mutex;
use parking_lot::MutexGuard;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
