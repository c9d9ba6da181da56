//! How much of the API may go on at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use fanfare::{HeldBack, shown_address};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::answer::{ApiError, Code};

/// So many lists are put together at a time; others wait. One of a million topics takes memory.
const LISTINGS_MAX: usize = 4;

/// So many streams of samples can be read at a time.
pub(super) const STREAMS_MAX: usize = 32;

/// So many lines a minute say that somebody sends a wrong token.
const WRONG_TOKEN_LINES_MAX: u64 = 5;

/// What is shared by all requests.
#[derive(Debug)]
pub(crate) struct Bounds {
    listings: Semaphore,
    streams: Arc<Semaphore>,
    /// Lines about wrong tokens.
    wrong_tokens: HeldBack,
    /// When the listener was opened.
    pub(super) started_at: SystemTime,
}

impl Bounds {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            listings: Semaphore::new(LISTINGS_MAX),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            wrong_tokens: HeldBack::new(WRONG_TOKEN_LINES_MAX, 60),
            started_at: SystemTime::now(),
        })
    }

    /// Somebody has sent a token that is none of this server's: whoever tries them is to be seen.
    pub(super) fn tell_wrong_token(&self, peer: Option<SocketAddr>) {
        if let Some(held_back) = self.wrong_tokens.pass() {
            let address = peer.map(|peer| shown_address(peer).to_string());
            tracing::warn!(event = "admin_token_unknown", address, held_back, "a request to the API has a wrong token");
        }
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
