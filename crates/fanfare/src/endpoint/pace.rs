//! How much passes through this node, from one heartbeat to the next: read where it is counted anyway.

use parking_lot::Mutex;

use super::Endpoint;
use super::overview::Overview;

/// A heartbeat that follows another sooner has the figures of that one: so little time says nothing.
const US_MIN: u64 = 500_000;

/// What passed within a while.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pace {
    /// Messages published, in thousandths a second.
    pub(super) published_rate: Option<u64>,
    /// Messages handed to members, in thousandths a second.
    pub(super) delivered_rate: Option<u64>,
    /// Within how many microseconds 99 of 100 were written; `None` where none was.
    pub(super) p99_us: Option<u64>,
}

/// What the last heartbeat has said.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    at_us: u64,
    overview: Overview,
    pace: Pace,
}

impl Endpoint {
    /// What passed since it was asked before, up to what there is now.
    pub(super) fn pace(&self, overview: Overview) -> Pace {
        let at_us = self.clock().now_us();
        let mut last = self.0.paces.0.lock();
        let us = at_us.saturating_sub(last.at_us);
        if us < US_MIN {
            return last.pace;
        }
        let rate = |of: fn(&Overview) -> u64| {
            let passed = of(&overview).saturating_sub(of(&last.overview));
            Some((passed as f64 * 1e9 / us as f64) as u64)
        };
        let pace = Pace {
            published_rate: rate(|overview| overview.published),
            delivered_rate: rate(|overview| overview.delivered),
            p99_us: overview.p99_since(&last.overview).map(|time| time.as_micros() as u64),
        };
        *last = Measured { at_us, overview, pace };
        pace
    }
}
