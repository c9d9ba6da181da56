//! How many messages a second the HTTP API takes.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use fanfare::{Endpoint, Rate};
use fanfare_proto::rate::Bucket;

use super::answer::ApiError;

/// What is left of the rate.
#[derive(Debug)]
pub(crate) struct Publishing {
    since: Instant,
    bucket: Mutex<Bucket>,
}

impl Default for Publishing {
    fn default() -> Self {
        Self { since: Instant::now(), bucket: Mutex::default() }
    }
}

impl Publishing {
    /// Lets a request with so many messages pass, all of them or none.
    pub(super) fn take(
        &self,
        rate: Option<Rate>,
        messages: usize,
        endpoint: &Endpoint,
        peer: SocketAddr,
    ) -> Result<(), ApiError> {
        let Some(rate) = rate else { return Ok(()) };
        let now_ns = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(rate, now_ns, messages as u64).map_err(|wait_ns| {
            let text = format!(
                "{messages} messages are more than admin.publish_rate allows now, which is {} a second and {} at once: try again as Retry-After says",
                rate.each_second(),
                rate.at_once()
            );
            endpoint.publishing_refused(Some(peer), &text);
            ApiError::rate_limited(text, wait_ns.div_ceil(1_000_000_000))
        })
    }
}
