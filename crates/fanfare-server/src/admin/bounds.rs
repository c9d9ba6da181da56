//! How much of the API may go on at a time.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::answer::{ApiError, Code};

/// So many lists are put together at a time; others wait. One of a million topics takes memory.
const LISTINGS_MAX: usize = 4;

/// So many streams of samples can be read at a time.
pub(super) const STREAMS_MAX: usize = 32;

/// What is shared by all requests.
#[derive(Debug)]
pub(crate) struct Bounds {
    listings: Semaphore,
    streams: Arc<Semaphore>,
    /// When the listener was opened.
    pub(super) started_at: SystemTime,
}

impl Bounds {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            listings: Semaphore::new(LISTINGS_MAX),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            started_at: SystemTime::now(),
        })
    }

    /// Waits for its turn to put a list together.
    pub(super) async fn listing(&self) -> Option<SemaphorePermit<'_>> {
        self.listings.acquire().await.ok()
    }

    /// # Errors
    /// There are as many streams as there can be.
    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let text = format!("there are {STREAMS_MAX} streams of samples, as many as there can be: end one first");
            ApiError::new(Code::TooMany, text)
        })
    }
}
