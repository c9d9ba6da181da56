//! The bridge of a build with Redis: publishing that does not wait, and the table of who is connected.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, cmd};
use fanfare::{Mount, Observer, SocketHandle};
use serde_json::json;
use tokio::sync::mpsc;

use crate::config::bridge::Bridge as Settings;
use crate::health::{Part, State};
use crate::source::redis::{client, explain};

/// What waits while Redis is away. What comes beyond that is counted and lost.
const WAITING_MAX: usize = 10_000;

const TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Publishes on channels of Redis, in order, from anywhere and without waiting. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Outgoing>);

struct Outgoing {
    queue: mpsc::Sender<(String, String)>,
    is_connected: AtomicBool,
    published: AtomicU64,
    lost: AtomicU64,
}

impl Publisher {
    /// Begins to publish.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn start(url: &str) -> Result<Self, String> {
        let client = client(url).map_err(|error| format!("bridge.url: {error}"))?;
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let outgoing = Outgoing {
            queue,
            is_connected: AtomicBool::new(false),
            published: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        let publisher = Publisher(Arc::new(outgoing));
        tokio::spawn(run(publisher.clone(), client, waiting));
        Ok(publisher)
    }

    /// Publishes a message, when those before it are published.
    pub(crate) fn publish(&self, channel: &str, message: String) {
        if self.0.queue.try_send((channel.to_owned(), message)).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_connected_now(&self, now: bool, reason: &str) {
        match (self.0.is_connected.swap(now, Ordering::Relaxed), now) {
            (false, true) => tracing::info!("the bridge is connected to Redis"),
            (true, false) => tracing::warn!(reason, "the bridge is not connected to Redis; it is tried again"),
            _ => {}
        }
    }
}

async fn run(publisher: Publisher, client: ::redis::Client, mut waiting: mpsc::Receiver<(String, String)>) {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(TIMEOUT)).set_response_timeout(Some(TIMEOUT));
    let (mut next, mut pause): (Option<(String, String)>, _) = (None, PAUSE_MIN);
    loop {
        let failed = match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                publisher.is_connected_now(true, "");
                pause = PAUSE_MIN;
                match publish(&publisher, connection, &mut waiting, &mut next).await {
                    Ok(()) => return,
                    Err(error) => explain(&error),
                }
            }
            Err(error) => explain(&error),
        };
        publisher.is_connected_now(false, &failed);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Publishes until the connection breaks. `next` is what may not have arrived, and is sent again.
async fn publish(
    publisher: &Publisher,
    mut connection: MultiplexedConnection,
    waiting: &mut mpsc::Receiver<(String, String)>,
    next: &mut Option<(String, String)>,
) -> ::redis::RedisResult<()> {
    loop {
        if next.is_none() {
            match tokio::time::timeout(TIMEOUT, waiting.recv()).await {
                Ok(Some(message)) => *next = Some(message),
                Ok(None) => return Ok(()),
                // A connection that is half open says nothing by itself.
                Err(_) => cmd("PING").query_async::<::redis::Value>(&mut connection).await.map(drop)?,
            }
        }
        if let Some((channel, message)) = &*next {
            cmd("PUBLISH").arg(channel).arg(message).query_async::<::redis::Value>(&mut connection).await?;
            publisher.0.published.fetch_add(1, Ordering::Relaxed);
            *next = None;
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}

impl Part for Publisher {
    fn kind(&self) -> &'static str {
        "bridge"
    }

    fn name(&self) -> &str {
        "redis"
    }

    fn state(&self) -> State {
        if self.0.is_connected.load(Ordering::Relaxed) { State::Ok } else { State::Unavailable }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![("published", get(&self.0.published)), ("lost", get(&self.0.lost))]
    }
}

/// Counts the sockets of each id, and tells Redis of the first and the last.
pub(crate) struct Bridge {
    publisher: Publisher,
    connected: String,
    disconnected: String,
    forward: Option<String>,
    sockets: Mutex<HashMap<String, usize>>,
}

impl Bridge {
    /// Connects to Redis, now or when it is there.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn start(settings: &Settings) -> Result<Self, String> {
        let url = settings.url.as_ref().map(|url| url.expose()).unwrap_or_default();
        Ok(Bridge {
            publisher: Publisher::start(url)?,
            connected: settings.connected.clone(),
            disconnected: settings.disconnected.clone(),
            forward: settings.forward.clone(),
            sockets: Mutex::default(),
        })
    }

    /// Its state, for the health report.
    pub(crate) fn part(&self) -> Arc<dyn Part> {
        Arc::new(self.publisher.clone())
    }

    /// A mount whose clients' texts are forwarded, if that is wanted.
    pub(crate) fn forward_from(&self, mount: Mount) -> Mount {
        let Some(channel) = self.forward.clone() else { return mount };
        let publisher = self.publisher.clone();
        mount.on_text(move |id, text| publisher.publish(&channel, json!({ "key": id, "data": text }).to_string()))
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Bridge {
    /// Publishes under the lock, so that what is told of one id is in order.
    fn opened(&self, socket: &SocketHandle) {
        let Some(id) = socket.info().id() else { return };
        let mut sockets = self.sockets();
        let count = sockets.entry(id.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            self.publisher.publish(&self.connected, id.to_owned());
        }
    }

    fn closed(&self, socket: &SocketHandle) {
        let Some(id) = socket.info().id() else { return };
        let mut sockets = self.sockets();
        let Some(count) = sockets.get_mut(id) else { return };
        *count -= 1;
        if *count == 0 {
            sockets.remove(id);
            self.publisher.publish(&self.disconnected, id.to_owned());
        }
    }
}
