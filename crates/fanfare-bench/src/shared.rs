//! What workers and coordinator share: the phase, and counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use mio::Waker;

use crate::restart::Restarted;

/// What is going on. Each goes over to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are opened; nothing is sent.
    Connect,
    /// Messages are sent that do not count.
    WarmUp,
    /// Nothing new is sent, so that nothing of the warm-up is under way in the end.
    Rest,
    /// Messages are sent that count.
    Measure,
    /// What was sent may still arrive.
    Drain,
    /// Everything is closed.
    Stop,
}

const PHASES: [Phase; 6] = [Phase::Connect, Phase::WarmUp, Phase::Rest, Phase::Measure, Phase::Drain, Phase::Stop];

/// Counts that only grow.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Clients that have entered, again included.
    pub(crate) entered: AtomicU64,
    /// Clients that have left or were cut.
    pub(crate) left: AtomicU64,
    /// Attempts to connect that failed and were repeated.
    pub(crate) retries: AtomicU64,
    /// Messages sent, those of the warm-up included.
    pub(crate) sent: AtomicU64,
    /// Messages sent that count.
    pub(crate) sent_measured: AtomicU64,
    /// Deliveries, those of the warm-up included.
    pub(crate) arrived: AtomicU64,
    /// Deliveries that count.
    pub(crate) delivered: AtomicU64,
}

/// One for each run.
pub(crate) struct Shared {
    phase: AtomicU8,
    /// How many seats are to be connected.
    pub(crate) wanted: AtomicUsize,
    /// How many are in their room.
    pub(crate) live: AtomicUsize,
    /// How many see everybody else, where presence is followed.
    pub(crate) settled: AtomicUsize,
    /// Commands to cut all, or to broadcast once: counted up.
    pub(crate) round: AtomicU64,
    /// Workers that are done with the round.
    pub(crate) round_done: AtomicUsize,
    pub(crate) counts: Counts,
    pub(crate) restart: Restarted,
    /// When the last client entered, and when the last one saw all the others.
    pub(crate) last_entered: AtomicU64,
    pub(crate) last_settled: AtomicU64,
    /// When the last delivery that counts came.
    pub(crate) last_delivery: AtomicU64,
    /// For each publisher: deliveries of its messages. Kept only where a window needs it.
    pub(crate) arrived_of: Vec<AtomicU64>,
    pub(crate) wakers: Vec<Waker>,
    problems: Mutex<BTreeMap<String, u64>>,
    fatal: Mutex<Option<String>>,
    has_fatal: AtomicBool,
    start: Instant,
}

impl Shared {
    pub(crate) fn new(publishers: usize, wakers: Vec<Waker>) -> Self {
        Self {
            phase: AtomicU8::new(0),
            wanted: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            round: AtomicU64::new(0),
            round_done: AtomicUsize::new(0),
            counts: Counts::default(),
            restart: Restarted::default(),
            last_entered: AtomicU64::new(0),
            last_settled: AtomicU64::new(0),
            last_delivery: AtomicU64::new(0),
            arrived_of: (0..publishers).map(|_| AtomicU64::new(0)).collect(),
            wakers,
            problems: Mutex::default(),
            fatal: Mutex::default(),
            has_fatal: AtomicBool::new(false),
            start: Instant::now(),
        }
    }

    /// Nanoseconds since the run began.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Acquire))]
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.wake_all();
    }

    pub(crate) fn wake_all(&self) {
        for waker in &self.wakers {
            // It fails only if the worker is gone, which is noticed when it is joined.
            let _ = waker.wake();
        }
    }

    /// Notes something that the report must mention; the run goes on.
    pub(crate) fn problem(&self, text: String) {
        *self.problems.lock().expect("nothing panics with the lock held").entry(text).or_default() += 1;
    }

    /// Notes why the run cannot go on; the first reason counts.
    pub(crate) fn fatal(&self, text: String) {
        self.fatal.lock().expect("nothing panics with the lock held").get_or_insert(text);
        self.has_fatal.store(true, Ordering::Release);
    }

    pub(crate) fn failure(&self) -> Option<String> {
        match self.has_fatal.load(Ordering::Acquire) {
            true => self.fatal.lock().expect("nothing panics with the lock held").clone(),
            false => None,
        }
    }

    pub(crate) fn problems(&self) -> BTreeMap<String, u64> {
        self.problems.lock().expect("nothing panics with the lock held").clone()
    }
}
