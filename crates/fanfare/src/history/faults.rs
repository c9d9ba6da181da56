//! A history that fails when a test says so.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::memory::Memory;
use super::{Append, HistoryLimits, Reading, Store, Wanted};
use crate::clock::Clock;
use crate::error::Error;

/// What happens to the history of an endpoint that is built [with it](crate::Builder::faulty_history). Cheap to clone.
///
/// It outlives the endpoint, as a disk would: one that is built with the same faults later finds what was kept.
#[derive(Clone)]
pub struct Faults(Arc<Inner>);

struct Inner {
    seed: u64,
    memory: OnceLock<Memory>,
    does: Mutex<Does>,
    /// Messages that are late. Locked while they are handed on, so that none overtakes them.
    late: Mutex<VecDeque<Append>>,
    /// Tells those that wait, in the order in which they came: a run is to be the same each time.
    goes_on: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Does {
    appends_fail: bool,
    appends_wait: bool,
    reads_fail: bool,
    reads_wait: bool,
}

impl Faults {
    /// A history without faults, whose epochs follow from a seed.
    pub fn new(seed: u64) -> Self {
        let (memory, does, late, goes_on) = (OnceLock::new(), Mutex::default(), Mutex::default(), Notify::new());
        Faults(Arc::new(Inner { seed, memory, does, late, goes_on }))
    }

    /// Whether messages are refused, as by a full disk.
    pub fn fail_appends(&self, fail: bool) {
        self.0.does.lock().appends_fail = fail;
    }

    /// Whether messages are late, as on a disk that is stalled: they are kept and handed on when this is taken back.
    pub fn delay_appends(&self, delay: bool) {
        let mut late = self.0.late.lock();
        self.0.does.lock().appends_wait = delay;
        if let Some(memory) = self.0.memory.get().filter(|_| !delay) {
            late.drain(..).for_each(|append| memory.append(append));
        }
    }

    /// Whether reads fail.
    pub fn fail_reads(&self, fail: bool) {
        self.0.does.lock().reads_fail = fail;
    }

    /// Whether the answers to reads are late: those that were asked for come when this is taken back.
    pub fn delay_reads(&self, delay: bool) {
        self.0.does.lock().reads_wait = delay;
        if !delay {
            self.0.goes_on.notify_waiters();
        }
    }
}

impl Faults {
    pub(crate) fn store(&self, clock: &Clock) -> Arc<dyn Store> {
        Arc::new(FaultyStore { faults: self.clone(), clock: clock.clone() })
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.does.lock().fmt(f)
    }
}

#[derive(Debug)]
struct FaultyStore {
    faults: Faults,
    clock: Clock,
}

impl FaultyStore {
    fn memory(&self) -> &Memory {
        let new = || Memory::seeded(HistoryLimits::default(), self.clock.clone(), self.faults.0.seed);
        self.faults.0.memory.get_or_init(new)
    }
}

impl Store for FaultyStore {
    #[cfg(feature = "metrics")]
    fn kind(&self) -> &'static str {
        "faulty"
    }

    fn append(&self, append: Append) {
        let mut late = self.faults.0.late.lock();
        let Does { appends_fail, appends_wait, .. } = *self.faults.0.does.lock();
        match (appends_fail, appends_wait) {
            (true, _) => (append.settle)(Err(Error::unavailable("told to fail"))),
            (false, true) => {
                self.memory();
                late.push_back(append);
            }
            (false, false) => self.memory().append(append),
        }
    }

    fn read(&self, topic: &str, wanted: Wanted) -> Reading {
        let fails = self.faults.0.does.lock().reads_fail;
        // Read at once and told late: what is published meanwhile is what joins have to hold.
        let read = self.memory().read(topic, wanted);
        let faults = self.faults.clone();
        Box::pin(async move {
            while faults.0.does.lock().reads_wait {
                faults.0.goes_on.notified().await;
            }
            if fails { Err(Error::unavailable("told to fail")) } else { read.await }
        })
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.memory().flush()
    }
}
