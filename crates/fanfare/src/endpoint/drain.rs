//! The end of all connections: at an even pace, and in no order that clients share.
//!
//! Clients come back by a table of waiting times that all of them have. Whoever was closed in one moment comes back in one
//! moment, over and over until the next server is there; so no two are closed together that need not be.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Endpoint;
use crate::close_reason::CloseReason;
use crate::history::ENDING_TIMEOUT;
use crate::key::SocketKey;
use crate::mailbox::{Command, Question, ShardHandle};

/// Sockets whose time has come are closed so often.
const STEP: Duration = Duration::from_millis(20);

/// The pace of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// So many sockets are closed in each `every`, evenly over it.
    pub batch: usize,
    /// The time that a batch takes. Zero: all sockets are closed at once.
    pub every: Duration,
    /// After so long, what is left is cut. Where the pace would leave sockets to be cut, it is faster: the last one is
    /// closed when three quarters of the limit have passed, so that its client and its channels have a quarter.
    pub limit: Duration,
}

impl Default for Drain {
    /// 10,000 sockets every 2 s, 30 s in all.
    fn default() -> Self {
        Drain { batch: 10_000, every: Duration::from_secs(2), limit: Duration::from_secs(30) }
    }
}

impl Drain {
    /// How many of so many sockets are closed after so long. The first one is at once.
    fn closed_after(&self, elapsed: Duration, sockets: usize) -> usize {
        let by_pace = self.batch as f64 * share(elapsed, self.every);
        let by_limit = sockets as f64 * share(elapsed, self.limit / 4 * 3);
        (by_pace.max(by_limit) as usize).saturating_add(1).min(sockets)
    }
}

/// How often one time fits into another, which may be none at all.
fn share(elapsed: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { f64::INFINITY } else { elapsed.as_secs_f64() / whole.as_secs_f64() }
}

impl Endpoint {
    /// Closes all sockets with 1012, one after the other at the given pace and in an order of its own, and lets channels
    /// finish what they do. New connections are refused with 503 from now on.
    pub async fn drain(&self, pace: Drain) {
        self.0.draining.store(true, Ordering::Release);
        let started = Instant::now();
        let mut open = self.open_sockets().await;
        shuffle(&mut open);
        let mut closed = 0;
        loop {
            let due = pace.closed_after(started.elapsed(), open.len());
            for (shard, socket) in &open[closed..due] {
                shard.send(Command::Close { socket: *socket, reason: CloseReason::Drain });
            }
            closed = due;
            if closed == open.len() && self.close_latecomers().await == 0 {
                break;
            }
            if started.elapsed() >= pace.limit {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
        for shard in &self.0.shards {
            // A shard that has ended has no connections.
            let _ = shard.ask(Question::CutAll).await;
        }
        self.say_goodbye().await;
        if let Some(history) = &self.0.history {
            tokio::select! {
                () = history.flush() => {}
                () = self.clock().sleep(ENDING_TIMEOUT) => tracing::error!("the history's disk has stalled: the drain ends without it"),
            }
        }
    }

    /// Lets go of the directory of the histories, so that another process can have it, and gives whether there is one. From now on messages to
    /// topics with a history are refused as unavailable; what is kept can still be read. Drain the endpoint after that.
    pub async fn close_history(&self) -> bool {
        match &self.0.history {
            Some(history) => history.close().await,
            None => false,
        }
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    async fn open_sockets(&self) -> Vec<(ShardHandle, SocketKey)> {
        let mut open = Vec::new();
        for shard in &self.0.shards {
            let sockets = shard.ask(Question::OpenSockets).await.unwrap_or_default();
            open.extend(sockets.into_iter().map(|socket| (shard.clone(), socket)));
        }
        open
    }

    /// Closes sockets that were on their way in when the drain began, and returns how much is left to wait for: sockets
    /// that have not ended, and channels' code that runs.
    async fn close_latecomers(&self) -> usize {
        let mut left = self.0.surroundings.running.load(Ordering::Acquire);
        for shard in &self.0.shards {
            left += shard.ask(Question::Drain).await.unwrap_or_default();
        }
        left
    }
}

/// Fisher and Yates', with xorshift: any order will do that is not that of connecting.
fn shuffle<T>(items: &mut [T]) {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(last, (state % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_even_and_ends_within_the_limit() {
        let ms = Duration::from_millis;
        let default = Drain::default();
        let at_once = Drain { every: Duration::ZERO, ..default };
        let none = Drain { limit: Duration::ZERO, ..default };
        for (pace, sockets, after, expected) in [
            (default, 0, ms(0), 0),
            (default, 10_000, ms(0), 1),
            (default, 10_000, ms(500), 2_501),
            (default, 10_000, ms(1_000), 5_001),
            (default, 10_000, ms(2_000), 10_000),
            // Few are soon through.
            (default, 10, ms(2), 10),
            // 5,000 a second would take 100 s.
            (default, 500_000, ms(11_250), 250_001),
            (default, 500_000, ms(22_500), 500_000),
            (default, 500_000, ms(90_000), 500_000),
            (at_once, 500_000, ms(0), 500_000),
            (none, 500_000, ms(0), 500_000),
        ] {
            assert_eq!(pace.closed_after(after, sockets), expected, "{sockets} sockets after {after:?}");
        }
    }

    #[test]
    fn a_shuffle_keeps_all_and_spreads_neighbours() {
        let mut items: Vec<usize> = (0..10_000).collect();
        shuffle(&mut items);
        let neighbours = items.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 100).count();
        assert!(neighbours < 400, "{neighbours} of 10,000; chance has about 200");
        items.sort_unstable();
        assert!(items.into_iter().eq(0..10_000));
    }
}
