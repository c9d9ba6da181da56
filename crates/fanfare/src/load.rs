//! How much each shard has to do, and which one takes the next connection.
//!
//! By default shards are filled one after the other, and only then evenly: what a topic's members on one shard need costs
//! no hop to another thread, so a small server is cheapest on one core. A shard that is busy takes no more while another is
//! not. Whoever sets the number of shards wants that many cores used: then they are filled evenly from the first socket.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// By default a shard takes so many sockets before the next one is used.
pub(crate) const FILL_MAX: usize = 1_024;

/// A shard that works more than this share of the time is busy.
const BUSY_PERMILLE: u32 = 500;

/// The share is measured over this long.
const WINDOW: Duration = Duration::from_millis(200);

/// What a shard tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Load {
    sockets: AtomicUsize,
    busy_permille: AtomicU32,
}

impl Load {
    pub(crate) fn socket_came(&self) {
        self.sockets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn socket_went(&self) {
        self.sockets.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    fn is_open(&self, fill_max: usize) -> bool {
        self.sockets() < fill_max && self.busy_permille.load(Ordering::Relaxed) < BUSY_PERMILLE
    }
}

/// The number of the shard for the next connection: the first that is neither filled nor busy, else the one with the fewest
/// sockets.
pub(crate) fn choose<'a>(fill_max: usize, loads: impl Iterator<Item = &'a Load> + Clone) -> usize {
    let fewest = || loads.clone().enumerate().min_by_key(|(_, load)| load.sockets()).map(|(number, _)| number);
    loads.clone().position(|load| load.is_open(fill_max)).or_else(fewest).unwrap_or(0)
}

/// Measures how much of the time a shard's thread works.
#[derive(Debug)]
pub(crate) struct BusyMeter {
    window_began: Instant,
    turn_began: Instant,
    busy: Duration,
}

impl BusyMeter {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        BusyMeter { window_began: now, turn_began: now, busy: Duration::ZERO }
    }

    pub(crate) fn turn_began(&mut self) {
        self.turn_began = Instant::now();
    }

    /// A thread that sleeps through the end of a window tells of it when it wakes.
    pub(crate) fn turn_ended(&mut self, load: &Load) {
        let now = Instant::now();
        self.busy += now - self.turn_began;
        let window = now - self.window_began;
        if window >= WINDOW {
            let permille = self.busy.as_micros() * 1_000 / window.as_micros().max(1);
            load.busy_permille.store(permille as u32, Ordering::Relaxed);
            (self.window_began, self.busy) = (now, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_one_after_the_other_and_then_evenly() {
        let loads = |shards: &[(usize, u32)]| -> Vec<Load> {
            let load = |&(sockets, busy): &(usize, u32)| Load { sockets: sockets.into(), busy_permille: busy.into() };
            shards.iter().map(load).collect()
        };
        assert_eq!(choose(0, loads(&[(3, 0), (2, 0)]).iter()), 1, "evenly");
        for (shards, expected) in [
            (&[(0, 0), (0, 0)][..], 0),
            (&[(FILL_MAX - 1, 0), (0, 0)], 0),
            (&[(FILL_MAX, 0), (0, 0)], 1),
            (&[(10, BUSY_PERMILLE), (500, 0)], 1),
            (&[(10, BUSY_PERMILLE), (500, BUSY_PERMILLE)], 0),
            (&[(5_000, 0), (4_999, 0), (5_001, 0)], 1),
            (&[(5_000, 0), (7_000, 0), (FILL_MAX - 1, 999)], 2),
        ] {
            assert_eq!(choose(FILL_MAX, loads(shards).iter()), expected, "{shards:?}");
        }
    }
}
