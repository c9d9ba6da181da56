//! How fast links try, and how long they wait.

use std::time::Duration;

/// The first wait before the next try to connect, which doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long the beginning of a connection may take, until all topics are attached.
pub(super) const BEGINNING_MAX: Duration = Duration::from_secs(60);

/// How often a node sends itself a message, and how late that may be.
pub(super) const CANARY_EVERY: Duration = Duration::from_secs(1);
pub(super) const CANARY_MAX: Duration = Duration::from_secs(3);

/// How long to wait after so many failures one after the other. Up to a half less than it could be, so that nodes do not come all at
/// once: `random` says how much.
pub(super) fn backoff(failures: u32, random: u64) -> Duration {
    let longest = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    longest - longest.mul_f64((random % 1_000) as f64 / 2_000.0)
}
