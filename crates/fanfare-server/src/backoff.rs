//! Waits before the next try, which double up to a bound. How much of each is up to chance is for those who wait to say.

use std::time::Duration;

/// The wait after so many tries beyond the first.
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    // Sixteen doublings bring any first wait that there is beyond its bound.
    first.saturating_mul(1 << times.min(16)).min(longest)
}
