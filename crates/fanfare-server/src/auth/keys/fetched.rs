//! A key set from the network: fetched at the start and then by the clock alone, so that no token causes a request. While
//! the source is down the last good set counts, up to a bound.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::{KeySet, jwk};
use crate::backoff::doubled;
use crate::config::auth::{Algorithm, Auth};
use crate::config::url::Url;
use crate::health::{Part, State};
use crate::http_client::{Client, Limits};

/// The longest set that is read.
const BODY_SIZE_MAX: usize = 1 << 20;

/// How long to wait after failures in a row, if the next fetch is not due sooner.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The keys of one authenticator, renewed as long as somebody asks for them.
pub(crate) struct Fetched {
    /// Of the `[auth.NAME]`.
    name: String,
    url: Url,
    algorithms: Vec<Algorithm>,
    limits: Limits,
    refresh: Duration,
    stale_max: Duration,
    known: RwLock<Known>,
}

/// What came of the fetches so far.
#[derive(Default)]
struct Known {
    last_good: Option<(Arc<KeySet>, Instant)>,
    /// How many fetches in a row have failed.
    failures: u32,
}

impl Fetched {
    /// Fetches once, and goes on in the background whatever came of it: a server starts while its issuer is down, and lets
    /// people in when it is back.
    pub(crate) async fn start(name: &str, url: &Url, settings: &Auth, client: Client) -> Arc<Self> {
        let fetched = Arc::new(Self {
            name: name.to_owned(),
            url: url.clone(),
            algorithms: settings.algorithms(),
            limits: Limits { timeout: settings.jwks_timeout.0, body_size_max: BODY_SIZE_MAX },
            refresh: settings.jwks_refresh.0,
            stale_max: settings.jwks_stale_max.0,
            known: RwLock::default(),
        });
        fetched.fetch(&client).await;
        let background = Arc::downgrade(&fetched);
        tokio::spawn(async move {
            // Until nobody asks for its keys any more.
            while let Some(wait) = background.upgrade().map(|fetched| fetched.wait()) {
                tokio::time::sleep(wait).await;
                let Some(fetched) = background.upgrade() else { return };
                fetched.fetch(&client).await;
            }
        });
        fetched
    }

    /// The keys that count now.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (keys, _) = known.last_good.as_ref().filter(|(_, at)| at.elapsed() <= self.stale_max)?;
        Some(keys.clone())
    }

    async fn fetch(&self, client: &Client) {
        let body = client.get(&self.url.0, self.limits).await;
        let keys =
            body.and_then(|body| jwk::parse(&body, &self.algorithms).map_err(|fault| format!("the answer {fault}")));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let auth = &self.name;
        match keys {
            Ok(keys) => {
                let is_new = known.last_good.as_ref().is_none_or(|(last, _)| last.names() != keys.names());
                if is_new || known.failures > 0 {
                    tracing::info!(auth, source = ?self.url, keys = keys.names().len(), "the keys were fetched");
                }
                *known = Known { last_good: Some((Arc::new(keys), Instant::now())), failures: 0 };
            }
            Err(reason) => {
                known.failures = known.failures.saturating_add(1);
                let used = known.last_good.as_ref().map(|(_, at)| at.elapsed());
                let still = used.is_some_and(|age| age <= self.stale_max);
                let effect = if still { "the last good ones are used" } else { "nobody is let in" };
                tracing::warn!(auth, source = ?self.url, reason, failures = known.failures, effect, "the keys cannot be fetched");
            }
        }
    }

    /// How long to wait before the next fetch.
    fn wait(&self) -> Duration {
        let failures = self.known.read().unwrap_or_else(PoisonError::into_inner).failures;
        wait_after(failures, self.refresh)
    }
}

fn wait_after(failures: u32, refresh: Duration) -> Duration {
    match failures {
        0 => refresh,
        n => doubled(BACKOFF_MIN, n - 1, BACKOFF_MAX).min(refresh),
    }
}

impl Part for Fetched {
    fn kind(&self) -> &'static str {
        "keys"
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// `stale`: the last fetch failed, and the keys of an earlier one are used. `unavailable`: there are no keys that may
    /// be used, and nobody is let in.
    fn state(&self) -> State {
        let failures = self.known.read().unwrap_or_else(PoisonError::into_inner).failures;
        match self.current() {
            None => State::Unavailable,
            Some(_) if failures > 0 => State::Stale,
            Some(_) => State::Ok,
        }
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_repeated_sooner_and_then_slower() {
        let seconds = |refresh: u64| {
            let waits = (0..9).map(|failures| wait_after(failures, Duration::from_secs(refresh)).as_secs());
            waits.collect::<Vec<_>>()
        };
        assert_eq!(seconds(600), [600, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(seconds(3), [3, 1, 2, 3, 3, 3, 3, 3, 3]);
        assert_eq!(wait_after(u32::MAX, Duration::from_secs(600)), BACKOFF_MAX);
    }
}
