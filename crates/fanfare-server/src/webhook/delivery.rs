//! One request with events, repeated until the back end has taken it or the bound is reached.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::Webhook;
use super::event::{self, Event};
use crate::backoff::doubled;
use crate::http_client::{Failure, Limits};

/// The longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The same once the server stops.
const STOPPING_WAIT_MAX: Duration = Duration::from_millis(250);

/// What the answer says does not matter, only that it is short.
const ANSWER_SIZE_MAX: usize = 64_000;

impl Webhook {
    /// Gives the events back, sent or given up.
    pub(super) async fn deliver(self: Arc<Self>, events: Vec<Event>) -> Vec<Event> {
        let id = self.current.load().signer.id();
        let count = events.len() as u64;
        let mut attempt = 0;
        // Settings may be others when it is repeated.
        while attempt <= self.current.load().settings.retry_max.0 {
            if attempt > 0 {
                let wait = self.current.load().settings.retry_wait.0;
                self.pause(wait_before(attempt, wait, getrandom::u64().unwrap_or(0))).await;
                self.counts.retries.fetch_add(1, Ordering::Relaxed);
            }
            match self.attempt(&id, &events).await {
                Ok(()) => {
                    self.counts.sent.fetch_add(count, Ordering::Relaxed);
                    self.has_given_up.store(false, Ordering::Relaxed);
                    if self.failures.swap(0, Ordering::Relaxed) > 0 {
                        tracing::info!(webhook = self.name, "the webhook is taken again");
                    }
                    return events;
                }
                Err(failure) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    let (url, reason) = (&self.current.load().settings.url, failure.text());
                    tracing::warn!(
                        webhook = self.name,
                        ?url,
                        reason,
                        attempt,
                        events = count,
                        "a webhook was not taken"
                    );
                }
            }
            attempt += 1;
        }
        self.counts.given_up.fetch_add(count, Ordering::Relaxed);
        self.has_given_up.store(true, Ordering::Relaxed);
        tracing::error!(webhook = self.name, events = count, "events are dropped, since retry_max is reached");
        events
    }

    async fn attempt(&self, id: &str, events: &[Event]) -> Result<(), Failure> {
        let body = event::body(events).map_err(|error| Failure::Refused(format!("the events are no JSON: {error}")))?;
        let current = self.current.load_full();
        let headers = current.signer.headers(id, SystemTime::now(), &body);
        let limits = Limits { timeout: current.settings.timeout.0, body_size_max: ANSWER_SIZE_MAX };
        self.client.post(&current.settings.url.0, &headers, body, limits).await.map(drop)
    }

    /// Waits, unless the server stops.
    async fn pause(&self, wait: Duration) {
        let mut stop = self.stop.subscribe();
        if *stop.borrow_and_update() {
            return tokio::time::sleep(wait.min(STOPPING_WAIT_MAX)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Twice as long each time, and by chance up to half shorter or longer, so that many servers do not come back together.
fn wait_before(attempt: u64, first: Duration, random: u64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = doubled(first, doublings, WAIT_MAX);
    // From 500 to 1500 thousandths.
    wait.saturating_mul(500 + (random % 1001) as u32) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let ms = |random: u64| {
            let waits = (1..=8).map(|attempt| wait_before(attempt, Duration::from_secs(1), random).as_millis());
            waits.collect::<Vec<_>>()
        };
        assert_eq!(ms(500), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(ms(0)[..2], [500, 1000]);
        assert_eq!(ms(1000)[6..], [90_000, 90_000]);
        assert_eq!(wait_before(u64::MAX, Duration::from_secs(60), 500), WAIT_MAX);
    }
}
