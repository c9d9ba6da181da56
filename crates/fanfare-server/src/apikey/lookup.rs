//! Looking keys up: answers are kept for a while, so that clients that all come back at once are not so many queries.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Mutex as AsyncMutex;

use super::store::{KeyStore, Unavailable};
use super::{Hash, Key, Record};
use crate::health::{self, Counted, Part, State};

/// While the store is down, one query in so long.
const FAILURE_LIFETIME: Duration = Duration::from_secs(1);

/// What it counts, in this order.
pub(crate) const COUNTED: [Counted; 2] =
    [("queries", "How often the store was asked for a key."), ("remembered", "How often the answer was still known.")];

/// A store with the answers that it gave.
pub(crate) struct Lookup {
    name: Arc<str>,
    store: Arc<dyn KeyStore>,
    settings: ArcSwap<Settings>,
    entries: Mutex<HashMap<Hash, Arc<Entry>>>,
    /// How often the store was asked, and how often nothing had to be.
    queries: AtomicU64,
    remembered: AtomicU64,
    /// Whether the last query failed.
    state: Mutex<State>,
}

/// What can be exchanged while it is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// How long the answer counts that a key is known, or that it is not.
    pub(crate) found: Duration,
    pub(crate) unknown: Duration,
    pub(crate) entries_max: usize,
    /// Whether sockets are closed whose key is revoked, or only new ones refused.
    pub(crate) revoke_closes: bool,
}

/// What is known of one key. Locked while it is asked for: whoever asks meanwhile gets the same answer.
#[derive(Default)]
struct Entry(AsyncMutex<Option<(Instant, Found)>>);

/// What a store answered.
pub(crate) type Found = Result<Option<Record>, Unavailable>;

impl Lookup {
    pub(crate) fn new(name: &str, store: Arc<dyn KeyStore>, settings: Settings) -> Self {
        Lookup {
            name: name.into(),
            store,
            settings: ArcSwap::from_pointee(settings),
            entries: Mutex::default(),
            queries: AtomicU64::new(0),
            remembered: AtomicU64::new(0),
            state: Mutex::new(State::Ok),
        }
    }

    /// What it goes by.
    pub(crate) fn settings(&self) -> Settings {
        **self.settings.load()
    }

    /// Goes by others from now on, for what is remembered as well.
    pub(crate) fn settle(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// What the configuration calls its store.
    pub(crate) fn store_name(&self) -> &Arc<str> {
        &self.name
    }

    /// The record of a key, as it was when it was last asked for.
    pub(crate) async fn find(&self, key: &Key) -> Found {
        let entry = self.entry(key.hash());
        let mut known = entry.0.lock().await;
        if let Some((at, answer)) = &*known
            && at.elapsed() < self.lifetime(answer)
        {
            self.remembered.fetch_add(1, Ordering::Relaxed);
            return answer.clone();
        }
        self.queries.fetch_add(1, Ordering::Relaxed);
        let answer = self.store.find(key).await;
        self.note(answer.as_ref().err());
        *known = Some((Instant::now(), answer.clone()));
        answer
    }

    /// Those of some records that are still active.
    pub(crate) async fn active(&self, handles: &[String]) -> Result<Vec<String>, Unavailable> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let answer = self.store.active(handles).await;
        self.note(answer.as_ref().err());
        answer
    }

    /// The records that count as good without being asked for.
    pub(crate) fn remembered(&self) -> Vec<String> {
        let entries: Vec<_> = self.entries().values().cloned().collect();
        let handle = |entry: &Arc<Entry>| {
            // One that is being asked for will be up to date.
            let known = entry.0.try_lock().ok()?;
            let (_, answer) = known.as_ref()?;
            answer.as_ref().ok()?.as_ref().filter(|record| record.works()).map(|record| record.handle.clone())
        };
        entries.iter().filter_map(handle).collect()
    }

    /// Forgets what is known of a record.
    pub(crate) fn forget(&self, handle: &str) {
        self.entries().retain(|_, entry| {
            let Ok(known) = entry.0.try_lock() else { return true };
            !matches!(&*known, Some((_, Ok(Some(record)))) if record.handle == handle)
        });
    }

    fn entry(&self, hash: Hash) -> Arc<Entry> {
        let entries_max = self.settings().entries_max;
        let mut entries = self.entries();
        if entries.len() >= entries_max && !entries.contains_key(&hash) {
            let is_fresh = |entry: &Arc<Entry>| match entry.0.try_lock() {
                Ok(known) => known.as_ref().is_some_and(|(at, answer)| at.elapsed() < self.lifetime(answer)),
                Err(_) => true,
            };
            entries.retain(|_, entry| is_fresh(entry));
            if entries.len() >= entries_max {
                // Somebody tries keys. Those of our clients will be asked for again.
                entries.clear();
            }
        }
        entries.entry(hash).or_default().clone()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<Hash, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lifetime(&self, answer: &Found) -> Duration {
        match answer {
            Ok(Some(record)) if record.works() => self.settings().found,
            Ok(_) => self.settings().unknown,
            Err(_) => FAILURE_LIFETIME,
        }
    }

    /// Says so when the store is lost and when it is back.
    fn note(&self, error: Option<&Unavailable>) {
        let now = if error.is_some() { State::Unavailable } else { State::Ok };
        let before = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), now);
        let keys = &*self.name;
        match (before, error) {
            (State::Ok, Some(Unavailable(reason))) => {
                let effect = "keys that are not remembered are answered 503";
                tracing::warn!(keys, reason, effect, "the store of API keys cannot be asked");
            }
            (State::Unavailable, None) => tracing::info!(keys, "the store of API keys answers again"),
            _ => {}
        }
    }
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Part for Lookup {
    fn kind(&self) -> &'static str {
        "stores"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        health::numbers(&COUNTED, [&self.queries, &self.remembered])
    }
}
