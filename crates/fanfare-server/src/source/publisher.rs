//! To Redis: what is published on its channels from here, in order, from code that must not wait.
//!
//! What cannot be sent now waits, up to a bound; what comes above it is counted and lost. After a connection broke in the
//! middle, what had been sent last may be published twice.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, pipe};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::redis::no_answer;
use super::{Backoff, LOOK_EVERY, PATIENCE};
use fanfare::HeldBack;

use crate::health::{self, Counted, Part, State};

/// How many messages go out together.
const BATCH_MAX: usize = 100;

/// How many bytes may wait.
const BYTES_MAX: usize = 16_000_000;

/// Lines about lost messages.
const LINES_PER_SECOND_MAX: u64 = 1;

/// Publishes on channels of one Redis. Clones share its connection and its queue.
#[derive(Clone)]
pub(crate) struct RedisPublisher(Arc<Shared>);

/// What it counts, in this order.
pub(crate) const COUNTED: [Counted; 2] = [
    ("published", "Messages that the Redis took."),
    ("lost", "Messages that it did not take: it was not connected for so long that too many waited."),
];

struct Shared {
    name: String,
    waiting_max: usize,
    waiting: Mutex<Waiting>,
    /// There is something to send.
    more: Notify,
    is_connected: AtomicBool,
    published: AtomicU64,
    lost: AtomicU64,
    brake: HeldBack,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
}

struct Message {
    channel: Arc<str>,
    content: Bytes,
    /// Called once Redis has it.
    taken: Option<Box<dyn FnOnce() + Send>>,
}

impl RedisPublisher {
    /// Connects in the background, and again for as long as the server runs. `name` is what the log and the health report
    /// call it.
    ///
    /// # Errors
    /// The address is none of Redis.
    pub(crate) fn start(name: &str, url: &str, waiting_max: usize) -> Result<Self, String> {
        let client =
            Client::open(url).map_err(|_| format!("{name}: the address is none of Redis: write redis://HOST:6379"))?;
        let publisher = Self(Arc::new(Shared {
            name: name.to_owned(),
            waiting_max,
            waiting: Mutex::default(),
            more: Notify::new(),
            is_connected: AtomicBool::new(false),
            published: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            brake: HeldBack::new(LINES_PER_SECOND_MAX, 1),
        }));
        tokio::spawn(keep(publisher.0.clone(), client));
        Ok(publisher)
    }

    /// Publishes as soon as it can be. `false`: too much is waiting already, and this is lost.
    pub(crate) fn publish(&self, channel: &Arc<str>, message: impl Into<Bytes>) -> bool {
        self.put(Message { channel: channel.clone(), content: message.into(), taken: None }).is_ok()
    }

    /// The same, and calls `over` once Redis has it, or it is lost.
    pub(crate) fn publish_then(
        &self,
        channel: &Arc<str>,
        message: impl Into<Bytes>,
        over: impl FnOnce() + Send + 'static,
    ) {
        let message = Message { channel: channel.clone(), content: message.into(), taken: Some(Box::new(over)) };
        if let Err(Message { taken: Some(over), .. }) = self.put(message) {
            over();
        }
    }

    /// A message for which there is no room comes back.
    fn put(&self, message: Message) -> Result<(), Message> {
        let mut waiting = self.0.waiting();
        let size = message.content.len();
        if waiting.messages.len() >= self.0.waiting_max || waiting.bytes + size > BYTES_MAX {
            drop(waiting);
            self.0.count_lost();
            return Err(message);
        }
        waiting.bytes += size;
        waiting.messages.push_back(message);
        drop(waiting);
        self.0.more.notify_one();
        Ok(())
    }

    /// Waits until nothing waits, for so long at most.
    pub(crate) async fn finish(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let left = self.0.waiting().messages.len();
            if left == 0 {
                return;
            }
            if Instant::now() >= deadline {
                tracing::warn!(publisher = self.0.name, left, "what waited for Redis is lost");
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.brake.pass() {
            let (publisher, waiting_max) = (&self.name, self.waiting_max);
            tracing::warn!(publisher, waiting_max, held_back, "too much waits for Redis, a message is lost");
        }
    }

    /// The next messages, which stay where they are until they were sent.
    fn next(&self) -> Vec<(Arc<str>, Bytes)> {
        let next = |message: &Message| (message.channel.clone(), message.content.clone());
        self.waiting().messages.iter().take(BATCH_MAX).map(next).collect()
    }

    fn sent(&self, count: usize) {
        let sent: Vec<Message> = {
            let mut waiting = self.waiting();
            let sent: Vec<Message> = waiting.messages.drain(..count).collect();
            waiting.bytes -= sent.iter().map(|message| message.content.len()).sum::<usize>();
            sent
        };
        self.published.fetch_add(count as u64, Ordering::Relaxed);
        sent.into_iter().filter_map(|message| message.taken).for_each(|taken| taken());
    }
}

async fn keep(shared: Arc<Shared>, client: Client) {
    let publisher = &shared.name;
    let mut backoff = Backoff::default();
    loop {
        let Err(reason) = send(&shared, &client).await;
        if shared.is_connected.swap(false, Ordering::Relaxed) {
            backoff = Backoff::default();
        }
        match backoff.failures() {
            0 => tracing::warn!(publisher, reason, "Redis is lost; it is tried again until it is back"),
            failures => tracing::debug!(publisher, reason, failures, "Redis is still lost"),
        }
        sleep(backoff.next()).await;
    }
}

/// Connects and sends what waits, until that fails.
async fn send(shared: &Shared, client: &Client) -> Result<std::convert::Infallible, String> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let connected = timeout(PATIENCE, client.get_multiplexed_async_connection_with_config(&config)).await;
    let mut connection = connected.map_err(|_| no_answer())?.map_err(|error| error.to_string())?;
    shared.is_connected.store(true, Ordering::Relaxed);
    tracing::info!(publisher = shared.name, "Redis is connected");
    loop {
        let batch = shared.next();
        if batch.is_empty() {
            // A connection may be dead without anybody having said so.
            if timeout(LOOK_EVERY, shared.more.notified()).await.is_err() {
                let ping = redis::cmd("PING");
                ping.query_async::<()>(&mut connection).await.map_err(|error| error.to_string())?;
            }
            continue;
        }
        publish_all(&mut connection, &batch).await.map_err(|error| error.to_string())?;
        shared.sent(batch.len());
    }
}

async fn publish_all(connection: &mut MultiplexedConnection, batch: &[(Arc<str>, Bytes)]) -> Result<(), RedisError> {
    let mut pipe = pipe();
    for (channel, message) in batch {
        pipe.cmd("PUBLISH").arg(&**channel).arg(&message[..]).ignore();
    }
    pipe.query_async(connection).await
}

impl Part for Shared {
    fn kind(&self) -> &'static str {
        "bridge"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        if self.is_connected.load(Ordering::Relaxed) { State::Ok } else { State::Unavailable }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        health::numbers(&COUNTED, [&self.published, &self.lost])
    }
}

impl RedisPublisher {
    /// What the health report and the counters tell of.
    pub(crate) fn part(&self) -> Arc<dyn Part> {
        self.0.clone()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPublisher").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
