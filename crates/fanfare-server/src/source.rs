//! Sources: messages from Redis, PostgreSQL and NATS. Each runs for as long as the server, connects again for ever, and skips
//! what it cannot publish. `route` says what becomes of a message.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare::Endpoint;

use crate::config::source::{Kind, Source as Settings};
use crate::health::{Part, State};
use crate::log::Brake;

#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "postgres")]
mod outbox;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "redis")]
mod redis_stream;
mod route;

use route::{Routed, Router, Skip};

/// How long to wait before connecting again, after failures in a row.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// More lines about skipped messages than these in a second are counted rather than logged one by one.
const LINES_PER_SECOND_MAX: u64 = 5;

/// One `[source.NAME]` at work.
pub(crate) struct Source {
    name: String,
    settings: Settings,
    router: Router,
    endpoint: Endpoint,
    /// The topic of the last message, if it went to one only.
    last_topic: Mutex<Option<String>>,
    state: Mutex<State>,
    counts: Counts,
    brake: Brake,
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    published: AtomicU64,
    skipped: [AtomicU64; Skip::ALL.len()],
    lost_connections: AtomicU64,
}

/// How a source's work ends: never but by an error, whose text is for the log and holds no address.
type Ended = Result<Infallible, String>;

impl Source {
    /// Begins to bring in messages.
    ///
    /// # Errors
    /// The build lacks the kind of source.
    pub(crate) fn start(name: &str, settings: Settings, endpoint: Endpoint) -> Result<Arc<Self>, String> {
        let source = Arc::new(Source {
            name: name.to_owned(),
            router: Router::new(&settings),
            settings,
            endpoint,
            last_topic: Mutex::default(),
            state: Mutex::new(State::Unavailable),
            counts: Counts::default(),
            brake: Brake::default(),
        });
        let work = work(&source)?;
        tokio::spawn(work);
        Ok(source)
    }

    fn url(&self) -> &str {
        self.settings.url.as_ref().map(|url| url.expose()).unwrap_or_default()
    }

    /// What is listened to.
    fn channels(&self) -> &[String] {
        self.settings.channels.as_ref().map_or(&[], |channels| &channels.0)
    }

    /// It is connected, and gets messages from now on.
    fn connected(&self) {
        let before = std::mem::replace(&mut *lock(&self.state), State::Ok);
        if before != State::Ok {
            tracing::info!(source = self.name, "the source is connected");
        }
    }

    /// Publishes a message that came by a channel, in its place behind those that came before it.
    async fn deliver(&self, channel: &str, body: &[u8]) -> Result<(), Skip> {
        self.counts.received.fetch_add(1, Ordering::Relaxed);
        let Routed { messages, skipped } = self.router.route(channel, body).inspect_err(|skip| self.skip(*skip))?;
        skipped.iter().for_each(|skip| self.skip(*skip));
        self.publish(messages).await
    }

    async fn publish(&self, messages: Vec<crate::publish::Checked>) -> Result<(), Skip> {
        // Whoever gets messages by several topics gets them in the order of the source.
        let topic = match &messages[..] {
            [one] => Some(one.topic.clone()),
            _ => None,
        };
        let before = std::mem::replace(&mut *lock(&self.last_topic), topic.clone());
        if topic.is_none() || before != topic {
            self.endpoint.fence();
        }
        for crate::publish::Checked { topic, event, payload } in messages {
            let published = self.endpoint.broadcast(&topic, &event, payload).await;
            published.map_err(|_| Skip::Malformed).inspect_err(|skip| self.skip(*skip))?;
            self.counts.published.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts a message or a recipient that is passed over.
    fn skip(&self, skip: Skip) {
        self.counts.skipped[skip as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.brake.pass(LINES_PER_SECOND_MAX) {
            tracing::warn!(source = self.name, reason = skip.name(), held_back, "a message of a source is skipped");
        }
    }

    fn lost(&self, reason: &str) {
        let before = std::mem::replace(&mut *lock(&self.state), State::Unavailable);
        if before == State::Ok {
            self.counts.lost_connections.fetch_add(1, Ordering::Relaxed);
        }
        tracing::warn!(source = self.name, reason, "the source is not connected; it is tried again");
    }
}

/// What a source does for as long as the server runs.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

fn work(source: &Arc<Source>) -> Result<Work, String> {
    let source = source.clone();
    match source.settings.kind {
        #[cfg(feature = "redis")]
        Kind::Redis => Ok(Box::pin(repeat(source, redis::listen))),
        #[cfg(feature = "redis")]
        Kind::RedisStream => Ok(Box::pin(repeat(source, redis_stream::read))),
        #[cfg(feature = "postgres")]
        Kind::Postgres => Ok(Box::pin(repeat(source, postgres::listen))),
        #[cfg(feature = "postgres")]
        Kind::Outbox => Ok(Box::pin(repeat(source, outbox::empty))),
        #[cfg(feature = "nats")]
        Kind::Nats => Ok(Box::pin(repeat(source, nats::listen))),
        #[cfg(not(all(feature = "redis", feature = "postgres", feature = "nats")))]
        other => {
            let (name, kind) = (&source.name, other.name());
            Err(format!("source.{name}: this build has no sources of kind {kind:?}"))
        }
    }
}

/// Does a source's work again and again, with longer pauses while it fails.
async fn repeat<W: Future<Output = Ended> + Send>(source: Arc<Source>, work: impl Fn(Arc<Source>) -> W) {
    let mut pause = BACKOFF_MIN;
    loop {
        let Err(reason) = work(source.clone()).await;
        if source.state() == State::Ok {
            pause = BACKOFF_MIN;
        }
        source.lost(&reason);
        // Servers that lost the same Redis do not all come back in the same moment.
        let jitter = getrandom::u32().unwrap_or_default() % 100;
        tokio::time::sleep(pause + pause * jitter / 400).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Part for Source {
    fn kind(&self) -> &'static str {
        "sources"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        *lock(&self.state)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counts { received, published, skipped, lost_connections } = &self.counts;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let skipped = Skip::ALL.iter().zip(skipped).map(|(skip, counter)| (skip.name(), get(counter)));
        let own = [("received", received), ("published", published), ("lost_connections", lost_connections)];
        own.map(|(name, counter)| (name, get(counter))).into_iter().chain(skipped).collect()
    }
}
