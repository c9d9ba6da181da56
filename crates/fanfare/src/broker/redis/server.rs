//! What is known of the server, by all links to it and whoever makes commands: its session and its time; and where fresh epochs come from.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::names::Names;
use crate::broker::Undone;
use crate::broker::pulse::Pulse;

/// What is known of a server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) names: Names,
    /// Where it is, without credentials, and which of several.
    pub(super) name: Arc<str>,
    /// How the ordered link to it stands.
    pub(super) pulse: Pulse,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// The largest envelope.
    pub(super) envelope_size_max: usize,
    /// What the server takes as one part of a command, as far as it has said.
    part_max: AtomicUsize,
    session: AtomicU64,
    started: Instant,
    /// The server's time at `started`, in microseconds since 1970.
    time_at_start: AtomicI64,
    random: RandomState,
    drawn: AtomicU64,
}

impl Server {
    pub(super) fn new(names: Names, name: Arc<str>, timeout: Duration, envelope_size_max: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Server {
            names,
            name,
            pulse: Pulse::new(),
            timeout,
            envelope_size_max,
            part_max: AtomicUsize::new(usize::MAX),
            session: AtomicU64::new(0),
            started: Instant::now(),
            time_at_start: AtomicI64::new(now.as_micros() as i64),
            random: RandomState::new(),
            drawn: AtomicU64::new(0),
        }
    }

    /// It takes no larger parts of commands than this.
    pub(super) fn set_part_max(&self, bytes: usize) {
        self.part_max.store(bytes, Ordering::Relaxed);
    }

    /// Whether it has said how large they may be.
    pub(super) fn tells_part_max(&self) -> bool {
        self.part_max.load(Ordering::Relaxed) != usize::MAX
    }

    /// Whether an envelope can be carried.
    pub(super) fn carries(&self, size: usize) -> Result<(), Undone> {
        let part_max = self.part_max.load(Ordering::Relaxed);
        let (most, next) = match part_max < self.envelope_size_max {
            true => (part_max, "raise proto-max-bulk-len of the Redis server"),
            false => (self.envelope_size_max, "raise message_size_max"),
        };
        if size > most { Err(Undone::too_large(size, most, next)) } else { Ok(()) }
    }

    /// What cannot survive a lost tail.
    pub(super) fn session(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }

    pub(super) fn set_session(&self, session: u64) {
        self.session.store(session, Ordering::Relaxed);
    }

    /// The server's time in milliseconds since 1970, as this node knows it. It does not follow this machine's clock.
    pub(super) fn now_ms(&self) -> u64 {
        let elapsed = self.started.elapsed().as_micros() as i64;
        ((self.time_at_start.load(Ordering::Relaxed) + elapsed) / 1_000).max(0) as u64
    }

    /// Knows that it was this time there in the middle between the two moments.
    pub(super) fn set_time(&self, micros: u64, asked: Instant, answered: Instant) {
        let middle = asked + (answered - asked) / 2;
        let elapsed = middle.saturating_duration_since(self.started).as_micros() as i64;
        self.time_at_start.store(micros as i64 - elapsed, Ordering::Relaxed);
    }

    /// A random number that is not 0 and that nobody else draws.
    pub(super) fn draw(&self) -> u64 {
        self.random.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed)).max(1)
    }
}
