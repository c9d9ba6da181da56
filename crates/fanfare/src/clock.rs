//! The engine's time: coarse, monotonic, and in tests moved by hand.

#[cfg(feature = "testing")]
use std::sync::Arc;
#[cfg(feature = "testing")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds since the endpoint was built.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    Real(Instant),
    /// Stands still until the test kit moves it.
    #[cfg(feature = "testing")]
    Virtual(Arc<AtomicU64>),
}

impl Clock {
    pub(crate) fn now_ms(&self) -> u64 {
        match self {
            Clock::Real(start) => start.elapsed().as_millis() as u64,
            #[cfg(feature = "testing")]
            Clock::Virtual(now) => now.load(Ordering::Acquire),
        }
    }

    /// The same in microseconds.
    pub(crate) fn now_us(&self) -> u64 {
        match self {
            Clock::Real(start) => start.elapsed().as_micros() as u64,
            #[cfg(feature = "testing")]
            Clock::Virtual(now) => now.load(Ordering::Acquire) * 1_000,
        }
    }

    pub(crate) fn after(&self, delay: Duration) -> u64 {
        self.now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
    }

    /// Ends after a while. Where time stands still it does not end: the one who waits has to be given what it waits for.
    pub(crate) async fn sleep(&self, time: Duration) {
        match self {
            Clock::Real(_) => tokio::time::sleep(time).await,
            #[cfg(feature = "testing")]
            Clock::Virtual(_) => std::future::pending().await,
        }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        !matches!(self, Clock::Real(_))
    }
}
